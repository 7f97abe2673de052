//! Traces: what is done for one request on all hosts, told as spans to a collector (OpenTelemetry, OTLP by gRPC).
//!
//! Off unless the configuration names a collector: every [`Span`] is nothing then, and nobody is told of any trace. The
//! mains call [`start`]; the daemon begins a trace with a client's request, the scheduler and other daemons go on with
//! those of which they are told. `docs/traces.md` has the spans and what they say.
//!
//! The log knows nothing of this: `tracing`'s spans are its own, so that neither's filter is the other's.

mod context;
mod export;
mod limit;
mod options;
mod span;
mod trouble;

pub use context::{current, extract, inject, within};
pub use options::{Endpoint, EndpointError, EndpointText, Options, SampleRatio, SampleRatioError};
pub use span::{Kind, Span};

use crate::exit::{Exit, Failure};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanLimits};
use std::fmt::Display;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{self, ClientTlsConfig};

/// How long a connection to the collector may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The name under which all spans are recorded.
const SCOPE: &str = "damselfly";

/// Makes spans, where there is a collector.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Who this process is in its cluster.
static HOST: OnceLock<String> = OnceLock::new();

/// Traces that cannot be sent. Programs end with 64 for it.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// TLS cannot be spoken with the collector.
    #[error("cannot speak TLS with the collector of traces at {endpoint}")]
    Tls {
        /// Where it is.
        endpoint: Endpoint,
        /// Why not.
        #[source]
        source: transport::Error,
    },
    /// It was set up before.
    #[error("traces are set up twice")]
    Twice,
}

impl From<TracesError> for Failure {
    fn from(error: TracesError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

/// What sends the spans of this process; nothing where they go nowhere.
#[derive(Debug)]
#[must_use = "it is to be told to stop, or the last spans are lost"]
pub struct Traces(Option<Running>);

#[derive(Debug)]
struct Running {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

/// Sends spans from now on, if `options` say where to; they are told to be of `service`, a program of this version, in this
/// zone. Needs a tokio runtime and a rustls provider.
///
/// # Errors
/// [`TracesError`]. A collector that is not there is none.
pub fn start(
    service: &'static str,
    version: &'static str,
    zone: Option<&str>,
    options: &Options,
) -> Result<Traces, TracesError> {
    let Some(endpoint) = options.endpoint.clone() else { return Ok(Traces(None)) };
    let about = about(service, version, zone);
    let (queue, exporter) = export::queue(endpoint.clone(), way(&endpoint)?, about);
    let ratio = options.sample_ratio.get();
    // The library would take its sampler, limits and resource from the environment (`OTEL_…`): all three are said here.
    // `SpanLimits::default` and what makes ids read nothing.
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        .with_span_limits(SpanLimits::default())
        // The exporter knows it.
        .with_resource(Resource::builder_empty().build())
        .with_span_processor(queue)
        .build();
    TRACER.set(provider.tracer(SCOPE)).map_err(|_| TracesError::Twice)?;
    let stop = CancellationToken::new();
    let task = tokio::spawn(exporter.run(stop.clone()));
    // Nothing where this program begins none.
    let sample_ratio = (ratio > 0.0).then_some(ratio);
    tracing::info!(collector = %endpoint, sample_ratio, "traces are sent");
    if endpoint.is_in_the_clear() {
        tracing::warn!(
            collector = %endpoint,
            "traces are not encrypted: who can see them on their way sees what each host pulls (https:// speaks TLS)"
        );
    }
    Ok(Traces(Some(Running { task, stop })))
}

/// Says which host of the cluster this process is. The first word counts.
pub fn host(id: impl Display) {
    if TRACER.get().is_some() {
        // Several daemons in one process are for tests, which have none.
        let _ = HOST.set(id.to_string());
    }
}

impl Traces {
    /// Sends what is left, and waits for that for 2 s at most.
    pub async fn stopped(self) {
        let Some(Running { task, stop }) = self.0 else { return };
        stop.cancel();
        // It waits no longer than that.
        if let Err(error) = task.await {
            tracing::error!(%error, "what sends traces has ended before");
        }
    }
}

/// What makes spans, if they go anywhere.
fn tracer() -> Option<&'static SdkTracer> {
    TRACER.get()
}

fn host_attribute() -> Option<KeyValue> {
    HOST.get().map(|host| KeyValue::new("service.instance.id", host.clone()))
}

/// What is told of this process (OpenTelemetry semantic conventions, "Resource").
fn about(service: &'static str, version: &'static str, zone: Option<&str>) -> Vec<KeyValue> {
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut about = vec![
        KeyValue::new("service.namespace", SCOPE),
        KeyValue::new("service.name", service),
        KeyValue::new("service.version", version),
        KeyValue::new("host.name", node),
    ];
    if let Some(zone) = zone.filter(|zone| !zone.is_empty()) {
        about.push(KeyValue::new("damselfly.zone", zone.to_owned()));
    }
    about
}

/// The way to the collector; it is taken when there is something to send, and anew after each failure.
fn way(endpoint: &Endpoint) -> Result<transport::Endpoint, TracesError> {
    let way = transport::Endpoint::from(endpoint.uri().clone()).connect_timeout(CONNECT_TIMEOUT);
    if !endpoint.is_https() {
        return Ok(way);
    }
    let tls = ClientTlsConfig::new().with_native_roots().timeout(CONNECT_TIMEOUT);
    way.tls_config(tls).map_err(|source| TracesError::Tls { endpoint: endpoint.clone(), source })
}
