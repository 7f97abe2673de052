//! Trace context on the wire and within the process: W3C's `traceparent` in headers and in gRPC's metadata, and where in a
//! trace a task is.
//!
//! Only `traceparent` is read and written, by OpenTelemetry's propagator; `tracestate` and baggage carry what others want
//! to be carried, and are left where they are. What is carried on is always the context of a span that is recorded.

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tokio::task::futures::TaskLocalFuture;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use types::TraceContext;

const TRACEPARENT: &str = "traceparent";

/// The length of a `traceparent` of version 00 (W3C Trace Context, section 3.2).
const TRACEPARENT_LEN: usize = 55;

/// The longest one that is looked at: later versions may be longer.
const TRACEPARENT_LEN_MAX: usize = 128;

tokio::task_local! {
    static CURRENT: Option<TraceContext>;
}

/// The span for which this task works, if it is recorded. A task that is spawned starts without one.
#[must_use]
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|current| *current).ok().flatten()
}

/// `future`, which finds `context` as [`current`]. Costs nothing worth counting where there is none.
pub fn within<F: Future>(
    context: Option<TraceContext>,
    future: F,
) -> TaskLocalFuture<Option<TraceContext>, F> {
    CURRENT.scope(context, future)
}

/// Says in the metadata of a call for which span it is made; nothing if that is not recorded.
pub fn inject(context: Option<TraceContext>, metadata: &mut MetadataMap) {
    let Some(context) = context else { return };
    if let Ok(value) = write(context).parse::<AsciiMetadataValue>() {
        metadata.insert(TRACEPARENT, value);
    }
}

/// For which span a call was made, if its caller records it and this process has somewhere to send spans.
#[must_use]
pub fn extract(metadata: &MetadataMap) -> Option<TraceContext> {
    super::tracer()?;
    let mut lines = metadata.get_all(TRACEPARENT).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let caller = parse(line.to_str().ok()?)?;
    carried(&caller)
}

/// The caller's span in the headers of a request, recorded or not.
pub(super) fn caller(headers: &HeaderMap) -> Option<SpanContext> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    parse(line.to_str().ok()?)
}

/// What is carried on of a span.
pub(super) fn carried(span: &SpanContext) -> Option<TraceContext> {
    TraceContext::new(span.trace_id().to_bytes(), span.span_id().to_bytes()).filter(|_| span.is_sampled())
}

/// The span that was carried here, from another process or not.
pub(super) fn span(context: TraceContext, remote: bool) -> SpanContext {
    let (trace, span) = (TraceId::from_bytes(context.trace()), SpanId::from_bytes(context.span()));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, remote, TraceState::NONE)
}

/// The value of a `traceparent`, if it is a good one. The propagator takes numbers of fewer digits too, and signs.
fn parse(text: &str) -> Option<SpanContext> {
    let bytes = text.as_bytes();
    let (head, rest) = bytes.split_at_checked(TRACEPARENT_LEN)?;
    let is_good = |(at, byte): (usize, &u8)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(*byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    let later = !head.starts_with(b"00") && rest.starts_with(b"-");
    let good = bytes.len() <= TRACEPARENT_LEN_MAX && (rest.is_empty() || later);
    if !good || !head.iter().enumerate().all(is_good) {
        return None;
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Header(text));
    let span = context.span().span_context().clone();
    span.is_valid().then_some(span)
}

/// The value of a `traceparent`.
fn write(context: TraceContext) -> String {
    let context = Context::new().with_remote_span_context(span(context, false));
    let mut written = Written::default();
    TraceContextPropagator::new().inject_context(&context, &mut written);
    written.0
}

/// One `traceparent`, and nothing else.
struct Header<'a>(&'a str);

impl Extractor for Header<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// The `traceparent` of all that the propagator writes.
#[derive(Default)]
struct Written(String);

impl Injector for Written {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_comes_back_as_it_was() {
        let context = TraceContext::new([0xab; 16], [1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        let written = write(context);
        assert_eq!(written, "00-abababababababababababababababab-0102030405060708-01");
        assert_eq!(carried(&parse(&written).unwrap()), Some(context));
        let mut metadata = MetadataMap::new();
        inject(None, &mut metadata);
        assert!(metadata.is_empty(), "without a trace nothing is said");
        inject(Some(context), &mut metadata);
        assert_eq!(metadata.len(), 1);
        assert_eq!(metadata.get(TRACEPARENT).unwrap(), &written);
        assert_eq!(extract(&metadata), None, "nothing is recorded here");
    }

    #[test]
    fn what_the_caller_does_not_record_is_not_carried_on() {
        let not_recorded = GOOD.replace("-01", "-00");
        let caller = parse(&not_recorded).expect("a good one");
        assert!(!caller.is_sampled());
        assert_eq!(carried(&caller), None);
    }

    #[test]
    fn only_a_good_traceparent_is_taken() {
        assert!(parse(GOOD).is_some());
        let later = format!("cc{}-what-the-future-has", &GOOD[2..]);
        assert!(parse(&later).is_some(), "a later version");
        let long = format!("cc{}-{}", &GOOD[2..], "x".repeat(TRACEPARENT_LEN_MAX));
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &long,
            &format!("{GOOD}-"),
            &format!("{GOOD}0"),
            &GOOD.to_uppercase(),
            &GOOD.replace("00-0af", "ff-0af"),
            &GOOD.replace("00-0af", "00-+af"),
            &GOOD.replace('-', "_"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-é",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn of_two_callers_none_is_believed() {
        let mut headers = HeaderMap::new();
        assert!(caller(&headers).is_none());
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(caller(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(caller(&headers).is_none());
    }

    #[tokio::test]
    async fn a_task_knows_where_it_is() {
        let context = TraceContext::new([1; 16], [2; 8]);
        assert_eq!(current(), None);
        let (inside, spawned) =
            within(context, async { (current(), tokio::spawn(async { current() }).await.unwrap()) }).await;
        assert_eq!((inside, spawned), (context, None));
        assert_eq!(current(), None);
    }
}
