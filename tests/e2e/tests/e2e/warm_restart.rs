//! A restarted daemon serves what it holds, also when the origin is gone.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Options, Scheduler, Way};

fn serves_after_restart(test: &str, scheduler: Scheduler) -> Result<()> {
    let Some(_guard) = e2e::begin(test) else { return Ok(()) };
    let mut cluster = Cluster::start(&Options { nodes: 1, scheduler, link: None })?;
    let image = cluster.images.small.clone();
    cluster.pull(0, &image, Way::Daemon)?;
    cluster.registry.program().stop();
    let status = cluster.nodes[0].daemon.as_mut().context("no daemon")?.stop();
    ensure!(status.is_some_and(|status| status.success()), "the daemon ended with {status:?}");
    cluster.start_daemon(0)?;
    cluster.wait_for_daemon(0)?;
    let pulled = cluster.pull(0, &image, Way::Daemon)?;
    let traffic = cluster.traffic(0)?;
    eprintln!(
        "  warm, without an origin: {:.2} s, {} bytes from the cache",
        pulled.elapsed.as_secs_f64(),
        traffic.cache
    );
    ensure!(traffic.origin + traffic.fallback == 0, "{traffic:?}");
    Ok(())
}

#[test]
fn with_a_scheduler() -> Result<()> {
    serves_after_restart("warm_restart::with_a_scheduler", Scheduler::Running)
}

#[test]
fn with_an_embedded_scheduler() -> Result<()> {
    serves_after_restart("warm_restart::with_an_embedded_scheduler", Scheduler::Embedded)
}
