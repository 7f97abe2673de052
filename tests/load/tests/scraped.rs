//! A real Prometheus scrapes a load: every query of the dashboard returns data, what it adds up at the end is what the
//! clients got, and its scrapes stay small.
//!
//! With 40 daemons, or with as many as `DAMSELFLY_SCRAPED_PEERS` says: `tests/run --full` has 300.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::future::ready;
use std::path::Path;
use std::time::{Duration, Instant};
use support::dashboard;
use support::packages::ensure_installed;
use support::poll;
use support::process::{Program, Spec};
use support::prometheus::{Prometheus, ScrapeSize, Targets, scrape_sizes};
use support::skip::skipped;

const NAME: &str = "scraped::every_query_of_the_dashboard_returns_data_of_a_load";

/// How many daemons, where not 40.
const PEERS_VARIABLE: &str = "DAMSELFLY_SCRAPED_PEERS";

/// What one scrape of 300 daemons may take on its way, in bytes.
const SCRAPE_MAX: u64 = 2_000_000;

/// Daemons that are scraped per second.
const SCRAPED_PER_SECOND: u16 = 50;

/// What Grafana would put for its variables: all of the run.
const WINDOW: &str = "10m";

/// How long the load stays after its pulls; it is told to end when all has been looked at.
const LINGER: Duration = Duration::from_secs(180);

/// Time between two rounds of all queries.
const ROUND_INTERVAL: Duration = Duration::from_millis(500);

/// How long a step may take that only has to wait for a few scrapes, or for processes to end.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// How many daemons there are, and what follows from that.
#[derive(Clone, Copy, Debug)]
struct Scale {
    peers: u16,
}

impl Scale {
    fn from_env() -> Result<Self> {
        let peers = match std::env::var(PEERS_VARIABLE) {
            Ok(text) => text.parse::<u16>().with_context(|| format!("{PEERS_VARIABLE}={text}"))?,
            Err(_) => 40,
        };
        Ok(Self { peers })
    }

    fn scrape_interval(self) -> Duration {
        Duration::from_secs(self.peers.div_ceil(SCRAPED_PER_SECOND).into())
    }

    /// Before the pulls: Prometheus first scrapes five to ten seconds after its start.
    fn idle(self) -> Duration {
        Duration::from_secs(10) + self.scrape_interval() * 2
    }

    /// Over which the pulls begin, so that scrapes fall into them.
    fn over(self) -> Duration {
        Duration::from_secs(10) + Duration::from_millis(200) * u32::from(self.peers)
    }

    /// How long the daemons may take to start, and as long again to pull.
    fn limit(self) -> Duration {
        STEP_LIMIT + Duration::from_secs(self.peers.into()) + self.over()
    }

    /// Starts the load, which writes `targets`.
    fn start(self, dir: &Path, targets: &Path) -> Result<Program> {
        // A layer takes half a second at this rate, so its rollout is compared with the links.
        let spec = Spec::new("load", env!("CARGO_BIN_EXE_load"), dir)
            .args(["--json", "--image=8MiB", "--layers=4", "--rate=4MiB", "--zones=3", "--arrival=staggered"])
            .arg(format!("--peers={}", self.peers))
            .arg(format!("--over={}ms", self.over().as_millis()))
            .arg(format!("--idle={}s", self.idle().as_secs()))
            .arg(format!("--limit={}s", self.limit().as_secs()))
            .arg(format!("--linger={}s", LINGER.as_secs()))
            .arg(format!("--dir={}", dir.display()))
            .arg(format!("--targets={}", targets.display()));
        Program::start(&spec)
    }
}

/// An entry of the file that the load writes.
#[derive(Debug, Deserialize)]
struct Group {
    targets: Vec<String>,
    labels: Labels,
}

#[derive(Debug, Deserialize)]
struct Labels {
    instance: String,
}

/// What the load has written, if it has.
fn written(load: &mut Program, file: &Path) -> Result<Option<Vec<Group>>> {
    load.check_running()?;
    // Half of it is no JSON.
    Ok(std::fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()))
}

/// Asks all queries until each returns data.
async fn until_all_have_data(prometheus: &Prometheus, load: &mut Program, limit: Duration) -> Result<usize> {
    let queries = dashboard::queries(WINDOW, WINDOW)?;
    let begun = Instant::now();
    loop {
        load.check_running()?;
        let empty = dashboard::without_data(prometheus, &queries).await?;
        if empty.is_empty() {
            return Ok(queries.len());
        }
        ensure!(begun.elapsed() < limit, "no data after {limit:?}:\n{}", empty.join("\n"));
        tokio::time::sleep(ROUND_INTERVAL).await;
    }
}

/// Waits until the value of a query is as large as this.
async fn until_at_least(prometheus: &Prometheus, query: &str, least: f64) -> Result<()> {
    poll::until_async(&format!("{query} is at least {least}"), STEP_LIMIT, || async {
        Ok((prometheus.value(query).await? >= least).then_some(()))
    })
    .await
}

/// Waits until the load ends in good order, which it has been told to.
fn until_ended(load: &mut Program) -> Result<()> {
    let status = poll::until("the load's end", STEP_LIMIT, || Ok(load.exit_status()))?;
    let log = load.log_tail();
    ensure!(status.success(), "the load ended with {status}: {}", log.lines().last().unwrap_or_default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_dashboard_returns_data_of_a_load() -> Result<()> {
    if let Err(error) = ensure_installed(&[Prometheus::PACKAGE]) {
        skipped(NAME, &format!("{error:#}"));
        return Ok(());
    }
    let scale = Scale::from_env()?;
    let peers = scale.peers;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("targets.json");
    let mut load = scale.start(dir.path(), &file)?;
    let look = || ready(written(&mut load, &file));
    let groups = poll::until_async("the load's targets", scale.limit(), look).await?;
    let (scheduler, daemons): (Vec<Group>, Vec<Group>) =
        groups.into_iter().partition(|group| group.labels.instance == "scheduler");
    let addresses =
        |groups: Vec<Group>| groups.into_iter().flat_map(|group| group.targets).collect::<Vec<String>>();
    let (scheduler, daemons) = (addresses(scheduler), addresses(daemons));
    ensure!(scheduler.len() == 1 && daemons.len() == usize::from(peers), "{scheduler:?}, {daemons:?}");

    let interval = scale.scrape_interval();
    let prometheus = Prometheus::start(dir.path(), interval, Targets::File(&file)).await?;
    let begun = Instant::now();
    // As the dashboard finds its nodes.
    until_at_least(&prometheus, "count(count by (instance) (damselfly_link_up))", peers.into()).await?;
    let limit = scale.idle() + scale.limit();
    let queries = until_all_have_data(&prometheus, &mut load, limit).await?;
    let took = begun.elapsed();

    let report = load.wait_for_line(scale.limit(), |line| {
        serde_json::from_str::<Value>(line).ok().filter(|report| report["peers_complete"].is_number())
    })?;
    let complete = &report["peers_complete"];
    ensure!(report["wrong_bytes"] == 0 && *complete == peers, "{complete} complete: {}", report["failures"]);
    let delivered = report["delivered_bytes"].as_f64().context("no delivered_bytes")?;
    let sent = r#"sum(damselfly_proxy_sent_bytes_total{kind="blob"})"#;
    until_at_least(&prometheus, sent, delivered).await?;
    let sent = prometheus.value(sent).await?;
    ensure!((sent - delivered).abs() < 0.5, "clients got {delivered} bytes, Prometheus adds up {sent}");
    let rollouts = format!("max_over_time(damselfly_scheduler_rollouts_running[{WINDOW}])");
    let rollouts = prometheus.value(&rollouts).await?;
    ensure!(rollouts > 0.0, "no scrape fell into a rollout");

    let ScrapeSize { plain, packed } = scrape_sizes(&daemons).await?.into_iter().sum::<ScrapeSize>();
    let of_scheduler = scrape_sizes(&scheduler).await?.into_iter().sum::<ScrapeSize>().packed;
    // What Prometheus says of its own last scrape of each.
    let of_daemons = |metric: &str| format!("sum({metric}{{instance!=\"scheduler\"}})");
    let bytes = prometheus.value(&of_daemons("scrape_body_size_bytes")).await?;
    let samples = prometheus.value(&of_daemons("scrape_samples_scraped")).await?;
    let of_300 = packed * 300 / u64::from(peers);
    eprintln!(
        "  {peers} peers scraped: {queries} queries with data after {took:.1?}, up to {rollouts} rollouts at once; \
         a scrape of all {packed} bytes, {of_300} of 300, {plain} unpacked ({bytes} in {samples} samples, says \
         Prometheus), of the scheduler {of_scheduler}"
    );
    ensure!(of_300 < SCRAPE_MAX, "{of_300} bytes for a scrape of 300 daemons");

    load.ask_to_stop();
    until_ended(&mut load)?;
    ensure!(!file.exists(), "the targets are still there");
    Ok(())
}
