//! Who is refused at the gRPC port, in the log.

use crate::connection::ConnectionHandle;
use membership::{Refusals, row};
use std::sync::Arc;
use tonic::Status;

/// Says each once in a while; clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refused {
    strangers: Arc<Refusals>,
    /// Apart, so that strangers cannot hide them.
    hosts: Arc<Refusals>,
}

impl Refused {
    /// Says `what` has happened to one that calls, and why.
    pub(crate) fn tell(&self, connection: &ConnectionHandle, what: &'static str, status: &Status) {
        let (remote, reason) = (connection.remote, status.message());
        let refusals = if connection.host.is_some() { &self.hosts } else { &self.strangers };
        if let Some(unsaid) = refusals.note(&row(remote.ip()), &reason) {
            let host = connection.host.map(|key| tracing::field::display(key.host()));
            tracing::warn!(%remote, host, reason, unsaid, "{what}");
        }
    }
}
