//! A span: something that is done for a request, from when to when, and with what result.
//!
//! One that is not recorded is nothing, and costs nothing: no text is put together for it, and what is done for it in
//! turn is not recorded either.

use super::context;
use super::limit::{self, Limit};
use http::HeaderMap;
use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace as sdk;
use std::fmt::Display;
use std::time::SystemTime;
use tokio::task::futures::TaskLocalFuture;
use types::TraceContext;

/// The longest text that is told, in bytes; the rest is cut off.
pub(super) const TEXT_LEN_MAX: usize = 512;

/// Says why a span has failed (OpenTelemetry semantic conventions, "error.type").
const ERROR_TYPE: &str = "error.type";

/// Whose part of the work a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A question to another process, from asking to the answer.
    Client,
    /// The answer to another process; of those that others ask for, so many a second are recorded, and no more.
    Server,
    /// Work within this process.
    Internal,
}

/// A span, or nothing. It ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<Box<sdk::Span>>);

impl Span {
    /// Nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// The answer to a request with these headers: part of the caller's trace if they name a good one, else the first span
    /// of one, for a share of all requests. A caller that says it does not record its trace is taken at its word; of
    /// those that do, so many a second are recorded, and no more.
    #[must_use]
    pub fn request(name: &'static str, headers: &HeaderMap) -> Self {
        let Some(tracer) = super::tracer() else { return Self::none() };
        Self::request_with(tracer, &limit::REQUESTS, name, headers)
    }

    fn request_with(tracer: &sdk::SdkTracer, limit: &Limit, name: &'static str, headers: &HeaderMap) -> Self {
        let context = match context::caller(headers) {
            Some(caller) if caller.is_sampled() && !limit.allows() => return Self::none(),
            Some(caller) => Context::new().with_remote_span_context(caller),
            None => Context::new(),
        };
        Self::begin(tracer, SpanBuilder::from_name(name).with_kind(SpanKind::Server), &context)
    }

    /// A part of the work that is done for the span `of`; nothing if that is not recorded.
    #[must_use]
    pub fn child(kind: Kind, name: &'static str, of: Option<TraceContext>) -> Self {
        Self::of(kind, name, of, None)
    }

    /// The same, that began some time ago.
    #[must_use]
    pub fn child_since(kind: Kind, name: &'static str, of: Option<TraceContext>, began: SystemTime) -> Self {
        Self::of(kind, name, of, Some(began))
    }

    fn of(kind: Kind, name: &'static str, of: Option<TraceContext>, start_time: Option<SystemTime>) -> Self {
        let (Some(parent), Some(tracer)) = (of, super::tracer()) else { return Self::none() };
        if kind == Kind::Server && !limit::MEMBERS.allows() {
            return Self::none();
        }
        Self::child_with(tracer, kind, SpanBuilder { start_time, ..SpanBuilder::from_name(name) }, parent)
    }

    fn child_with(tracer: &sdk::SdkTracer, kind: Kind, builder: SpanBuilder, parent: TraceContext) -> Self {
        let remote = kind == Kind::Server;
        let kind = match kind {
            Kind::Client => SpanKind::Client,
            Kind::Server => SpanKind::Server,
            Kind::Internal => SpanKind::Internal,
        };
        let context = Context::new().with_remote_span_context(context::span(parent, remote));
        Self::begin(tracer, builder.with_kind(kind), &context)
    }

    fn begin(tracer: &sdk::SdkTracer, builder: SpanBuilder, context: &Context) -> Self {
        let span = tracer.build_with_context(builder, context);
        Self(span.is_recording().then(|| Box::new(span)))
    }

    /// What is carried to whoever does a part of its work; nothing if it is not recorded.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        context::carried(self.0.as_ref()?.span_context())
    }

    /// `future`, which finds this span as [`super::current`].
    pub fn within<F: Future>(&self, future: F) -> TaskLocalFuture<Option<TraceContext>, F> {
        context::within(self.context(), future)
    }

    /// Says something of it in words. What they are is for everybody who may see traces: no secret, no header, no query.
    pub fn note(&mut self, key: &'static str, value: impl Display) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, cut(value.to_string())));
        }
    }

    /// Says something of it as a number.
    pub fn count(&mut self, key: &'static str, value: u64) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, i64::try_from(value).unwrap_or(i64::MAX)));
        }
    }

    /// Says that what was to be done was not, in a word or two for the reason.
    pub fn fail(&mut self, why: impl Display) {
        if self.0.is_some() {
            let why = cut(why.to_string());
            self.note(ERROR_TYPE, &why);
            if let Some(span) = &mut self.0 {
                span.set_status(Status::error(why));
            }
        }
    }

    /// Says that it was done for this other span too.
    pub fn link(&mut self, other: Option<TraceContext>) {
        if let (Some(span), Some(other)) = (&mut self.0, other) {
            span.add_link(context::span(other, false), Vec::new());
        }
    }
}

/// As much of a text as is told.
pub(super) fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_LEN_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use opentelemetry::trace::{SpanId, TracerProvider as _};
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanProcessor};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    /// Keeps what has ended.
    #[derive(Clone, Debug, Default)]
    struct Ended(Arc<Mutex<Vec<SpanData>>>);

    impl SpanProcessor for Ended {
        fn on_start(&self, _span: &mut sdk::Span, _context: &Context) {}

        fn on_end(&self, span: SpanData) {
            self.0.lock().unwrap().push(span);
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    fn provider(ratio: f64) -> (SdkTracerProvider, Ended) {
        let ended = Ended::default();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
        let provider = SdkTracerProvider::builder().with_sampler(sampler).with_span_processor(ended.clone());
        (provider.build(), ended)
    }

    #[test]
    fn where_traces_go_nowhere_there_is_no_span() {
        let parent = TraceContext::new([1; 16], [2; 8]);
        let mut span = Span::child(Kind::Client, "fetch", parent);
        span.note("a", "b");
        span.fail("no reason");
        assert!(span.context().is_none() && span.0.is_none());
        assert!(Span::request("request", &HeaderMap::new()).0.is_none());
    }

    #[test]
    fn a_child_is_told_with_its_parent_and_what_is_said_of_it() {
        let (provider, ended) = provider(0.0);
        let tracer = provider.tracer("test");
        let parent = TraceContext::new([1; 16], [2; 8]).unwrap();
        let other = TraceContext::new([3; 16], [4; 8]);
        let mut span = Span::child_with(&tracer, Kind::Client, SpanBuilder::from_name("fetch"), parent);
        let context = span.context().expect("its parent is recorded");
        assert_eq!(context.trace(), parent.trace());
        span.note("long", "é".repeat(TEXT_LEN_MAX));
        span.count("bytes", u64::MAX);
        span.link(other);
        span.fail(format_args!("busy {}", 1));
        drop(span);
        let ended = ended.0.lock().unwrap();
        let [span] = &ended[..] else { panic!("{} spans", ended.len()) };
        assert_eq!(span.parent_span_id, SpanId::from_bytes([2; 8]));
        assert_eq!(span.span_context.span_id().to_bytes(), context.span());
        assert_eq!((span.span_kind.clone(), span.parent_span_is_remote), (SpanKind::Client, false));
        let said = |key: &str| {
            let found = span.attributes.iter().find(|said| said.key.as_str() == key);
            found.map(|said| said.value.to_string())
        };
        assert_eq!(said("long").unwrap().len(), TEXT_LEN_MAX);
        assert_eq!(said("bytes").unwrap(), i64::MAX.to_string());
        assert_eq!(
            (said(ERROR_TYPE).unwrap(), &span.status),
            ("busy 1".to_owned(), &Status::error("busy 1"))
        );
        assert_eq!(span.links.len(), 1);
    }

    #[test]
    fn a_share_of_the_first_spans_is_recorded() {
        for (ratio, expected) in [(0.0, false), (1.0, true)] {
            let (provider, _) = provider(ratio);
            let tracer = provider.tracer("test");
            let span = Span::begin(&tracer, SpanBuilder::from_name("request"), &Context::new());
            assert_eq!(span.context().is_some(), expected, "{ratio}");
        }
    }

    #[test]
    fn attack_callers_that_record_everything_are_recorded_so_often_only() {
        let (provider, _) = provider(1.0);
        let tracer = provider.tracer("test");
        let limit = Limit::new(u64::MAX / 4, 2);
        let asks = |traceparent: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(text) = traceparent {
                headers.insert("traceparent", HeaderValue::from_static(text));
            }
            Span::request_with(&tracer, &limit, "request", &headers).context()
        };
        let recorded = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let unrecorded = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
        for _ in 0..2 {
            assert!(asks(unrecorded).is_none());
            assert_eq!(asks(recorded).expect("it is recorded").trace()[0], 0x0a);
        }
        assert!(asks(recorded).is_none() && asks(recorded).is_none(), "no more than that");
        assert!(asks(None).is_some(), "what this process chose itself has no limit");
    }
}
