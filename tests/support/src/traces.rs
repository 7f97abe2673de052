//! A collector of traces inside the test's process: it takes OTLP by gRPC and keeps what comes.
//!
//! Its server is the one that OpenTelemetry's own description of the protocol makes, so that the wire is as real as can be
//! without a collector, of which Debian has none. Called by the end-to-end tests.

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{self as wire, status::StatusCode};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// What spans and programs say of themselves: numbers as text, too.
pub type Attributes = BTreeMap<String, String>;

/// A span as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its trace's id, in hexadecimal.
    pub trace: String,
    /// Its own.
    pub id: String,
    /// Its parent's; empty if it has none.
    pub parent: String,
    /// What was done.
    pub name: String,
    /// Whether it failed.
    pub failed: bool,
    /// What it says.
    pub attributes: Attributes,
    /// What the program says that made it.
    pub about: Attributes,
    /// The traces that it is linked with.
    pub links: Vec<String>,
}

impl Span {
    /// An attribute; empty if it is not there.
    #[must_use]
    pub fn says(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    /// The same of the program that made it.
    #[must_use]
    pub fn about(&self, key: &str) -> &str {
        self.about.get(key).map_or("", String::as_str)
    }
}

/// A collector. It ends when it is dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    spans: Kept,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<Span>>>);

impl Collector {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// If there is none.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, spans) = (listener.local_addr()?, Kept::default());
        let service = TraceServiceServer::new(spans.clone());
        let task = tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener);
            if let Err(error) = Server::builder().add_service(service).serve_with_incoming(incoming).await {
                eprintln!("the collector of traces ended: {error}");
            }
        });
        Ok(Self { address, spans, task })
    }

    /// What programs are told: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that has come so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.spans.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut came = Vec::new();
        for of_program in request.into_inner().resource_spans {
            let about = attributes(of_program.resource.map(|about| about.attributes).unwrap_or_default());
            let spans = of_program.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
            came.extend(spans.map(|span| read(span, &about)));
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(came);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(span: wire::Span, about: &Attributes) -> Span {
    Span {
        trace: hex::encode(span.trace_id),
        id: hex::encode(span.span_id),
        parent: hex::encode(span.parent_span_id),
        name: span.name,
        failed: span.status.is_some_and(|status| status.code == StatusCode::Error as i32),
        attributes: attributes(span.attributes),
        about: about.clone(),
        links: span.links.into_iter().map(|link| hex::encode(link.trace_id)).collect(),
    }
}

fn attributes(all: Vec<KeyValue>) -> Attributes {
    let text = |value: Option<Value>| match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    };
    all.into_iter().map(|said| (said.key, text(said.value.and_then(|value| value.value)))).collect()
}
