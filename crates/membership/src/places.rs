//! How many connections each host, or each address, may have at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places by key; a clone is the same ones.
#[derive(Debug)]
pub struct Places<K> {
    max: u32,
    taken: Arc<Mutex<BTreeMap<K, u32>>>,
}

/// One of a key's places, as long as it lives.
#[derive(Debug)]
pub struct Place<K: Ord> {
    places: Places<K>,
    of: K,
}

impl<K> Clone for Places<K> {
    fn clone(&self) -> Self {
        Self { max: self.max, taken: Arc::clone(&self.taken) }
    }
}

impl<K> Places<K> {
    /// Each key has `max`.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Self { max, taken: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, u32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord + Copy> Places<K> {
    /// One of the places of `of`, if one is free, until it is dropped.
    #[must_use]
    pub fn take(&self, of: K) -> Option<Place<K>> {
        let mut taken = self.lock();
        let count = taken.entry(of).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), of })
    }
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(count) = taken.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let places = Places::new(2);
        let (one, _two) = (places.take('a').unwrap(), places.take('a').unwrap());
        assert!(places.take('a').is_none());
        assert!(places.take('b').is_some(), "each has its own");
        drop(one);
        assert!(places.take('a').is_some());
        assert_eq!(places.lock().len(), 1, "who has none is forgotten");
    }
}
