//! The daemon's answer to `/v1/status`, as far as tables show it: `status` and `top` read it.
//!
//! An older daemon leaves out what it does not know; a newer one may say more.

use serde::Deserialize;
use std::time::Duration;

/// The cluster as the daemon's scheduler sees it.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    /// The asked host's id.
    #[serde(default)]
    pub(crate) host: String,
    /// `up`, or `down`: then only the asked host is listed.
    #[serde(default)]
    pub(crate) scheduler: String,
    /// So many at most as the scheduler lists.
    pub(crate) hosts: Vec<Host>,
    /// How many there are, listed or not; nothing from an older daemon.
    #[serde(default)]
    pub(crate) hosts_total: u32,
    /// Likewise.
    pub(crate) blobs: Vec<Blob>,
    #[serde(default)]
    pub(crate) blobs_total: u32,
    /// The latest that have ended.
    #[serde(default)]
    pub(crate) rollouts: Vec<Ended>,
}

/// A host that is connected.
#[derive(Debug, Deserialize)]
pub(crate) struct Host {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) address: Option<String>,
    #[serde(default)]
    pub(crate) zone: String,
    #[serde(default)]
    pub(crate) rack: String,
    /// Transfers to other hosts that are under way.
    #[serde(default)]
    pub(crate) uploads: u32,
    /// Transfers from other hosts that are under way.
    #[serde(default)]
    pub(crate) downloads: u32,
    pub(crate) traffic: Traffic,
}

/// Bytes by where they came from, and those that went to other hosts: since the host's start, or in a time.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) origin: u64,
    pub(crate) fallback: u64,
    pub(crate) rack: u64,
    pub(crate) zone: u64,
    pub(crate) elsewhere: u64,
    pub(crate) cache: u64,
    pub(crate) uploaded: u64,
}

impl Traffic {
    /// What was moved since; a counter that is lower than before has begun anew, and counts as nothing moved.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    /// Both together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// Bytes that were moved in `time` as bytes per second; nothing if no time has passed.
    pub(crate) fn per_second(&self, time: Duration) -> Option<Self> {
        let micros = time.as_micros();
        let rate = |bytes: u64| u64::try_from(u128::from(bytes) * 1_000_000 / micros).unwrap_or(u64::MAX);
        (micros > 0).then(|| self.with(self, |bytes, _| rate(bytes)))
    }

    /// What came from other hosts.
    pub(crate) fn peers(&self) -> u64 {
        self.rack.saturating_add(self.zone).saturating_add(self.elsewhere)
    }

    /// What was read from registries.
    pub(crate) fn registries(&self) -> u64 {
        self.origin.saturating_add(self.fallback)
    }

    fn with(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            origin: f(self.origin, other.origin),
            fallback: f(self.fallback, other.fallback),
            rack: f(self.rack, other.rack),
            zone: f(self.zone, other.zone),
            elsewhere: f(self.elsewhere, other.elsewhere),
            cache: f(self.cache, other.cache),
            uploaded: f(self.uploaded, other.uploaded),
        }
    }
}

/// A blob that some host has or wants.
#[derive(Debug, Deserialize)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) registry: String,
    /// The host that reads it from the origin.
    #[serde(default)]
    pub(crate) source: Option<String>,
    pub(crate) closed: bool,
    /// Hosts that have all of it.
    pub(crate) complete: u32,
    /// Hosts that want it and do not have it yet.
    pub(crate) wanting: u32,
    #[serde(default)]
    pub(crate) transfers: u32,
    #[serde(default)]
    pub(crate) rollout: Option<UnderWay>,
}

/// A rollout that goes on.
#[derive(Debug, Deserialize)]
pub(crate) struct UnderWay {
    pub(crate) seconds: f64,
    /// The least time that the hosts' links allow, where it is known.
    #[serde(default)]
    pub(crate) bound_seconds: Option<f64>,
}

/// A rollout that has ended.
#[derive(Debug, Deserialize)]
pub(crate) struct Ended {
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) registry: String,
    pub(crate) hosts: u32,
    pub(crate) seconds: f64,
    #[serde(default)]
    pub(crate) bound_seconds: Option<f64>,
    #[serde(default)]
    pub(crate) ended_seconds_ago: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_daemon_says_less() {
        let answer = serde_json::json!({
            "hosts": [{"id": "aa", "traffic": {
                "origin": 1, "fallback": 2, "rack": 3, "zone": 4, "elsewhere": 5, "cache": 6, "uploaded": 7}}],
            "blobs": [{"digest": "sha256:c", "size": 1, "closed": true, "complete": 1, "wanting": 2}],
        });
        let status: Status = serde_json::from_value(answer).unwrap();
        assert_eq!((status.hosts_total, status.blobs_total, status.rollouts.len()), (0, 0, 0));
        assert_eq!((status.hosts[0].uploads, status.hosts[0].downloads), (0, 0));
        assert!(status.blobs[0].rollout.is_none() && status.blobs[0].transfers == 0);
    }

    #[test]
    fn sums_and_rates() {
        let some =
            Traffic { origin: 3, fallback: 1, rack: 10, zone: 20, elsewhere: 30, cache: 0, uploaded: 5 };
        assert_eq!((some.peers(), some.registries()), (60, 4));
        assert_eq!(some.plus(&some).since(&some), some);
        assert_eq!(Traffic::default().since(&some), Traffic::default(), "never below nothing");
        let halved = some.per_second(Duration::from_secs(2)).unwrap();
        assert_eq!((halved.origin, halved.rack, halved.uploaded), (1, 5, 2));
        assert_eq!(some.per_second(Duration::ZERO), None);
        let most = Traffic { origin: u64::MAX, rack: u64::MAX, zone: 1, ..Traffic::default() };
        assert_eq!(most.per_second(Duration::from_millis(1)).unwrap().origin, u64::MAX);
        assert_eq!(most.peers(), u64::MAX);
    }
}
