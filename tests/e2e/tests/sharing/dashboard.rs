//! Every query of the Grafana dashboard, asked of a real Prometheus that scrapes two daemons and their scheduler while an
//! image is pulled, returns data.

use anyhow::{Result, ensure};
use e2e::inside::{Content, Hub, Node, Settings, blob_target, manifest_target};
use std::time::{Duration, Instant};
use support::dashboard;
use support::origin::{Fault, FaultyOrigin, When};
use support::packages::ensure_installed;
use support::prometheus::{Prometheus, Targets, scrape_sizes};
use support::skip::skipped;

const NAME: &str = "dashboard::every_query_of_the_dashboard_returns_data";

/// How long it may take until each has been scraped often enough for rates, on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// What Prometheus takes for one scrape of a daemon must not grow with the cluster: 300 of them are to stay below 2 MB
/// as they travel.
const SCRAPE_MAX: u64 = 2_000_000 / 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_dashboard_returns_data() -> Result<()> {
    if let Err(error) = ensure_installed(&[Prometheus::PACKAGE]) {
        skipped(NAME, &format!("{error:#}"));
        return Ok(());
    }
    let queries = dashboard::queries("30s", "60s")?;
    let origin = FaultyOrigin::start().await?;
    // At this rate a blob takes longer than messages, and its rollout counts.
    let settings = Settings { audit: true, rate: Some(3_000_000), ..Settings::of(&[&origin]) };
    let hub = Hub::start(&settings).await?;
    let (a, b) = (Node::join(&hub, &settings).await?, Node::join(&hub, &settings).await?);
    hub.until_hosts(2).await?;
    origin.fault(When::any(), Fault::Header("ratelimit-remaining", "76;w=21600".to_owned()));
    let dir = tempfile::tempdir()?;
    let address = |url: &str| url.trim_start_matches("http://").to_owned();
    let targets = [address(a.admin()), address(b.admin()), address(&hub.admin()?)];
    let interval = Duration::from_secs(1);
    let prometheus = Prometheus::start(dir.path(), interval, Targets::Fixed(&targets)).await?;

    let begun = Instant::now();
    let mut round = 0;
    loop {
        round += 1;
        let content = Content::random(round, 700_000);
        origin.add_blob("app", content.bytes.clone());
        let target = blob_target(&origin, "app", &content.digest);
        let (one, other) = tokio::try_join!(a.get(&target), b.get(&target))?;
        for (node, reply) in [(&a, one), (&b, other)] {
            ensure!(reply.body == content.bytes, "{}", reply.summary());
            node.get(&manifest_target(&origin, "app", "none")).await?;
        }
        let empty = dashboard::without_data(&prometheus, &queries).await?;
        if empty.is_empty() {
            break;
        }
        ensure!(begun.elapsed() < LIMIT, "no data after {round} rounds:\n{}", empty.join("\n"));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let took = begun.elapsed();
    let size = scrape_sizes(&targets[..1]).await?[0];
    eprintln!(
        "  {} queries with data after {took:.1?}; a scrape: {} bytes, {} packed",
        queries.len(),
        size.plain,
        size.packed
    );
    ensure!(size.packed <= SCRAPE_MAX, "{} bytes for one scrape", size.packed);
    Ok(())
}
