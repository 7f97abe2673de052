//! What will happen, in order of time; what was put in first comes first among equals.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use types::Timestamp;

/// A queue of things to come. Taking them out in order is what makes a run the same each time.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    items: BTreeMap<(Timestamp, u64), T>,
    next: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), next: 0 }
    }
}

impl<T> Queue<T> {
    pub(crate) fn push(&mut self, at: Timestamp, item: T) {
        self.items.insert((at, self.next), item);
        self.next += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<(Timestamp, T)> {
        self.items.pop_first().map(|((at, _), item)| (at, item))
    }

    /// The last that will happen, for the curious.
    pub(crate) fn latest(&self) -> Option<Timestamp> {
        self.items.keys().map(|(at, _)| Reverse(*at)).min().map(|Reverse(at)| at)
    }
}
