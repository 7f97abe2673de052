//! Who may stay on the bulk listener: which idle connection gives way when all places are taken. A cluster has more hosts
//! than a listener has places, and children keep connections they may need again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// The connections that wait for a request, the one that has waited longest first.
#[derive(Debug, Default)]
pub(crate) struct IdleSet {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    tokens: BTreeMap<u64, CancellationToken>,
}

impl IdleSet {
    /// Counts a connection as idle until the guard is dropped.
    pub(crate) fn enter(&self) -> Idle<'_> {
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        let token = CancellationToken::new();
        waiting.tokens.insert(number, token.clone());
        Idle { set: self, number, token }
    }

    /// Tells the connection that has waited longest to close; whether there was one.
    pub(crate) fn close_oldest(&self) -> bool {
        let oldest = self.lock().tokens.pop_first();
        oldest.is_some_and(|(_, token)| {
            token.cancel();
            true
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection is idle as long as this lives.
#[derive(Debug)]
pub(crate) struct Idle<'a> {
    set: &'a IdleSet,
    number: u64,
    token: CancellationToken,
}

impl Idle<'_> {
    /// Ends when the connection is to close.
    pub(crate) async fn gives_way(&self) {
        self.token.cancelled().await;
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.set.lock().tokens.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_idle_connection_gives_way() {
        let set = IdleSet::default();
        let first = set.enter();
        let second = set.enter();
        let third = set.enter();
        drop(first);
        assert!(set.close_oldest());
        assert!(second.token.is_cancelled() && !third.token.is_cancelled());
        assert!(set.close_oldest());
        assert!(!set.close_oldest(), "each is told once");
        drop((second, third));
        assert!(set.lock().tokens.is_empty());
    }
}
