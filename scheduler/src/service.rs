//! The gRPC service: from the wire to those who answer, and back.

use crate::connection::ConnectionHandle;
use crate::driver::Inputs;
use crate::questions::{Questions, malformed};
use crate::status;
use crate::stream::Streams;
use futures::stream::BoxStream;
use proto::{server, wire};
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// Serves every connection.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) streams: Arc<Streams>,
    pub(crate) questions: Questions,
    pub(crate) inputs: Inputs,
}

#[tonic::async_trait]
impl server::Scheduler for Service {
    type ConnectStream = BoxStream<'static, Result<wire::SchedulerFrame, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<wire::HostFrame>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let connection = request.extensions().get::<ConnectionHandle>().cloned();
        let connection = connection.ok_or_else(|| Status::internal("a call without a connection"))?;
        let outgoing = self.streams.open(request.into_inner(), connection).await?;
        Ok(Response::new(Box::pin(outgoing)))
    }

    async fn resolve(
        &self,
        request: Request<wire::ResolveRequest>,
    ) -> Result<Response<wire::ResolveResponse>, Status> {
        let request = request.into_inner().try_into().map_err(|error| malformed(&error))?;
        Ok(Response::new(self.questions.resolve(request).await?.into()))
    }

    async fn check_access(
        &self,
        request: Request<wire::AccessRequest>,
    ) -> Result<Response<wire::AccessResponse>, Status> {
        let request = request.into_inner().try_into().map_err(|error| malformed(&error))?;
        Ok(Response::new(self.questions.access(request).await?.into()))
    }

    async fn refresh(
        &self,
        request: Request<wire::RefreshRequest>,
    ) -> Result<Response<wire::RefreshResponse>, Status> {
        let request = request.into_inner().try_into().map_err(|error| malformed(&error))?;
        Ok(Response::new(self.questions.refresh(request).await?.into()))
    }

    async fn status(
        &self,
        _: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        let status = status::ask(&self.inputs).await;
        let status = status.ok_or_else(|| Status::unavailable("the scheduler is too busy to say"))?;
        Ok(Response::new(status.into()))
    }
}
