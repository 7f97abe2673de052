//! Preheats over gRPC, on the operator's socket: the same as over HTTP, in the words of `operator.proto`.

use super::PreheatView;
use super::service::{self, Request};
use super::view::{FailureView, HostCounts, ImageView, RowView, State};
use crate::cluster::operator::{Desk, Peer};
use axum::Router;
use axum::extract::ConnectInfo;
use proto::wire;
use proto::wire::preheat_status as status;
use proto::wire::preheats_server::{Preheats, PreheatsServer};
use tonic::service::Routes;
use tonic::{Response, Status};

/// The largest request, encoded, in bytes.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// Answers from the operators' desk.
#[derive(Clone, Debug)]
struct Service(Desk);

/// The service's paths. What is none of them is for others to answer.
pub(crate) fn routes(desk: Desk) -> Router {
    let service = PreheatsServer::new(Service(desk)).max_decoding_message_size(REQUEST_BYTES_MAX);
    Routes::new(service).into_axum_router().reset_fallback()
}

fn operator<T>(request: &tonic::Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    peer.map(|ConnectInfo(peer)| *peer).ok_or_else(|| Status::internal("a call without a connection"))
}

#[tonic::async_trait]
impl Preheats for Service {
    async fn begin(
        &self,
        request: tonic::Request<wire::BeginPreheatRequest>,
    ) -> Result<Response<wire::PreheatStatus>, Status> {
        let operator = operator(&request)?;
        let wire::BeginPreheatRequest { images, platforms, zones, hosts } = request.into_inner();
        let request = Request { images, platforms, zones, hosts };
        Ok(Response::new(service::begin(&self.0, operator, &request).await?.into()))
    }

    async fn get(
        &self,
        request: tonic::Request<wire::GetPreheatRequest>,
    ) -> Result<Response<wire::PreheatStatus>, Status> {
        Ok(Response::new(service::get(&self.0, &request.into_inner().id).await?.into()))
    }

    async fn list(
        &self,
        _: tonic::Request<wire::ListPreheatsRequest>,
    ) -> Result<Response<wire::ListPreheatsResponse>, Status> {
        let preheats = service::list(&self.0).await?.into_iter().map(Into::into).collect();
        Ok(Response::new(wire::ListPreheatsResponse { preheats }))
    }

    async fn cancel(
        &self,
        request: tonic::Request<wire::CancelPreheatRequest>,
    ) -> Result<Response<wire::PreheatStatus>, Status> {
        let operator = operator(&request)?;
        let id = request.into_inner().id;
        Ok(Response::new(service::cancel(&self.0, operator, &id).await?.into()))
    }
}

impl From<PreheatView> for wire::PreheatStatus {
    fn from(view: PreheatView) -> Self {
        let HostCounts { total, done, failed, away } = view.hosts;
        Self {
            id: view.id,
            state: view.state.out(),
            created: view.created,
            ended: view.ended,
            images: view.images.iter().cloned().map(Into::into).collect(),
            bytes: view.bytes,
            held_bytes: view.held_bytes,
            hosts: Some(status::Hosts { total, done, failed, away }),
            failures: view.failures.into_iter().map(Into::into).collect(),
            rows: view.rows.unwrap_or_default().into_iter().map(Into::into).collect(),
        }
    }
}

impl State {
    fn out(self) -> i32 {
        match self {
            Self::Running => status::State::Running,
            Self::Done => status::State::Done,
            Self::Failed => status::State::Failed,
            Self::Cancelled => status::State::Cancelled,
            Self::Away => status::State::Away,
        }
        .into()
    }
}

impl From<ImageView> for status::Image {
    fn from(view: ImageView) -> Self {
        let ImageView { image, digest, platforms, bytes } = view;
        Self { image, digest, platforms, bytes }
    }
}

impl From<FailureView> for status::Failure {
    fn from(view: FailureView) -> Self {
        let FailureView { host, why } = view;
        Self { host, why }
    }
}

impl From<RowView> for status::Row {
    fn from(view: RowView) -> Self {
        let RowView { host, zone, platform, state, bytes, held_bytes, blobs, held_blobs, why } = view;
        Self { host, zone, platform, state: state.out(), bytes, held_bytes, blobs, held_blobs, why }
    }
}
