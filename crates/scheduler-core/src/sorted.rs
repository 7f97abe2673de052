//! A small set in one sorted allocation: a host takes part in few blobs, and a tree's nodes would cost more than what
//! is in them.

use std::ops::Deref;

#[derive(Clone, Debug)]
pub(crate) struct Sorted<T>(Vec<T>);

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + Ord> Sorted<T> {
    /// Adds `item`; nothing changes if it is there.
    pub(crate) fn insert(&mut self, item: T) {
        if let Err(at) = self.0.binary_search(&item) {
            self.0.insert(at, item);
        }
    }

    pub(crate) fn remove(&mut self, item: &T) {
        if let Ok(at) = self.0.binary_search(item) {
            self.0.remove(at);
        }
    }

    pub(crate) fn contains(&self, item: &T) -> bool {
        self.0.binary_search(item).is_ok()
    }
}

impl<K: Copy + Ord, V: Copy + Ord> Sorted<(K, V)> {
    /// What belongs to `key`, of which there is at most one.
    pub(crate) fn get(&self, key: K) -> Option<V> {
        let at = self.0.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        Some(self.0[at].1)
    }
}

impl<T> Deref for Sorted<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_kept_in_order_and_once() {
        let mut set = Sorted::default();
        [5, 1, 3, 5, 2].into_iter().for_each(|item| set.insert(item));
        set.remove(&3);
        set.remove(&4);
        assert_eq!(*set, [1, 2, 5]);
        assert!(set.contains(&5) && !set.contains(&3));
    }

    #[test]
    fn pairs_are_found_by_their_key() {
        let mut map = Sorted::default();
        [(7, 'b'), (2, 'a')].into_iter().for_each(|pair| map.insert(pair));
        assert_eq!((map.get(2), map.get(7), map.get(3)), (Some('a'), Some('b'), None));
    }
}
