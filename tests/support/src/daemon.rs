//! Damselfly's programs as tests start them: a directory, a configuration file, a process, an address to ask.
//!
//! Called by the demo (all on loopback, an address for each) and by the end-to-end tests (a namespace for each).

use crate::binaries::Binaries;
use crate::netns::Namespace;
use crate::process::{Program, Spec};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a program may take until `/healthz` answers.
pub const READY_LIMIT: Duration = Duration::from_secs(20);

/// The scheduler's gRPC port in tests; its admin port is the next.
const SCHEDULER_PORT: u16 = 16_510;

/// The proxy's port in tests; those of control, bulk and admin follow.
const PROXY_PORT: u16 = 16_500;

/// Address `last` of a loopback network that depends on this process, so that what two tests start does not meet.
#[must_use]
pub fn loopback(last: u8) -> IpAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // 127.0.0.x is where programs listen by default.
    IpAddr::from([127, (high % 254) + 1, low, last])
}

/// A registry as programs are to reach it.
#[derive(Clone, Debug)]
pub struct Upstream {
    registry: String,
    endpoint: String,
    ca: Option<PathBuf>,
    shared: Option<(String, String)>,
}

impl Upstream {
    /// The registry that clients know by this name, at `endpoint`: `http://host:port`.
    #[must_use]
    pub fn new(registry: impl Into<String>, endpoint: impl Into<String>) -> Self {
        Self { registry: registry.into(), endpoint: endpoint.into(), ca: None, shared: None }
    }

    /// With a certificate of the authority in this file.
    #[must_use]
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self
    }

    /// With a user's name and password, by which clients without a credential are served too.
    #[must_use]
    pub fn shared(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.shared = Some((user.into(), password.into()));
        self
    }
}

fn origin_section(upstreams: &[Upstream]) -> String {
    let mut text = String::new();
    for Upstream { registry, endpoint, ca, shared } in upstreams {
        let _ = writeln!(text, "[origin.registries.{registry:?}]\nendpoint = {endpoint:?}");
        if let Some(ca) = ca {
            let _ = writeln!(text, "ca = {:?}", ca.display().to_string());
        }
        if let Some((user, password)) = shared {
            let _ = writeln!(text, "share_credential = true");
            let _ = writeln!(text, "credential = {{ username = {user:?}, password = {password:?} }}");
        }
        text.push('\n');
    }
    text
}

/// Where a scheduler runs.
#[derive(Clone, Debug)]
pub struct SchedulerPlace {
    /// Its own address.
    pub address: IpAddr,
    /// Its directory.
    pub dir: PathBuf,
    /// Its network namespace, if it has one.
    pub namespace: Option<PathBuf>,
    /// Whether it speaks gRPC without TLS, and takes hosts in without joining.
    pub plain: bool,
    /// How long it first listens to what hosts hold before anything is read from an origin. Zero is right where all
    /// hosts are known to be new.
    pub quiet_period: Duration,
}

impl SchedulerPlace {
    /// The program's own default.
    pub const QUIET_PERIOD: Duration = Duration::from_secs(1);

    /// Where daemons find it.
    #[must_use]
    pub const fn grpc(&self) -> SocketAddr {
        SocketAddr::new(self.address, SCHEDULER_PORT)
    }

    /// How daemons get in.
    #[must_use]
    pub fn door(&self) -> Door {
        if self.plain {
            return Door::Plain(self.grpc());
        }
        Door::Join { grpc: self.grpc(), state: self.state() }
    }

    fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Its admin URL, without a slash at the end.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}", SocketAddr::new(self.address, SCHEDULER_PORT + 1))
    }

    /// Starts it; it is not ready yet.
    ///
    /// # Errors
    /// If its configuration cannot be written or it cannot be started.
    pub fn start(&self, binaries: &Binaries, upstreams: &[Upstream]) -> Result<Program> {
        self.start_with(binaries, upstreams, "")
    }

    /// Starts it with `more` tables in its configuration; it is not ready yet.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(&self, binaries: &Binaries, upstreams: &[Upstream], more: &str) -> Result<Program> {
        let mut config = String::new();
        let _ = writeln!(config, "listen = \"{}\"", self.grpc());
        let _ = writeln!(config, "admin = \"{}\"", SocketAddr::new(self.address, SCHEDULER_PORT + 1));
        let _ = writeln!(config, "state = {:?}", self.state().display().to_string());
        let _ = writeln!(config, "insecure_plain_grpc = {}", self.plain);
        let _ = writeln!(config, "[scheduling]\nquiet_period = \"{}ms\"", self.quiet_period.as_millis());
        config.push_str(&origin_section(upstreams));
        config.push_str(more);
        start("scheduler", &binaries.scheduler, &self.dir, self.namespace.as_deref(), &config)
    }
}

/// How a daemon gets to a scheduler.
#[derive(Clone, Debug)]
pub enum Door {
    /// By the first join token of the scheduler with this state directory, which has to run already.
    Join {
        /// Where it listens.
        grpc: SocketAddr,
        /// Its state directory.
        state: PathBuf,
    },
    /// Without joining, in plain gRPC.
    Plain(SocketAddr),
}

impl Door {
    /// The keys of the daemon's `[scheduler]` table; what they need is written into its directory.
    ///
    /// # Errors
    /// If there is no token, or it cannot be written.
    pub fn config(&self, dir: &Path) -> Result<String> {
        match self {
            Self::Plain(grpc) => Ok(format!("address = \"http://{grpc}\"\ninsecure_plain_grpc = true")),
            Self::Join { grpc, state } => {
                let file = state.join("join-token");
                let token = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
                let join = dir.join("join");
                membership::file::replace(&join, format!("{}@{grpc}", token.trim()).as_bytes())
                    .with_context(|| join.display().to_string())?;
                Ok(format!("join_file = {:?}", join.display().to_string()))
            }
        }
    }
}

/// Where a daemon runs, and what it may do.
#[derive(Clone, Debug)]
pub struct DaemonPlace {
    /// What it is called in messages.
    pub name: String,
    /// Its own address; its proxy and admin are there too if that is a loopback address, else on 127.0.0.1.
    pub address: IpAddr,
    /// Its directory.
    pub dir: PathBuf,
    /// Its network namespace, if it has one.
    pub namespace: Option<PathBuf>,
    /// The scheduler; without one it embeds its own.
    pub scheduler: Option<Door>,
    /// The registry of requests that name none.
    pub upstream: Option<String>,
    /// Bytes per second to and from peers at most.
    pub rate: Option<u64>,
    /// What is logged.
    pub log: String,
}

impl DaemonPlace {
    /// On an address of its own, without limits.
    #[must_use]
    pub fn new(name: impl Into<String>, address: impl Into<IpAddr>, dir: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            address: address.into(),
            dir: dir.into(),
            namespace: None,
            scheduler: None,
            upstream: None,
            rate: None,
            log: "info".to_owned(),
        }
    }

    /// In the namespace of `host`, at its address.
    #[must_use]
    pub fn on(host: &Namespace, name: impl Into<String>, dir: impl Into<PathBuf>) -> Self {
        Self { namespace: Some(host.path()), ..Self::new(name, host.address(), dir) }
    }

    fn local(&self, offset: u16) -> SocketAddr {
        let address = if self.address.is_loopback() { self.address } else { IpAddr::from([127, 0, 0, 1]) };
        SocketAddr::new(address, PROXY_PORT + offset)
    }

    /// Where clients pull.
    #[must_use]
    pub fn proxy(&self) -> SocketAddr {
        self.local(0)
    }

    /// The proxy's URL, without a slash at the end.
    #[must_use]
    pub fn proxy_url(&self) -> String {
        format!("http://{}", self.proxy())
    }

    /// The admin URL, without a slash at the end.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.local(3))
    }

    fn config(&self, upstreams: &[Upstream]) -> Result<String> {
        let mut text = format!("[proxy]\nlisten = \"{}\"\n", self.proxy());
        if let Some(upstream) = &self.upstream {
            let _ = writeln!(text, "upstream = {upstream:?}");
        }
        if let Some(door) = &self.scheduler {
            let _ = writeln!(text, "\n[scheduler]\n{}", door.config(&self.dir)?);
        }
        let (control, bulk) =
            (SocketAddr::new(self.address, PROXY_PORT + 1), SocketAddr::new(self.address, PROXY_PORT + 2));
        let _ = writeln!(text, "\n[p2p]\ncontrol_listen = \"{control}\"\nbulk_listen = \"{bulk}\"");
        let _ = writeln!(text, "advertise = \"{}\"", self.address);
        if let Some(rate) = self.rate {
            let _ = writeln!(text, "upload_rate = {rate}\ndownload_rate = {rate}");
        }
        let _ = writeln!(text, "\n[store]\ndir = {:?}", self.dir.join("store").display().to_string());
        // By default the cache leaves a fifth of the disk free, which a developer's machine may not have.
        text.push_str("free_floor = \"1GiB\"\n");
        let _ = writeln!(text, "\n[admin]\nlisten = \"{}\"", self.local(3));
        let _ = writeln!(text, "\n[log]\nfilter = {:?}\n", self.log);
        text.push_str(&origin_section(upstreams));
        Ok(text)
    }

    /// Its bytes by source so far. Must be called where its admin URL can be reached.
    ///
    /// # Errors
    /// If it does not say.
    pub async fn traffic(&self, client: &reqwest::Client) -> Result<Traffic> {
        let url = format!("{}/v1/status", self.admin_url());
        let status: Status = client.get(&url).send().await?.error_for_status()?.json().await.context(url)?;
        Ok(status.traffic)
    }

    /// Starts it; it is not ready yet. Started again, it finds its cache and its identity.
    ///
    /// # Errors
    /// If its configuration cannot be written or it cannot be started.
    pub fn start(&self, binaries: &Binaries, upstreams: &[Upstream]) -> Result<Program> {
        self.start_with(binaries, upstreams, "")
    }

    /// The same, with `more` tables in its configuration.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(&self, binaries: &Binaries, upstreams: &[Upstream], more: &str) -> Result<Program> {
        let config = self.config(upstreams)? + more;
        start(&self.name, &binaries.dfdaemon, &self.dir, self.namespace.as_deref(), &config)
    }
}

fn start(name: &str, program: &Path, dir: &Path, namespace: Option<&Path>, config: &str) -> Result<Program> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let file = dir.join(format!("{name}.toml"));
    std::fs::write(&file, config).with_context(|| file.display().to_string())?;
    let mut spec = Spec::new(name, program, dir).arg("--config").arg(file);
    if let Some(namespace) = namespace {
        spec = spec.in_namespace(namespace);
    }
    Program::start(&spec)
}

/// What a daemon says of itself.
#[derive(serde::Deserialize)]
struct Status {
    traffic: Traffic,
}

/// Bytes of one daemon by source, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// From the origin under a lease.
    pub origin: u64,
    /// From the origin without a lease.
    pub fallback: u64,
    /// From peers in the same rack.
    pub rack: u64,
    /// From other peers in the same zone.
    pub zone: u64,
    /// From peers elsewhere.
    pub elsewhere: u64,
    /// To clients from what was there already.
    pub cache: u64,
    /// To peers.
    pub uploaded: u64,
}

impl Traffic {
    /// From peers, wherever they stand.
    #[must_use]
    pub const fn from_peers(&self) -> u64 {
        self.rack + self.zone + self.elsewhere
    }
}
