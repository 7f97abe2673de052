//! The host that reads a large blob from the origin dies half way: its successor reads only what nobody holds.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Options, Way};
use std::time::Duration;
use support::poll;

/// 50 MB/s: the blob takes at least ten seconds.
const LINK: u64 = 400_000_000;

/// The source dies when it has read so much.
const DEATH_AT: u64 = 128 << 20;

/// What its death may cost.
const COST_MAX: u64 = 32 << 20;

/// How long the source may take to read up to [`DEATH_AT`].
const READ_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_death_of_a_source_costs_little() -> Result<()> {
    let Some(_guard) = e2e::begin("the_death_of_a_source_costs_little") else { return Ok(()) };
    let mut cluster = Cluster::start(&Options { nodes: 5, link: Some(LINK), ..Options::default() })?;
    let image = cluster.images.large.clone();
    // Taken out, so that it can be killed while the cluster is in use.
    let mut daemons: Vec<_> = cluster.nodes.iter_mut().map(|node| node.daemon.take()).collect();
    let cluster = &cluster;
    let all: Vec<usize> = (0..cluster.nodes.len()).collect();
    let (source, results) = std::thread::scope(|scope| {
        let pulls = scope.spawn(|| cluster.pull_all(&all, &image, Way::Daemon));
        let source = poll::until("a source half way", READ_LIMIT, || {
            for i in &all {
                if cluster.traffic(*i)?.origin >= DEATH_AT {
                    return Ok(Some(*i));
                }
            }
            Ok(None)
        });
        if let Ok(source) = &source {
            daemons[*source].as_mut().context("no daemon")?.kill();
        }
        let results = pulls.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        anyhow::Ok((source?, results))
    })?;
    for (i, result) in results.into_iter().enumerate() {
        match result {
            Ok(pulled) => eprintln!("  node-{} {:6.2} s", i + 1, pulled.elapsed.as_secs_f64()),
            Err(_) if i == source => eprintln!("  node-{} was the source and was killed", i + 1),
            Err(error) => return Err(error),
        }
    }
    let log = cluster.accesses(image.blob_bytes())?;
    let (left, blob) = (log.blob_bytes_total(), image.blob_bytes());
    #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let cost = (left.saturating_sub(blob)) as f64 / f64::from(1 << 20);
    eprintln!("  from the origin {left} bytes of {blob}: the death cost {cost:.1} MiB");
    ensure!(left <= blob + COST_MAX, "the death of the source cost {cost:.1} MiB");
    Ok(())
}
