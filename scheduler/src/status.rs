//! What is going on, for people: over gRPC, and as JSON on the admin port.

use crate::driver::{Input, Inputs};
use crate::rollouts::Rollouts;
use crate::roster::Roster;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use proto::{BlobStatus, HostStatus, STATUS_ROWS_MAX, Status, StatusKey, StatusView};
use scheduler_core::{HostSummary, Summary};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long the driver may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the driver.
pub(crate) async fn ask(inputs: &Inputs) -> Option<Status> {
    let (answer, status) = oneshot::channel();
    let asking = async {
        inputs.send(Input::Status { answer }).await.ok()?;
        status.await.ok()
    };
    tokio::time::timeout(ANSWER_TIMEOUT, asking).await.ok().flatten()
}

/// The status of this moment: hosts by their ids, the blobs that are wanted first.
pub(crate) fn of(summary: &Summary, roster: &Roster, rollouts: &Rollouts) -> Status {
    let now = Instant::now();
    let busy: BTreeMap<_, &HostSummary> = summary.hosts.iter().map(|host| (host.host, host)).collect();
    let hosts = roster.iter().take(STATUS_ROWS_MAX).map(|(id, host)| HostStatus {
        host: id,
        address: host.member.bulk,
        zone: host.member.zone.to_string(),
        rack: host.member.rack.to_string(),
        version: host.version.clone(),
        connected: Duration::from_secs(host.since.elapsed().as_secs()),
        traffic: host.traffic.clone(),
        uploads: busy.get(&id).map_or(0, |host| host.uploads),
        downloads: busy.get(&id).map_or(0, |host| host.downloads),
    });
    let (wanted, idle): (Vec<_>, Vec<_>) = summary.blobs.iter().partition(|b| b.wanting > 0);
    let blobs = wanted.into_iter().chain(idle).take(STATUS_ROWS_MAX).map(|blob| BlobStatus {
        key: StatusKey {
            digest: blob.digest,
            size: blob.size,
            registry: blob.registry.as_ref().map(ToString::to_string).unwrap_or_default(),
        },
        source: blob.source.map(|(host, _)| host),
        closed: blob.closed,
        complete: blob.complete,
        wanting: blob.wanting,
        transfers: blob.transfers,
        rollout: rollouts.progress(&blob.digest, blob.size, now),
    });
    Status {
        hosts: hosts.collect(),
        blobs: blobs.collect(),
        rollouts: rollouts.ended(now),
        hosts_total: u32::try_from(roster.len()).unwrap_or(u32::MAX),
        blobs_total: u32::try_from(summary.blobs.len()).unwrap_or(u32::MAX),
    }
}

/// `/v1/status` on the admin port.
pub(crate) fn routes(inputs: Inputs) -> Router {
    Router::new().route("/v1/status", get(status)).with_state(inputs)
}

async fn status(State(inputs): State<Inputs>) -> Result<Json<StatusView>, StatusCode> {
    ask(&inputs).await.map(|status| Json(StatusView::from(&status))).ok_or(StatusCode::SERVICE_UNAVAILABLE)
}
