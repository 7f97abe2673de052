//! How fast pieces are verified, to tell whether a reader's will come soon.

use std::time::Duration;
use types::Timestamp;

const BUCKET: Duration = Duration::from_secs(1);

/// Bytes verified in this second and in the one before.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    began: Timestamp,
    bytes: u64,
    bytes_before: u64,
}

impl Pace {
    pub(crate) fn add(&mut self, now: Timestamp, bytes: u64) {
        self.roll(now);
        self.bytes += bytes;
    }

    /// Whether `bytes` more will have been verified within `time`, if it goes on as in the last second or two.
    pub(crate) fn covers(&mut self, now: Timestamp, bytes: u64, time: Duration) -> bool {
        self.roll(now);
        let rate = u128::from(self.bytes.max(self.bytes_before));
        rate * time.as_millis() >= u128::from(bytes) * BUCKET.as_millis()
    }

    fn roll(&mut self, now: Timestamp) {
        let passed = now.since(self.began);
        if passed >= BUCKET {
            self.bytes_before = if passed < BUCKET * 2 { self.bytes } else { 0 };
            self.bytes = 0;
            self.began = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_was_long_ago() {
        let at = |ms: u64| Timestamp::ZERO + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert!(!pace.covers(at(0), 1, BUCKET));
        pace.add(at(100), 1000);
        assert!(pace.covers(at(900), 1000, BUCKET) && !pace.covers(at(900), 1001, BUCKET));
        assert!(pace.covers(at(900), 500, BUCKET / 2));
        assert!(pace.covers(at(1500), 1000, BUCKET));
        assert!(!pace.covers(at(4000), 1, BUCKET));
    }
}
