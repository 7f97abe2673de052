//! The server: ports, tasks, and stopping.

use crate::cluster::operator::{Desk, Operator};
use crate::cluster::{Admitter, Cluster};
use crate::connection::{self, Connection};
use crate::driver::Driver;
use crate::kubernetes::TokenReviews;
use crate::metrics::Published;
use crate::questions::Questions;
use crate::refused::Refused;
use crate::service::Service;
use crate::stream::Streams;
use crate::threshold::Threshold;
use crate::{Error, Options, status};
use futures::Stream;
use origin::{Origin, Resolver};
use process::admin::{Admin, Readiness};
use process::audit;
use process::listen::{self, ListenError};
use process::{shutdown, vitals};
use prometheus_client::registry::Registry;
use proto::server::SchedulerServer;
use proto::{HOST_FRAME_BYTES_MAX, SCHEDULER_FRAME_BYTES_MAX};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::ServingStatus;
use types::Label;

/// Connections beyond one per host: operators, health checks, hosts that come back before the old one is gone.
const CONNECTIONS_SPARE: usize = 1024;

/// Calls at once on one connection: its stream, and questions of a host's clients.
const CALLS_PER_CONNECTION_MAX: u32 = 256;

/// How often a connection is asked for a sign of life, and how long it may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// The longest request head, in bytes.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;

/// Bytes that may be on their way from a host on one stream, and on one connection: what is not read holds this much.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;

/// A running scheduler. It stops when the token that it was started with is cancelled.
#[derive(Debug)]
pub struct Server {
    grpc: SocketAddr,
    admin: Option<SocketAddr>,
    cluster: Option<Cluster>,
    published: Published,
    tasks: TaskTracker,
}

impl Server {
    /// Starts a scheduler with a client for origins of its own.
    ///
    /// # Errors
    /// [`Error`]: an option that makes no sense, a port that is taken.
    pub async fn start(options: Options, cancel: CancellationToken) -> Result<Self, Error> {
        let origin = Origin::new(options.origin.clone()).map_err(Error::Origin)?;
        let resolver = Resolver::new(origin, options.resolver.clone());
        Self::start_with(options, resolver, None, cancel).await
    }

    /// Starts a scheduler that asks origins through `resolver`, and tells what operators do to `audit` if that is there;
    /// the options of these have no meaning then. For a daemon, which has them anyway.
    ///
    /// # Errors
    /// [`Error`]: an option that makes no sense, a port that is taken.
    pub async fn start_with(
        options: Options,
        resolver: Resolver,
        audit: Option<audit::Log>,
        cancel: CancellationToken,
    ) -> Result<Self, Error> {
        options.validate()?;
        let purpose = "gRPC (--listen)";
        let listener = listen::bind(purpose, options.listen).await?;
        let grpc = listener.local_addr().map_err(|source| ListenError {
            purpose,
            address: options.listen,
            source,
        })?;
        let admin = match options.admin {
            Some(address) => Some(Admin::bind(address).await?),
            None => None,
        };
        let admin_addr = admin.as_ref().map(Admin::address);
        let (cluster, operator) = match options.insecure_plain_grpc {
            true => (None, None),
            false => {
                let (mut cluster, operator) = open_cluster(&options).await?;
                cluster.reviews = TokenReviews::new(&options.kubernetes).await?;
                (Some(cluster), Some(operator))
            }
        };
        let published = Published::new();
        let tasks = TaskTracker::new();
        let doors = Doors { listener, tls: cluster.as_ref().map(tls).transpose()?, admin, operator };
        let parts = Parts {
            options,
            resolver,
            audit,
            cluster: cluster.clone(),
            published: published.clone(),
            cancel,
        };
        tasks.spawn(parts.run(doors));
        tasks.close();
        Ok(Self { grpc, admin: admin_addr, cluster, published, tasks })
    }

    /// Where hosts connect.
    #[must_use]
    pub const fn grpc_addr(&self) -> SocketAddr {
        self.grpc
    }

    /// Where operators ask, unless it is embedded.
    #[must_use]
    pub const fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where the first join token is, if it is still there; nothing where gRPC is plain.
    #[must_use]
    pub fn join_token_file(&self) -> Option<PathBuf> {
        self.cluster.as_ref()?.first_token_file()
    }

    /// How a node joins, in a shell; nothing where gRPC is plain, or once the first token is revoked. It names the token's
    /// file, so that it can be logged.
    #[must_use]
    pub fn join_command(&self) -> Option<String> {
        let file = self.join_token_file()?;
        Some(format!("DFDAEMON_JOIN=\"$(cat {})@HOST:{}\" dfdaemon", file.display(), self.grpc.port()))
    }

    /// How the pod of a service account joins; nothing unless some may.
    #[must_use]
    pub fn join_command_by_service_account(&self) -> Option<String> {
        let cluster = self.cluster.as_ref().filter(|cluster| cluster.reviews.is_some())?;
        let (authority, port) = (cluster.authority.hash().to_text(), self.grpc.port());
        Some(format!("dfdaemon --join {authority}@HOST:{port} --service-account-token-file FILE"))
    }

    /// Who makes this process's own host a member; nothing where gRPC is plain.
    #[must_use]
    pub fn admitter(&self) -> Option<Admitter> {
        Some(Admitter::new(self.cluster.as_ref()?.authority.clone()))
    }

    /// Where operators speak to the scheduler; nothing where gRPC is plain.
    #[must_use]
    pub fn operator_socket(&self) -> Option<PathBuf> {
        Some(self.cluster.as_ref()?.operator_socket())
    }

    /// Adds the scheduler's figures to another's registry, for one that is embedded.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.published.register(registry);
    }

    /// Waits until everything has ended after the token was cancelled; a little more than the drain time-out at most.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

/// Opens the state directory and takes its socket.
async fn open_cluster(options: &Options) -> Result<(Cluster, Operator), Error> {
    let (dir, identity) = (options.state.clone(), options.identity.clone());
    let opened = tokio::task::spawn_blocking(move || Cluster::open(&dir, identity.as_deref())).await;
    let failed = |source| Error::State { path: options.state.clone(), source };
    let cluster = opened.map_err(|error| failed(std::io::Error::other(error)))??;
    let operator = Operator::bind(cluster.operator_socket()).await.map_err(failed)?;
    Ok((cluster, operator))
}

fn tls(cluster: &Cluster) -> Result<TlsAcceptor, Error> {
    Ok(TlsAcceptor::from(Arc::new(cluster.authority.server_config()?)))
}

/// Where others come in.
struct Doors {
    listener: TcpListener,
    /// Unless gRPC is plain.
    tls: Option<TlsAcceptor>,
    admin: Option<Admin>,
    operator: Option<Operator>,
}

/// What the server is made from.
struct Parts {
    options: Options,
    resolver: Resolver,
    /// Somebody else's.
    audit: Option<audit::Log>,
    cluster: Option<Cluster>,
    published: Published,
    cancel: CancellationToken,
}

impl Parts {
    async fn run(self, doors: Doors) {
        let tasks = TaskTracker::new();
        let (inputs, queue) = Driver::queue();
        // Later than any epoch of a run that ended: more than one lease a microsecond no run has given.
        let first_epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |t| t.as_micros());
        let first_epoch = u64::try_from(first_epoch).unwrap_or(u64::MAX / 2).max(1);
        let seed = self.options.scheduling.seed.unwrap_or_else(|| fastrand::u64(..));
        let (published, cluster) = (self.published.clone(), self.cluster.as_ref());
        let driver = Driver::new(&self.options, seed, first_epoch, published, cluster);
        tasks.spawn(driver.run(queue, self.cancel.clone()));

        let readiness = Readiness::new();
        readiness.set(true);
        let mut all_metrics = vitals::registry("scheduler", env!("CARGO_PKG_VERSION"));
        let metrics = vitals::ours(&mut all_metrics);
        let own_audit = self.options.audit.log().filter(|_| self.audit.is_none());
        let own_audit =
            own_audit.map(|log| audit::Log::start(log, audit::Metrics::register(metrics))).unzip();
        let (audit, writing) = (self.audit.clone().or(own_audit.0), own_audit.1);
        if let Some(admin) = doors.admin {
            self.published.register(metrics);
            self.resolver.origin().register_metrics(metrics);
            let extra = status::routes(inputs.clone());
            let cancel = self.cancel.clone();
            tasks.spawn(admin.serve(Arc::new(all_metrics), readiness.clone(), extra, cancel));
        }

        if let (Some(operator), Some(cluster)) = (doors.operator, &self.cluster) {
            let (resolver, inputs) = (self.resolver.clone(), inputs.clone());
            let desk = Desk::new(cluster.clone(), resolver, inputs, audit.clone());
            tasks.spawn(operator.serve(desk, self.cancel.clone()));
        }

        let streams = Arc::new(Streams {
            inputs: inputs.clone(),
            options: self.options.hosts.clone(),
            cluster: Label::new(&self.options.cluster),
            instance: fastrand::u64(..),
            removed: self.cluster.as_ref().map(|cluster| cluster.removed.clone()),
            tasks: tasks.clone(),
            next: AtomicU64::new(0),
        });
        let refused = Refused::default();
        let service = Service {
            streams,
            questions: Questions::new(self.resolver.clone(), self.published.clone()),
            inputs,
            cluster: self.cluster.clone(),
            refused: refused.clone(),
            audit,
        };
        let connections = self.options.hosts.max as usize + CONNECTIONS_SPARE;
        let incoming = connection::incoming(doors.listener, connections, doors.tls, &tasks);
        self.serve(incoming, (service, refused), &readiness).await;
        shutdown::drain(&tasks, self.options.drain_timeout).await;
        if let Some(writing) = writing {
            writing.stopped().await;
        }
    }

    /// Serves gRPC until the token is cancelled and calls under way have ended, or the drain time-out has passed.
    async fn serve(
        &self,
        incoming: impl Stream<Item = std::io::Result<Connection>>,
        (service, refused): (Service, Refused),
        readiness: &Readiness,
    ) {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<SchedulerServer<Service>>().await;
        let service = SchedulerServer::new(service)
            .max_decoding_message_size(HOST_FRAME_BYTES_MAX)
            .max_encoding_message_size(SCHEDULER_FRAME_BYTES_MAX);
        let stopping = CancellationToken::new();
        let threshold = if self.cluster.is_some() { Threshold::guarded(refused) } else { Threshold::open() };
        let serving = tonic::transport::Server::builder()
            .layer(threshold)
            .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .http2_max_header_list_size(HEADERS_BYTES_MAX)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .add_service(health_service)
            .add_service(service)
            .serve_with_incoming_shutdown::<_, Connection, std::io::Error, _, _>(
                incoming,
                stopping.clone().cancelled_owned(),
            );
        tokio::pin!(serving);
        let ended = tokio::select! {
            () = self.cancel.cancelled() => None,
            ended = serving.as_mut() => Some(ended),
        };
        let Some(ended) = ended else {
            readiness.set(false);
            health.set_service_status("", ServingStatus::NotServing).await;
            health.set_not_serving::<SchedulerServer<Service>>().await;
            stopping.cancel();
            if tokio::time::timeout(self.options.drain_timeout, serving).await.is_err() {
                tracing::warn!("calls have not ended in time and are cut off");
            }
            return;
        };
        if let Err(error) = ended {
            tracing::error!(%error, "the gRPC server has ended");
        }
    }
}
