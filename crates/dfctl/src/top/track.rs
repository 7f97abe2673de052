//! Rates out of counters that are told now and then.
//!
//! A host tells the scheduler what it moved every two seconds. From one answer to the next its counters may stand still or
//! have moved for longer than the time between, so a rate is the difference to an answer that is some seconds older.

use crate::answer::Traffic;
use std::collections::VecDeque;
use std::time::Duration;

/// How much older: two reports.
const WINDOW: Duration = Duration::from_secs(4);

/// Points that are kept at most; at the shortest interval the window has fewer.
const POINTS_MAX: usize = 32;

/// What was moved since the first answer, at the moments of the answers that are needed.
#[derive(Debug)]
pub(super) struct Track {
    points: VecDeque<(Duration, Traffic)>,
}

impl Track {
    /// Nothing yet.
    pub(super) fn begin(at: Duration) -> Self {
        Self { points: VecDeque::from([(at, Traffic::default())]) }
    }

    /// What was moved from the last answer to the one at `at`.
    pub(super) fn add(&mut self, at: Duration, moved: &Traffic) {
        let (last, all) = self.latest();
        let all = all.plus(moved);
        if at <= last {
            self.points.pop_back();
        }
        self.points.push_back((at.max(last), all));
        let old = |(point, _): &(Duration, Traffic)| at.saturating_sub(*point) >= WINDOW;
        while self.points.len() > POINTS_MAX || self.points.get(1).is_some_and(old) {
            self.points.pop_front();
        }
    }

    /// All that was moved since the first answer.
    pub(super) fn all(&self) -> Traffic {
        self.latest().1
    }

    /// Bytes per second; not known before a second answer.
    pub(super) fn per_second(&self) -> Option<Traffic> {
        let (since, before) = self.points.front()?;
        let (at, all) = self.latest();
        all.since(before).per_second(at.saturating_sub(*since))
    }

    fn latest(&self) -> (Duration, Traffic) {
        self.points.back().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(bytes: u64) -> Traffic {
        Traffic { origin: bytes, ..Traffic::default() }
    }

    fn rate(track: &Track) -> Option<u64> {
        track.per_second().map(|rate| rate.origin)
    }

    #[test]
    fn reports_every_two_seconds_are_an_even_rate() {
        let mut track = Track::begin(Duration::ZERO);
        for second in 1..60_u64 {
            track.add(Duration::from_secs(second), &origin(if second % 2 == 0 { 2000 } else { 0 }));
            if second >= 4 {
                assert_eq!(rate(&track), Some(1000), "after {second} s");
            }
        }
        assert_eq!(track.all(), origin(58_000));
    }

    #[test]
    fn moments() {
        let second = Duration::from_secs;
        let mut track = Track::begin(second(10));
        assert_eq!(rate(&track), None);
        track.add(second(10), &origin(6));
        assert_eq!((rate(&track), track.all()), (None, origin(6)), "no time has passed");
        track.add(second(12), &origin(6));
        assert_eq!(rate(&track), Some(3));
        // After a long silence it is the mean over it, and then what has been since.
        track.add(second(72), &origin(600));
        assert_eq!(rate(&track), Some(10));
        track.add(second(74), &origin(40));
        assert_eq!(rate(&track), Some(10), "640 bytes in 62 seconds");
        track.add(second(76), &origin(40));
        assert_eq!(rate(&track), Some(20));
    }

    #[test]
    fn the_points_are_few() {
        let mut track = Track::begin(Duration::ZERO);
        for step in 1..1000_u64 {
            track.add(Duration::from_millis(step), &origin(1));
            assert!(track.points.len() <= POINTS_MAX);
        }
        assert_eq!((rate(&track), track.all()), (Some(1000), origin(999)));
    }
}
