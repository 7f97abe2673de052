//! One line in the log for each request, and what is counted of it; and one in the audit log, where there is one.
//!
//! A [`Record`] is made when a request comes in, goes with the body, and writes when it is dropped: with the body, or
//! before there is one, if the client has left by then.

use super::audit::{Draft, End};
use super::error::BodyError;
use super::metrics::{Kind, Metrics, Outcome, Took};
use super::route::Route;
use http::{Method, StatusCode};
use std::net::SocketAddr;
use tokio::time::Instant;

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
    draft: Option<Draft>,
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
            draft,
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

    fn write(&self, outcome: Outcome) {
        let seconds = self.started.elapsed().as_secs_f64();
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
                    seconds,
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
        if let Some(draft) = &mut self.draft {
            draft.tell(&End {
                method: &self.method,
                status: self.status,
                outcome: outcome.name(),
                sent_bytes: self.bytes,
                took: self.started.elapsed(),
            });
        }
    }
}
