//! The spans of questions whether a client may have something, and of others that its registry alone answers.

use crate::proxy::ProxyError;
use origin::Repository;
use process::traces::{self, Kind, Span};
use std::fmt::Display;

const RESULT: &str = "damselfly.result";

/// A question that is asked for the span that this task works for. Dropped before there is an answer, it is cancelled.
#[derive(Debug)]
pub(crate) struct Asking {
    span: Span,
    /// What it is when the answer is no error.
    good: &'static str,
    ended: bool,
}

impl Asking {
    /// Whether a client may have something of a repository, and what its tag stands for.
    pub(super) fn permission(repository: &Repository) -> Self {
        Self::begin(Kind::Internal, "permission", "permitted", repository)
    }

    /// What else the registry is asked, of a repository or of itself.
    pub(crate) fn origin(of: &dyn Display) -> Self {
        Self::begin(Kind::Client, "ask origin", "ok", of)
    }

    fn begin(kind: Kind, name: &'static str, good: &'static str, of: &dyn Display) -> Self {
        let mut span = Span::child(kind, name, traces::current());
        span.note("damselfly.repository", of);
        Self { span, good, ended: false }
    }

    /// The answer to `question`, with which this ends.
    pub(crate) fn answer<T>(
        self,
        question: impl Future<Output = Result<T, ProxyError>>,
    ) -> impl Future<Output = Result<T, ProxyError>> {
        let question = self.within(question);
        async move {
            let answer = question.await;
            self.answered(answer.as_ref().err());
            answer
        }
    }

    /// `question`, asked for this span. Boxed: what asks a registry is large.
    pub(super) fn within<F: Future>(&self, question: F) -> impl Future<Output = F::Output> + use<F> {
        self.span.within(Box::pin(question))
    }

    /// There is an answer, or an error instead.
    pub(super) fn answered(mut self, error: Option<&ProxyError>) {
        self.ended = true;
        match error.map(unanswered) {
            None => self.span.note(RESULT, self.good),
            Some(None) => self.span.note(RESULT, "refused"),
            Some(Some(why)) => self.span.fail(why),
        }
    }

    /// It was not waited for any longer: an earlier answer is good.
    pub(super) fn earlier(mut self) {
        self.ended = true;
        self.span.note(RESULT, "earlier answer");
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.ended {
            self.span.note(RESULT, "cancelled");
        }
    }
}

/// Why there is neither a yes nor a no, in the words of which docs/traces.md tells; nothing if it is a no.
const fn unanswered(error: &ProxyError) -> Option<&'static str> {
    match error {
        ProxyError::Unauthorized { .. }
        | ProxyError::Denied { .. }
        | ProxyError::NotFound(_)
        | ProxyError::RegistryRefused { .. } => None,
        ProxyError::GatewayTimeout => Some("timed out"),
        ProxyError::Unavailable { .. } => Some("unavailable"),
        ProxyError::BadGateway(_) => Some("bad answer"),
        // A credential that cannot be used; the others are not said of an answer.
        ProxyError::Internal(_) | ProxyError::Malformed(_) | ProxyError::Unsatisfiable { .. } => {
            Some("no credential")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Unknown;
    use http::StatusCode;
    use origin::OriginError;
    use types::Registry;

    #[test]
    fn an_outage_is_no_refusal() {
        let registry = Registry::parse("registry.example").unwrap();
        let bad_credential = OriginError::BadCredential { registry: registry.clone(), why: "no file".into() };
        for (error, expected) in [
            (OriginError::Unauthorized { challenges: Vec::new(), body: "".into() }, None),
            (OriginError::Denied { status: StatusCode::FORBIDDEN, body: "".into() }, None),
            (OriginError::NotFound { body: "".into() }, None),
            (OriginError::Unreachable("down".into()), Some("unavailable")),
            (OriginError::Throttled { retry_after: None, body: "".into() }, Some("unavailable")),
            (OriginError::TimedOut, Some("timed out")),
            (OriginError::Server { status: StatusCode::BAD_GATEWAY }, Some("bad answer")),
            (OriginError::RedirectLoop, Some("bad answer")),
            // Who has none asks no registry, and the client is told as of a no.
            (OriginError::NoCredential(registry), None),
            (bad_credential, Some("no credential")),
        ] {
            let text = error.to_string();
            assert_eq!(unanswered(&ProxyError::from_origin(error, Unknown::Blob)), expected, "{text}");
        }
    }
}
