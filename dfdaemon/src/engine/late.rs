//! A deadline that is noticed late shows that this host was too busy to look: what it waits for may have come, unread. So it
//! listens for as long again, a second at most, before it acts.

use std::time::Duration;
use tokio::time::Instant;
use types::Timestamp;

/// So late is late.
const LATE: Duration = Duration::from_millis(100);

/// The longest time that a host listens before it acts.
const LISTENS_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Late {
    /// The deadline that was noticed late, and when it is acted on.
    excuse: Option<(Timestamp, Instant)>,
}

impl Late {
    /// When to wake for a deadline that is due then.
    pub(super) fn wake(&self, deadline: Timestamp, due: Instant) -> Instant {
        match self.excuse {
            Some((excused, until)) if excused == deadline => until,
            _ => due,
        }
    }

    /// Whether a host that wakes now acts on its deadline; else [`Self::wake`] says when.
    pub(super) fn acts(&mut self, deadline: Timestamp, due: Instant, now: Instant) -> bool {
        let late = now.saturating_duration_since(due);
        if late <= LATE || self.excuse.is_some_and(|(excused, _)| excused == deadline) {
            return true;
        }
        self.excuse = Some((deadline, now + late.min(LISTENS_MAX)));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_noticed_late_is_put_off_once_and_not_for_long() {
        let ms = Duration::from_millis;
        let (mut late, at, due) = (Late::default(), Timestamp::from_nanos(7), Instant::now());
        assert!(late.acts(at, due, due + ms(100)), "in time");
        assert_eq!(late.wake(at, due), due);
        assert!(!late.acts(at, due, due + ms(300)));
        assert_eq!(late.wake(at, due), due + ms(600), "as long again");
        assert!(late.acts(at, due, due + ms(2_000)), "but once");
        let (next, due) = (Timestamp::from_nanos(8), due + ms(5_000));
        assert_eq!(late.wake(next, due), due, "another deadline is another matter");
        assert!(!late.acts(next, due, due + ms(60_000)));
        assert_eq!(late.wake(next, due), due + ms(61_000), "a second at most");
    }
}
