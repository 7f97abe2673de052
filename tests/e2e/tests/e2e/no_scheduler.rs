//! A scheduler that is not there, dies, freezes or never answers: every pull succeeds, nearly as soon as without us.

use anyhow::{Result, ensure};
use e2e::cluster::{Cluster, Options, Scheduler, Way};
use std::time::Duration;
use support::poll;
use support::process::Program;

/// 25 MB/s: the image takes about two seconds on one node, six on three.
const LINK: u64 = 200_000_000;

const NODES: u8 = 3;

/// How much longer than a direct pull a pull may take: one reader's patience, and some.
const EXTRA_MAX: Duration = Duration::from_secs(5);

/// How long the pull may take to get to the point where the scheduler fails.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What happens in mid-pull.
type Blow = fn(&mut Program);

fn pulls_succeed(test: &str, scheduler: Scheduler, blow: Option<Blow>) -> Result<()> {
    let Some(_guard) = e2e::begin(test) else { return Ok(()) };
    let mut cluster =
        Cluster::start(&Options { nodes: NODES, scheduler, link: Some(LINK), ..Options::default() })?;
    let mut program = cluster.scheduler.take();
    let cluster = &cluster;
    let image = &cluster.images.small;
    let all: Vec<usize> = (0..cluster.nodes.len()).collect();
    let slowest = |way| -> Result<Duration> {
        let pulled = cluster.pull_all(&all, image, way).into_iter().collect::<Result<Vec<_>>>()?;
        Ok(pulled.iter().map(|pulled| pulled.elapsed).max().unwrap_or_default())
    };
    let direct = slowest(Way::Direct)?;
    let through = std::thread::scope(|scope| {
        let pulls = scope.spawn(|| slowest(Way::Daemon));
        if let (Some(blow), Some(program)) = (blow, &mut program) {
            poll::until("a quarter of the image", START_LIMIT, || {
                let mut received = 0;
                for i in &all {
                    let traffic = cluster.traffic(*i)?;
                    received += traffic.origin + traffic.fallback + traffic.from_peers();
                }
                Ok((received >= image.blob_bytes() / 4).then_some(()))
            })?;
            blow(program);
        }
        pulls.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    eprintln!("  direct {:.2} s, through the daemons {:.2} s", direct.as_secs_f64(), through.as_secs_f64());
    ensure!(through <= direct + EXTRA_MAX, "{through:?} through the daemons, {direct:?} without them");
    Ok(())
}

#[test]
fn never_started() -> Result<()> {
    pulls_succeed("no_scheduler::never_started", Scheduler::Absent, None)
}

#[test]
fn never_answers() -> Result<()> {
    pulls_succeed("no_scheduler::never_answers", Scheduler::Silent, None)
}

#[test]
fn killed_in_mid_pull() -> Result<()> {
    pulls_succeed("no_scheduler::killed_in_mid_pull", Scheduler::Running, Some(Program::kill))
}

#[test]
fn stopped_in_mid_pull() -> Result<()> {
    pulls_succeed("no_scheduler::stopped_in_mid_pull", Scheduler::Running, Some(Program::freeze))
}
