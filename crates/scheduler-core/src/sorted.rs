//! A small set in order: a host takes part in few blobs, and a tree's nodes would cost more than what is in them. Up to
//! `N` items lie in the set itself.

use smallvec::SmallVec;
use std::ops::Deref;

#[derive(Clone, Debug)]
pub(crate) struct Sorted<T, const N: usize>(SmallVec<[T; N]>);

impl<T, const N: usize> Default for Sorted<T, N> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<T: Copy + Ord, const N: usize> Sorted<T, N> {
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

impl<K: Copy + Ord, V: Copy + Ord, const N: usize> Sorted<(K, V), N> {
    /// What belongs to `key`, of which there is at most one.
    pub(crate) fn get(&self, key: K) -> Option<V> {
        let at = self.0.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        Some(self.0[at].1)
    }
}

impl<T, const N: usize> Deref for Sorted<T, N> {
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
        let mut set = Sorted::<_, 2>::default();
        [5, 1, 3, 5, 2].into_iter().for_each(|item| set.insert(item));
        set.remove(&3);
        set.remove(&4);
        assert_eq!(*set, [1, 2, 5]);
        assert!(set.contains(&5) && !set.contains(&3));
    }

    #[test]
    fn pairs_are_found_by_their_key() {
        let mut map = Sorted::<_, 2>::default();
        [(7, 'b'), (2, 'a')].into_iter().for_each(|pair| map.insert(pair));
        assert_eq!((map.get(2), map.get(7), map.get(3)), (Some('a'), Some('b'), None));
    }
}
