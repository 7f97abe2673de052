//! The daemons that are measured: each with a fresh cache, gone with its directory.

use crate::origin::REPOSITORY;
use crate::role;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::Duration;
use support::binaries::Binaries;
use support::daemon::{DaemonPlace, Door, READY_LIMIT, SchedulerPlace, Upstream, loopback};
use support::process::Program;
use types::Digest;

/// The registry's name: no client asks DNS for it.
const REGISTRY: &str = "registry.bench";

/// How long an origin may take to hash its blobs.
const ORIGIN_LIMIT: Duration = Duration::from_secs(120);

/// A running daemon. Dropping it ends it.
#[derive(Debug)]
pub struct Daemon {
    /// The process.
    pub program: Program,
    /// Where it listens.
    pub place: DaemonPlace,
}

impl Daemon {
    /// Starts a daemon in `dir` that pulls from `endpoint`, and waits until it is ready. `number` tells those that run at
    /// once apart; without a `scheduler` it embeds its own.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(
        binaries: &Binaries,
        dir: &Path,
        number: u8,
        endpoint: String,
        scheduler: Option<Door>,
    ) -> Result<Self> {
        let name = format!("dfdaemon-{number}");
        let place = DaemonPlace {
            scheduler,
            upstream: Some(REGISTRY.to_owned()),
            log: "warn".to_owned(),
            ..DaemonPlace::new(&name, loopback(10 + number), dir.join(&name))
        };
        let mut program = place.start(binaries, &upstreams(endpoint))?;
        program.wait_for_ok(&format!("{}/readyz", place.admin_url()), READY_LIMIT).await?;
        Ok(Self { program, place })
    }

    /// Ends it and removes its directory.
    ///
    /// # Errors
    /// If the directory cannot be removed.
    pub fn remove(mut self) -> Result<()> {
        self.program.stop();
        std::fs::remove_dir_all(&self.place.dir).with_context(|| self.place.dir.display().to_string())
    }
}

fn upstreams(endpoint: String) -> [Upstream; 1] {
    [Upstream::new(REGISTRY, endpoint)]
}

/// Starts a scheduler in `dir` for daemons that pull from `endpoint`; how daemons get in, without joining if it is
/// `plain`. `number` tells those that run at once apart.
///
/// # Errors
/// If it does not start.
pub async fn scheduler(
    binaries: &Binaries,
    dir: &Path,
    number: u8,
    endpoint: String,
    plain: bool,
) -> Result<(Program, Door)> {
    let place = SchedulerPlace {
        address: loopback(number),
        dir: dir.join("scheduler"),
        namespace: None,
        plain,
        quiet_period: Duration::ZERO,
    };
    let mut program = place.start(binaries, &upstreams(endpoint))?;
    program.wait_for_ok(&format!("{}/healthz", place.admin_url()), READY_LIMIT).await?;
    Ok((program, place.door()))
}

/// A running [`crate::origin`] with a blob.
#[derive(Debug)]
pub struct Origin {
    /// The process.
    pub program: Program,
    /// Its URL, without a slash at the end.
    pub url: String,
    /// The blob.
    pub digest: Digest,
}

impl Origin {
    /// Starts one with a blob of `size` bytes.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(dir: &Path, size: u64) -> Result<Self> {
        let args = ["origin".to_owned(), "--size".to_owned(), size.to_string()];
        let mut program = role::start("origin", &dir.join("origin"), &args)?;
        let said = role::heard(&mut program, "ready", ORIGIN_LIMIT).await?;
        let (address, digest) = said.split_once(' ').context("no digest")?;
        Ok(Self { program, url: format!("http://{address}"), digest: digest.parse()? })
    }

    /// What clients ask a daemon for.
    #[must_use]
    pub fn target(&self) -> String {
        format!("/v2/{REPOSITORY}/blobs/{}", self.digest)
    }
}

/// How much of the disk is left free, in bytes: the daemons leave as much, and more than nothing is kind to others.
const FREE_FLOOR: u64 = 2 << 30;

/// Makes sure that `bytes` more fit on the disk of `dir`.
///
/// # Errors
/// If they do not.
pub fn room_for(dir: &Path, bytes: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(dir)?;
    let (free, needed) = (stat.f_bavail * stat.f_frsize, bytes + FREE_FLOOR);
    ensure!(free >= needed, "{} MB are free, {} MB are needed", free / 1_000_000, needed / 1_000_000);
    Ok(())
}
