//! The gRPC service: from the wire to those who answer, and back.

use crate::cluster::Cluster;
use crate::connection::ConnectionHandle;
use crate::driver::Inputs;
use crate::questions::{Questions, malformed};
use crate::status;
use crate::stream::Streams;
use futures::stream::BoxStream;
use proto::{server, wire};
use std::sync::Arc;
use std::time::SystemTime;
use tonic::{Request, Response, Status, Streaming};

/// Serves every connection.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) streams: Arc<Streams>,
    pub(crate) questions: Questions,
    pub(crate) inputs: Inputs,
    /// Whose members may ask; everybody, where gRPC is plain.
    pub(crate) cluster: Option<Cluster>,
}

impl Service {
    /// The connection of a call that is a member's.
    ///
    /// # Errors
    /// What keeps it from being one.
    fn member<T>(&self, request: &Request<T>) -> Result<ConnectionHandle, Status> {
        let connection = request.extensions().get::<ConnectionHandle>().cloned();
        let connection = connection.ok_or_else(|| Status::internal("a call without a connection"))?;
        if let Some(cluster) = &self.cluster {
            let Some(host) = connection.host else {
                return Err(Status::unauthenticated("no host certificate was shown: join first"));
            };
            if connection.is_over() {
                return Err(Status::unauthenticated("the host certificate of this connection has expired"));
            }
            cluster.admits(host.host())?;
        }
        Ok(connection)
    }

    fn cluster(&self) -> Result<&Cluster, Status> {
        let why = "this scheduler takes hosts in without joining (insecure_plain_grpc)";
        self.cluster.as_ref().ok_or_else(|| Status::failed_precondition(why))
    }
}

#[tonic::async_trait]
impl server::Scheduler for Service {
    type ConnectStream = BoxStream<'static, Result<wire::SchedulerFrame, Status>>;

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::Credentials>, Status> {
        let cluster = self.cluster()?;
        let remote = request.extensions().get::<ConnectionHandle>().map(|connection| connection.remote);
        let remote = remote.ok_or_else(|| Status::internal("a call without a connection"))?;
        let request = request.into_inner().try_into().map_err(|error| malformed(&error))?;
        match cluster.join(&request, SystemTime::now()) {
            Ok((key, credentials)) => {
                tracing::info!(host = %key.host(), %remote, "a host joined");
                Ok(Response::new(credentials.into()))
            }
            Err(status) => {
                tracing::warn!(%remote, reason = status.message(), "a host may not join");
                Err(status)
            }
        }
    }

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::Credentials>, Status> {
        let (cluster, connection) = (self.cluster()?, self.member(&request)?);
        let key = connection.host.ok_or_else(|| Status::unauthenticated("no host certificate was shown"))?;
        let credentials = cluster.renew(&key, SystemTime::now())?;
        connection.renewed();
        Ok(Response::new(credentials.into()))
    }

    async fn connect(
        &self,
        request: Request<Streaming<wire::HostFrame>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let connection = self.member(&request)?;
        let outgoing = self.streams.open(request.into_inner(), connection).await?;
        Ok(Response::new(Box::pin(outgoing)))
    }

    async fn resolve(
        &self,
        request: Request<wire::ResolveRequest>,
    ) -> Result<Response<wire::ResolveResponse>, Status> {
        self.member(&request)?;
        let request = request.into_inner().try_into().map_err(|error| malformed(&error))?;
        Ok(Response::new(self.questions.resolve(request).await?.into()))
    }

    async fn check_access(
        &self,
        request: Request<wire::AccessRequest>,
    ) -> Result<Response<wire::AccessResponse>, Status> {
        self.member(&request)?;
        let request = request.into_inner().try_into().map_err(|error| malformed(&error))?;
        Ok(Response::new(self.questions.access(request).await?.into()))
    }

    async fn refresh(
        &self,
        request: Request<wire::RefreshRequest>,
    ) -> Result<Response<wire::RefreshResponse>, Status> {
        self.member(&request)?;
        let request = request.into_inner().try_into().map_err(|error| malformed(&error))?;
        Ok(Response::new(self.questions.refresh(request).await?.into()))
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        self.member(&request)?;
        let status = status::ask(&self.inputs).await;
        let status = status.ok_or_else(|| Status::unavailable("the scheduler is too busy to say"))?;
        Ok(Response::new(status.into()))
    }
}
