//! The connections of clients: at most so many. When all are taken, those that ask for nothing make room for the next
//! one, so that a flood of silent connections keeps nobody out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long one that was told to leave is waited for before another is told too.
const LEAVING: Duration = Duration::from_millis(50);

/// A new connection is not told to leave for this long: its request may be on its way to us.
const FIRST_WORDS: Duration = Duration::from_millis(250);

/// The log has a line about it no more often than this.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// All places for connections.
#[derive(Debug)]
pub(super) struct Connections {
    max: u32,
    free: Arc<Semaphore>,
    quiet: Mutex<Quiet>,
}

/// Connections without a request, by how long they have been so.
#[derive(Debug, Default)]
struct Quiet {
    /// Numbers the quiet ones in the order in which they became so.
    next: u64,
    /// Those that have never asked for anything.
    silent: BTreeMap<u64, (Instant, CancellationToken)>,
    /// Those whose last answer was given.
    resting: BTreeMap<u64, CancellationToken>,
    displaced: u64,
    told: Option<Instant>,
}

impl Connections {
    pub(super) fn new(max: u32) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(max as usize));
        Arc::new(Self { max, free, quiet: Mutex::default() })
    }

    /// A place for one more; if there is none, as soon as another connection ends or a quiet one has made room.
    pub(super) async fn admit(self: &Arc<Self>) -> Arc<Place> {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                break permit;
            }
            self.make_room();
            let soon = tokio::time::timeout(LEAVING, Arc::clone(&self.free).acquire_owned());
            if let Ok(Ok(permit)) = soon.await {
                break permit;
            }
        };
        let leave = CancellationToken::new();
        let mut quiet = self.lock();
        let number = quiet.number();
        quiet.silent.insert(number, (Instant::now(), leave.clone()));
        drop(quiet);
        Arc::new(Place {
            connections: Arc::clone(self),
            leave,
            number: AtomicU64::new(number),
            asked: AtomicBool::new(false),
            _permit: permit,
        })
    }

    /// Tells the one that has been quiet for longest to leave, those that never asked first. If there is none but such as
    /// have just come, nobody.
    fn make_room(&self) {
        let now = Instant::now();
        let mut quiet = self.lock();
        let Some(leave) = quiet.next_to_leave(now) else { return };
        leave.cancel();
        quiet.displaced += 1;
        if quiet.told.is_none_or(|told| now - told >= TOLD_EVERY) {
            let closed = std::mem::take(&mut quiet.displaced);
            tracing::warn!(
                max = self.max,
                closed,
                "all connections are taken, those that ask for nothing are closed"
            );
            quiet.told = Some(now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Quiet> {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Quiet {
    fn next_to_leave(&mut self, now: Instant) -> Option<CancellationToken> {
        let silent = self.silent.first_entry().filter(|first| now - first.get().0 >= FIRST_WORDS);
        match silent {
            Some(first) => Some(first.remove().1),
            None => self.resting.pop_first().map(|(_, leave)| leave),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// A connection's place.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    leave: CancellationToken,
    /// Among the quiet ones.
    number: AtomicU64,
    asked: AtomicBool,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Waits until the place is wanted for another; never while a request is answered.
    pub(super) async fn is_wanted(&self) {
        self.leave.cancelled().await;
    }

    /// Whether it has asked for anything yet.
    pub(super) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// A request has come; it is quiet again when what is returned is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.asked.store(true, Ordering::Relaxed);
        self.no_longer_quiet(&mut self.connections.lock());
        Busy(Arc::clone(self))
    }

    fn no_longer_quiet(&self, quiet: &mut Quiet) {
        let number = self.number.load(Ordering::Relaxed);
        quiet.silent.remove(&number);
        quiet.resting.remove(&number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.no_longer_quiet(&mut self.connections.lock());
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Busy(Arc<Place>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut quiet = self.0.connections.lock();
        if self.0.leave.is_cancelled() {
            return;
        }
        let number = quiet.number();
        self.0.number.store(number, Ordering::Relaxed);
        quiet.resting.insert(number, self.0.leave.clone());
    }
}
