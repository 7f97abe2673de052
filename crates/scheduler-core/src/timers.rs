//! What is due when. Each owner of a timer keeps its [`Alarm`], so that it can be moved and cleared.

use crate::slab::{HostIx, SwarmIx};
use std::collections::BTreeSet;
use types::Timestamp;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The quiet period ends.
    Quiet,
    /// A transfer may have taken too long.
    Overdue,
    /// A lease lapses, or its source has waited at its limit.
    Lease(SwarmIx),
    /// A question for a chain went unanswered.
    Query(SwarmIx),
    /// Whether a lease can be granted, or waiters must be told that none can.
    Consider(SwarmIx),
    /// Members that found nothing look again.
    Retry(SwarmIx),
    /// A host's pause ends.
    Host(HostIx),
}

/// When an owner's timer is due, if it is set.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Timestamp>);

impl Alarm {
    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Timestamp, Timer)>,
}

impl Timers {
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The next timer that is due at `now`. Its owner's alarm is still set: clear or move it.
    pub(crate) fn pop(&mut self, now: Timestamp) -> Option<Timer> {
        self.due
            .first()
            .is_some_and(|(at, _)| *at <= now)
            .then(|| self.due.pop_first())?
            .map(|(_, timer)| timer)
    }

    pub(crate) fn set(&mut self, alarm: &mut Alarm, timer: Timer, at: Timestamp) {
        self.clear(alarm, timer);
        self.due.insert((at, timer));
        alarm.0 = Some(at);
    }

    /// Sets it unless it is due sooner already.
    pub(crate) fn set_by(&mut self, alarm: &mut Alarm, timer: Timer, at: Timestamp) {
        if alarm.0.is_none_or(|set| at < set) {
            self.set(alarm, timer, at);
        }
    }

    pub(crate) fn clear(&mut self, alarm: &mut Alarm, timer: Timer) {
        if let Some(at) = alarm.0.take() {
            self.due.remove(&(at, timer));
        }
    }
}
