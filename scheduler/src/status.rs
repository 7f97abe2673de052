//! What is going on, for people: over gRPC, and as JSON on the admin port.

use crate::driver::{Input, Inputs};
use crate::roster::Roster;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use proto::{BlobStatus, HostStatus, STATUS_ROWS_MAX, Status, StatusKey};
use scheduler_core::Summary;
use serde::Serialize;
use std::time::Duration;
use tokio::sync::oneshot;

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
pub(crate) fn of(summary: &Summary, roster: &Roster) -> Status {
    let hosts = roster.iter().take(STATUS_ROWS_MAX).map(|(id, host)| HostStatus {
        host: id,
        address: host.member.bulk,
        zone: host.member.zone.to_string(),
        rack: host.member.rack.to_string(),
        version: host.version.clone(),
        connected: Duration::from_secs(host.since.elapsed().as_secs()),
        traffic: host.traffic.clone(),
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
    });
    Status {
        hosts: hosts.collect(),
        blobs: blobs.collect(),
        hosts_total: u32::try_from(roster.len()).unwrap_or(u32::MAX),
        blobs_total: u32::try_from(summary.blobs.len()).unwrap_or(u32::MAX),
    }
}

/// `/v1/status` on the admin port.
pub(crate) fn routes(inputs: Inputs) -> Router {
    Router::new().route("/v1/status", get(status)).with_state(inputs)
}

async fn status(State(inputs): State<Inputs>) -> Result<Json<View>, StatusCode> {
    ask(&inputs).await.map(|status| Json(View::from(&status))).ok_or(StatusCode::SERVICE_UNAVAILABLE)
}

#[derive(Serialize)]
struct View {
    hosts: Vec<HostView>,
    blobs: Vec<BlobView>,
    hosts_total: u32,
    blobs_total: u32,
}

#[derive(Serialize)]
struct HostView {
    id: String,
    address: String,
    zone: String,
    rack: String,
    version: String,
    connected_seconds: u64,
    traffic: TrafficView,
}

/// Bytes since the host's start.
#[derive(Serialize)]
struct TrafficView {
    origin: u64,
    fallback: u64,
    rack: u64,
    zone: u64,
    elsewhere: u64,
    cache: u64,
    uploaded: u64,
    peers: Vec<PeerView>,
}

#[derive(Serialize)]
struct PeerView {
    id: String,
    received: u64,
    sent: u64,
}

#[derive(Serialize)]
struct BlobView {
    digest: String,
    size: u64,
    registry: String,
    source: Option<String>,
    closed: bool,
    complete: u32,
    wanting: u32,
}

impl From<&Status> for View {
    fn from(status: &Status) -> Self {
        Self {
            hosts: status.hosts.iter().map(HostView::from).collect(),
            blobs: status.blobs.iter().map(BlobView::from).collect(),
            hosts_total: status.hosts_total,
            blobs_total: status.blobs_total,
        }
    }
}

impl From<&HostStatus> for HostView {
    fn from(host: &HostStatus) -> Self {
        let peer =
            |p: &proto::PeerTraffic| PeerView { id: p.host.to_string(), received: p.received, sent: p.sent };
        let t = &host.traffic;
        Self {
            id: host.host.to_string(),
            address: host.address.to_string(),
            zone: host.zone.clone(),
            rack: host.rack.clone(),
            version: host.version.clone(),
            connected_seconds: host.connected.as_secs(),
            traffic: TrafficView {
                origin: t.origin,
                fallback: t.fallback,
                rack: t.rack,
                zone: t.zone,
                elsewhere: t.elsewhere,
                cache: t.cache,
                uploaded: t.uploaded,
                peers: t.peers.iter().map(peer).collect(),
            },
        }
    }
}

impl From<&BlobStatus> for BlobView {
    fn from(blob: &BlobStatus) -> Self {
        Self {
            digest: blob.key.digest.to_string(),
            size: blob.key.size,
            registry: blob.key.registry.clone(),
            source: blob.source.map(|s| s.to_string()),
            closed: blob.closed,
            complete: blob.complete,
            wanting: blob.wanting,
        }
    }
}
