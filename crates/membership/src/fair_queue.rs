//! Who waits at a door: those of each address in a row of its own, and the rows take turns. Whoever floods the door
//! from one address waits behind himself, and not in front of others. Both listeners, of the scheduler and of the peers'
//! pieces, keep connections here that have not yet shown who they are.

use std::collections::{BTreeMap, VecDeque};

/// A bounded queue that is fair between keys.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    rows: BTreeMap<K, VecDeque<T>>,
    /// Whose turn comes after whose: each key with a row, once.
    turns: VecDeque<K>,
    len: usize,
    max: usize,
}

impl<K: Ord + Copy, T> FairQueue<K, T> {
    /// An empty queue for at most `max` that wait.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { rows: BTreeMap::new(), turns: VecDeque::new(), len: 0, max }
    }

    /// Puts `item` at the end of its key's row. What no longer fits is given back: the last of the longest row.
    pub fn push(&mut self, key: K, item: T) -> Option<T> {
        let row = self.rows.entry(key).or_default();
        if row.is_empty() {
            self.turns.push_back(key);
        }
        row.push_back(item);
        self.len += 1;
        if self.len <= self.max {
            return None;
        }
        let (&longest, _) = self.rows.iter().max_by_key(|(_, row)| row.len())?;
        self.take(longest, VecDeque::pop_back)
    }

    /// The first of the row whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let key = self.turns.pop_front()?;
        self.turns.push_back(key);
        self.take(key, VecDeque::pop_front)
    }

    /// Whether nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn take(&mut self, key: K, end: impl FnOnce(&mut VecDeque<T>) -> Option<T>) -> Option<T> {
        let row = self.rows.get_mut(&key)?;
        let item = end(row)?;
        self.len -= 1;
        if row.is_empty() {
            self.rows.remove(&key);
            self.turns.retain(|turn| *turn != key);
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_that_waits_alone_comes_second_however_many_others_do() {
        let mut queue = FairQueue::new(100);
        for n in 0..100 {
            assert_eq!(queue.push('a', n), None);
        }
        assert_eq!(queue.push('b', 1000), Some(99), "the flood's last one gives way");
        assert_eq!(queue.pop(), Some(0));
        assert_eq!(queue.pop(), Some(1000));
        assert_eq!(queue.pop(), Some(1));
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_each_row_keeps_its_order(
            steps in prop::collection::vec(prop::option::weighted(0.7, 0..4u8), 0..200),
            max in 1..20usize,
        ) {
            let mut queue = FairQueue::new(max);
            let (mut put, mut got, mut refused) = (0, 0, 0);
            let mut last = [None; 4];
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Some(key) => {
                        put += 1;
                        refused += usize::from(queue.push(key, (key, n)).is_some());
                    }
                    None => if let Some((key, n)) = queue.pop() {
                        got += 1;
                        prop_assert!(last[usize::from(key)] < Some(n));
                        last[usize::from(key)] = Some(n);
                    },
                }
                prop_assert!(queue.len <= max);
                prop_assert_eq!(queue.turns.len(), queue.rows.len());
                prop_assert_eq!(queue.is_empty(), queue.rows.is_empty());
                prop_assert_eq!(queue.rows.values().map(VecDeque::len).sum::<usize>(), put - got - refused);
            }
        }
    }
}
