//! Saying in a log who was refused and why, so that whoever tries again and again cannot fill it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The same of the same one is said once in this time.
const PAUSE: Duration = Duration::from_secs(60);
/// Of one, so much is said in that time at most.
const OF_ONE_MAX: usize = 8;
/// Of all together.
const SAID_MAX: usize = 256;

/// What was said of late.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    said: BTreeMap<(String, String), Instant>,
    unsaid: u64,
}

impl Refusals {
    /// `who` is refused, and `why`. If that is to be said: how many that were not have gone before it.
    pub fn note(&self, who: &dyn Display, why: &dyn Display) -> Option<u64> {
        self.note_at(who, why, Instant::now())
    }

    fn note_at(&self, who: &dyn Display, why: &dyn Display, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.said.retain(|_, at| now.duration_since(*at) < PAUSE);
        let what = (who.to_string(), why.to_string());
        let of_one = state.said.keys().filter(|(who, _)| *who == what.0).count();
        if state.said.len() >= SAID_MAX || of_one >= OF_ONE_MAX || state.said.contains_key(&what) {
            state.unsaid += 1;
            return None;
        }
        state.said.insert(what, now);
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_said_once_in_a_minute() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let note =
            |who: u32, why: &str, second| refusals.note_at(&who, &why, start + Duration::from_secs(second));
        assert_eq!(note(1, "a", 0), Some(0));
        assert_eq!(note(1, "a", 1), None);
        assert_eq!(note(1, "a", 59), None, "the minute does not begin anew");
        assert_eq!((note(1, "b", 59), note(2, "a", 59)), (Some(2), Some(0)), "others, and for other reasons");
        assert_eq!(note(1, "a", 60), Some(0));
    }

    #[test]
    fn a_flood_of_different_ones_is_counted() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let said = (0..1_000u32).filter(|who| refusals.note_at(who, &"why", start).is_some()).count();
        assert_eq!(said, SAID_MAX);
        let said = (0..100).filter(|why| refusals.note_at(&7, why, start + PAUSE).is_some()).count();
        assert_eq!(said, OF_ONE_MAX, "one alone leaves room for others");
        assert_eq!(refusals.note_at(&8, &"why", start + PAUSE), Some(100 - OF_ONE_MAX as u64));
    }
}
