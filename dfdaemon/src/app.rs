//! The daemon put together: everything is bound before anything is served, and stopped in the reverse order.
//!
//! `program` calls [`run`]; tests and benchmarks start an [`App`] inside themselves.

use crate::answers::Answers;
use crate::config::{Config, SchedulerConfig};
use crate::engine::{Buffers, Engine, Parts};
use crate::joining::{Joining, Way};
use crate::lasting::Lasting;
use crate::link::{self, Link, LinkTask, Served};
use crate::preheat::Preheats;
use crate::proxy::{self, Audit};
use crate::registry::ClusterRegistry;
use crate::reload::reload;
use crate::standing::Standing;
use crate::status;
use crate::traffic::Traffic;
use crate::trust::Trust;
use crate::upload::Uploads;
use origin::{Origin, Resolver};
use p2p::{Identity, Members, P2p, Tickets};
use process::admin::{Admin, Readiness};
use process::audit;
use process::exit::{Exit, Failure};
use process::reload::Reloader;
use process::{service, vitals};
use prometheus_client::registry::Registry as Metrics;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use store::{Store, StoreError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Endpoint;
use types::{HostSpec, Platform};

/// How long a stop may take once clients have been served or cut off.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How often answers of origins are written down.
const SAVE_INTERVAL: Duration = Duration::from_secs(2);

/// A running daemon.
#[derive(Debug)]
pub struct App {
    proxy: proxy::Server,
    admin: SocketAddr,
    engine: Engine,
    p2p: P2p,
    store: Store,
    lasting: Arc<Lasting>,
    scheduler: Option<scheduler::Server>,
    audit: Option<audit::Writing>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

/// Runs a daemon until it is told to stop, and lets `reloader` change what can change meanwhile.
///
/// # Errors
/// If it cannot start: a port is taken, the cache cannot be used.
pub(crate) async fn run(
    config: Config,
    mut reloader: Reloader<Config>,
    cancel: CancellationToken,
) -> Result<(), Failure> {
    if config.scheduler.is_open_to_strangers() {
        tracing::warn!(
            "gRPC is not encrypted, and whoever reaches the scheduler is a member (insecure_plain_grpc)"
        );
    }
    let app = App::start(config, cancel.clone()).await?;
    service::ready();
    let reloading = async {
        loop {
            reloader.asked().await;
            reload(&mut reloader, &app).await;
        }
    };
    cancel.run_until_cancelled(reloading).await.unwrap_or(());
    service::stopping();
    tracing::info!("stopping");
    app.stopped().await;
    Ok(())
}

impl App {
    /// Starts everything. Needs a rustls provider to be installed. Cancelling `cancel` stops it.
    ///
    /// # Errors
    /// If a port is taken, or the cache or the key file cannot be used.
    pub async fn start(config: Config, cancel: CancellationToken) -> Result<Self, Failure> {
        let cancel = cancel.child_token();
        // What was started before a failure ends with this guard.
        let guard = cancel.clone().drop_guard();
        let tasks = TaskTracker::new();
        let mut all_metrics = vitals::registry("dfdaemon", env!("CARGO_PKG_VERSION"));
        let metrics = vitals::ours(&mut all_metrics);

        let store = open_store(&config, metrics).await?;
        let identity = Identity::load_or_create(&config.store.dir.join("identity.key"))
            .map_err(|error| Failure::new(Exit::CannotCreate, error))?;
        let origin = Origin::new(config.origin.clone()).map_err(|error| Failure::new(Exit::Usage, error))?;
        origin.register_metrics(metrics);
        let resolver = Resolver::new(origin.clone(), config.resolver.clone());
        let admin =
            Admin::bind(config.admin.listen).await.map_err(|error| Failure::new(Exit::Unavailable, error))?;

        let (audit, writing) = audit(&config, metrics)?.unzip();
        let audit_log = audit.as_ref().map(|audit| audit.log().clone());
        let scheduler = embedded(&config, resolver.clone(), audit_log.clone(), &cancel).await?;
        if let Some(scheduler) = &scheduler {
            scheduler.register_metrics(metrics);
        }
        let (joining, members) = joining(&config, &identity, scheduler.as_ref()).await?;
        let (channel, joined) = match &joining {
            Some(joining) => (joining.channel(), Some(joining.joined())),
            None => (endpoint(&config, scheduler.as_ref())?.connect_lazy(), None),
        };
        let (link, link_task) = Link::new(channel, joined);
        let traffic = Traffic::new(config.host.zone.clone(), config.host.rack.clone());
        let uploads = Arc::new(Uploads::new(store.clone(), traffic.clone()));
        let p2p = P2p::start(identity, p2p_options(&config), members.clone(), uploads, cancel.clone())
            .await
            .map_err(|error| Failure::new(Exit::Unavailable, error))?;
        p2p.metrics().register(metrics);
        process::traces::host(p2p.host_id());
        metrics.register_collector(Box::new(traffic.meter().clone()));
        metrics.register_collector(Box::new(Standing {
            link: link.state(),
            store: store.clone(),
            upload_slots: config.p2p.upload_slots,
        }));

        let parts = Parts {
            store: store.clone(),
            p2p: p2p.clone(),
            origin: origin.clone(),
            link: link.clone(),
            traffic: traffic.clone(),
            buffers: Buffers::default(),
            options: download_core::Options {
                patience: config.proxy.patience,
                linger: config.proxy.linger,
                // As many may be promised as are under way: the scheduler counts those that are nearly done as done.
                fetches_max: 2 * usize::from(config.p2p.download_slots),
                ..download_core::Options::default()
            },
        };
        let engine = Engine::new(parts, cancel.clone());
        let lasting = Arc::new(Lasting::load(config.store.dir.join("answers.json"), config.resolver.grace));
        let trust = Trust::new(&config.origin);
        let answers = Arc::new(Answers::new(
            link.clone(),
            resolver,
            store.clone(),
            lasting.clone(),
            trust.clone(),
            config.resolver.access_lifetime,
        ));
        let registry = ClusterRegistry::new(answers.clone(), engine.clone(), origin, store.clone(), trust);
        let registry = Arc::new(registry);
        let proxy_metrics = proxy::Metrics::register(metrics);
        let proxy = proxy::Server::start(
            proxy::Options::of(&config),
            registry.clone(),
            proxy_metrics,
            audit,
            cancel.clone(),
        )
        .await
        .map_err(|error| Failure::new(Exit::Unavailable, error))?;

        let preheats = Preheats::new(registry, proxy.allowed());
        tasks.spawn(preheats.clone().run(cancel.clone()));
        let served = Served {
            engine: engine.clone(),
            answers: answers.clone(),
            audit: audit_log.clone(),
            members,
            traffic: traffic.clone(),
            preheats: preheats.clone(),
            hello: hello(&config, &p2p),
        };
        keep(&tasks, link_task, served, &cancel);
        if let Some(joining) = joining {
            tasks.spawn(joining.run(cancel.clone()));
        }
        follow(&tasks, &store, &engine, &lasting, &cancel);
        let readiness = Readiness::new();
        readiness.set(true);
        let admin_address = admin.address();
        let status = status::Parts {
            host: p2p.host_id(),
            link,
            answers,
            traffic,
            preheats,
            store: store.clone(),
            audit: audit_log,
        };
        let routes = status::routes(status);
        tasks.spawn(admin.serve(Arc::new(all_metrics), readiness, routes, cancel.clone()));
        tracing::info!(host = %p2p.host_id(), proxy = %proxy.address(), bulk = %p2p.bulk_addr(), "ready");
        Ok(Self {
            proxy,
            admin: admin_address,
            engine,
            p2p,
            store,
            lasting,
            scheduler,
            audit: writing,
            tasks,
            cancel: guard.disarm(),
        })
    }

    /// Where clients pull.
    #[must_use]
    pub const fn proxy_address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// Where health, metrics and status are.
    #[must_use]
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Takes over what of a configuration can change while the daemon runs, as `reload` has it.
    pub(crate) async fn adopt(&self, config: &Config) {
        self.p2p.set_rates(config.p2p.upload_rate, config.p2p.download_rate);
        self.proxy.allow(config.proxy.allow.clone());
        if let Err(error) = self.store.set_quota(config.store.quota_bytes).await {
            tracing::error!(%error, "the cache could not be brought below its new quota");
        }
    }

    /// Waits until a daemon that was told to stop has done so, and what it holds is on the disk.
    pub async fn stopped(mut self) {
        self.cancel.cancelled().await;
        self.proxy.stopped().await;
        self.tasks.close();
        let ended = tokio::time::timeout(STOP_TIMEOUT, async {
            self.engine.drained().await;
            self.tasks.wait().await;
            if let Some(scheduler) = self.scheduler.take() {
                scheduler.stopped().await;
            }
        });
        if ended.await.is_err() {
            tracing::warn!(after = ?STOP_TIMEOUT, "some tasks did not end in time");
        }
        if let Some(audit) = self.audit.take() {
            audit.stopped().await;
        }
        let lasting = self.lasting.clone();
        drop(tokio::task::spawn_blocking(move || lasting.save()).await);
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the store could not be closed");
        }
    }
}

async fn open_store(config: &Config, metrics: &mut Metrics) -> Result<Store, Failure> {
    let mut options = store::Options::new(config.store.dir.clone());
    options.quota_bytes = config.store.quota_bytes;
    if let Some(floor) = config.store.free_floor_bytes {
        options.free_floor = 0.0;
        options.free_floor_bytes = floor;
    }
    options.metrics = store::Metrics::register(metrics);
    let opened = tokio::task::spawn_blocking(move || Store::open(options)).await;
    let opened = opened.map_err(|error| Failure::new(Exit::Bug, error))?;
    opened.map_err(|error| {
        let exit = match &error {
            StoreError::Option { .. } => Exit::Usage,
            StoreError::Locked { .. } => Exit::Unavailable,
            _ => Exit::CannotCreate,
        };
        Failure::new(exit, error)
    })
}

/// The audit log, if one is configured. That its file cannot be written is no reason not to start.
fn audit(config: &Config, metrics: &mut Metrics) -> Result<Option<(Audit, audit::Writing)>, Failure> {
    let Some(options) = config.audit.clone() else { return Ok(None) };
    let key = audit::Key::load_or_create(&config.store.dir.join("audit.key"))
        .map_err(|error| Failure::new(Exit::CannotCreate, error))?;
    let (log, writing) = audit::Log::start(options, audit::Metrics::register(metrics));
    Ok(Some((Audit::new(log, key), writing)))
}

fn p2p_options(config: &Config) -> p2p::Options {
    p2p::Options {
        control_listen: config.p2p.control_listen,
        bulk_listen: config.p2p.bulk_listen,
        advertise: config.p2p.advertise,
        upload_slots: config.p2p.upload_slots,
        upload_rate_bytes_per_second: config.p2p.upload_rate,
        download_rate_bytes_per_second: config.p2p.download_rate,
        ..p2p::Options::default()
    }
}

fn hello(config: &Config, p2p: &P2p) -> proto::Hello {
    let (upload_rate, download_rate) = config.rates();
    proto::Hello {
        protocol_min: proto::PROTOCOL_MIN,
        protocol_max: proto::PROTOCOL,
        peer_id: p2p.peer_id_bytes(),
        bulk: p2p.bulk_addr(),
        control: Some(p2p.control_addr()),
        spec: HostSpec {
            zone: config.host.zone.clone(),
            rack: config.host.rack.clone(),
            upload_slots: config.p2p.upload_slots,
            download_slots: config.p2p.download_slots,
            upload_rate: upload_rate.unwrap_or(0),
            download_rate: download_rate.unwrap_or(0),
        },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        // As each stream begins.
        flushed: 0,
        platform: Platform::of_this_machine().to_string(),
    }
}

/// The scheduler of this process, where no other is configured.
async fn embedded(
    config: &Config,
    resolver: Resolver,
    audit: Option<audit::Log>,
    cancel: &CancellationToken,
) -> Result<Option<scheduler::Server>, Failure> {
    let SchedulerConfig::Embedded { listen, plain } = config.scheduler else { return Ok(None) };
    let mut options = scheduler::Options {
        listen,
        insecure_plain_grpc: plain,
        state: config.store.dir.join("scheduler"),
        ..scheduler::Options::embedded()
    };
    if !listen.ip().is_loopback() {
        // Others can join, and after a restart they are to say what they hold before anything is read again.
        options.scheduling.quiet_period = scheduler::Options::default().scheduling.quiet_period;
    }
    let server = scheduler::Server::start_with(options, resolver, audit, cancel.clone()).await?;
    if let Some(command) = server.join_command().filter(|_| !listen.ip().is_loopback()) {
        tracing::info!(
            command,
            "another node joins with this, HOST being this machine as the node reaches it"
        );
    }
    Ok(Some(server))
}

/// How the scheduler is reached.
fn endpoint(config: &Config, embedded: Option<&scheduler::Server>) -> Result<Endpoint, Failure> {
    let address = match (&config.scheduler, embedded) {
        (SchedulerConfig::Remote { address, .. }, _) => address.clone(),
        (SchedulerConfig::Embedded { .. }, Some(server)) => {
            let mut address = server.grpc_addr();
            if address.ip().is_unspecified() {
                address.set_ip(Ipv4Addr::LOCALHOST.into());
            }
            format!("http://{address}")
                .parse()
                .map_err(|error: http::uri::InvalidUri| Failure::new(Exit::Bug, error))?
        }
        (SchedulerConfig::Embedded { .. }, None) => {
            return Err(Failure::new(Exit::Bug, anyhow::anyhow!("the embedded scheduler was not started")));
        }
    };
    Ok(link::endpoint(address))
}

/// How this host becomes a member, and the members that show each other so; no joining where gRPC is plain.
async fn joining(
    config: &Config,
    identity: &Identity,
    embedded: Option<&scheduler::Server>,
) -> Result<(Option<Joining>, Members), Failure> {
    let endpoint = endpoint(config, embedded)?;
    let way = match &config.scheduler {
        SchedulerConfig::Remote { join: Some(by), .. } => Way::Remote { by: by.clone(), endpoint },
        SchedulerConfig::Remote { join: None, .. } => return Ok((None, Members::new())),
        SchedulerConfig::Embedded { .. } => match embedded.and_then(scheduler::Server::admitter) {
            Some(admitter) => Way::Own { admitter, endpoint },
            None => return Ok((None, Members::new())),
        },
    };
    let key = identity.host_key();
    let key = key.ok_or_else(|| Failure::new(Exit::Bug, anyhow::anyhow!("the host's key is of no use")))?;
    let tickets = Tickets::needed();
    let file = config.store.dir.join("membership.json");
    let joining = {
        let (tickets, file) = (tickets.clone(), file.clone());
        tokio::task::spawn_blocking(move || Joining::new(key, way, tickets, file)).await
    };
    let joining = joining.map_err(|error| Failure::new(Exit::Bug, error))?;
    let joining = joining.map_err(|error| {
        Failure::new(Exit::CannotCreate, anyhow::Error::new(error).context(format!("{}", file.display())))
    })?;
    Ok((Some(joining), Members::with_tickets(tickets)))
}

fn keep(tasks: &TaskTracker, task: LinkTask, served: Served, cancel: &CancellationToken) {
    tasks.spawn(task.run(served, cancel.clone()));
}

/// Tells the engine what the store has lost, and writes answers of origins down now and then.
fn follow(
    tasks: &TaskTracker,
    store: &Store,
    engine: &Engine,
    lasting: &Arc<Lasting>,
    cancel: &CancellationToken,
) {
    let (mut lost, engine, stop) = (store.lost(), engine.clone(), cancel.clone());
    tasks.spawn(async move {
        loop {
            match stop.run_until_cancelled(lost.recv()).await {
                Some(Ok(digest)) => engine.lost(&digest).await,
                Some(Err(tokio::sync::broadcast::error::RecvError::Lagged(_))) => engine.lost_some().await,
                Some(Err(tokio::sync::broadcast::error::RecvError::Closed)) | None => return,
            }
        }
    });
    let (lasting, stop) = (lasting.clone(), cancel.clone());
    tasks.spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(SAVE_INTERVAL)).await.is_some() {
            let lasting = lasting.clone();
            drop(tokio::task::spawn_blocking(move || lasting.save()).await);
        }
    });
}
