//! What operators ask this daemon on its admin port: the cluster's state as JSON, and a tag's refresh.
//!
//! `dfctl` is the usual client. `/healthz` and `/metrics` are `process`'s.

use crate::answers::Answers;
use crate::link::Link;
use crate::traffic::Traffic;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use origin::ImageName;
use process::audit::{Event, Log, Operation};
use process::client::Client;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use store::Store;
use types::HostId;

/// What the answers are made from.
pub(crate) struct Parts {
    pub(crate) host: HostId,
    pub(crate) link: Link,
    pub(crate) answers: Arc<Answers>,
    pub(crate) traffic: Traffic,
    pub(crate) store: Store,
    pub(crate) audit: Option<Log>,
}

/// The routes to be served beside the health check's.
pub(crate) fn routes(parts: Parts) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/refresh", post(refresh))
        .with_state(Arc::new(parts))
}

#[derive(Serialize)]
struct Status {
    /// This host's id.
    host: String,
    /// Whether the scheduler answers; without it only this host is listed.
    scheduler: &'static str,
    /// This host's own bytes, as they stand now.
    traffic: TrafficStatus,
    hosts: Vec<HostStatus>,
    blobs: Vec<BlobStatus>,
}

#[derive(Serialize)]
struct HostStatus {
    id: String,
    address: Option<String>,
    zone: String,
    rack: String,
    connected_seconds: u64,
    traffic: TrafficStatus,
}

/// Bytes since the host's start.
#[derive(Serialize)]
struct TrafficStatus {
    origin: u64,
    fallback: u64,
    rack: u64,
    zone: u64,
    elsewhere: u64,
    cache: u64,
    uploaded: u64,
}

#[derive(Serialize)]
struct BlobStatus {
    digest: String,
    size: u64,
    registry: String,
    source: Option<String>,
    closed: bool,
    complete: u32,
    wanting: u32,
}

impl From<&proto::Traffic> for TrafficStatus {
    fn from(traffic: &proto::Traffic) -> Self {
        let proto::Traffic { origin, fallback, rack, zone, elsewhere, cache, uploaded, peers: _ } = *traffic;
        Self { origin, fallback, rack, zone, elsewhere, cache, uploaded }
    }
}

async fn status(State(parts): State<Arc<Parts>>) -> Json<Status> {
    let host = parts.host.to_string();
    let traffic = TrafficStatus::from(&parts.traffic.snapshot());
    let status = match parts.link.status().await {
        Ok(status) => status,
        Err(error) => {
            tracing::debug!(%error, "the status has this host alone");
            let (hosts, blobs) = (vec![alone(&parts)], held(&parts));
            return Json(Status { host, scheduler: "down", traffic, hosts, blobs });
        }
    };
    let hosts = status.hosts.iter().map(|host| HostStatus {
        id: host.host.to_string(),
        address: Some(host.address.to_string()),
        zone: host.zone.clone(),
        rack: host.rack.clone(),
        connected_seconds: host.connected.as_secs(),
        traffic: (&host.traffic).into(),
    });
    let blobs = status.blobs.iter().map(|blob| BlobStatus {
        digest: blob.key.digest.to_string(),
        size: blob.key.size,
        registry: blob.key.registry.to_string(),
        source: blob.source.map(|source| source.to_string()),
        closed: blob.closed,
        complete: blob.complete,
        wanting: blob.wanting,
    });
    Json(Status { host, scheduler: "up", traffic, hosts: hosts.collect(), blobs: blobs.collect() })
}

fn alone(parts: &Parts) -> HostStatus {
    let (zone, rack) = parts.traffic.place_of_this_host();
    HostStatus {
        id: parts.host.to_string(),
        address: None,
        zone: zone.to_string(),
        rack: rack.to_string(),
        connected_seconds: 0,
        traffic: (&parts.traffic.snapshot()).into(),
    }
}

fn held(parts: &Parts) -> Vec<BlobStatus> {
    let blob = |held: store::Summary| BlobStatus {
        digest: held.digest.to_string(),
        size: held.layout.size(),
        registry: String::new(),
        source: None,
        closed: held.closed,
        complete: u32::from(held.pieces.is_full()),
        wanting: 0,
    };
    parts.store.list().into_iter().map(blob).collect()
}

#[derive(Deserialize)]
struct Image {
    image: String,
}

#[derive(Serialize)]
struct Refreshed {
    digest: String,
}

#[derive(Serialize)]
struct Failure {
    error: String,
}

async fn refresh(
    State(parts): State<Arc<Parts>>,
    Extension(client): Extension<Client>,
    Query(query): Query<Image>,
) -> Response {
    let image: ImageName = match query.image.parse() {
        Ok(image) => image,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &error),
    };
    let refreshed = parts.answers.refresh(&image.repository, &image.reference).await;
    let result = match &refreshed {
        Ok(digest) => digest.to_string(),
        Err(error) => error.to_string(),
    };
    let (repository, reference) = (&image.repository, &image.reference);
    operated(&parts, &client, "refresh", format!("{repository} {reference}: {result}")).await;
    match refreshed {
        Ok(digest) => Json(Refreshed { digest: digest.to_string() }).into_response(),
        Err(error) => failure(error.status(), &error),
    }
}

/// Tells the audit log, if there is one, what an operator had this daemon do.
async fn operated(parts: &Parts, client: &Client, name: &'static str, detail: String) {
    let Some(audit) = &parts.audit else { return };
    // With the answer the connection may end, and with it what is known of its user.
    client.uid().await;
    let operation = Operation { name: name.into(), by: "admin".into(), detail };
    audit.tell(Some(client), Event::Operation(operation));
}

fn failure(status: StatusCode, error: &dyn std::fmt::Display) -> Response {
    (status, Json(Failure { error: error.to_string() })).into_response()
}
