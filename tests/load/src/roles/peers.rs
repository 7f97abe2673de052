//! Some of the daemons: the daemon's own library, as often as asked, in one process.
//!
//! They share the process and, as a rule, one runtime. Where one is to die alone, each has a runtime and a thread of its
//! own: ended without notice, all its tasks are dropped where they are and its sockets closed, as a kernel does for a
//! process that was killed.

use crate::http::Http;
use anyhow::{Context, Result, ensure};
use axum::extract::{Path as Asked, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser as _;
use dfdaemon::app::App;
use dfdaemon::config::Config;
use dfdaemon::config_flags::Flags;
use futures::{StreamExt as _, TryStreamExt as _};
use p2p::Identity;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use support::process::Program;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Daemons that start at once in one process: each waits for the disk several times.
const STARTS_AT_ONCE: usize = 8;

/// How long one daemon may take to start, when all of a machine start at once.
const START_LIMIT: Duration = Duration::from_secs(2);

/// Threads of a runtime of its own that may block: it has few cores to hash on.
const OWN_BLOCKING_THREADS: usize = 4;

/// Where a daemon is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Place {
    /// Where its client pulls.
    pub proxy: SocketAddr,
    /// Where operators ask.
    pub admin: SocketAddr,
    /// Its host id, as the scheduler's status writes it.
    pub host: String,
}

/// A daemon that runs.
struct Peer {
    place: Place,
    /// Ends it at once. Nobody hears it but a daemon with a runtime of its own.
    kill: mpsc::Sender<oneshot::Sender<()>>,
    /// Those of the shared runtime end with the process in good order.
    app: Option<App>,
}

/// Runs the daemons until cancelled.
pub(super) async fn run(
    configs: Vec<PathBuf>,
    log: &str,
    own_runtimes: bool,
    cancel: CancellationToken,
) -> Result<()> {
    drop(process::telemetry::init(log, process::telemetry::Format::Json)?);
    let start = async |config: PathBuf| {
        let config = load(config)?;
        if own_runtimes { start_alone(config).await } else { start_here(config, cancel.clone()).await }
    };
    let mut peers: Vec<Peer> =
        futures::stream::iter(configs).map(start).buffered(STARTS_AT_ONCE).try_collect().await?;
    let apps: Vec<App> = peers.iter_mut().filter_map(|peer| peer.app.take()).collect();
    let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    super::ready(control.local_addr()?);
    let routes = Router::new()
        .route("/peers", get(async |State(peers): State<Arc<Vec<Peer>>>| Json(places(&peers))))
        .route("/kill/{peer}", post(kill))
        .with_state(Arc::new(peers));
    axum::serve(control, routes).with_graceful_shutdown(cancel.clone().cancelled_owned()).await?;
    futures::future::join_all(apps.into_iter().map(App::stopped)).await;
    Ok(())
}

fn load(file: PathBuf) -> Result<Config> {
    let flags = Flags::try_parse_from(["dfdaemon".into(), "--config".into(), file.into_os_string()])?;
    Ok(Config::load(flags)?)
}

fn places(peers: &[Peer]) -> Vec<Place> {
    peers.iter().map(|peer| peer.place.clone()).collect()
}

async fn kill(State(peers): State<Arc<Vec<Peer>>>, Asked(peer): Asked<usize>) -> StatusCode {
    let Some(peer) = peers.get(peer) else { return StatusCode::NOT_FOUND };
    let (dead, died) = oneshot::channel();
    if peer.kill.send(dead).await.is_err() {
        return StatusCode::GONE;
    }
    match died.await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::GONE,
    }
}

fn place(app: &App, key: &Path) -> Result<Place> {
    let host = Identity::load_or_create(key)?.host_id().to_string();
    Ok(Place { proxy: app.proxy_address(), admin: app.admin_address(), host })
}

fn key(config: &Config) -> PathBuf {
    config.store.dir.join("identity.key")
}

async fn start_here(config: Config, cancel: CancellationToken) -> Result<Peer> {
    let key = key(&config);
    let app = App::start(config, cancel).await.map_err(|failure| failure.error)?;
    let (kill, _) = mpsc::channel(1);
    Ok(Peer { place: place(&app, &key)?, kill, app: Some(app) })
}

/// Starts a daemon on a thread with a runtime of its own, which ends when it is killed, or with the process.
async fn start_alone(config: Config) -> Result<Peer> {
    let (kill, mut killed) = mpsc::channel::<oneshot::Sender<()>>(1);
    let (started, starting) = oneshot::channel();
    let thread = std::thread::Builder::new().name("peer".to_owned());
    thread.spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(OWN_BLOCKING_THREADS).build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error.into()))),
        };
        let dead = runtime.block_on(async {
            let key = key(&config);
            let app = match App::start(config, CancellationToken::new()).await {
                Ok(app) => app,
                Err(failure) => {
                    drop(started.send(Err(failure.error)));
                    return None;
                }
            };
            drop(started.send(place(&app, &key)));
            killed.recv().await
        });
        runtime.shutdown_background();
        if let Some(dead) = dead {
            // Who asked may have given up.
            let _ = dead.send(());
        }
    })?;
    Ok(Peer { place: starting.await??, kill, app: None })
}

/// One of the processes with daemons.
#[derive(Debug)]
pub struct Peers {
    /// The process.
    pub program: Program,
    control: String,
    /// Its daemons, in the order of their configurations.
    pub places: Vec<Place>,
}

/// A process with daemons that starts.
#[derive(Debug)]
pub struct Starting {
    program: Program,
    count: usize,
}

impl Starting {
    /// Starts daemons with these configuration files in one process.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn new(name: &str, dir: &Path, configs: &[PathBuf], log: &str, own_runtimes: bool) -> Result<Self> {
        let mut args = vec!["peers".to_owned(), format!("--log={log}")];
        args.extend(configs.iter().map(|config| format!("--config={}", config.display())));
        args.extend(own_runtimes.then(|| "--own-runtimes".to_owned()));
        Ok(Self { program: super::start(name, dir, &args)?, count: configs.len() })
    }

    /// Waits until all of its daemons run.
    ///
    /// # Errors
    /// If one does not start.
    pub async fn ready(mut self, http: &Http) -> Result<Peers> {
        let limit = START_LIMIT * u32::try_from(self.count + 10)?;
        let control = format!("http://{}", super::when_ready(&mut self.program, limit)?);
        let places: Vec<Place> = http.get_json(&format!("{control}/peers")).await?;
        ensure!(places.len() == self.count, "{} daemons of {}", places.len(), self.count);
        Ok(Peers { program: self.program, control, places })
    }
}

impl Peers {
    /// Ends a daemon as a crash does.
    ///
    /// # Errors
    /// If it does not run, or not alone.
    pub async fn kill(&self, http: &Http, peer: usize) -> Result<()> {
        http.post(&format!("{}/kill/{peer}", self.control)).await.with_context(|| format!("killing {peer}"))
    }
}
