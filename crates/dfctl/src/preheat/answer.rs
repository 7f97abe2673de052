//! The scheduler's answers about preheats, as far as text shows them. A newer scheduler may say more.

use crate::Error;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// How a preheat stands. Times are seconds since 1970.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    /// A number that the API writes as text.
    #[serde(deserialize_with = "number")]
    pub(super) id: u64,
    /// `running`, or how it ended: `done`, `failed`, `cancelled`.
    pub(super) state: String,
    pub(super) created: u64,
    #[serde(default)]
    pub(super) ended: Option<u64>,
    pub(super) images: Vec<Image>,
    /// What all hosts together are to hold.
    pub(super) bytes: u64,
    pub(super) held_bytes: u64,
    pub(super) hosts: Hosts,
    /// So many at most as the scheduler lists.
    #[serde(default)]
    pub(super) failures: Vec<Failure>,
    /// Likewise; none where preheats are listed.
    #[serde(default)]
    pub(super) rows: Vec<Row>,
}

/// An image, as it was resolved when the preheat began.
#[derive(Debug, Deserialize)]
pub(super) struct Image {
    pub(super) image: String,
    pub(super) digest: String,
    #[serde(default)]
    pub(super) platforms: Vec<String>,
    /// What one host that is to hold all these platforms holds of it.
    pub(super) bytes: u64,
}

/// How many hosts are how far.
#[derive(Debug, Deserialize)]
pub(super) struct Hosts {
    pub(super) total: u32,
    pub(super) done: u32,
    #[serde(default)]
    pub(super) failed: u32,
    #[serde(default)]
    pub(super) away: u32,
}

/// A host that does not hold all, and will not.
#[derive(Debug, Deserialize)]
pub(super) struct Failure {
    pub(super) host: String,
    pub(super) why: String,
}

/// How far one host is.
#[derive(Debug, Deserialize)]
pub(super) struct Row {
    pub(super) host: String,
    #[serde(default)]
    pub(super) zone: String,
    #[serde(default)]
    pub(super) platform: String,
    /// `running`, `done`, `failed`, `away` or `cancelled`.
    pub(super) state: String,
    pub(super) bytes: u64,
    pub(super) held_bytes: u64,
    #[serde(default)]
    pub(super) blobs: u32,
    #[serde(default)]
    pub(super) held_blobs: u32,
    #[serde(default)]
    pub(super) why: Option<String>,
}

/// Reads an answer: a [`State`], or several.
pub(super) fn read<'a, T: Deserialize<'a>>(answer: &'a Value) -> Result<T, Error> {
    T::deserialize(answer).map_err(|error| Error::Unexpected(error.to_string()))
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let mut answer = serde_json::json!({
            "id": "17", "state": "running", "created": 1, "images": [], "bytes": 2, "held_bytes": 1, "more": [],
            "hosts": {"total": 1, "done": 0},
        });
        let state: State = read(&answer).unwrap();
        assert_eq!((state.id, state.ended, state.hosts.away), (17, None, 0));
        assert!(state.rows.is_empty() && state.failures.is_empty());
        // What goes into paths, and into commands that are shown, is a number.
        for id in ["", "../tokens", "17; reboot", "-1"] {
            answer["id"] = id.into();
            let error = read::<State>(&answer).unwrap_err();
            assert!(matches!(error, Error::Unexpected(_)), "{id}: {error}");
        }
    }
}
