//! How preheats get on, for people and programs: the JSON of the operator's socket. `grpc` says the same.

use serde::Serialize;
use std::sync::Arc;

/// The most failures of a view.
pub(crate) const FAILURES_MAX: usize = 32;

/// The most rows of a view.
pub(crate) const ROWS_MAX: usize = 4096;

/// How a preheat, or one host's part of it, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Running,
    Done,
    Failed,
    Cancelled,
    /// Of a host alone: it is to go on when it comes back.
    Away,
}

/// A preheat. Sizes are of blobs, without manifests; times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PreheatView {
    pub(crate) id: String,
    pub(crate) state: State,
    pub(crate) created: u64,
    pub(crate) ended: Option<u64>,
    pub(crate) images: Arc<[ImageView]>,
    /// Sums over the hosts.
    pub(crate) bytes: u64,
    pub(crate) held_bytes: u64,
    pub(crate) hosts: HostCounts,
    /// Of the hosts that have failed; [`FAILURES_MAX`] at most.
    pub(crate) failures: Vec<FailureView>,
    /// One for each host, [`ROWS_MAX`] at most, the failed ones first; left out of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rows: Option<Vec<RowView>>,
}

/// An image of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ImageView {
    /// As it was asked for.
    pub(crate) image: String,
    /// What that was when the preheat began.
    pub(crate) digest: String,
    /// Those that are preheated, as the index names them, some of them if there are very many; none if the image has no
    /// index.
    pub(crate) platforms: Vec<String>,
    /// What one host of all these platforms would hold.
    pub(crate) bytes: u64,
}

/// How many hosts stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct HostCounts {
    pub(crate) total: u32,
    pub(crate) done: u32,
    pub(crate) failed: u32,
    pub(crate) away: u32,
}

/// A host that has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FailureView {
    pub(crate) host: String,
    pub(crate) why: String,
}

/// One host's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RowView {
    pub(crate) host: String,
    pub(crate) zone: String,
    pub(crate) platform: String,
    pub(crate) state: State,
    pub(crate) bytes: u64,
    pub(crate) held_bytes: u64,
    pub(crate) blobs: u32,
    pub(crate) held_blobs: u32,
    /// What went wrong first, if anything did.
    pub(crate) why: Option<String>,
}
