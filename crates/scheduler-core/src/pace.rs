//! Which hosts are slow, by what their transfers took.
//!
//! A transfer is as slow as the slower of its two hosts, and nobody says which that was. But a host that is slow is so with
//! everybody, so that even the fastest of its last transfers was slow.

use crate::slab::HostIx;
use smallvec::SmallVec;
use std::time::Duration;

/// So many transfers in a row say how fast a host is.
const KEPT: usize = 4;
/// A host is slow if its transfers take so many times as long as is usual.
const SLOW: u64 = 4;
/// The usual follows the last transfers of all hosts, about so many.
const USUAL_OVER: u64 = 64;

/// The last transfers of a host in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace([u32; KEPT]);

/// What transfers take of late, whoever sends and receives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usual(u64);

/// What a transfer of `len` bytes took, whatever its length: nanoseconds for 4 KiB, four seconds at most.
pub(crate) fn pace_of(len: u32, took: Duration) -> u32 {
    let nanos = took.as_nanos() * (4 << 10) / u128::from(len.max(1));
    u32::try_from(nanos).unwrap_or(u32::MAX).max(1)
}

impl Pace {
    pub(crate) fn add(&mut self, pace: u32) {
        self.0.rotate_right(1);
        self.0[0] = pace;
    }

    /// Even its fastest transfer of late was slow. Never, before there were a few.
    pub(crate) fn is_slow(&self, usual: Usual) -> bool {
        usual.0 > 0 && self.0.iter().all(|pace| u64::from(*pace) > usual.0 * SLOW)
    }

    /// There were a few transfers, and not all of them slow.
    pub(crate) fn is_usual(&self, usual: Usual) -> bool {
        !self.0.contains(&0) && !self.is_slow(usual)
    }
}

impl Usual {
    pub(crate) fn add(&mut self, pace: u32) {
        let pace = u64::from(pace);
        let mean = (self.0 * (USUAL_OVER - 1) + pace.min(self.0 * 2)) / USUAL_OVER;
        self.0 = match self.0 {
            0 => pace,
            // Rounded down, a small one would never rise again.
            before if pace > before => mean.max(before + 1),
            _ => mean,
        };
    }
}

/// When transfers to so many different hosts have run out of time since one ended well, the time is too short; in a small
/// cluster, to half of the hosts.
const OUT_OF_TIME: usize = 8;
/// The time for a transfer is doubled so often at most.
const DOUBLINGS_MAX: u32 = 4;

/// How much longer than usual a transfer may take: where all links are thin, none would end in time, and all would be begun
/// again and again.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    /// The hosts whose transfers ran out of time since one ended well.
    failed: SmallVec<[HostIx; OUT_OF_TIME]>,
    doublings: u32,
}

impl Allowance {
    /// The time for a transfer that usually gets `time`.
    pub(crate) fn of(&self, time: Duration) -> Duration {
        time * (1 << self.doublings)
    }

    /// A transfer to `child`, one of so many hosts, ran out of time.
    pub(crate) fn ran_out(&mut self, child: HostIx, hosts: usize) {
        if !self.failed.contains(&child) {
            self.failed.push(child);
        }
        if self.failed.len() >= (hosts / 2).clamp(1, OUT_OF_TIME) {
            self.failed.clear();
            self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
        }
    }

    /// A transfer that usually gets `time` has ended well.
    pub(crate) fn ended(&mut self, took: Duration, time: Duration) {
        self.failed.clear();
        if took < time / 2 {
            self.doublings = self.doublings.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slot as _;

    #[test]
    fn a_host_is_slow_only_if_it_is_with_everybody() {
        let (mut usual, mut fast, mut slow) = (Usual::default(), Pace::default(), Pace::default());
        let pace = |millis| pace_of(1 << 20, Duration::from_millis(millis));
        assert!(!slow.is_slow(usual));
        for i in 0..100 {
            usual.add(pace(10));
            fast.add(pace(if i % 4 == 0 { 10 } else { 200 }));
            assert_eq!(slow.is_slow(usual), i >= 4, "after {i}");
            slow.add(pace(200));
        }
        assert!(!fast.is_slow(usual));
        slow.add(pace(20));
        assert!(!slow.is_slow(usual));
    }

    #[test]
    fn transfers_that_never_end_in_time_get_more_of_it_until_they_do() {
        let (mut allowance, base) = (Allowance::default(), Duration::from_secs(10));
        let mut next = 0;
        let mut run_out = |times| {
            (next..next + times).for_each(|n| allowance.ran_out(HostIx::new(n), 100));
            next += times;
            allowance.of(base)
        };
        assert_eq!(run_out(7), base);
        assert_eq!(run_out(1), base * 2);
        assert_eq!(run_out(8), base * 4);
        assert_eq!(run_out(100), base * 16);
        allowance.ended(base * 3, base);
        assert_eq!(allowance.of(base), base * 16, "they still take so long");
        (0..3).for_each(|_| allowance.ended(base / 3, base));
        assert_eq!(allowance.of(base), base * 2);
        (0..7).for_each(|n| allowance.ran_out(HostIx::new(n), 100));
        allowance.ended(base, base);
        (0..7).for_each(|n| allowance.ran_out(HostIx::new(n), 100));
        assert_eq!(allowance.of(base), base * 2, "some end in time");
        (0..100).for_each(|_| allowance.ran_out(HostIx::new(1), 100));
        assert_eq!(allowance.of(base), base * 2, "one host alone shows nothing");
        (0..2).for_each(|n| allowance.ran_out(HostIx::new(n), 4));
        assert_eq!(allowance.of(base), base * 4, "of four hosts two are half");
    }

    #[test]
    fn what_is_usual_rises_again_however_small_it_was() {
        let mut usual = Usual::default();
        (0..1_000).for_each(|_| usual.add(1));
        (0..10_000).for_each(|_| usual.add(1_000));
        assert!(usual.0 > 900, "{usual:?}");
    }

    #[test]
    fn what_is_usual_follows_the_most() {
        let mut usual = Usual::default();
        usual.add(100);
        (0..10).for_each(|_| usual.add(u32::MAX));
        assert!(usual.0 < 130, "some very slow ones count little: {usual:?}");
        (0..1_000).for_each(|_| usual.add(300));
        assert!((200..=300).contains(&usual.0), "{usual:?}");
    }
}
