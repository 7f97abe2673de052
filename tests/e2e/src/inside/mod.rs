//! Daemons and a scheduler inside the test's own process, on loopback, against an origin that misbehaves on demand.
//!
//! For the tests that need neither root nor real runtimes: `bad_input`, `permission`, `sharing`. Every port is free, every
//! directory temporary, and whatever is waited for is bounded by [`BOUND`].

mod client;
mod liar;
mod logged;
mod shelf;

pub use client::{Reply, blob_target, manifest_target, until_right};
pub use liar::{Liar, Script, Uploads, silent};
pub use logged::Logged;
pub use shelf::{Content, check_store};

use anyhow::{Context, Result, anyhow};
use dfdaemon::app::App;
use dfdaemon::config::{
    AdminConfig, AllowRegistries, Config, HostConfig, JoinBy, LogConfig, P2pConfig, ProxyConfig,
    SchedulerConfig, StoreConfig,
};
use membership::{AuthorityHash, HostCredentials, JoinToken, PeerKey};
use origin::{RegistryOptions, ResolverOptions};
use process::telemetry::Format;
use scheduler::{KubernetesOptions, SchedulingOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::origin::FaultyOrigin;
use support::poll;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use types::Label;

/// Nothing that is waited for here takes this long, however busy the machine is.
pub const BOUND: Duration = Duration::from_secs(30);

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A daemon's audit log, in its directory.
const AUDIT: &str = "audit.log";

/// The lines of the audit log of the daemon whose directory this is.
///
/// # Errors
/// If there is none, or a line is none of an audit log's.
pub fn audit_lines(dir: &Path) -> Result<Vec<process::audit::Line>> {
    let text = std::fs::read_to_string(dir.join(AUDIT))?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// What daemons and schedulers of a test are told. Everything that waits waits for a short time.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The registries, and how they are asked.
    pub origin: origin::Options,
    /// How long what they said is good for.
    pub resolver: ResolverOptions,
    /// The scheduler's choices; no quiet period.
    pub scheduling: SchedulingOptions,
    /// A reader's patience.
    pub patience: Duration,
    /// How long a download goes on without readers.
    pub linger: Duration,
    /// Bytes of the cache.
    pub quota_bytes: u64,
    /// Bytes per second that each host sends and receives at most.
    pub rate: Option<u64>,
    /// The hosts' zone.
    pub zone: Label,
    /// Whether daemons write an audit log into their directories.
    pub audit: bool,
}

impl Settings {
    /// These registries, each under its own name.
    #[must_use]
    pub fn of(origins: &[&FaultyOrigin]) -> Self {
        let mut origin = origin::Options {
            retries: 1,
            retry_pause: Duration::from_millis(10),
            retry_pause_max: Duration::from_millis(100),
            manifest_len_max: 64 << 10,
            ..origin::Options::default()
        };
        for registry in origins {
            let endpoint = registry.url().parse().ok();
            let options = RegistryOptions { endpoint, ..RegistryOptions::default() };
            origin.registries.insert(registry.registry(), options);
        }
        let scheduling = SchedulingOptions { quiet_period: Duration::ZERO, ..SchedulingOptions::default() };
        Self {
            origin,
            resolver: ResolverOptions::default(),
            scheduling,
            patience: Duration::from_secs(3),
            linger: Duration::from_secs(30),
            quota_bytes: 1 << 30,
            rate: None,
            zone: Label::default(),
            audit: false,
        }
    }

    /// What is told of this registry.
    ///
    /// # Panics
    /// If the settings do not have it.
    pub fn registry(&mut self, registry: &FaultyOrigin) -> &mut RegistryOptions {
        self.origin.registries.get_mut(&registry.registry()).expect("one of the registries")
    }

    fn config(&self, dir: &TempDir, scheduler: SchedulerConfig) -> Config {
        Config {
            proxy: ProxyConfig {
                listen: ANY_PORT,
                upstream: types::Registry::parse(origin::DOCKER_HUB).expect("a registry's name"),
                allow: AllowRegistries::Public,
                connections_max: 1024,
                patience: self.patience,
                linger: self.linger,
            },
            scheduler,
            p2p: P2pConfig {
                control_listen: ANY_PORT,
                bulk_listen: ANY_PORT,
                advertise: None,
                upload_slots: 4,
                download_slots: 8,
                upload_rate: self.rate,
                download_rate: self.rate,
            },
            store: StoreConfig {
                dir: dir.path().join("store"),
                quota_bytes: self.quota_bytes,
                // The machine's disk is nobody's business here.
                free_floor_bytes: Some(0),
            },
            origin: self.origin.clone(),
            resolver: self.resolver.clone(),
            host: HostConfig { zone: self.zone.clone(), ..HostConfig::default() },
            admin: AdminConfig { listen: ANY_PORT },
            audit: self.audit.then(|| process::audit::Options {
                file: dir.path().join(AUDIT),
                max_bytes: 64 << 20,
                keep: 1,
            }),
            traces: process::traces::Options::default(),
            log: LogConfig { filter: String::new(), format: Format::Auto },
        }
    }
}

/// A scheduler that several nodes join. It stops when dropped.
#[derive(Debug)]
pub struct Hub {
    server: scheduler::Server,
    token: JoinToken,
    cancel: tokio_util::sync::DropGuard,
    state: TempDir,
}

impl Hub {
    /// Starts it.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(settings: &Settings) -> Result<Self> {
        Self::start_in(settings, KubernetesOptions::default()).await
    }

    /// Starts one that pods join with the tokens of these service accounts.
    ///
    /// # Errors
    /// If no port is free, or a file that is named there cannot be read.
    pub async fn start_in(settings: &Settings, kubernetes: KubernetesOptions) -> Result<Self> {
        process::tls::install_provider();
        let state = tempfile::tempdir()?;
        let options = scheduler::Options {
            listen: ANY_PORT,
            admin: Some(ANY_PORT),
            state: state.path().join("state"),
            audit: scheduler::AuditOptions {
                file: settings.audit.then(|| state.path().join(AUDIT)),
                ..scheduler::AuditOptions::default()
            },
            kubernetes,
            scheduling: settings.scheduling.clone(),
            origin: settings.origin.clone(),
            resolver: settings.resolver.clone(),
            ..scheduler::Options::default()
        };
        let cancel = CancellationToken::new();
        let server = Box::pin(scheduler::Server::start(options, cancel.clone())).await?;
        let token = std::fs::read_to_string(server.join_token_file().context("a join token")?)?;
        Ok(Self { server, token: token.trim().parse()?, cancel: cancel.drop_guard(), state })
    }

    /// Stops it in good order; its directory, with the audit log if it keeps one.
    ///
    /// # Errors
    /// If it does not stop in time.
    pub async fn stop(self) -> Result<TempDir> {
        let Self { server, cancel, state, .. } = self;
        drop(cancel);
        tokio::time::timeout(BOUND, server.stopped()).await.context("a scheduler stops")?;
        Ok(state)
    }

    /// Where hosts connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.server.grpc_addr()
    }

    /// By which daemons join it.
    #[must_use]
    pub const fn token(&self) -> &JoinToken {
        &self.token
    }

    /// What makes the owner of a key a member, from so long ago on.
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn admit(&self, key: &PeerKey) -> Result<HostCredentials> {
        Ok(self.server.admitter().context("a cluster that is joined")?.admit(key)?)
    }

    /// Where operators speak to it.
    ///
    /// # Errors
    /// If gRPC is plain.
    pub fn operator_socket(&self) -> Result<PathBuf> {
        self.server.operator_socket().context("a cluster that is joined")
    }

    /// Its list of join tokens, as it lies on the disk.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn tokens_file(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.state.path().join("state/tokens.json"))?)
    }

    fn config(&self) -> Result<SchedulerConfig> {
        let address = format!("http://{}", self.address()).parse().context("an address")?;
        Ok(SchedulerConfig::Remote { address, join: Some(JoinBy::Token(self.token.clone())) })
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// If it does not.
    pub async fn status(&self) -> Result<serde_json::Value> {
        let admin = self.server.admin_addr().context("an admin port")?;
        client::json(&format!("http://{admin}/v1/status")).await
    }

    /// Its metrics.
    ///
    /// # Errors
    /// If it does not say.
    pub async fn metrics(&self) -> Result<String> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(client.get(format!("{}/metrics", self.admin()?)).send().await?.text().await?)
    }

    /// Where operators ask: `http://host:port`.
    ///
    /// # Errors
    /// If it has no such port.
    pub fn admin(&self) -> Result<String> {
        Ok(format!("http://{}", self.server.admin_addr().context("an admin port")?))
    }

    /// Waits until so many hosts have joined.
    ///
    /// # Errors
    /// If they do not.
    pub async fn until_hosts(&self, count: u64) -> Result<()> {
        poll::until_async("hosts join", BOUND, || async {
            Ok((self.status().await?["hosts_total"] == count).then_some(()))
        })
        .await
    }
}

fn remote(scheduler: SocketAddr) -> Result<SchedulerConfig> {
    let address = format!("http://{scheduler}").parse().context("an address")?;
    Ok(SchedulerConfig::Remote { address, join: None })
}

/// A daemon with a directory of its own. It stops when dropped; [`Node::stop`] waits for that.
#[derive(Debug)]
pub struct Node {
    app: App,
    proxy: String,
    admin: String,
    client: reqwest::Client,
    cancel: tokio_util::sync::DropGuard,
    dir: TempDir,
}

impl Node {
    /// A daemon with a scheduler inside.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn alone(settings: &Settings) -> Result<Self> {
        let scheduler = SchedulerConfig::Embedded { listen: ANY_PORT, plain: true };
        Self::start(settings, scheduler, tempfile::tempdir()?).await
    }

    /// A daemon of this scheduler's.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn join(hub: &Hub, settings: &Settings) -> Result<Self> {
        Self::start(settings, hub.config()?, tempfile::tempdir()?).await
    }

    /// A daemon that comes to this scheduler with this token.
    ///
    /// # Errors
    /// If it does not start; not, if it is not let in.
    pub async fn join_with(hub: &Hub, token: JoinToken, settings: &Settings) -> Result<Self> {
        Self::join_at_door((hub.address(), token), settings).await
    }

    /// A daemon that comes to the scheduler here, if it is of this authority, with a service account's token.
    ///
    /// # Errors
    /// If it does not start; not, if it is not let in.
    pub async fn join_by_service_account(
        door: (SocketAddr, AuthorityHash),
        token_file: &Path,
        settings: &Settings,
    ) -> Result<Self> {
        Self::join_again_by_service_account(door, token_file, settings, tempfile::tempdir()?).await
    }

    /// The same, with what a stopped one left in its directory.
    ///
    /// # Errors
    /// If it does not start; not, if it is not let in.
    pub async fn join_again_by_service_account(
        (scheduler, authority): (SocketAddr, AuthorityHash),
        token_file: &Path,
        settings: &Settings,
        dir: TempDir,
    ) -> Result<Self> {
        let address = format!("http://{scheduler}").parse().context("an address")?;
        let by = JoinBy::ServiceAccount { authority, token_file: token_file.to_owned() };
        Self::start(settings, SchedulerConfig::Remote { address, join: Some(by) }, dir).await
    }

    /// A daemon that comes to the scheduler here with this token.
    ///
    /// # Errors
    /// If it does not start; not, if it is not let in.
    pub async fn join_at_door(
        (scheduler, token): (SocketAddr, JoinToken),
        settings: &Settings,
    ) -> Result<Self> {
        let address = format!("http://{scheduler}").parse().context("an address")?;
        let config = SchedulerConfig::Remote { address, join: Some(JoinBy::Token(token)) };
        Self::start(settings, config, tempfile::tempdir()?).await
    }

    /// A daemon with a scheduler inside that others can join, and by what.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn host(settings: &Settings) -> Result<(Self, (SocketAddr, JoinToken))> {
        // The scheduler inside says nowhere else which port it took.
        let listen = std::net::TcpListener::bind(ANY_PORT)?.local_addr()?;
        let config = SchedulerConfig::Embedded { listen, plain: false };
        let node = Self::start(settings, config, tempfile::tempdir()?).await?;
        let file = node.dir.path().join("store/scheduler/join-token");
        let token = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok((node, (listen, token.trim().parse()?)))
    }

    /// A daemon of this scheduler's that goes on with what a stopped one left in its directory.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn join_again(hub: &Hub, settings: &Settings, dir: TempDir) -> Result<Self> {
        Self::start(settings, hub.config()?, dir).await
    }

    /// The same, with a scheduler that is here, or is said to be.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn join_again_at(scheduler: SocketAddr, settings: &Settings, dir: TempDir) -> Result<Self> {
        Self::start(settings, remote(scheduler)?, dir).await
    }

    /// A daemon whose scheduler is said to be here, without joining.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn join_at(scheduler: SocketAddr, settings: &Settings) -> Result<Self> {
        Self::start(settings, remote(scheduler)?, tempfile::tempdir()?).await
    }

    async fn start(settings: &Settings, scheduler: SchedulerConfig, dir: TempDir) -> Result<Self> {
        process::tls::install_provider();
        let cancel = CancellationToken::new();
        let config = settings.config(&dir, scheduler);
        let app =
            Box::pin(App::start(config, cancel.clone())).await.map_err(|failure| anyhow!("{failure}"))?;
        Ok(Self {
            proxy: format!("http://{}", app.proxy_address()),
            admin: format!("http://{}", app.admin_address()),
            client: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .build()?,
            app,
            cancel: cancel.drop_guard(),
            dir,
        })
    }

    /// Where runtimes pull: `http://host:port`.
    #[must_use]
    pub fn proxy(&self) -> &str {
        &self.proxy
    }

    /// Where operators ask: `http://host:port`.
    #[must_use]
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// What it says of itself and its scheduler.
    ///
    /// # Errors
    /// If it does not.
    pub async fn status(&self) -> Result<serde_json::Value> {
        client::json(&format!("{}/v1/status", self.admin)).await
    }

    /// Its metrics.
    ///
    /// # Errors
    /// If it does not say.
    pub async fn metrics(&self) -> Result<String> {
        Ok(self.client.get(format!("{}/metrics", self.admin)).send().await?.text().await?)
    }

    /// Stops it in good order; its directory.
    ///
    /// # Errors
    /// If it does not stop in time.
    pub async fn stop(self) -> Result<TempDir> {
        let Self { app, cancel, dir, client, .. } = self;
        // The connections that are kept for the next request would be waited for.
        drop((client, cancel));
        tokio::time::timeout(BOUND, app.stopped()).await.context("a daemon stops")?;
        Ok(dir)
    }
}
