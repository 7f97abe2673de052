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
        let Some(rate) = self.rate else { return };
        let due = {
            let mut earned = self.earned.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let floor = now.checked_sub(BURST).unwrap_or(now);
            let due = (*earned).max(floor);
            *earned = due + duration_of(bytes as u64, rate);
            due
        };
        tokio::time::sleep_until(due).await;
    }
}

fn duration_of(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn several_takers_share_the_rate() {
        for rate in [10_000u64, 1_000_000, 1 << 30] {
            let shaper = Arc::new(Shaper::new(Some(rate)));
            let start = Instant::now();
            let takers: Vec<_> = (0..4)
                .map(|_| {
                    let shaper = Arc::clone(&shaper);
                    tokio::spawn(async move {
                        let mut taken = 0;
                        while taken < rate {
                            let chunk = shaper.chunk();
                            shaper.take(chunk).await;
                            taken += chunk as u64;
                        }
                        taken
                    })
                })
                .collect();
            let mut taken = 0;
            for taker in takers {
                taken += taker.await.unwrap();
            }
            let seconds = start.elapsed().as_secs_f64();
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            let got = taken as f64 / seconds / rate as f64;
            assert!((0.95..1.05).contains(&got), "{got} of {rate}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_earns_no_more_than_the_burst() {
        let shaper = Shaper::new(Some(1_000_000));
        tokio::time::advance(Duration::from_secs(60)).await;
        let start = Instant::now();
        for _ in 0..10 {
            shaper.take(50_000).await;
        }
        // The first two are the burst and the one that starts the bucket.
        assert_eq!(start.elapsed().as_millis(), 400);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nothing_waits() {
        let shaper = Shaper::new(None);
        let start = Instant::now();
        for _ in 0..1000 {
            shaper.take(1 << 30).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
