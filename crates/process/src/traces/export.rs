//! Sends what has been recorded to the collector, a batch at a time, from one task.
//!
//! Nobody waits for it: a span that finds the queue full is lost, as is a batch that the collector does not take in time.
//! What is lost is counted, and the log says so now and then ([`trouble`](super::trouble)).

use super::limit;
use super::options::Endpoint;
use super::span::{TEXT_LEN_MAX, cut};
use super::trouble::Trouble;
use opentelemetry::{Context, KeyValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{self, Channel};

/// Spans that wait to be sent, at most: a few megabytes.
const QUEUE: usize = 4096;

/// Spans in one message, at most: a few hundred kilobytes of the 4 MiB that a collector takes.
const BATCH: usize = 512;

/// How long a span waits for others to be sent with.
const DELAY: Duration = Duration::from_secs(1);

/// How long the collector may take for a batch.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How long what is left may take when the program stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How many causes of a failed call are named.
const CAUSES_MAX: usize = 8;

/// What ends here is sent.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<SpanData>,
    overflown: Arc<AtomicU64>,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.sender.try_send(span).is_err() {
            self.overflown.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The task sends all that is there when it is told to stop.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The task's state.
pub(super) struct Exporter {
    spans: mpsc::Receiver<SpanData>,
    way: transport::Endpoint,
    client: TraceServiceClient<Channel>,
    /// What is told of this process, with every batch.
    about: Vec<KeyValue>,
    /// What has been taken from the queue.
    batch: Vec<SpanData>,
    /// How many spans the collector has been sent and has not answered for.
    under_way: u64,
    trouble: Trouble,
}

/// A queue, and what sends what is in it to the collector at `endpoint`, which is reached by `way`. Nothing happens before
/// it runs. Needs a tokio runtime.
pub(super) fn queue(endpoint: Endpoint, way: transport::Endpoint, about: Vec<KeyValue>) -> (Queue, Exporter) {
    let (sender, spans) = mpsc::channel(QUEUE);
    let overflown = Arc::new(AtomicU64::new(0));
    let trouble = Trouble::new(endpoint, overflown.clone());
    let client = TraceServiceClient::new(way.connect_lazy());
    let exporter = Exporter { spans, way, client, about, batch: Vec::new(), under_way: 0, trouble };
    (Queue { sender, overflown }, exporter)
}

impl Exporter {
    /// Sends until told to stop, and then what is there by then, for two seconds at most.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let left = self.send_all(&stop).await;
        self.trouble.not_recorded(limit::not_recorded());
        self.trouble.end(left);
    }

    /// Does that; how many spans it has not sent.
    async fn send_all(&mut self, stop: &CancellationToken) -> u64 {
        let patience = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_TIMEOUT).await;
        };
        let in_time = tokio::select! {
            () = self.send_on(stop) => true,
            () = patience => false,
        };
        if in_time { 0 } else { (self.batch.len() + self.spans.len()) as u64 + self.under_way }
    }

    async fn send_on(&mut self, stop: &CancellationToken) {
        while stop.run_until_cancelled(self.collect()).await.is_some() {
            self.send().await;
        }
        self.spans.close();
        loop {
            let room = BATCH - self.batch.len();
            self.spans.recv_many(&mut self.batch, room).await;
            if self.batch.is_empty() {
                break;
            }
            self.send().await;
        }
    }

    /// Takes from the queue until the batch is full or has waited for long enough. Cancel safe: what it took stays in
    /// the batch.
    async fn collect(&mut self) {
        let mut until = None;
        while self.batch.len() < BATCH {
            let room = BATCH - self.batch.len();
            let received = self.spans.recv_many(&mut self.batch, room);
            match until {
                None => {
                    if received.await == 0 {
                        // The queue lives as long as the process.
                        std::future::pending::<()>().await;
                    }
                    until = Some(Instant::now() + DELAY);
                }
                Some(until) => match tokio::time::timeout_at(until, received).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                },
            }
        }
    }

    /// Sends the batch.
    async fn send(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let spans = batch.len() as u64;
        self.under_way = spans;
        let about = Resource::builder_empty().with_attributes(self.about.iter().cloned());
        let about = about.with_attributes(super::host_attribute()).build();
        let resource_spans =
            group_spans_by_resource_and_scope(batch, &ResourceAttributesWithSchema::from(&about));
        let exported = self.client.export(ExportTraceServiceRequest { resource_spans });
        let answer = tokio::time::timeout(SEND_TIMEOUT, exported).await;
        self.under_way = 0;
        match answer {
            Ok(Ok(answer)) => match answer.into_inner().partial_success {
                Some(partial) if partial.rejected_spans > 0 => {
                    let rejected = u64::try_from(partial.rejected_spans).unwrap_or(0);
                    self.trouble.lost(rejected.min(spans), &cut(partial.error_message));
                }
                _ => self.trouble.sent(),
            },
            Ok(Err(status)) => self.trouble.lost(spans, &why(&status)),
            Err(_) => {
                // Where a machine has gone without a word, its connection would stand for a long time.
                self.client = TraceServiceClient::new(self.way.connect_lazy());
                self.trouble.lost(spans, "it did not answer in time");
            }
        }
        self.trouble.not_recorded(limit::not_recorded());
    }
}

/// Why a call failed, with the causes of that: the collector's own words, or what is wrong with the way to it.
fn why(status: &Status) -> String {
    let mut why = format!("{}: {}", status.code(), status.message());
    let mut cause = status.source();
    for _ in 0..CAUSES_MAX {
        let Some(error) = cause.filter(|_| why.len() < TEXT_LEN_MAX) else { break };
        let text = error.to_string();
        if !why.contains(&text) {
            why.push_str(": ");
            why.push_str(&text);
        }
        cause = error.source();
    }
    cut(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
    use std::net::{SocketAddr, TcpListener};

    /// What would send spans to this address, and what makes them.
    fn spans_for(address: SocketAddr) -> (SdkTracerProvider, Exporter) {
        let endpoint: Endpoint = format!("http://{address}").parse().unwrap();
        let way = Channel::builder(endpoint.uri().clone());
        let (queue, exporter) = queue(endpoint, way, Vec::new());
        let provider =
            SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOn).with_span_processor(queue);
        (provider.build(), exporter)
    }

    /// A collector that is not there, and spans for it.
    fn spans_for_nobody() -> (SdkTracerProvider, Exporter) {
        spans_for(SocketAddr::from(([127, 0, 0, 1], 9)))
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_nobody_waits() {
        let (provider, exporter) = spans_for_nobody();
        let tracer = provider.tracer("test");
        for _ in 0..QUEUE + 7 {
            drop(tracer.start("x"));
        }
        assert_eq!(exporter.trouble.overflown(), 7);
        assert_eq!(exporter.spans.len(), QUEUE);
    }

    #[tokio::test]
    async fn a_batch_is_full_or_has_waited() {
        let (provider, mut exporter) = spans_for_nobody();
        let tracer = provider.tracer("test");
        for _ in 0..BATCH + 1 {
            drop(tracer.start("x"));
        }
        exporter.collect().await;
        assert_eq!(exporter.batch.len(), BATCH);
        exporter.batch.clear();
        let begun = Instant::now();
        exporter.collect().await;
        assert_eq!(exporter.batch.len(), 1);
        assert!(begun.elapsed() >= DELAY, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn without_a_collector_it_stops_all_the_same() {
        let (provider, mut exporter) = spans_for_nobody();
        drop(provider.tracer("test").start("x"));
        let stop = CancellationToken::new();
        stop.cancel();
        let stopped = exporter.send_all(&stop);
        tokio::time::timeout(Duration::from_secs(20), stopped).await.expect("it stops");
    }

    #[tokio::test]
    async fn what_a_stop_leaves_behind_is_counted() {
        // The kernel takes the connection, and nobody ever answers.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let (provider, mut exporter) = spans_for(silent.local_addr().unwrap());
        let tracer = provider.tracer("test");
        for _ in 0..BATCH + 3 {
            drop(tracer.start("x"));
        }
        let stop = CancellationToken::new();
        stop.cancel();
        let begun = Instant::now();
        assert_eq!(exporter.send_all(&stop).await, BATCH as u64 + 3);
        assert!(begun.elapsed() < SEND_TIMEOUT, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_loss_is_told_with_its_cause() {
        let (_provider, mut exporter) = spans_for_nobody();
        let nobody = exporter.client.export(ExportTraceServiceRequest::default()).await;
        let why = why(&nobody.expect_err("nobody is there"));
        assert!(why.contains("refused"), "{why}");
    }

    #[test]
    fn a_collector_does_not_fill_the_log() {
        let why = why(&Status::unavailable("é".repeat(1 << 20)));
        assert!((TEXT_LEN_MAX - 1..=TEXT_LEN_MAX).contains(&why.len()), "{} bytes", why.len());
    }
}
