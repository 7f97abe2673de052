//! One registry, one scheduler and several daemons, each on a host of its own.

use crate::debian::{Images, Stored, TAG};
use crate::gate::{self, Gate};
use crate::silent::Silent;
use crate::{REGISTRY, mounts, uploads};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};
use support::binaries::{Binaries, Profile};
use support::daemon::{DaemonPlace, READY_LIMIT, SchedulerPlace, Traffic, Upstream};
use support::netns::{Lan, Namespace};
use support::process::Program;
use support::pull::{self, Pulled, Source};
use support::registry::{AccessLog, Protection, Registry};
use tempfile::TempDir;

/// Keeps the directory of a test, with all logs, when it is set.
const KEEP_VARIABLE: &str = "DAMSELFLY_KEEP";

/// Blobs that a plain client asks for at once: what containerd's CRI does.
const BLOBS_AT_ONCE: usize = 3;

/// How long the registry's log may take to tell of the last byte.
const LOG_LIMIT: Duration = Duration::from_secs(5);

/// What stands at the scheduler's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// A scheduler.
    Running,
    /// Nothing: connections are refused.
    Absent,
    /// A server that accepts and never answers.
    Silent,
    /// Each daemon has its own.
    Embedded,
}

/// Who may read the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Anybody.
    Anybody,
    /// Users with tokens. The first so many nodes have a user's password configured, and serve their clients by it; the
    /// scheduler and the other nodes have none.
    Users {
        /// How many.
        sharing: u8,
    },
}

impl Readers {
    const fn log_filter(self) -> &'static str {
        match self {
            Self::Anybody => uploads::LOG_FILTER,
            // It is searched for secrets.
            Self::Users { .. } => "debug",
        }
    }
}

/// How a cluster is to be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Who may read the registry.
    pub readers: Readers,
    /// How many nodes.
    pub nodes: u8,
    /// What stands at the scheduler's address.
    pub scheduler: Scheduler,
    /// The rate of every link, each way, in bits per second; as fast as the machine is, if it is not given.
    pub link: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { readers: Readers::Anybody, nodes: 6, scheduler: Scheduler::Running, link: None }
    }
}

/// A host with a daemon.
#[derive(Debug)]
pub struct Node {
    /// Its daemon. Fields end in order: the daemon before its host.
    pub daemon: Option<Program>,
    /// The host.
    pub host: Namespace,
    /// Where the daemon listens, and how it is configured.
    pub place: DaemonPlace,
    /// The registry as it reaches it.
    upstreams: Vec<Upstream>,
}

/// The whole scene. Dropping it ends everything.
#[derive(Debug)]
pub struct Cluster {
    /// The hosts with daemons.
    pub nodes: Vec<Node>,
    /// The scheduler, if one runs.
    pub scheduler: Option<Program>,
    /// The origin.
    pub registry: Registry,
    /// What stands before it, if it is private.
    pub gate: Option<Gate>,
    /// The images that the origin has.
    pub images: Images,
    _silent: Option<Silent>,
    _hosts: [Namespace; 2],
    _lan: Lan,
    binaries: Binaries,
    dir: Option<TempDir>,
}

impl Cluster {
    /// Builds the programs and the images, and starts everything; all daemons are ready when this returns.
    ///
    /// # Errors
    /// If anything does not start; the message holds the end of its log.
    pub fn start(options: &Options) -> Result<Self> {
        let images = Images::prepare()?;
        let binaries = Binaries::build(Profile::of_caller())?;
        let dir = tempfile::Builder::new().prefix("damselfly-e2e-").tempdir()?;
        let mut lan = Lan::new()?;
        let origin_host = lan.join("origin")?;
        let scheduler_host = lan.join("scheduler")?;
        let gate = match options.readers {
            Readers::Anybody => None,
            Readers::Users { .. } => {
                Some(Gate::start(&origin_host, lan.join("tokens")?, &dir.path().join("gate"))?)
            }
        };
        let protection = gate.as_ref().map_or(&Protection::None, |gate| &gate.protection);
        let origin_dir = dir.path().join("origin");
        let registry = Registry::start_with(&origin_dir, &images.storage, Some(&origin_host), protection)?;
        let upstreams = upstreams(&registry, gate.as_ref());
        let place = SchedulerPlace {
            address: scheduler_host.address().into(),
            dir: dir.path().join("scheduler"),
            namespace: Some(scheduler_host.path()),
            plain: options.scheduler != Scheduler::Running,
            quiet_period: SchedulerPlace::QUIET_PERIOD,
        };
        let mut scheduler = None;
        let mut silent = None;
        match options.scheduler {
            Scheduler::Running => {
                let mut program = place.start(&binaries, &upstreams)?;
                let url = format!("{}/healthz", place.admin_url());
                scheduler_host.block_on(|| program.wait_for_ok(&url, READY_LIMIT))?;
                scheduler = Some(program);
            }
            Scheduler::Absent | Scheduler::Embedded => {}
            Scheduler::Silent => silent = Some(Silent::start(&scheduler_host, place.grpc())?),
        }
        let mut nodes = Vec::new();
        for i in 1..=options.nodes {
            let name = format!("node-{i}");
            let host = lan.join(&name)?;
            let node_dir = dir.path().join(&name);
            let place = DaemonPlace {
                scheduler: (options.scheduler != Scheduler::Embedded).then(|| place.door()),
                upstream: Some("docker.io".to_owned()),
                log: options.readers.log_filter().to_owned(),
                ..DaemonPlace::on(&host, name, node_dir)
            };
            let mut upstreams = upstreams.clone();
            if matches!(options.readers, Readers::Users { sharing } if i <= sharing) {
                let shared = |upstream: Upstream| upstream.shared(gate::USER, gate::PASSWORD);
                upstreams = upstreams.into_iter().map(shared).collect();
            }
            nodes.push(Node { daemon: None, host, place, upstreams });
        }
        if let Some(rate) = options.link {
            for host in nodes.iter().map(|node| &node.host).chain([&origin_host]) {
                lan.shape(host, rate)?;
            }
        }
        let hosts = [origin_host, scheduler_host];
        let dir = Some(dir);
        let mut cluster = Self {
            nodes,
            scheduler,
            registry,
            gate,
            images,
            _silent: silent,
            _hosts: hosts,
            _lan: lan,
            binaries,
            dir,
        };
        for i in 0..cluster.nodes.len() {
            cluster.start_daemon(i)?;
        }
        for i in 0..cluster.nodes.len() {
            cluster.wait_for_daemon(i)?;
        }
        Ok(cluster)
    }

    /// The programs.
    #[must_use]
    pub const fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The directory of the test.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().map_or(Path::new("/nonexistent"), TempDir::path)
    }

    /// Starts the daemon of node `i`, again if it has run before; it is not ready yet.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_daemon(&mut self, i: usize) -> Result<()> {
        let node = &mut self.nodes[i];
        node.daemon = Some(node.place.start(&self.binaries, &node.upstreams)?);
        Ok(())
    }

    /// Waits until the daemon of node `i` is ready.
    ///
    /// # Errors
    /// If it is not in time.
    pub fn wait_for_daemon(&mut self, i: usize) -> Result<()> {
        let node = &mut self.nodes[i];
        let daemon = node.daemon.as_mut().context("not started")?;
        let url = format!("{}/readyz", node.place.admin_url());
        node.host.block_on(|| daemon.wait_for_ok(&url, READY_LIMIT))
    }

    /// Pulls `image` with a plain client on each of `nodes` at the same moment. Results are in the order of `nodes`.
    pub fn pull_all(&self, nodes: &[usize], image: &Stored, way: Way) -> Vec<Result<Pulled>> {
        let barrier = Barrier::new(nodes.len());
        std::thread::scope(|scope| {
            let pulls: Vec<_> = nodes
                .iter()
                .map(|i| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        self.pull(*i, image, way)
                    })
                })
                .collect();
            let join = |pull: std::thread::ScopedJoinHandle<'_, Result<Pulled>>| {
                pull.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            pulls.into_iter().map(join).collect()
        })
    }

    /// Pulls `image` with a plain client on node `i`.
    ///
    /// # Errors
    /// If the pull fails, or its manifest is not the image's, or a byte is wrong.
    pub fn pull(&self, i: usize, image: &Stored, way: Way) -> Result<Pulled> {
        let node = &self.nodes[i];
        let base = match way {
            Way::Daemon => node.place.proxy_url(),
            Way::Direct => self.registry.url(),
        };
        let source = Source {
            base,
            ns: Some(REGISTRY.to_owned()),
            repository: image.repository.clone(),
            reference: TAG.to_owned(),
            concurrency: BLOBS_AT_ONCE,
        };
        let pulled =
            node.host.block_on(|| async move { pull::pull(&pull::client()?, &source, |_| ()).await });
        let pulled = pulled.with_context(|| format!("{} {way:?}", node.place.name))?;
        anyhow::ensure!(
            pulled.manifest.to_string() == image.manifest(),
            "{}: another manifest",
            node.place.name
        );
        anyhow::ensure!(pulled.wrong_bytes == 0, "{}: {} wrong bytes", node.place.name, pulled.wrong_bytes);
        Ok(pulled)
    }

    /// What node `i` counted so far.
    ///
    /// # Errors
    /// If it does not say.
    pub fn traffic(&self, i: usize) -> Result<Traffic> {
        let node = &self.nodes[i];
        node.host.block_on(|| async { node.place.traffic(&pull::client()?).await })
    }

    /// The registry's log once it tells of at least `bytes` of blobs, or as it is after a while.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn accesses(&self, bytes: u64) -> Result<AccessLog> {
        let start = Instant::now();
        loop {
            let log = self.registry.accesses()?;
            if log.blob_bytes_total() >= bytes || start.elapsed() > LOG_LIMIT {
                return Ok(log);
            }
            std::thread::sleep(support::poll::INTERVAL);
        }
    }

    /// The log of node `i`'s daemon.
    #[must_use]
    pub fn log_of(&self, i: usize) -> PathBuf {
        self.nodes[i].place.dir.join(format!("{}.log", self.nodes[i].place.name))
    }
}

/// The registry by its names, for programs without a credential.
fn upstreams(registry: &Registry, gate: Option<&Gate>) -> Vec<Upstream> {
    let reached = |name| {
        let upstream = Upstream::new(name, registry.url());
        match gate {
            None => upstream,
            Some(gate) => upstream.ca(&gate.ca),
        }
    };
    [REGISTRY, "docker.io"].map(reached).into()
}

/// Which way a client pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through its node's daemon.
    Daemon,
    /// Straight from the registry.
    Direct,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let daemons = self.nodes.iter_mut().filter_map(|node| node.daemon.as_mut());
        for program in daemons.chain(&mut self.scheduler) {
            if std::thread::panicking() {
                eprintln!("--- the log of {} ends with\n{}", program.name(), program.log_tail());
            }
            program.ask_to_stop();
        }
        mounts::unmount_below(self.dir());
        if std::env::var_os(KEEP_VARIABLE).is_some()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("kept {}", dir.keep().display());
        }
    }
}
