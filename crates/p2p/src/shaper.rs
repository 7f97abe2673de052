//! A rate limit: whoever takes bytes waits until they are due. Uploads share one, downloads another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The largest part that is sent or read at once, in bytes.
const CHUNK_MAX: u32 = 256 * 1024;
/// The largest part under a rate limit: small, so that transfers share the rate evenly.
const CHUNK_SHAPED: u32 = 64 * 1024;
/// The smallest part, in bytes.
const CHUNK_MIN: u32 = 512;
/// How much time's worth of bytes is one part, for low rates.
const CHUNK_TIME: Duration = Duration::from_millis(50);
/// How much time's worth of bytes may be taken at once after a pause.
const BURST: Duration = Duration::from_millis(50);

/// A token bucket in its virtual form: one point in time says how far ahead the bytes have been given out.
#[derive(Debug)]
pub(crate) struct Shaper {
    /// Bytes per second; 0 is no limit.
    rate: AtomicU64,
    /// When the bytes given out so far will have been earned.
    earned: Mutex<Instant>,
}

impl Shaper {
    /// No limit without a rate. Rates are in bytes per second.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self { rate: AtomicU64::new(rate.unwrap_or(0)), earned: Mutex::new(Instant::now()) }
    }

    /// Another rate from now on. Those who wait already wait for as long as they were told; nobody waits for what was given
    /// out at the old rate.
    pub(crate) fn set_rate(&self, rate: Option<u64>) {
        let mut earned = self.earned.lock().unwrap_or_else(PoisonError::into_inner);
        self.rate.store(rate.unwrap_or(0), Ordering::Relaxed);
        *earned = Instant::now();
    }

    fn rate(&self) -> Option<u64> {
        Some(self.rate.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    /// How many bytes to take at once.
    pub(crate) fn chunk(&self) -> usize {
        let chunk = match self.rate() {
            None => CHUNK_MAX,
            Some(rate) => {
                let worth = rate.saturating_mul(u64::try_from(CHUNK_TIME.as_millis()).unwrap_or(0)) / 1000;
                u32::try_from(worth).unwrap_or(CHUNK_SHAPED).clamp(CHUNK_MIN, CHUNK_SHAPED)
            }
        };
        chunk as usize
    }

    /// Waits until `bytes` are due, in the order of the calls. A call that is dropped has taken them all the same.
    pub(crate) async fn take(&self, bytes: usize) {
        if let Some(due) = self.reserve(Instant::now(), bytes) {
            tokio::time::sleep_until(due).await;
        }
    }

    /// Gives `bytes` out: when they are due.
    fn reserve(&self, now: Instant, bytes: usize) -> Option<Instant> {
        let rate = self.rate()?;
        let mut earned = self.earned.lock().unwrap_or_else(PoisonError::into_inner);
        let due = (*earned).max(now.checked_sub(BURST).unwrap_or(now));
        *earned = due + duration_of(bytes as u64, rate);
        Some(due)
    }
}

fn duration_of(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_takers_share_the_rate() {
        for rate in [2_000u64, 1_000_000, 1 << 30] {
            let shaper = Shaper::new(Some(rate));
            let start = Instant::now();
            // Each takes its next part when its last is due.
            let mut takers = [start; 4];
            let mut taken = 0;
            while taken < 10 * rate {
                let next = takers.iter_mut().min().unwrap();
                *next = shaper.reserve(*next, shaper.chunk()).unwrap().max(*next);
                taken += shaper.chunk() as u64;
            }
            let seconds = takers.iter().max().unwrap().duration_since(start).as_secs_f64();
            assert!((9.5..10.05).contains(&seconds), "{seconds} s for 10 s at {rate}");
            let spread = takers.iter().max().unwrap().duration_since(*takers.iter().min().unwrap());
            assert!(spread <= 4 * duration_of(shaper.chunk() as u64, rate), "unfair by {spread:?}");
        }
    }

    #[test]
    fn a_pause_earns_no_more_than_the_burst() {
        let shaper = Shaper::new(Some(1_000_000));
        let later = Instant::now() + Duration::from_secs(60);
        let due: Vec<_> = (0..4).map(|_| shaper.reserve(later, 50_000).unwrap()).collect();
        let wait: Vec<_> = due.iter().map(|due| due.saturating_duration_since(later).as_millis()).collect();
        assert_eq!(wait, [0, 0, 50, 100]);
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let shaper = Shaper::new(None);
        assert_eq!(shaper.reserve(Instant::now(), 1 << 30), None);
    }

    #[test]
    fn another_rate_holds_from_now_on() {
        let shaper = Shaper::new(Some(1_000));
        let start = Instant::now();
        shaper.reserve(start, 1_000_000);
        assert!(shaper.reserve(start, 1).unwrap() > start + Duration::from_secs(900));
        shaper.set_rate(Some(1_000_000));
        shaper.reserve(Instant::now(), 1_000_000);
        let due = shaper.reserve(Instant::now(), 1).unwrap();
        let waits = due.duration_since(start);
        assert!((0.9..10.0).contains(&waits.as_secs_f64()), "{waits:?}");
        shaper.set_rate(None);
        assert_eq!(shaper.reserve(Instant::now(), usize::MAX), None);
    }
}
