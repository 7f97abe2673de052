//! The operator's port: `/healthz`, `/readyz`, `/metrics`, and what a program adds.
//!
//! Plain HTTP without a password, so it listens on loopback unless told otherwise, and says nothing secret. Routes can
//! ask who calls: each request has an `Extension<Client>`.

use crate::client::Client;
use crate::listen::{self, ListenError};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The most connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;

/// A request's head comes within this time, or the connection is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection is closed after this time, whatever it does.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(600);

/// Open connections are given this long when the program stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Whether the program can do its work; `/readyz` asks.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Not ready yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on ready, or not.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// Whether it is ready.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The port, taken but not served yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Takes the port; 0 takes a free one.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let purpose = "the admin port (--admin)";
        let listener = listen::bind(purpose, address).await?;
        let address = listener.local_addr().map_err(|source| ListenError { purpose, address, source })?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `cancel`, then lets requests under way finish for about two seconds. `extra` has the program's own
    /// routes.
    pub async fn serve(
        self,
        registry: Arc<Registry>,
        readiness: Readiness,
        extra: Router,
        cancel: CancellationToken,
    ) {
        let router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz).with_state(readiness))
            .route("/metrics", get(metrics).with_state(registry))
            .merge(extra);
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let tasks = TaskTracker::new();
        loop {
            let accepted = async {
                // The semaphore is never closed.
                let permit = permits.clone().acquire_owned().await.ok();
                (permit, listen::accept(&self.listener).await)
            };
            let (permit, (stream, client)) = tokio::select! {
                () = cancel.cancelled() => break,
                accepted = accepted => accepted,
            };
            let client = Client::new(client, stream.local_addr().unwrap_or(self.address));
            let router = router.clone().layer(Extension(client));
            let connection = connection(stream, router, cancel.clone());
            tasks.spawn(async move {
                let _permit = permit;
                if tokio::time::timeout(CONNECTION_LIFETIME, connection).await.is_err() {
                    tracing::debug!("an admin connection reached its lifetime");
                }
            });
        }
        crate::shutdown::drain(&tasks, DRAIN).await;
    }
}

/// Serves one connection; at `cancel` the request under way is the last.
async fn connection(stream: TcpStream, router: Router, cancel: CancellationToken) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let service = TowerToHyperService::new(router);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let mut stopping = false;
    loop {
        tokio::select! {
            result = serving.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "an admin connection ended");
                }
                return;
            }
            () = cancel.cancelled(), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, &'static str) {
    if readiness.get() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// The OpenMetrics text format, packed for those that take that: it is asked for every few seconds, of every node.
async fn metrics(State(registry): State<Arc<Registry>>, headers: HeaderMap) -> Response {
    let mut text = String::new();
    if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
        tracing::error!(%error, "cannot encode the metrics");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    if !takes_gzip(&headers) {
        return (kind, text).into_response();
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    match packed.write_all(text.as_bytes()).and_then(|()| packed.finish()) {
        Ok(packed) => (kind, [(header::CONTENT_ENCODING, "gzip")], packed).into_response(),
        Err(_) => (kind, text).into_response(),
    }
}

/// By RFC 9110, section 12.5.3: named, and not with a weight of zero.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = |part: &str| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        named && !parts.any(refused)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn who_takes_gzip() {
        for (value, takes) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, identity", false),
            ("x-gzip", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())]);
            assert_eq!(takes_gzip(&headers), takes, "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn it_answers_and_stops() {
        let admin = Admin::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = admin.address();
        let mut registry = Registry::default();
        let counter: Counter = Counter::default();
        counter.inc_by(3);
        registry.register("damselfly_tests", "Tests", counter);
        let readiness = Readiness::new();
        let extra = Router::new().route(
            "/v1/extra",
            get(async |Extension(client): Extension<Client>| client.address().to_string()),
        );
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(admin.serve(Arc::new(registry), readiness.clone(), extra, cancel.clone()));

        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        readiness.set(true);
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let metrics = ask(address, "/metrics").await;
        assert!(metrics.contains("damselfly_tests_total 3"), "{metrics}");
        let extra = ask(address, "/v1/extra").await;
        assert!(extra.contains("\r\n\r\n127.0.0.1:"), "{extra}");
        assert!(ask(address, "/nothing").await.starts_with("HTTP/1.1 404"));

        // An idle connection does not keep it from stopping.
        let _idle = TcpStream::connect(address).await.unwrap();
        cancel.cancel();
        serving.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
