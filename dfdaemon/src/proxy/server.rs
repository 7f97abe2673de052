//! Listens for container runtimes and serves their connections.
//!
//! HTTP/1.1 only: no runtime speaks cleartext HTTP/2 to a mirror, and containerd resumes broken downloads only over 1.1.
//! Bounded: connections, header length and number, the time for a header, the time for the rest at the end.

use super::allow::Allowed;
use super::audit::Audit;
use super::backend::Backend;
use super::connections::{Connections, Place};
use super::handler::Proxy;
use super::metrics::Metrics;
use crate::config::{AllowRegistries, Config};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use process::client::Client;
use process::listen::{self, ListenError};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::Registry;

/// The longest head of a request in bytes; a longer one is answered with 431. A partial pull of podman's with 1,024
/// ranges has about 25 KiB.
pub const HEAD_LEN_MAX: usize = 64 * 1024;

/// The most header lines; more are answered with 431.
pub const HEADERS_MAX: usize = 100;

/// What the address is for, in an error.
const PURPOSE: &str = "container runtimes (--listen)";

/// What the proxy is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Connections at a time. One more takes the place of one that asks for nothing, or waits if there is none.
    pub connections_max: u32,
    /// The registry of a request that names none.
    pub upstream: Registry,
    /// Which registries clients may name.
    pub allow: AllowRegistries,
    /// Registries that they may name in any case.
    pub named: BTreeSet<Registry>,
    /// A head must be there this long after its connection or the answer before it; so idle connections end as well.
    /// Default 10 s.
    pub head_timeout: Duration,
    /// A client that takes nothing of its answer for this long has its connection closed. Default 120 s.
    pub write_timeout: Duration,
    /// The backend has this long to come up with an answer's headers; then it is 504. Default 25 s: less than the 30 s
    /// of the least patient client.
    pub answer_timeout: Duration,
    /// How long running answers may go on once the proxy is told to stop. Default 10 s.
    pub drain_timeout: Duration,
    /// Bytes per second that this host can receive, if that is known: what the time of a pull is held against.
    pub download_rate: Option<u64>,
}

impl Options {
    /// How long a head may take by default.
    pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

    /// How long a client may take nothing by default.
    pub const WRITE_TIMEOUT: Duration = Duration::from_secs(120);

    /// How long the backend has for an answer by default.
    pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(25);

    /// How long running answers may go on by default.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

    /// What of `config` is the proxy's.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let mut named: BTreeSet<Registry> = config.origin.registries.keys().cloned().collect();
        named.insert(config.proxy.upstream.clone());
        Self {
            listen: config.proxy.listen,
            connections_max: config.proxy.connections_max,
            upstream: config.proxy.upstream.clone(),
            allow: config.proxy.allow.clone(),
            named,
            head_timeout: Self::HEAD_TIMEOUT,
            write_timeout: Self::WRITE_TIMEOUT,
            answer_timeout: Self::ANSWER_TIMEOUT,
            drain_timeout: Self::DRAIN_TIMEOUT,
            download_rate: config.rates().1,
        }
    }
}

/// The running proxy.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    proxy: Arc<Proxy>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Binds and serves until `cancel` is cancelled; tells `audit`, if it is there, of what clients pull.
    ///
    /// # Errors
    /// [`ListenError`] if the address is taken, or not this machine's.
    pub async fn start(
        options: Options,
        backend: Arc<dyn Backend>,
        metrics: Metrics,
        audit: Option<Audit>,
        cancel: CancellationToken,
    ) -> Result<Self, ListenError> {
        let listener = listen::bind(PURPOSE, options.listen).await?;
        let address = listener.local_addr().unwrap_or(options.listen);
        let allowed = Allowed::new(options.allow, options.named);
        let (upstream, answer_timeout) = (options.upstream, options.answer_timeout);
        let download_rate = options.download_rate;
        let proxy = Proxy { backend, upstream, allowed, metrics, audit, answer_timeout, download_rate };
        let proxy = Arc::new(proxy);
        let connections = Connections::new(options.connections_max);
        tracing::info!(%address, upstream = %proxy.upstream, "proxy listens");
        let Options { head_timeout, write_timeout, drain_timeout, .. } = options;
        let limits = Limits { connections, head_timeout, write_timeout, drain_timeout };
        let accepting = tokio::spawn(serve(listener, Arc::clone(&proxy), limits, cancel));
        Ok(Self { address, proxy, accepting })
    }

    /// Clients may name these registries from now on.
    pub fn allow(&self, rule: AllowRegistries) {
        self.proxy.allowed.set_rule(rule);
    }

    /// The rule by which clients may name registries, for others to go by.
    pub(crate) fn allowed(&self) -> Allowed {
        self.proxy.allowed.clone()
    }

    /// Where it listens, with the port that the system chose if none was given.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has stopped: running answers have ended or the drain's time is up. Cancel safe.
    pub async fn stopped(&mut self) {
        if let Err(error) = (&mut self.accepting).await {
            tracing::error!(%error, "proxy task failed");
        }
    }
}

/// What bounds the connections.
struct Limits {
    connections: Arc<Connections>,
    head_timeout: Duration,
    write_timeout: Duration,
    drain_timeout: Duration,
}

async fn serve(listener: TcpListener, proxy: Arc<Proxy>, limits: Limits, cancel: CancellationToken) {
    let (running, limits) = (TaskTracker::new(), Arc::new(limits));
    // Cancelled when the drain's time is up: what runs then is dropped.
    let abort = CancellationToken::new();
    loop {
        let (stream, client) = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listen::accept(&listener) => accepted,
        };
        let place = tokio::select! {
            () = cancel.cancelled() => break,
            place = limits.connections.admit() => place,
        };
        let client = Client::new(client, stream.local_addr().unwrap_or(client));
        let serving = connection(
            stream,
            client.clone(),
            Arc::clone(&proxy),
            Arc::clone(&limits),
            place,
            cancel.clone(),
        );
        let audited = proxy.audit.is_some();
        let abort = abort.clone();
        running.spawn(async move {
            let connection = async {
                // Beside the first request, which does not wait for it; the next connection does.
                let user = async { if audited { client.uid().await } else { None } };
                tokio::join!(serving, user);
            };
            abort.run_until_cancelled(connection).await;
        });
    }
    drop(listener);
    running.close();
    if tokio::time::timeout(limits.drain_timeout, running.wait()).await.is_err() {
        tracing::warn!(
            connections = running.len(),
            "connections closed in mid-answer, the time to drain is up"
        );
        abort.cancel();
        running.wait().await;
    }
}

/// Serves one connection. Told to stop, or that its place is wanted, it ends after the answer that is being sent.
async fn connection(
    stream: TcpStream,
    client: Client,
    proxy: Arc<Proxy>,
    limits: Arc<Limits>,
    place: Arc<Place>,
    cancel: CancellationToken,
) {
    let _counted = proxy.metrics.connection();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(client = %client.address(), %error, "no nodelay");
    }
    let address = client.address();
    let asking = Arc::clone(&place);
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (proxy, client, busy) = (Arc::clone(&proxy), client.clone(), asking.busy());
        async move {
            // A pull has no body; hyper closes the connection if the client sends one and nobody reads it.
            let (parts, _) = request.into_parts();
            let mut response = proxy.answer(&client, &parts).await;
            response.body_mut().keeps_busy(busy);
            Ok::<_, Infallible>(response)
        }
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_header_size(HEAD_LEN_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut serving = pin!(serving);
    let mut draining = false;
    let ended = loop {
        tokio::select! {
            // What has come is read before anybody is told to leave.
            biased;
            ended = serving.as_mut() => break ended,
            () = cancel.cancelled(), if !draining => {
                draining = true;
                serving.as_mut().graceful_shutdown();
            }
            () = place.is_wanted(), if !draining => {
                if !place.has_asked() {
                    break Ok(());
                }
                draining = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(client = %address, %error, "connection ended");
    }
}
