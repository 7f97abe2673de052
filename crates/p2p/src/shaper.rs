//! A rate limit: whoever takes bytes waits until they are due. Uploads share one, downloads another.

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
    /// Bytes per second.
    rate: Option<u64>,
    /// When the bytes given out so far will have been earned.
    earned: Mutex<Instant>,
}

impl Shaper {
    /// No limit without a rate. Rates are in bytes per second.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self { rate, earned: Mutex::new(Instant::now()) }
    }

    /// How many bytes to take at once.
    pub(crate) fn chunk(&self) -> usize {
        let chunk = match self.rate {
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
        let rate = self.rate?;
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
}
