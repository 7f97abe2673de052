//! Which hosts are slow, by what their transfers took.
//!
//! A transfer is as slow as the slower of its two hosts, and nobody says which that was. But a host that is slow is so with
//! everybody, so that even the fastest of its last transfers was slow.

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
}

impl Usual {
    pub(crate) fn add(&mut self, pace: u32) {
        let pace = u64::from(pace);
        self.0 =
            if self.0 == 0 { pace } else { (self.0 * (USUAL_OVER - 1) + pace.min(self.0 * 2)) / USUAL_OVER };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_usual_follows_the_most() {
        let mut usual = Usual::default();
        usual.add(100);
        (0..10).for_each(|_| usual.add(u32::MAX));
        assert!(usual.0 < 130, "some very slow ones count little: {usual:?}");
        (0..1_000).for_each(|_| usual.add(300));
        assert!((200..=300).contains(&usual.0), "{usual:?}");
    }
}
