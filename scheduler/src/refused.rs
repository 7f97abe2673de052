//! Who is refused at the gRPC port, in the log.

use crate::connection::ConnectionHandle;
use membership::{Refusals, row};
use std::sync::Arc;
use tonic::Status;

/// Says each once in a while; clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refused(Arc<Refusals>);

impl Refused {
    /// Says `what` has happened to one that calls, and why.
    pub(crate) fn tell(&self, connection: &ConnectionHandle, what: &'static str, status: &Status) {
        let (remote, reason) = (connection.remote, status.message());
        if let Some(unsaid) = self.0.note(&row(remote.ip()), &reason) {
            let host = connection.host.map(|key| tracing::field::display(key.host()));
            tracing::warn!(%remote, host, reason, unsaid, "{what}");
        }
    }
}
