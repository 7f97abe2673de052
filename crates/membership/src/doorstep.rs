//! Who waits at a door and has not yet shown who he is. Those of each address stand in a row of their own, the rows take
//! turns, and one address has only a part of all handshakes at a time: whoever floods the door from one address waits
//! behind himself, and not in front of others. Both listeners have one, the scheduler's and that of peers' pieces.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The part of all handshakes that one address may have at a time.
const SHARE: usize = 4;

/// Connections before and during their handshake; a clone is the same door.
#[derive(Debug)]
pub struct Doorstep<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Notify,
    handshakes_max: usize,
}

#[derive(Debug)]
struct State<T> {
    waiting: FairQueue<IpAddr, T>,
    /// Handshakes under way, by address and in all.
    running: BTreeMap<IpAddr, usize>,
    running_total: usize,
}

/// A handshake under way, as long as it lives.
#[derive(Debug)]
pub struct Turn<T> {
    doorstep: Doorstep<T>,
    address: IpAddr,
}

impl<T> Clone for Doorstep<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Doorstep<T> {
    /// A door at which at most `waiting_max` wait while at most `handshakes_max` have their turn.
    #[must_use]
    pub fn new(waiting_max: usize, handshakes_max: usize) -> Self {
        let waiting = FairQueue::new(waiting_max);
        let state = Mutex::new(State { waiting, running: BTreeMap::new(), running_total: 0 });
        Self(Arc::new(Shared { state, changed: Notify::new(), handshakes_max }))
    }

    /// One more comes. If there is no room, one of the address that has most waiting is given back, to be closed.
    pub fn push(&self, address: IpAddr, connection: T) -> Option<T> {
        let refused = self.lock().waiting.push(row(address), connection);
        self.0.changed.notify_one();
        refused
    }

    /// The next one whose turn it is. For one caller at a time; cancel safe.
    pub async fn next(&self) -> (T, Turn<T>) {
        loop {
            if let Some((connection, address)) = self.try_next() {
                return (connection, Turn { doorstep: self.clone(), address });
            }
            self.0.changed.notified().await;
        }
    }

    fn try_next(&self) -> Option<(T, IpAddr)> {
        let mut state = self.lock();
        let State { waiting, running, running_total } = &mut *state;
        if *running_total >= self.0.handshakes_max {
            return None;
        }
        let share = self.0.handshakes_max.div_ceil(SHARE);
        let (address, connection) =
            waiting.pop(|address| running.get(address).copied().unwrap_or_default() < share)?;
        *running.entry(address).or_default() += 1;
        *running_total += 1;
        Some((connection, address))
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands for all addresses of a machine, where shares are by address: it has a whole IPv6 network of 64 bits as a
/// rule.
#[must_use]
pub fn row(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6) >> 64 << 64).to_be_bytes()),
        v4 => v4,
    }
}

impl<T> Drop for Turn<T> {
    fn drop(&mut self) {
        let mut state = self.doorstep.lock();
        state.running_total -= 1;
        if let Some(count) = state.running.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                state.running.remove(&self.address);
            }
        }
        drop(state);
        self.doorstep.0.changed.notify_one();
    }
}

/// A bounded queue that is fair between keys.
#[derive(Debug)]
struct FairQueue<K, T> {
    rows: BTreeMap<K, VecDeque<T>>,
    /// Whose turn comes after whose: each key with a row, once.
    turns: VecDeque<K>,
    len: usize,
    max: usize,
}

impl<K: Ord + Copy, T> FairQueue<K, T> {
    /// An empty queue for at most `max` that wait.
    const fn new(max: usize) -> Self {
        Self { rows: BTreeMap::new(), turns: VecDeque::new(), len: 0, max }
    }

    /// Puts `item` at the end of its key's row. What no longer fits is given back: the last of the longest row.
    fn push(&mut self, key: K, item: T) -> Option<T> {
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

    /// The first of the row whose turn it is, among those that may have one.
    fn pop(&mut self, may: impl Fn(&K) -> bool) -> Option<(K, T)> {
        let turn = self.turns.iter().position(may)?;
        let key = self.turns.remove(turn)?;
        self.turns.push_back(key);
        Some((key, self.take(key, VecDeque::pop_front)?))
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

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[tokio::test]
    async fn one_that_waits_alone_does_not_wait_for_a_flood() {
        let door = Doorstep::new(100, 8);
        for n in 0..100 {
            assert_eq!(door.push(address(1), n), None);
        }
        assert_eq!(door.push(address(2), 1000), Some(99), "the flood's last one gives way");
        let mut turns = Vec::new();
        let mut first = Vec::new();
        for _ in 0..3 {
            let (n, turn) = door.next().await;
            first.push(n);
            turns.push(turn);
        }
        assert_eq!(first, [0, 1000, 1], "the flood has a quarter of the handshakes and no more");
        assert!(door.try_next().is_none());
        drop(turns.pop());
        assert_eq!(door.next().await.0, 2);
        // A turn that was dropped at once is free at once.
        assert_eq!(door.next().await.0, 3);
    }

    #[test]
    fn a_machine_has_one_row() {
        let row_of = |text: &str| row(text.parse().unwrap());
        assert_eq!(row_of("::ffff:10.0.0.1"), row_of("10.0.0.1"));
        assert_eq!(row_of("2001:db8::1"), row_of("2001:db8::ffff:0:2"));
        assert_ne!(row_of("2001:db8::1"), row_of("2001:db8:0:1::1"));
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_a_newcomer_and_by_an_end() {
        let door = Doorstep::new(10, 1);
        let waiting = tokio::spawn({
            let door = door.clone();
            async move {
                let (a, turn) = door.next().await;
                drop(turn);
                let (b, _turn) = door.next().await;
                (a, b)
            }
        });
        tokio::task::yield_now().await;
        assert_eq!(door.push(address(1), 1), None);
        tokio::task::yield_now().await;
        assert_eq!(door.push(address(1), 2), None);
        let got = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
        assert_eq!(got.expect("woken").unwrap(), (1, 2));
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_each_row_keeps_its_order(
            steps in prop::collection::vec(prop::option::weighted(0.7, 0..4u8), 0..200),
            max in 1..20usize,
            barred in 0..5u8,
        ) {
            let mut queue = FairQueue::new(max);
            let (mut put, mut got, mut refused) = (0, 0, 0);
            let mut last = [None; 4];
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Some(key) => {
                        put += 1;
                        refused += usize::from(queue.push(key, n).is_some());
                    }
                    None => if let Some((key, n)) = queue.pop(|key| *key != barred) {
                        got += 1;
                        prop_assert!(key != barred);
                        prop_assert!(last[usize::from(key)] < Some(n));
                        last[usize::from(key)] = Some(n);
                    },
                }
                prop_assert!(queue.len <= max);
                prop_assert_eq!(queue.turns.len(), queue.rows.len());
                prop_assert_eq!(queue.rows.values().map(VecDeque::len).sum::<usize>(), queue.len);
                prop_assert_eq!(queue.len, put - got - refused);
            }
        }
    }
}
