//! Time limits of one transfer: how long without progress, and how long in all. One timer serves all steps.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// The limit has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired;

/// Watches over the steps of a transfer. Each step that ends is progress.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// Wakes at `progress + stall` or a little before, never after.
    timer: Pin<Box<Sleep>>,
    /// When the last step ended.
    progress: Instant,
    stall: Duration,
    end: Instant,
}

impl Watchdog {
    /// `stall` without progress, or `total` in all.
    pub(crate) fn new(stall: Duration, total: Duration) -> Self {
        let progress = Instant::now();
        let end = progress + total;
        Self { timer: Box::pin(sleep_until(end.min(progress + stall))), progress, stall, end }
    }

    /// Runs a step under the limits. A step is dropped when they have passed.
    pub(crate) async fn watch<F: Future>(&mut self, step: F) -> Result<F::Output, Expired> {
        let mut step = pin!(step);
        let output = poll_fn(|cx| {
            if let Poll::Ready(output) = step.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            while self.timer.as_mut().poll(cx).is_ready() {
                let due = self.end.min(self.progress + self.stall);
                if due <= Instant::now() {
                    return Poll::Ready(Err(Expired));
                }
                self.timer.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await?;
        self.note_progress();
        Ok(output)
    }

    /// The stall starts anew: after a step, or after a wait that is our own (a rate limit).
    pub(crate) fn note_progress(&mut self) {
        self.progress = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    const STALL: Duration = Duration::from_secs(5);
    const TOTAL: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn silence_ends_exactly_at_the_stall_after_the_last_step() {
        let start = Instant::now();
        let mut dog = Watchdog::new(STALL, TOTAL);
        for _ in 0..4 {
            assert_eq!(dog.watch(sleep(Duration::from_secs(4))).await, Ok(()));
        }
        assert_eq!(dog.watch(std::future::pending::<()>()).await, Err(Expired));
        assert_eq!(start.elapsed().as_secs(), 4 * 4 + 5);
    }

    #[tokio::test(start_paused = true)]
    async fn endless_drips_end_at_the_total() {
        let start = Instant::now();
        let mut dog = Watchdog::new(STALL, TOTAL);
        while dog.watch(sleep(Duration::from_secs(4))).await.is_ok() {}
        assert_eq!(start.elapsed().as_secs(), 60);
    }
}
