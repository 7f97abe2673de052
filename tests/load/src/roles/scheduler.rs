//! The scheduler: the server's own library in a process of its own, with its gRPC and admin ports.

use crate::client::REGISTRY;
use crate::http::Http;
use anyhow::{Context, Result};
use clap::Parser as _;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::daemon::Door;
use support::process::Program;
use tokio_util::sync::CancellationToken;

const READY_LIMIT: Duration = Duration::from_secs(20);

/// Runs it until cancelled.
pub(super) async fn run(config: PathBuf, cancel: CancellationToken) -> Result<()> {
    let flags =
        scheduler::Flags::try_parse_from(["scheduler".into(), "--config".into(), config.into_os_string()])?;
    let (options, _) = scheduler::load(flags).map_err(|failure| failure.error)?;
    drop(process::telemetry::init(&options.log.filter, options.log.format)?);
    let server = scheduler::Server::start(options, cancel).await?;
    super::ready(format!("{} {}", server.grpc_addr(), server.admin_addr().context("no admin port")?));
    server.stopped().await;
    Ok(())
}

/// The running scheduler.
#[derive(Debug)]
pub struct Scheduler {
    /// The process.
    pub program: Program,
    /// How daemons get in.
    pub door: Door,
    /// `http://host:port` for operators.
    pub admin: String,
}

/// What it says of the cluster; see its `/v1/status`.
#[derive(Debug, Deserialize)]
pub struct Status {
    /// Hosts that are connected.
    pub hosts_total: u32,
    /// The blobs.
    pub blobs: Vec<BlobStatus>,
}

/// A blob there.
#[derive(Debug, Deserialize)]
pub struct BlobStatus {
    /// The id of the host that reads it from the origin.
    pub source: Option<String>,
}

impl Scheduler {
    /// Starts it for daemons that pull from `endpoint`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(dir: &Path, endpoint: &str, seed: u32, log: &str) -> Result<Self> {
        let state = dir.join("state");
        let config = format!(
            "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nstate = {:?}\n\n[log]\nfilter = {log:?}\n\n\
             [scheduling]\nquiet_period = \"0s\"\nseed = {seed}\n\n\
             [origin.registries.{REGISTRY:?}]\nendpoint = {endpoint:?}\n",
            state.display().to_string(),
        );
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let file = dir.join("scheduler.toml");
        std::fs::write(&file, config).with_context(|| file.display().to_string())?;
        let args = ["scheduler".to_owned(), format!("--config={}", file.display())];
        let mut program = super::start("scheduler", dir, &args)?;
        let said = super::when_ready(&mut program, READY_LIMIT)?;
        let (grpc, admin) = said.split_once(' ').context("no admin address")?;
        let door = Door::Join { grpc: grpc.parse()?, state };
        Ok(Self { door, admin: format!("http://{admin}"), program })
    }

    /// What it says of the cluster.
    ///
    /// # Errors
    /// If it does not.
    pub async fn status(&self, http: &Http) -> Result<Status> {
        http.get_json(&format!("{}/v1/status", self.admin)).await
    }
}
