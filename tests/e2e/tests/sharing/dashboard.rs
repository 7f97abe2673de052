//! Every query of the Grafana dashboard, asked of a real Prometheus that scrapes two daemons and their scheduler while an
//! image is pulled, returns data.

use anyhow::{Context, Result, ensure};
use e2e::inside::{BOUND, Content, Hub, Node, Settings, blob_target, manifest_target};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};
use support::origin::{Fault, FaultyOrigin, When};
use support::packages::ensure_installed;
use support::process::{Program, Spec};
use support::skip::skipped;

const NAME: &str = "dashboard::every_query_of_the_dashboard_returns_data";

/// How long it may take until each has been scraped often enough for rates, on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// What Prometheus takes for one scrape of a daemon must not grow with the cluster: 300 of them are to stay below 2 MB
/// as they travel.
const SCRAPE_MAX: usize = 2_000_000 / 300;

struct Query {
    panel: String,
    text: String,
}

/// All queries, as Grafana would ask them of the last minute for all instances.
fn queries() -> Result<Vec<Query>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/damselfly/files/dashboard.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().context("no panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = target["expr"].as_str().context("no query")?;
            let text =
                text.replace("$__rate_interval", "30s").replace("$__range", "60s").replace("$instance", ".*");
            ensure!(!text.contains('$'), "an unknown variable: {text}");
            queries.push(Query { panel: panel["title"].as_str().unwrap_or_default().to_owned(), text });
        }
    }
    ensure!(queries.len() > 30, "the dashboard has {} queries", queries.len());
    Ok(queries)
}

fn prometheus(dir: &Path, targets: &[(&str, String)]) -> Result<(Program, String)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut config = String::from(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: damselfly\n    static_configs:\n",
    );
    for (_, address) in targets {
        config += &format!("      - targets: ['{address}']\n");
    }
    let file = dir.join("prometheus.yml");
    std::fs::write(&file, config)?;
    let spec = Spec::new("prometheus", "prometheus", dir)
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address={port}"));
    Ok((Program::start(&spec)?, format!("http://{port}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_dashboard_returns_data() -> Result<()> {
    if let Err(error) = ensure_installed(&["prometheus"]) {
        skipped(NAME, &format!("{error:#}"));
        return Ok(());
    }
    let queries = queries()?;
    let origin = FaultyOrigin::start().await?;
    // At this rate a blob takes longer than messages, and its rollout counts.
    let settings = Settings { audit: true, rate: Some(3_000_000), ..Settings::of(&[&origin]) };
    let hub = Hub::start(&settings).await?;
    let (a, b) = (Node::join(&hub, &settings).await?, Node::join(&hub, &settings).await?);
    hub.until_hosts(2).await?;
    origin.fault(When::any(), Fault::Header("ratelimit-remaining", "76;w=21600".to_owned()));
    let dir = tempfile::tempdir()?;
    let address = |url: &str| url.trim_start_matches("http://").to_owned();
    let targets =
        [("a", address(a.admin())), ("b", address(b.admin())), ("scheduler", address(&hub.admin()?))];
    let (mut program, url) = prometheus(dir.path(), &targets)?;
    program.wait_for_ok(&format!("{url}/-/ready"), BOUND).await?;

    let client = reqwest::Client::builder().no_proxy().build()?;
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
        let mut empty = Vec::new();
        for query in &queries {
            let mut question: url::Url = format!("{url}/api/v1/query").parse()?;
            question.query_pairs_mut().append_pair("query", &query.text);
            let answer: Value = client.get(question).send().await?.json().await?;
            ensure!(answer["status"] == "success", "{}: {}: {answer}", query.panel, query.text);
            let values = answer["data"]["result"].as_array().context("no result")?;
            let is_number = |value: &Value| value["value"][1].as_str().is_some_and(|text| text != "NaN");
            if !values.iter().any(is_number) {
                empty.push(format!("{}: {}", query.panel, query.text));
            }
        }
        if empty.is_empty() {
            break;
        }
        ensure!(begun.elapsed() < LIMIT, "no data after {round} rounds:\n{}", empty.join("\n"));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (plain, packed) = (a.metrics().await?.len(), scrape_size(&a).await?);
    eprintln!(
        "  {} queries with data after {:.1?}; a scrape: {plain} bytes, {packed} packed",
        queries.len(),
        begun.elapsed()
    );
    ensure!(packed <= SCRAPE_MAX, "{packed} bytes for one scrape");
    Ok(())
}

/// The bytes of a scrape as they travel to Prometheus, which asks for gzip.
async fn scrape_size(node: &Node) -> Result<usize> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/metrics", node.admin());
    Ok(client.get(url).header("accept-encoding", "gzip").send().await?.bytes().await?.len())
}
