//! A restarted daemon serves what it holds, also when the origin is gone.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Options, Scheduler, Way};
use std::time::Duration;

/// How much longer than the cold pull the warm one may take: one reader's patience for an origin that says nothing,
/// and some.
const EXTRA_MAX: Duration = Duration::from_secs(5);

/// What becomes of the others while the daemon is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// Connections to the origin are refused.
    Origin,
    /// The origin takes connections and never answers.
    OriginFreezes,
    /// Origin and scheduler are gone.
    Everybody,
}

fn serves_after_restart(test: &str, scheduler: Scheduler, loss: Loss) -> Result<()> {
    let Some(_guard) = e2e::begin(test) else { return Ok(()) };
    let mut cluster = Cluster::start(&Options { nodes: 1, scheduler, ..Options::default() })?;
    let image = cluster.images.small.clone();
    let cold = cluster.pull(0, &image, Way::Daemon)?;
    match loss {
        Loss::OriginFreezes => cluster.registry.program().freeze(),
        Loss::Origin | Loss::Everybody => drop(cluster.registry.program().stop()),
    }
    if loss == Loss::Everybody {
        cluster.scheduler = None;
    }
    let status = cluster.nodes[0].daemon.as_mut().context("no daemon")?.stop();
    ensure!(status.is_some_and(|status| status.success()), "the daemon ended with {status:?}");
    cluster.start_daemon(0)?;
    cluster.wait_for_daemon(0)?;
    let warm = cluster.pull(0, &image, Way::Daemon)?;
    let traffic = cluster.traffic(0)?;
    eprintln!(
        "  warm, without an origin: {:.2} s (cold {:.2} s), {} bytes from the cache",
        warm.elapsed.as_secs_f64(),
        cold.elapsed.as_secs_f64(),
        traffic.cache
    );
    ensure!(traffic.origin + traffic.fallback == 0, "{traffic:?}");
    ensure!(warm.elapsed <= cold.elapsed + EXTRA_MAX, "{:?}", warm.elapsed);
    Ok(())
}

#[test]
fn with_a_scheduler() -> Result<()> {
    serves_after_restart("warm_restart::with_a_scheduler", Scheduler::Running, Loss::Origin)
}

#[test]
fn with_an_embedded_scheduler() -> Result<()> {
    serves_after_restart("warm_restart::with_an_embedded_scheduler", Scheduler::Embedded, Loss::Origin)
}

#[test]
fn with_an_origin_that_says_nothing() -> Result<()> {
    let test = "warm_restart::with_an_origin_that_says_nothing";
    serves_after_restart(test, Scheduler::Embedded, Loss::OriginFreezes)
}

#[test]
fn with_nobody_left() -> Result<()> {
    serves_after_restart("warm_restart::with_nobody_left", Scheduler::Running, Loss::Everybody)
}
