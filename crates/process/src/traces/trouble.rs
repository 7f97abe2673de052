//! What the log says of spans that are lost, and of those that are not recorded since too many are asked for: each at most
//! every ten minutes, with the number.

use super::limit;
use super::options::Endpoint;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How often the log says the same, at most.
const SAID_INTERVAL: Duration = Duration::from_secs(600);

/// What went wrong, and what of it is in the log.
pub(super) struct Trouble {
    endpoint: Endpoint,
    /// Spans that found no room in the queue.
    overflown: Arc<AtomicU64>,
    losses: Untold,
    not_recorded: Untold,
    /// Whether the last that the log said of the collector was of a loss.
    told: bool,
}

/// How often something happened that is not in the log yet.
#[derive(Default)]
struct Untold {
    times: u64,
    said: Option<Instant>,
}

impl Untold {
    /// It happened so often more. The number for the log, if it is time for that.
    fn add(&mut self, times: u64) -> Option<u64> {
        self.times += times;
        let due = self.said.is_none_or(|said| said.elapsed() >= SAID_INTERVAL);
        (due && self.times > 0).then(|| {
            self.said = Some(Instant::now());
            self.take()
        })
    }

    /// The number for the log, whether or not it is time.
    fn take(&mut self) -> u64 {
        std::mem::take(&mut self.times)
    }
}

impl Trouble {
    pub(super) fn new(endpoint: Endpoint, overflown: Arc<AtomicU64>) -> Self {
        let (losses, not_recorded) = (Untold::default(), Untold::default());
        Self { endpoint, overflown, losses, not_recorded, told: false }
    }

    /// How many spans found no room since this was asked last.
    pub(super) fn overflown(&self) -> u64 {
        self.overflown.swap(0, Ordering::Relaxed)
    }

    /// A batch has arrived.
    pub(super) fn sent(&mut self) {
        let overflown = self.overflown();
        if overflown > 0 {
            self.lost(overflown, "there are more spans than can be sent: lower the daemons' sample_ratio");
        } else if std::mem::take(&mut self.told) {
            let lost = self.losses.take();
            tracing::info!(collector = %self.endpoint, lost, "traces arrive again");
        }
    }

    /// So many spans were lost.
    pub(super) fn lost(&mut self, spans: u64, why: &str) {
        let spans = spans + self.overflown();
        if let Some(lost) = self.losses.add(spans) {
            self.told = true;
            tracing::warn!(
                collector = %self.endpoint,
                lost,
                why,
                "spans of traces are lost; nothing else is the worse for it"
            );
        }
    }

    /// So many spans were not recorded for others.
    pub(super) fn not_recorded(&mut self, spans: u64) {
        if let Some(not_recorded) = self.not_recorded.add(spans) {
            tracing::warn!(
                not_recorded,
                a_second = limit::PER_SECOND,
                "callers ask for more traces a second than are recorded at their word"
            );
        }
    }

    /// Nothing is sent any more, and so many spans are left.
    pub(super) fn end(&mut self, left: u64) {
        let lost = self.losses.take() + self.overflown() + left;
        let not_recorded = self.not_recorded.take();
        if lost > 0 {
            tracing::info!(collector = %self.endpoint, lost, "the collector has not got all spans of traces");
        }
        if not_recorded > 0 {
            tracing::info!(not_recorded, "callers asked for more traces than were recorded at their word");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble() -> Trouble {
        Trouble::new("http://127.0.0.1:9".parse().unwrap(), Arc::default())
    }

    #[test]
    fn a_loss_is_said_once_and_counted_to_the_end() {
        let mut trouble = trouble();
        trouble.lost(3, "no reason");
        assert_eq!((trouble.losses.times, trouble.told), (0, true), "it is in the log");
        trouble.lost(4, "no reason");
        trouble.overflown.store(5, Ordering::Relaxed);
        trouble.lost(0, "no reason");
        assert_eq!(trouble.losses.times, 9, "not again so soon");
        trouble.sent();
        assert_eq!((trouble.losses.times, trouble.told), (0, false));
    }

    #[test]
    fn what_is_not_recorded_is_said_beside_what_is_lost() {
        let mut trouble = trouble();
        trouble.not_recorded(0);
        assert!(trouble.not_recorded.said.is_none(), "nothing has happened");
        trouble.lost(1, "no reason");
        trouble.not_recorded(3);
        assert!(trouble.not_recorded.said.is_some() && trouble.not_recorded.times == 0, "it is in the log");
        trouble.not_recorded(4);
        trouble.sent();
        assert_eq!(trouble.not_recorded.times, 4, "to be said at the end");
        trouble.end(0);
        assert_eq!((trouble.losses.times, trouble.not_recorded.times), (0, 0));
    }
}
