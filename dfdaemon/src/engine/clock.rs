//! The cores' time. It goes slower while this host does not get the CPU: what a download waits for may have come, unread, and
//! the peers of a host that starves are not to blame for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use types::Timestamp;

/// How often the clock looks whether this host gets the CPU, while anything waits.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// A tick that is later than this was kept waiting.
const SLACK: Duration = Duration::from_millis(20);
/// Of the time that a tick was kept waiting, one part of so many counts: patience that never ends is none.
const STARVED_SHARE: u32 = 4;
/// The longest that one tick counts: no more of a night in which the machine slept.
const TICK_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Clock(Mutex<Count>);

#[derive(Debug)]
struct Count {
    counted: Duration,
    ticked: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Count { counted: Duration::ZERO, ticked: Instant::now() }))
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.count().at(Instant::now())
    }

    /// When to look whether `at` has come; it may be too early.
    pub(super) fn look_at(&self, at: Timestamp) -> Instant {
        self.count().look_at(at.since(Timestamp::ZERO), Instant::now())
    }

    /// To be called every [`TICK`]; gives the true time since the last call.
    pub(super) fn tick(&self) -> Duration {
        self.count().tick(Instant::now())
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    fn at(&self, instant: Instant) -> Duration {
        let elapsed = instant.saturating_duration_since(self.ticked);
        let in_time = elapsed.min(TICK + SLACK);
        self.counted + in_time.max(elapsed / STARVED_SHARE).min(TICK_MAX)
    }

    fn look_at(&self, at: Duration, instant: Instant) -> Instant {
        let left = at.saturating_sub(self.at(instant));
        let late = instant.saturating_duration_since(self.ticked) > TICK + SLACK;
        instant + if late { left.max(TICK) } else { left }
    }

    fn tick(&mut self, instant: Instant) -> Duration {
        let elapsed = instant.saturating_duration_since(self.ticked);
        self.counted = self.at(instant);
        self.ticked += elapsed;
        elapsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What counts of ticks that each come so late.
    fn counted(ticks: u32, after: Duration) -> Duration {
        let mut now = Instant::now();
        let mut count = Count { counted: Duration::ZERO, ticked: now };
        for _ in 0..ticks {
            let mut last = count.counted;
            // It never goes back, and a tick changes nothing.
            for part in 1..=8 {
                let at = count.at(now + after * part / 8);
                assert!(at >= last, "{at:?} after {last:?}");
                last = at;
            }
            now += after;
            assert_eq!((count.tick(now), count.counted), (after, last));
        }
        count.counted
    }

    #[test]
    fn time_counts_by_how_much_of_the_cpu_there_is() {
        let ms = Duration::from_millis;
        assert_eq!(counted(100, TICK), TICK * 100);
        assert_eq!(counted(100, ms(115)), ms(11_500), "a timer's coarseness");
        assert_eq!(counted(100, ms(400)), ms(12_000), "as on two cores with three hundred daemons");
        assert_eq!(counted(10, ms(2_000)), ms(5_000), "but never less than a quarter");
        assert_eq!(counted(1, ms(3_600_000)), TICK_MAX, "unless the machine slept");
    }

    #[test]
    fn who_waits_looks_when_the_time_may_have_come() {
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let count = Count { counted: ms(5_000), ticked: now };
        assert_eq!(count.look_at(ms(6_000), now), now + ms(1_000));
        assert_eq!(count.look_at(ms(6_000), now + ms(100)), now + ms(1_000));
        assert_eq!(count.look_at(ms(4_000), now), now, "it has come");
        let starved = now + ms(400);
        assert_eq!(count.look_at(ms(5_121), starved), starved + TICK, "not in a loop without rest");
    }
}
