//! The gRPC service: from the wire to those who answer, and back.

use crate::cluster::Cluster;
use crate::connection::ConnectionHandle;
use crate::driver::Inputs;
use crate::kubernetes::Identity;
use crate::questions::{Questions, malformed, refusal};
use crate::refused::Refused;
use crate::status;
use crate::stream::Streams;
use futures::stream::BoxStream;
use membership::JoinSecret;
use origin::OriginError;
use process::audit::{Event, Log, Operation};
use process::traces::{self, Kind, Span};
use proto::{CHECK_ACCESS_CALL, JoinRequest, OriginRefusal, REFRESH_CALL, RESOLVE_CALL, server, wire};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tonic::{Request, Response, Status, Streaming};
use types::HostId;

/// Serves every connection.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) streams: Arc<Streams>,
    pub(crate) questions: Questions,
    pub(crate) inputs: Inputs,
    /// Whose members may ask; everybody, where gRPC is plain.
    pub(crate) cluster: Option<Cluster>,
    pub(crate) refused: Refused,
    pub(crate) audit: Option<Log>,
}

impl Service {
    /// The connection of a call that is a member's.
    ///
    /// # Errors
    /// What keeps it from being one.
    fn member<T>(&self, request: &Request<T>) -> Result<ConnectionHandle, Status> {
        let connection = connection_of(request)?;
        if let Some(cluster) = &self.cluster {
            let Some(host) = connection.host else {
                return Err(Status::unauthenticated("no host certificate was shown: join first"));
            };
            if connection.is_over() {
                connection.part();
                let status = Status::unauthenticated("the host certificate of this connection has expired");
                self.refused.tell(&connection, "a call is refused", &status);
                return Err(status);
            }
            cluster.admits(host.host()).inspect_err(|status| {
                connection.part();
                self.refused.tell(&connection, "a call is refused", status);
            })?;
        }
        Ok(connection)
    }

    fn cluster(&self) -> Result<&Cluster, Status> {
        let why = "this scheduler takes hosts in without joining (insecure_plain_grpc)";
        self.cluster.as_ref().ok_or_else(|| Status::failed_precondition(why))
    }

    /// Tells the audit log, if there is one.
    fn joined(&self, host: HostId, from: IpAddr, by: &str) {
        if let Some(audit) = &self.audit {
            let detail = format!("{host} from {from} by {by}");
            let operation = Operation { name: "host_join".into(), by: "grpc".into(), detail };
            audit.tell(None, Event::Operation(operation));
        }
    }

    /// Says so, and ends the connection of one that may not join.
    fn turn_away(&self, connection: &ConnectionHandle, status: Status) -> Status {
        connection.part();
        self.refused.tell(connection, "a host may not join", &status);
        status
    }
}

fn connection_of<T>(request: &Request<T>) -> Result<ConnectionHandle, Status> {
    let connection = request.extensions().get::<ConnectionHandle>().cloned();
    connection.ok_or_else(|| Status::internal("a call without a connection"))
}

/// The span of answering a member's question, in the trace of which it tells.
fn asked<T>(call: &'static str, request: &Request<T>) -> Span {
    Span::child(Kind::Server, call, traces::extract(request.metadata()))
}

/// Ends the span of an answer; an origin's no is one, and what became of the question on its way to it.
fn answered<T>(
    mut span: Span,
    answer: Result<Result<T, OriginError>, Status>,
) -> Result<Result<T, OriginRefusal>, Status> {
    match &answer {
        Ok(Ok(_)) => span.note("damselfly.result", "permitted"),
        Ok(Err(error)) => {
            match unanswered(error) {
                None => span.note("damselfly.result", "refused"),
                Some(why) => span.fail(why),
            }
            if let Some(status) = origin_status(error) {
                span.count("damselfly.origin_status", status.into());
            }
        }
        Err(status) => span.fail(format_args!("{:?}", status.code())),
    }
    answer.map(|answer| answer.map_err(|error| refusal(&error)))
}

/// Why there is neither a yes nor a no, in the words of which docs/traces.md tells; nothing if it is a no. Daemons have the
/// same words, but for a credential that is missing or cannot be used: of that they are told as of a bad answer.
const fn unanswered(error: &OriginError) -> Option<&'static str> {
    match error {
        OriginError::Unauthorized { .. }
        | OriginError::Denied { .. }
        | OriginError::NotFound { .. }
        | OriginError::ForbiddenAddress { .. } => None,
        OriginError::TimedOut | OriginError::Stalled => Some("timed out"),
        OriginError::Unreachable(_)
        | OriginError::Tls { .. }
        | OriginError::Broken { .. }
        | OriginError::Throttled { .. } => Some("unavailable"),
        OriginError::NoCredential(_) | OriginError::BadCredential { .. } => Some("no credential"),
        _ => Some("bad answer"),
    }
}

/// The status that the registry sent, if it is of one that the error comes.
fn origin_status(error: &OriginError) -> Option<u16> {
    match error {
        OriginError::Unauthorized { .. } => Some(401),
        OriginError::NotFound { .. } => Some(404),
        OriginError::Throttled { .. } => Some(429),
        OriginError::Denied { status, .. }
        | OriginError::Server { status }
        | OriginError::Unexpected { status, .. } => Some(status.as_u16()),
        _ => None,
    }
}

#[tonic::async_trait]
impl server::Scheduler for Service {
    type ConnectStream = BoxStream<'static, Result<wire::SchedulerFrame, Status>>;

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::Credentials>, Status> {
        let cluster = self.cluster()?;
        let connection = connection_of(&request)?;
        let remote = connection.remote;
        let request: JoinRequest = request.into_inner().try_into().map_err(|error| malformed(&error))?;
        match cluster.join(&request, SystemTime::now()) {
            Ok((key, credentials)) => {
                let token = JoinSecret::from_bytes(&request.secret).map(|secret| secret.hash().id());
                tracing::info!(host = %key.host(), %remote, token, "a host joined");
                let by = format!("token {}", token.unwrap_or_default());
                self.joined(key.host(), remote.ip(), &by);
                Ok(Response::new(credentials.into()))
            }
            Err(status) => Err(self.turn_away(&connection, status)),
        }
    }

    async fn join_by_service_account(
        &self,
        request: Request<wire::ServiceAccountJoinRequest>,
    ) -> Result<Response<wire::Credentials>, Status> {
        let cluster = self.cluster()?;
        let connection = connection_of(&request)?;
        let remote = connection.remote;
        let request = request.into_inner().try_into().map_err(|error| malformed(&error))?;
        match cluster.join_by_service_account(&request, remote.ip()).await {
            Ok((key, identity, credentials)) => {
                let Identity { account, pod, node } = identity;
                tracing::info!(host = %key.host(), %remote, account, pod, node, "a host joined");
                self.joined(key.host(), remote.ip(), &format!("service account {account}"));
                Ok(Response::new(credentials.into()))
            }
            Err(status) => Err(self.turn_away(&connection, status)),
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
        let span = asked(RESOLVE_CALL, &request);
        let request = request.into_inner().try_into().map_err(|error| malformed(&error))?;
        let answer = self.questions.resolve(request).await;
        Ok(Response::new(answered(span, answer)?.into()))
    }

    async fn check_access(
        &self,
        request: Request<wire::AccessRequest>,
    ) -> Result<Response<wire::AccessResponse>, Status> {
        self.member(&request)?;
        let span = asked(CHECK_ACCESS_CALL, &request);
        let request = request.into_inner().try_into().map_err(|error| malformed(&error))?;
        let answer = self.questions.access(request).await;
        Ok(Response::new(answered(span, answer)?.into()))
    }

    async fn refresh(
        &self,
        request: Request<wire::RefreshRequest>,
    ) -> Result<Response<wire::RefreshResponse>, Status> {
        self.member(&request)?;
        let span = asked(REFRESH_CALL, &request);
        let request = request.into_inner().try_into().map_err(|error| malformed(&error))?;
        let answer = self.questions.refresh(request).await;
        Ok(Response::new(answered(span, answer)?.into()))
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        self.member(&request)?;
        let status = status::ask(&self.inputs).await;
        let mut status = status.ok_or_else(|| Status::unavailable("the scheduler is too busy to say"))?;
        // With them the status of a large cluster would be longer than a frame; the admin port has them.
        status.hosts.iter_mut().for_each(|host| host.traffic.peers.clear());
        Ok(Response::new(status.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use types::Registry;

    #[test]
    fn an_outage_is_no_refusal_and_has_no_status() {
        let registry = Registry::parse("registry.example").unwrap();
        let bad_credential = OriginError::BadCredential { registry: registry.clone(), why: "no file".into() };
        for (error, why, status) in [
            (OriginError::Unauthorized { challenges: Vec::new(), body: "".into() }, None, Some(401)),
            (OriginError::Denied { status: StatusCode::FORBIDDEN, body: "".into() }, None, Some(403)),
            (OriginError::NotFound { body: "".into() }, None, Some(404)),
            (OriginError::Unreachable("down".into()), Some("unavailable"), None),
            (OriginError::TimedOut, Some("timed out"), None),
            (OriginError::Throttled { retry_after: None, body: "".into() }, Some("unavailable"), Some(429)),
            (OriginError::Server { status: StatusCode::BAD_GATEWAY }, Some("bad answer"), Some(502)),
            (OriginError::RedirectLoop, Some("bad answer"), None),
            (OriginError::NoCredential(registry), Some("no credential"), None),
            (bad_credential, Some("no credential"), None),
        ] {
            assert_eq!((unanswered(&error), origin_status(&error)), (why, status), "{error}");
        }
    }
}
