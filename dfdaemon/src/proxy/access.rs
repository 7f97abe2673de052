//! One line in the log for each request, and what is counted of it; one in the audit log, and a span of a trace, where
//! there are such.
//!
//! A [`Record`] is made when a request comes in, goes with the body, and writes when it is dropped: with the body, or
//! before there is one, if the client has left by then.

use super::audit::{Draft, End};
use super::error::BodyError;
use super::metrics::{Kind, Metrics, Outcome, Took};
use super::route::Route;
use crate::traffic::Tally;
use http::{Method, StatusCode};
use process::audit::Sources;
use process::traces::Span;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::TraceContext;

/// How much of a client's name for itself is logged, in characters.
const USER_AGENT_LEN_MAX: usize = 60;

/// What there is to tell of a request.
#[derive(Debug)]
pub(super) struct Record {
    metrics: Metrics,
    started: Instant,
    client: SocketAddr,
    user_agent: String,
    method: Method,
    kind: Kind,
    /// What was asked for, without the query: a query can carry anything.
    asked: String,
    /// Nothing as long as there is no answer.
    status: Option<StatusCode>,
    /// Why the answer is an error or the body broke.
    error: Option<String>,
    bytes: u64,
    first_byte: Option<Instant>,
    /// Whether the body has been given whole.
    whole: bool,
    /// Of a blob: its bytes by where they came from, and how many a second this host can receive.
    came: Option<(Arc<Tally>, Option<u64>)>,
    draft: Option<Draft>,
    span: Span,
}

impl Record {
    /// A request has come in.
    pub(super) fn new(
        metrics: Metrics,
        client: SocketAddr,
        parts: &http::request::Parts,
        draft: Option<Draft>,
    ) -> Self {
        let agent = parts.headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok());
        Self {
            metrics,
            started: Instant::now(),
            client,
            user_agent: agent.unwrap_or_default().chars().take(USER_AGENT_LEN_MAX).collect(),
            method: parts.method.clone(),
            kind: Kind::Other,
            asked: String::new(),
            status: None,
            error: None,
            bytes: 0,
            first_byte: None,
            whole: false,
            came: None,
            draft,
            span: Span::request("client request", &parts.headers),
        }
    }

    /// What it asks for.
    pub(super) fn routed(&mut self, route: &Route) {
        self.audit(|draft| draft.routed(route));
        (self.kind, self.asked) = match route {
            Route::Ping { registry } => {
                (Kind::Ping, registry.as_ref().map_or_else(String::new, ToString::to_string))
            }
            Route::Manifest { repository, reference } => (
                Kind::Manifest,
                match reference {
                    origin::Reference::Tag(tag) => format!("{repository}:{tag}"),
                    origin::Reference::Digest(digest) => format!("{repository}@{digest}"),
                },
            ),
            Route::Blob { repository, digest } => (Kind::Blob, format!("{repository}@{digest}")),
            Route::Forward { repository, .. } => (Kind::Forward, repository.to_string()),
        };
    }

    /// Notes something for the audit log.
    pub(super) fn audit(&mut self, note: impl FnOnce(&mut Draft)) {
        self.draft.as_mut().map(note);
    }

    /// Its content is counted in `tally`; this host receives at most `rate` bytes per second.
    pub(super) fn blob(&mut self, tally: Arc<Tally>, rate: Option<u64>) {
        self.came = Some((tally, rate));
    }

    /// Its span, if that is recorded.
    pub(super) fn trace(&self) -> Option<TraceContext> {
        self.span.context()
    }

    /// What it asks for, in words.
    pub(super) fn asked(&self) -> &str {
        &self.asked
    }

    /// What it is answered with; `error` says why where it is no success.
    pub(super) fn answered(&mut self, status: StatusCode, error: Option<String>) {
        self.status = Some(status);
        self.error = error;
    }

    /// The body has given `bytes` more.
    pub(super) fn sent(&mut self, bytes: u64) {
        if self.first_byte.is_none() {
            self.first_byte = Some(Instant::now());
        }
        self.bytes += bytes;
    }

    /// The body breaks.
    pub(super) fn broke(&mut self, error: &BodyError) {
        self.error = Some(error.to_string());
    }

    /// The body has been given whole.
    pub(super) fn completed(&mut self) {
        self.whole = true;
    }

    fn outcome(&self) -> Outcome {
        match (self.status, &self.error) {
            (None, _) => Outcome::ClientLeft,
            (Some(status), _) if status.is_server_error() => Outcome::ServerError,
            (Some(status), _) if status.is_client_error() => Outcome::ClientError,
            (Some(_), Some(_)) => Outcome::Broken,
            (Some(_), None) if self.whole => Outcome::Ok,
            (Some(_), None) => Outcome::ClientLeft,
        }
    }

    fn sources(&self) -> Option<Sources> {
        self.came.as_ref().map(|(tally, _)| tally.sources())
    }

    /// How many times as long it took as this host's link needs for what came over it, where its rate is known.
    fn times_bound(&self, outcome: Outcome, took: Duration) -> Option<f64> {
        let Sources { peer_bytes, origin_bytes, .. } = self.sources()?;
        let rate = self.came.as_ref()?.1?;
        let bytes = u128::from(peer_bytes + origin_bytes);
        let bound_ms = bytes * 1000 / u128::from(rate.max(1));
        let per_mille = (took.as_millis() * 1000).checked_div(bound_ms)?;
        let per_mille = u32::try_from(per_mille).unwrap_or(u32::MAX);
        (outcome == Outcome::Ok).then(|| f64::from(per_mille) / 1000.0)
    }

    fn trace_end(&mut self, outcome: Outcome) {
        let sources = self.sources();
        let span = &mut self.span;
        span.note("http.request.method", &self.method);
        span.note("damselfly.kind", self.kind.name());
        span.note("damselfly.asked", &self.asked);
        span.note("damselfly.result", outcome.name());
        if let Some(status) = self.status {
            span.count("http.response.status_code", status.as_u16().into());
        }
        span.count("damselfly.bytes", self.bytes);
        if let Some(Sources { peer_bytes, origin_bytes, cache_bytes }) = sources {
            span.count("damselfly.bytes.peer", peer_bytes);
            span.count("damselfly.bytes.origin", origin_bytes);
            span.count("damselfly.bytes.cache", cache_bytes);
        }
        if matches!(outcome, Outcome::Broken | Outcome::ServerError) {
            span.fail(outcome.name());
        }
    }

    fn write(&self, outcome: Outcome) {
        let took = self.started.elapsed();
        let (seconds, sources) = (took.as_secs_f64(), self.sources());
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    client = %self.client,
                    user_agent = self.user_agent,
                    method = %self.method,
                    kind = self.kind.name(),
                    asked = self.asked,
                    status = self.status.map(|status| status.as_u16()),
                    outcome = outcome.name(),
                    error = self.error,
                    bytes = self.bytes,
                    origin_bytes = sources.map(|from| from.origin_bytes),
                    peer_bytes = sources.map(|from| from.peer_bytes),
                    cache_bytes = sources.map(|from| from.cache_bytes),
                    seconds,
                    times_bound = self.times_bound(outcome, took),
                    "request served"
                )
            };
        }
        match (outcome, self.kind) {
            (Outcome::Broken | Outcome::ServerError, _) => line!(warn),
            (_, Kind::Ping) => line!(debug),
            _ => line!(info),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let outcome = self.outcome();
        let took =
            Took { first_byte: self.first_byte.map(|at| at - self.started), whole: self.started.elapsed() };
        self.metrics.observe(self.kind, outcome, self.bytes, &took);
        self.write(outcome);
        self.trace_end(outcome);
        let sources = self.sources();
        if let Some(draft) = &mut self.draft {
            draft.tell(&End {
                method: &self.method,
                status: self.status,
                outcome: outcome.name(),
                sent_bytes: self.bytes,
                sources,
                took: self.started.elapsed(),
            });
        }
    }
}
