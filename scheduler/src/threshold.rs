//! What every call passes before anything of its message is read.
//!
//! gRPC collects a whole message before the service sees it. So a call that is not a host's stream may have a small body
//! only, and whoever has shown no certificate can do nothing but join, a few at a time.

use crate::connection::ConnectionHandle;
use crate::refused::Refused;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::Limited;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// The one call with a stream of messages from the host.
const CONNECT: &str = "/damselfly.v1.Scheduler/Connect";

/// What needs no certificate.
const JOIN: &str = "/damselfly.v1.Scheduler/Join";
const JOIN_BY_SERVICE_ACCOUNT: &str = "/damselfly.v1.Scheduler/JoinByServiceAccount";
const HEALTH: &str = "/grpc.health.v1.Health/";

/// The largest body of a call that is no stream, in bytes: 32 Accept headers of 1,024 bytes are the most of a question.
const QUESTION_BYTES_MAX: usize = 64 * 1024;

/// Calls of strangers at once.
const STRANGERS_CALLS_MAX: usize = 64;

/// The layer; clones share the count.
#[derive(Clone, Debug)]
pub(crate) struct Threshold {
    /// Nothing where gRPC is plain and everybody is taken for a host.
    strangers: Option<Arc<Semaphore>>,
    refused: Refused,
}

impl Threshold {
    /// Where hosts show certificates.
    pub(crate) fn guarded(refused: Refused) -> Self {
        Self { strangers: Some(Arc::new(Semaphore::new(STRANGERS_CALLS_MAX))), refused }
    }

    /// Where nobody does.
    pub(crate) fn open() -> Self {
        Self { strangers: None, refused: Refused::default() }
    }
}

impl Threshold {
    fn refuse<E: Send + 'static>(
        &self,
        connection: Option<&ConnectionHandle>,
        status: &Status,
    ) -> BoxFuture<'static, Result<Response<Body>, E>> {
        if let Some(connection) = connection {
            self.refused.tell(connection, "a call is refused", status);
        }
        let answer = status.clone().into_http();
        Box::pin(std::future::ready(Ok(answer)))
    }
}

impl<S> Layer<S> for Threshold {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, threshold: self.clone() }
    }
}

/// A service behind the threshold.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<S> {
    inner: S,
    threshold: Threshold,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connection = request.extensions().get::<ConnectionHandle>();
        let path = request.uri().path();
        let mut permit = None;
        if let Some(strangers) = &self.threshold.strangers
            && connection.is_none_or(|connection| connection.host.is_none())
        {
            if ![JOIN, JOIN_BY_SERVICE_ACCOUNT].contains(&path) && !path.starts_with(HEALTH) {
                let status = Status::unauthenticated("no host certificate was shown: join first");
                return self.threshold.refuse(connection, &status);
            }
            match Arc::clone(strangers).try_acquire_owned() {
                Ok(free) => permit = Some(free),
                Err(_) => {
                    let status = Status::resource_exhausted("too many hosts join at once");
                    return self.threshold.refuse(connection, &status);
                }
            }
        }
        let request = match path {
            CONNECT => request,
            _ => request.map(|body| Body::new(Limited::new(body, QUESTION_BYTES_MAX))),
        };
        let answering = self.inner.call(request);
        Box::pin(async move {
            let _permit = permit;
            answering.await
        })
    }
}
