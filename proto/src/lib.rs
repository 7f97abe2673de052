//! Damselfly's protocol between hosts and the scheduler: the generated wire types, and what turns them into the words
//! of `types` and back.
//!
//! `scheduler` and the daemon's scheduler link speak in [`FromHost`] and [`FromScheduler`]; what comes in is checked
//! against every bound before anyone acts on it, and what goes out is cut into frames that the other side accepts.

mod error;
mod frame;
mod host;
mod join;
mod link;
mod preheat;
mod requests;
mod scheduler;
mod status;
mod status_view;
#[cfg(test)]
mod tests;
mod words;

pub use error::ConvertError;
pub use frame::{Forget, FromHost, FromScheduler, host_frames, scheduler_frames};
pub use join::{Credentials, JoinRequest, ServiceAccountJoinRequest};
pub use link::{Hello, Member, PeerTraffic, TRAFFIC_PEERS_MAX, Traffic, Welcome};
pub use preheat::{
    PREHEAT_CONTENTS_MAX, PREHEAT_FAILURE_BYTES_MAX, PREHEAT_IMAGES_MAX, PREHEAT_REPORTS_MAX, PreheatBlob,
    PreheatImage, PreheatOrder, PreheatReport,
};
pub use requests::{
    Access, AccessRequest, CredentialKind, MANIFEST_BYTES_MAX, Manifest, OriginRefusal, RefreshRequest,
    ResolveRequest,
};
pub use status::{
    BlobStatus, HostStatus, ROLLOUTS_MAX, RolloutProgress, RolloutStatus, STATUS_ROWS_MAX, Status, StatusKey,
};
pub use status_view::{BlobView, HostView, PeerView, ProgressView, RolloutView, StatusView, TrafficView};
pub use words::LABEL_BYTES_MAX;

/// The generated types and the service, version 1.
#[allow(missing_debug_implementations, unreachable_pub, unused_qualifications, reason = "generated")]
#[allow(clippy::all, clippy::large_futures, clippy::needless_pass_by_value, reason = "generated")]
#[allow(clippy::uninlined_format_args, clippy::semicolon_if_nothing_returned, reason = "generated")]
pub mod wire {
    tonic::include_proto!("damselfly.v1");
}

/// The generated client.
pub use wire::scheduler_client as client;
/// The generated server.
pub use wire::scheduler_server as server;

/// The protocol version that this program speaks. Since 2 there are preheats.
pub const PROTOCOL: u32 = 2;

/// The first protocol version with preheats: an older host would not know what to do with an order.
pub const PREHEAT_PROTOCOL: u32 = 2;

/// The oldest protocol version that this program understands.
pub const PROTOCOL_MIN: u32 = 1;

/// Resolving, as gRPC names the call: so are its spans in traces called, on both sides.
pub const RESOLVE_CALL: &str = "damselfly.v1.Scheduler/Resolve";

/// Checking access, likewise.
pub const CHECK_ACCESS_CALL: &str = "damselfly.v1.Scheduler/CheckAccess";

/// Refreshing, likewise.
pub const REFRESH_CALL: &str = "damselfly.v1.Scheduler/Refresh";

/// The largest frame from a host, encoded, in bytes; the scheduler's limit for decoding.
pub const HOST_FRAME_BYTES_MAX: usize = 1024 * 1024;

/// The largest frame from the scheduler, encoded, in bytes; the host's limit for decoding. The largest single message
/// is a lease with the SHA-512 states of 65,536 pieces, 4 MiB, and the set of the pieces that are missing.
pub const SCHEDULER_FRAME_BYTES_MAX: usize = 5 * 1024 * 1024;

/// The most messages in a frame.
pub const FRAME_MESSAGES_MAX: usize = 4096;

/// The most members that join or leave in one frame.
pub const FRAME_MEMBERS_MAX: usize = 4096;

/// The highest version that both sides speak, `min..=max` being the other side's; nothing if there is none.
#[must_use]
pub const fn negotiate(min: u32, max: u32) -> Option<u32> {
    let version = if max < PROTOCOL { max } else { PROTOCOL };
    let floor = if min > PROTOCOL_MIN { min } else { PROTOCOL_MIN };
    if version >= floor { Some(version) } else { None }
}
