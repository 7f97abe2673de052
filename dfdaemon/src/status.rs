//! What operators ask this daemon on its admin port: the cluster's state as JSON, and a tag's refresh.
//!
//! `dfctl` is the usual client. `/healthz` and `/metrics` are `process`'s.

use crate::answers::Answers;
use crate::link::Link;
use crate::preheat::Preheats;
use crate::traffic::Traffic;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use origin::ImageName;
use process::audit::{Event, Log, Operation};
use process::client::Client;
use proto::{BlobView, HostView, StatusView, TrafficView};
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
    pub(crate) preheats: Preheats,
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
    traffic: TrafficView,
    /// How many preheats run on this host.
    preheats: usize,
    #[serde(flatten)]
    cluster: StatusView,
}

async fn status(State(parts): State<Arc<Parts>>) -> Json<Status> {
    let host = parts.host.to_string();
    let traffic = TrafficView::from(&parts.traffic.snapshot());
    let preheats = parts.preheats.running();
    let (scheduler, cluster) = match parts.link.status().await {
        Ok(status) => ("up", StatusView::from(&status)),
        Err(error) => {
            tracing::debug!(%error, "the status has this host alone");
            let (hosts, blobs) = (vec![alone(&parts)], held(&parts));
            let total = |rows: usize| u32::try_from(rows).unwrap_or(u32::MAX);
            let (hosts_total, blobs_total) = (total(hosts.len()), total(blobs.len()));
            let rollouts = Vec::new();
            ("down", StatusView { hosts, blobs, rollouts, hosts_total, blobs_total })
        }
    };
    Json(Status { host, scheduler, traffic, preheats, cluster })
}

fn alone(parts: &Parts) -> HostView {
    let (zone, rack) = parts.traffic.place_of_this_host();
    HostView {
        id: parts.host.to_string(),
        address: None,
        zone: zone.to_string(),
        rack: rack.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        connected_seconds: 0,
        uploads: 0,
        downloads: 0,
        traffic: (&parts.traffic.snapshot()).into(),
    }
}

fn held(parts: &Parts) -> Vec<BlobView> {
    let blob = |held: store::Summary| BlobView {
        digest: held.digest.to_string(),
        size: held.layout.size(),
        registry: String::new(),
        source: None,
        closed: held.closed,
        complete: u32::from(held.pieces.is_full()),
        wanting: 0,
        transfers: 0,
        rollout: None,
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
