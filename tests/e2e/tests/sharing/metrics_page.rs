//! docs/metrics.md has every metric that the two programs show after they have done a little of everything, as they describe
//! it themselves. With `DAMSELFLY_BLESS=1` the page is written anew.

use anyhow::{Context, Result, ensure};
use e2e::inside::{Content, Hub, Node, Settings, blob_target, manifest_target};
use std::collections::{BTreeMap, BTreeSet};
use support::origin::{Fault, FaultyOrigin, When};

#[derive(Debug, Default, PartialEq, Eq)]
struct Metric {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// What a scrape in OpenMetrics' text format says of each metric family.
fn families(text: &str) -> Result<BTreeMap<String, Metric>> {
    let mut families: BTreeMap<String, Metric> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').context("help without text")?;
            last = name.to_owned();
            families.entry(last.clone()).or_default().help = help.trim_end_matches('.').to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("a type without a name")?;
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if !line.starts_with('#') {
            let sample = line.split([' ', '{']).next().unwrap_or_default();
            ensure!(sample.starts_with(&last), "{sample} stands below {last}");
            let labels = line
                .split_once('{')
                .and_then(|(_, rest)| rest.split_once('}'))
                .map_or("", |(labels, _)| labels);
            let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            let of = families.entry(last.clone()).or_default();
            of.labels.extend(names.filter(|name| *name != "le").map(str::to_owned));
        }
    }
    ensure!(text.ends_with("# EOF\n"), "cut off");
    Ok(families)
}

fn table(families: &BTreeMap<String, Metric>) -> String {
    let mut text = String::from("| metric | type | labels | what it says |\n|---|---|---|---|\n");
    for (name, metric) in families {
        let suffix = match metric.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        text +=
            &format!("| `{name}{suffix}` | {} | {} | {} |\n", metric.kind, labels.join(", "), metric.help);
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_has_every_metric() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let settings = Settings { audit: true, ..Settings::of(&[&origin]) };
    let hub = Hub::start(&settings).await?;
    let (a, b) = (Node::join(&hub, &settings).await?, Node::join(&hub, &settings).await?);
    hub.until_hosts(2).await?;
    let content = Content::random(1, 700_000);
    origin.add_blob("app", content.bytes.clone());
    origin.fault(When::any(), Fault::Header("ratelimit-remaining", "76;w=21600".to_owned()));
    origin.fault(When::blob(&content.digest).get().times(1), Fault::BreakAfter(100_000));
    origin.fault(When::blob(&content.digest).get().skip(1).times(1), Fault::IgnoreRange);
    for node in [&a, &b] {
        let reply = node.get(&blob_target(&origin, "app", &content.digest)).await?;
        ensure!(reply.body == content.bytes, "{}", reply.summary());
        let reply = node.get(&manifest_target(&origin, "app", "none")).await?;
        ensure!(reply.status == 404, "{}", reply.summary());
    }
    let (daemon, scheduler) = (families(&a.metrics().await?)?, families(&hub.metrics().await?)?);
    let (mut shared, mut daemons, mut schedulers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (name, metric) in scheduler {
        let place = if daemon.contains_key(&name) { &mut shared } else { &mut schedulers };
        place.insert(name, metric);
    }
    for (name, metric) in daemon {
        match shared.get_mut(&name) {
            // One of them may have had nothing to label yet.
            Some(both) => both.labels.extend(metric.labels),
            None => drop(daemons.insert(name, metric)),
        }
    }
    for (name, metric) in shared.iter().chain(&daemons).chain(&schedulers) {
        ensure!(!metric.help.is_empty() && !metric.kind.is_empty(), "{name} does not say what it is");
        ensure!(name.starts_with("damselfly_") || name.starts_with("process_"), "{name}");
    }
    let tables = format!(
        "\n## The daemon\n\n{}\n## The scheduler\n\nA daemon with a scheduler inside shows these too.\n\n{}\n## Both\n\n{}",
        table(&daemons),
        table(&schedulers),
        table(&shared),
    );
    support::page::check("metrics.md", "metrics_page", &tables)
}
