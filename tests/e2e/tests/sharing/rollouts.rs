//! How near a rollout came to what the hosts' links allow: in the status, the metrics and the log.

use anyhow::{Context, Result, ensure};
use e2e::inside::{BOUND, Content, Hub, Logged, Node, Settings, blob_target};
use futures::future::try_join_all;
use support::origin::FaultyOrigin;
use support::poll;
use tracing_subscriber::filter::LevelFilter;

const NODES: usize = 3;
/// Bytes per second of each link, and of the blob: the bound is one second.
const RATE: u64 = 4_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_says_how_near_the_links_limit_it_came() -> Result<()> {
    let logged = Logged::from_now_on(LevelFilter::INFO);
    let mark = logged.mark();
    let origin = FaultyOrigin::start().await?;
    let settings = Settings { rate: Some(RATE), ..Settings::of(&[&origin]) };
    let hub = Hub::start(&settings).await?;
    let nodes = try_join_all((0..NODES).map(|_| Node::join(&hub, &settings))).await?;
    hub.until_hosts(NODES as u64).await?;
    let content = Content::random(7, usize::try_from(RATE)?);
    origin.add_blob("app", content.bytes.clone());
    let target = blob_target(&origin, "app", &content.digest);
    let replies = try_join_all(nodes.iter().map(|node| node.get(&target))).await?;
    for reply in replies {
        ensure!(reply.body == content.bytes, "{}", reply.summary());
    }

    // What hosts say of the end, and what is logged of it, comes a little after the last byte.
    let rollout = poll::until_async("the rollout has ended", BOUND, || async {
        Ok(hub.status().await?["rollouts"].as_array().and_then(|ended| ended.first()).cloned())
    })
    .await?;
    let (seconds, bound) = (rollout["seconds"].as_f64(), rollout["bound_seconds"].as_f64());
    let (seconds, bound) = seconds.zip(bound).with_context(|| rollout.to_string())?;
    ensure!(rollout["hosts"] == 3 && rollout["digest"] == content.digest.to_string(), "{rollout}");
    // One second, and what passed between the first want and the last. A limit lets bursts through.
    ensure!(bound >= 1.0 && seconds >= bound * 0.7 && seconds < 10.0 * bound, "{seconds} s, bound {bound} s");
    eprintln!("  {NODES} hosts in {:.3} of the bound", seconds / bound);

    let metrics = hub.metrics().await?;
    for line in [
        "damselfly_scheduler_rollouts_running 0",
        "damselfly_scheduler_rollout_seconds_count 1",
        "damselfly_scheduler_rollout_bound_ratio_count 1",
    ] {
        ensure!(metrics.lines().any(|has| has == line), "no {line} in\n{metrics}");
    }

    let digest = content.digest.to_string();
    let served = poll::until_async("all are logged", BOUND, || async {
        let log = logged.since(mark);
        let of_it = |line: &&str| line.contains("request served") && line.contains(&digest);
        let lines: Vec<String> = log.lines().filter(of_it).map(str::to_owned).collect();
        Ok((lines.len() == NODES).then_some(lines))
    })
    .await?;
    let field = |line: &str, name: &str| -> Option<f64> {
        line.split_once(&format!(" {name}="))?.1.split(' ').next()?.parse().ok()
    };
    for line in &served {
        let ratio = field(line, "times_bound").with_context(|| line.clone())?;
        // The limit lets a burst through, and what the source reads ahead of it.
        ensure!((0.7..10.0).contains(&ratio), "{line}");
        let parts =
            ["origin_bytes", "peer_bytes", "cache_bytes"].map(|name| field(line, name).unwrap_or(-1.0));
        #[allow(clippy::cast_precision_loss, reason = "small enough")]
        let whole = RATE as f64;
        ensure!((parts.iter().sum::<f64>() - whole).abs() < 0.5, "{line}");
    }
    Ok(())
}
