//! Preheats over HTTP, in JSON. `cluster/api.rs` has the paths.

use super::service::{self, Request};
use super::{PreheatError, PreheatView};
use crate::cluster::operator::{Desk, Peer};
use crate::cluster::refusal::{Body, Refusal};
use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;

impl From<PreheatError> for Refusal {
    fn from(error: PreheatError) -> Self {
        Self(error.status(), error.to_string())
    }
}

pub(crate) async fn begin(
    State(desk): State<Desk>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    Body(request): Body<Request>,
) -> Result<(StatusCode, Json<PreheatView>), Refusal> {
    let begun = service::begin(&desk, operator, &request).await?;
    Ok((StatusCode::CREATED, Json(begun)))
}

pub(crate) async fn list(State(desk): State<Desk>) -> Result<Json<Vec<PreheatView>>, Refusal> {
    Ok(Json(service::list(&desk).await?))
}

pub(crate) async fn get(
    State(desk): State<Desk>,
    Path(id): Path<String>,
) -> Result<Json<PreheatView>, Refusal> {
    Ok(Json(service::get(&desk, &id).await?))
}

pub(crate) async fn cancel(
    State(desk): State<Desk>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    Path(id): Path<String>,
) -> Result<Json<PreheatView>, Refusal> {
    Ok(Json(service::cancel(&desk, operator, &id).await?))
}
