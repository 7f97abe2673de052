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
    /// Wakes when the limits pass, or before; it is set anew then.
    timer: Pin<Box<Sleep>>,
    limits: Limits,
}

/// When it is enough.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// When the last step ended.
    progress: Instant,
    stall: Duration,
    end: Instant,
}

impl Limits {
    fn new(now: Instant, stall: Duration, total: Duration) -> Self {
        Self { progress: now, stall, end: now + total }
    }

    /// When they pass if there is no more progress.
    fn due(&self) -> Instant {
        self.end.min(self.progress + self.stall)
    }
}

impl Watchdog {
    /// `stall` without progress, or `total` in all.
    pub(crate) fn new(stall: Duration, total: Duration) -> Self {
        let limits = Limits::new(Instant::now(), stall, total);
        Self { timer: Box::pin(sleep_until(limits.due())), limits }
    }

    /// Runs a step under the limits. A step is dropped when they have passed.
    pub(crate) async fn watch<F: Future>(&mut self, step: F) -> Result<F::Output, Expired> {
        let mut step = pin!(step);
        let output = poll_fn(|cx| {
            if let Poll::Ready(output) = step.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            while self.timer.as_mut().poll(cx).is_ready() {
                let due = self.limits.due();
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
        self.limits.progress = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(5);
    const TOTAL: Duration = Duration::from_secs(60);

    #[test]
    fn progress_puts_the_stall_off_but_not_the_end() {
        let start = Instant::now();
        let mut limits = Limits::new(start, STALL, TOTAL);
        assert_eq!(limits.due(), start + STALL);
        limits.progress = start + Duration::from_secs(4);
        assert_eq!(limits.due(), start + Duration::from_secs(9));
        limits.progress = start + Duration::from_secs(58);
        assert_eq!(limits.due(), start + TOTAL);
    }

    #[tokio::test]
    async fn a_step_that_ends_in_time_is_not_cut_off() {
        let mut dog = Watchdog::new(STALL, TOTAL);
        assert_eq!(dog.watch(async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn a_step_without_end_expires() {
        let mut dog = Watchdog::new(Duration::from_millis(10), TOTAL);
        assert_eq!(dog.watch(std::future::pending::<()>()).await, Err(Expired));
        let mut dog = Watchdog::new(STALL, Duration::from_millis(10));
        assert_eq!(dog.watch(std::future::pending::<()>()).await, Err(Expired));
    }
}
