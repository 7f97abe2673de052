//! `cargo load`: hundreds of real daemons in a few processes pull one image, and what that costs.
//!
//! `main` parses [`args::Args`] and calls [`run`], or, as one of the processes that it starts, [`roles::run`]. The
//! process that runs this is the clients'. What must hold: every byte that a client got is right, every peer that lives
//! got everything ([`report::Report::is_right`]).

pub mod args;
pub mod client;
pub mod cluster;
pub mod figures;
pub mod http;
pub mod logs;
pub mod meter;
pub mod page;
pub mod plan;
pub mod progress;
pub mod pulls;
pub mod report;
pub mod roles;
pub mod targets;

use crate::args::Args;
use crate::client::Shared;
use crate::cluster::Cluster;
use crate::http::Http;
use crate::meter::Meter;
use crate::plan::Plan;
use crate::progress::Bar;
use crate::pulls::Pulls;
use crate::report::Report;
use crate::targets::Targets;
use anyhow::{Context, Result};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::images::{Blob, Image};
use tempfile::TempDir;

/// How long it takes at most until what the scheduler shows has caught up with what it has done.
const SCHEDULER_RENEWS: Duration = Duration::from_millis(2500);

/// A run whose pulls have ended. Its daemons, scheduler and origin stay until it is dropped; then everything is gone.
#[derive(Debug)]
pub struct Ended {
    /// What it came to.
    pub report: Report,
    // Dropped in this order: nobody is sent to programs that are gone, and these have their directory to the end.
    _targets: Option<Targets>,
    cluster: Cluster,
    _dir: TempDir,
}

impl Ended {
    /// Fails, with its log's end, if a process has ended.
    ///
    /// # Errors
    /// If one has.
    pub fn check(&mut self) -> Result<()> {
        self.cluster.check()
    }
}

/// Runs the test. Everything it made is gone when what it returns is dropped, or the future before its end.
///
/// # Errors
/// If a process does not start, or one ends; what goes wrong with single pulls is in the report.
pub async fn run(args: &Args) -> Result<Ended> {
    roles::raise_descriptors();
    let bar = if args.json { Bar::hidden() } else { Bar::shown() };
    let plan = Plan::new(args);
    let image = Image::random(args.seed.into(), &args.layer_sizes())?;
    let image_bytes = image.blob_bytes();
    let bound = plan.bound(args, image.blobs().map(Blob::size));
    let mut builder = tempfile::Builder::new();
    builder.prefix("damselfly-load-");
    // Declared before the processes that use it, so that it outlives them.
    let dir = match &args.dir {
        Some(parent) => builder.tempdir_in(parent),
        None => builder.tempdir(),
    };
    let dir = dir.context("a temporary directory")?;
    cluster::room_for(dir.path(), image_bytes * u64::from(args.peers))?;
    let http = Http::new();

    bar.say(&format!("starting {} daemons in {} processes", args.peers, args.processes));
    let started = Instant::now();
    let mut cluster = Cluster::start(args, &plan, dir.path(), &http).await?;
    let start_seconds = started.elapsed().as_secs_f64();
    let targets = args.targets.as_deref().map(|file| Targets::write(file, &cluster, &plan)).transpose()?;
    let idle = Meter::start(&cluster);
    tokio::time::sleep(args.idle).await;
    let idle = idle.stop(&cluster, 0, 0);

    bar.begin(image_bytes * u64::from(args.peers), args.peers);
    let shared = Shared::new(image);
    let before = cluster.messages(&http).await?;
    let meter = Meter::start(&cluster);
    let pulls = Pulls { args, plan: &plan, cluster: &cluster, http: &http, shared: &shared, bar: &bar };
    let outcomes = pulls.run(&meter).await;
    let usage = meter.stop(&cluster, shared.received.load(Ordering::Relaxed), outcomes.len());
    bar.end();
    // The scheduler renews the figures of its core now and then; nothing but heartbeats happens meanwhile.
    tokio::time::sleep(SCHEDULER_RENEWS).await;
    let messages = cluster.messages(&http).await?.since(&before);

    cluster.check()?;
    let served = cluster.origin.served(&http).await?;
    let figures = cluster.figures(&http, &outcomes).await?;
    if let Some(logs) = &args.logs {
        cluster.keep_logs(logs)?;
    }
    let warnings = logs::warnings(cluster.logs())?;
    let report = report::Parts {
        args,
        image_bytes,
        bound,
        start_seconds,
        idle,
        outcomes,
        usage,
        messages,
        served,
        figures,
        warnings,
        wrong_bytes: shared.wrong.load(Ordering::Relaxed),
    }
    .into_report();
    Ok(Ended { report, _targets: targets, cluster, _dir: dir })
}
