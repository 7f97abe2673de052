//! One call of [`Download::tell`](crate::Download::tell) or [`plan`](crate::Download::plan): the time, the effects so far, and when to look again.

use crate::Effect;
use types::Timestamp;

pub(crate) struct Turn<'a> {
    pub(crate) now: Timestamp,
    effects: &'a mut Vec<Effect>,
    wake: Option<Timestamp>,
}

impl<'a> Turn<'a> {
    pub(crate) const fn new(now: Timestamp, effects: &'a mut Vec<Effect>) -> Self {
        Self { now, effects, wake: None }
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Whether `at` has come; if not, the download is looked at again then.
    pub(crate) fn reached(&mut self, at: Timestamp) -> bool {
        if at <= self.now {
            return true;
        }
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        false
    }

    pub(crate) const fn wake(&self) -> Option<Timestamp> {
        self.wake
    }
}
