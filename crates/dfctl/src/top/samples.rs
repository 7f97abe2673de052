//! Answers of a daemon, for the tests of `top`.

use super::model::{Model, Moment};
use crate::answer::Status;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// So many seconds after the start, which was at 2026-01-01T00:00:00Z.
pub(super) fn at(seconds: u64) -> Moment {
    let since_start = Duration::from_secs(seconds);
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    Moment { since_start, clock: start + since_start }
}

/// A host by its id and its bytes: origin, fallback, rack, zone, elsewhere, cache, uploaded.
pub(super) fn host(id: &str, bytes: [u64; 7]) -> Value {
    let [origin, fallback, rack, zone, elsewhere, cache, uploaded] = bytes;
    json!({"id": id, "address": "10.0.0.1:6502", "zone": "z1", "rack": "r1", "connected_seconds": 1,
        "uploads": 2, "downloads": 1, "traffic": {
        "origin": origin, "fallback": fallback, "rack": rack, "zone": zone, "elsewhere": elsewhere,
        "cache": cache, "uploaded": uploaded}})
}

/// A blob by a digit of its digest.
pub(super) fn blob(digit: char, complete: u32, wanting: u32) -> Value {
    json!({"digest": format!("sha256:{}", digit.to_string().repeat(64)), "size": 104_857_600, "registry": "docker.io",
        "source": "00000000000000aa", "closed": true, "complete": complete, "wanting": wanting, "transfers": 3,
        "rollout": {"seconds": 3.0, "hosts": complete + wanting, "bound_seconds": 2.5}})
}

/// An answer of the host aa.
pub(super) fn status(hosts: &[Value], blobs: &[Value]) -> Status {
    let answer = json!({"host": "00000000000000aa", "scheduler": "up", "hosts": hosts, "blobs": blobs});
    serde_json::from_value(answer).unwrap()
}

/// Two hosts and one that is new, a rollout under way and two that ended, after two answers a second apart.
pub(super) fn model() -> Model {
    const MIB: u64 = 1 << 20;
    let first = [
        host("00000000000000aa", [MIB, 0, 0, 0, 0, 0, 0]),
        host("00000000000000bb", [0, 0, MIB, 0, 0, 0, 0]),
    ];
    let mut model = Model::new(status(&first, &[]), at(9));
    let then = [
        host("00000000000000aa", [3 * MIB, MIB / 2, 0, 0, 0, MIB, 4 * MIB]),
        host("00000000000000bb", [0, 0, 5 * MIB, 2 * MIB, 100, 0, 0]),
        host("00000000000000cc", [0; 7]),
    ];
    let mut answer = status(&then, &[blob('c', 1, 3), blob('d', 3, 0)]);
    let ended = json!([
        {"digest": format!("sha256:{}", "e".repeat(64)), "size": 5_242_880, "registry": "ghcr.io", "hosts": 40,
            "seconds": 4.0, "bound_seconds": 2.0, "ended_seconds_ago": 200.0},
        {"digest": format!("sha256:{}", "f".repeat(64)), "size": 1024, "registry": "ghcr.io", "hosts": 2,
            "seconds": 0.5, "bound_seconds": null, "ended_seconds_ago": 12.0},
    ]);
    answer.rollouts = serde_json::from_value(ended).unwrap();
    model.observe(answer, at(10));
    model
}
