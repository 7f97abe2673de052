//! How much is recorded at somebody else's word: whoever reaches this process can say that he records his traces.
//!
//! Each span that begins so takes a token out of a bucket, which fills by and by; one that finds it empty is not recorded,
//! nor is what is done for it, here or elsewhere. [`super::export`] says in the log how many were not.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Tokens a second of each bucket, [`REQUESTS`] and [`MEMBERS`].
pub(super) const PER_SECOND: u64 = 100;

const INTERVAL_NS: u64 = 1_000_000_000 / PER_SECOND;

/// Requests of clients that go on with traces of their own. Each of them has others do something that is recorded; a pull
/// is about ten.
pub(super) static REQUESTS: Limit = Limit::new(INTERVAL_NS, 300);

/// What members of the cluster ask for. At once as many as a blob of 1 GiB has pieces.
pub(super) static MEMBERS: Limit = Limit::new(INTERVAL_NS, 1024);

/// When time began.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How many spans were not recorded since this was asked last.
pub(super) fn not_recorded() -> u64 {
    [&REQUESTS, &MEMBERS].map(|limit| limit.over.swap(0, Ordering::Relaxed)).into_iter().sum()
}

/// A bucket, as the time at which it will be full again (ITU-T I.371, "generic cell rate algorithm").
#[derive(Debug)]
pub(super) struct Limit {
    /// How long one more takes to come.
    interval_ns: u64,
    /// How long it takes to fill.
    burst_ns: u64,
    /// When it is full, on the clock of [`BEGUN`].
    full_at_ns: AtomicU64,
    /// How often it was empty.
    over: AtomicU64,
}

impl Limit {
    /// A full one with room for `burst`.
    pub(super) const fn new(interval_ns: u64, burst: u64) -> Self {
        let (full_at_ns, over) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { interval_ns, burst_ns: interval_ns.saturating_mul(burst), full_at_ns, over }
    }

    /// Takes one out; whether there was one.
    pub(super) fn allows(&self) -> bool {
        self.allows_at(BEGUN.elapsed())
    }

    fn allows_at(&self, now: Duration) -> bool {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let taken = self.full_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let full_at = full_at.max(now).saturating_add(self.interval_ns);
            (full_at - now <= self.burst_ns).then_some(full_at)
        });
        if taken.is_err() {
            self.over.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: u64 = 5;

    fn limit() -> Limit {
        Limit::new(INTERVAL_NS, BURST)
    }

    /// How many of a crowd that comes at `now` are let through.
    fn crowd(limit: &Limit, now: Duration) -> u64 {
        (0..1000).map(|_| u64::from(limit.allows_at(now))).sum()
    }

    #[test]
    fn a_flood_of_callers_has_a_burst_recorded_and_then_so_many_a_second() {
        let limit = limit();
        assert_eq!(crowd(&limit, Duration::ZERO), BURST);
        assert_eq!(crowd(&limit, Duration::from_nanos(INTERVAL_NS - 1)), 0, "not yet");
        assert_eq!(crowd(&limit, Duration::from_nanos(INTERVAL_NS)), 1);
        // All the time, for ten seconds.
        let step = Duration::from_millis(1);
        let later = Duration::from_secs(1);
        let recorded: u64 = (0..10_000).map(|i| u64::from(limit.allows_at(later + step * i))).sum();
        assert_eq!(recorded, BURST + 10 * PER_SECOND - 1);
    }

    #[test]
    fn a_long_rest_gives_no_more_than_a_burst() {
        let limit = limit();
        assert_eq!(crowd(&limit, Duration::from_secs(3600)), BURST);
        assert_eq!(crowd(&limit, Duration::from_secs(7200)), BURST);
        assert_eq!(limit.over.load(Ordering::Relaxed), 2 * (1000 - BURST), "the others are counted");
    }

    #[test]
    fn what_comes_now_and_then_is_all_recorded() {
        let limit = limit();
        let all = (0..1000).all(|i| limit.allows_at(Duration::from_nanos(INTERVAL_NS) * i));
        assert!(all && limit.over.load(Ordering::Relaxed) == 0);
    }

    #[test]
    fn those_who_come_at_once_share_one_burst() {
        let limit = limit();
        let let_through: u64 = std::thread::scope(|scope| {
            let crowds: Vec<_> = (0..4).map(|_| scope.spawn(|| crowd(&limit, Duration::ZERO))).collect();
            crowds.into_iter().map(|crowd| crowd.join().unwrap()).sum()
        });
        assert_eq!(let_through, BURST);
    }
}
