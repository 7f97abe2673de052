//! Images that are brought to hosts before anybody pulls them.

use anyhow::{Context, Result, ensure};
use clap::Parser as _;
use e2e::inside::{BOUND, Hub, Node, Settings};
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::time::Duration;
use support::images::{INDEX, Image};
use support::origin::FaultyOrigin;
use support::poll;
use support::pull::{self, Source};
use types::Label;

/// Runs `dfctl` against the hub's operator socket: the JSON that it prints, or why it fails.
async fn dfctl(hub: &Hub, args: &[&str]) -> Result<Value> {
    let socket = hub.operator_socket()?;
    let socket = socket.to_str().unwrap_or_default();
    let line = [&["dfctl", "-o", "json"], args, &["--socket", socket]].concat();
    let mut out = Vec::new();
    Box::pin(dfctl::run(dfctl::Cli::try_parse_from(line)?, &mut out)).await?;
    Ok(serde_json::from_slice(&out)?)
}

async fn nodes(hub: &Hub, settings: &Settings, zones: &[&str]) -> Result<Vec<Node>> {
    let nodes = zones.iter().map(|zone| async {
        Node::join(hub, &Settings { zone: Label::new(zone), ..settings.clone() }).await
    });
    let nodes = try_join_all(nodes).await?;
    hub.until_hosts(zones.len() as u64).await?;
    Ok(nodes)
}

fn name(origin: &FaultyOrigin, image: &str) -> String {
    format!("{}/{image}", origin.registry())
}

async fn pull(origin: &FaultyOrigin, node: &Node, repository: &str, image: &Image) -> Result<()> {
    let source = Source {
        base: node.proxy().to_owned(),
        ns: Some(origin.registry().to_string()),
        repository: repository.to_owned(),
        reference: "v1".to_owned(),
        concurrency: 3,
    };
    let pulled = pull::pull(&pull::client()?, &source, |_| {}).await?;
    ensure!(pulled.wrong_bytes == 0 && pulled.bytes == image.blob_bytes(), "{pulled:?}");
    Ok(())
}

fn once(origin: &FaultyOrigin, image: &Image) -> Result<()> {
    for blob in image.blobs() {
        let sent = origin.blob_bytes(&blob.digest);
        ensure!(sent == blob.size(), "{}: {sent} bytes of {}", blob.digest, blob.size());
    }
    Ok(())
}

async fn cache_bytes(node: &Node) -> Result<u64> {
    node.status().await?["traffic"]["cache"].as_u64().context("the bytes from the cache")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_held_where_it_was_asked_for_and_pulled_from_there() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let image = Image::random(1, &[3_000_000, 1_200_000, 10])?;
    image.lay_into(&origin, "app", "v1");
    let settings = Settings::of(&[&origin]);
    let hub = Hub::start(&settings).await?;
    let nodes = nodes(&hub, &settings, &["a", "a", "b"]).await?;
    let state = dfctl(&hub, &["preheat", &name(&origin, "app:v1"), "--zone", "a", "--wait"]).await?;
    let size = image.blob_bytes();
    ensure!(
        state["state"] == "done" && state["hosts"] == json!({"total": 2, "done": 2, "failed": 0, "away": 0}),
        "{state}"
    );
    ensure!(state["held_bytes"] == 2 * size && state["bytes"] == 2 * size, "{state}");
    ensure!(state["images"][0]["digest"] == image.manifest.digest.to_string(), "{state}");
    once(&origin, &image)?;

    // What is there needs no origin any more, but for the questions what the tag means and who may have it.
    for node in &nodes[..2] {
        pull(&origin, node, "app", &image).await?;
        ensure!(cache_bytes(node).await? == size, "all of it was there");
    }
    ensure!(cache_bytes(&nodes[2]).await? == 0);
    pull(&origin, &nodes[2], "app", &image).await?;
    ensure!(cache_bytes(&nodes[2]).await? == 0, "the host of the other zone had nothing");
    once(&origin, &image)?;

    // Again is no work, and says so at once; and there is a list.
    let again = dfctl(&hub, &["preheat", &name(&origin, "app:v1"), "--wait"]).await?;
    ensure!(again["state"] == "done" && again["hosts"]["total"] == 3, "{again}");
    once(&origin, &image)?;
    let listed = dfctl(&hub, &["preheats", "list"]).await?;
    let ids: Vec<&Value> = listed.as_array().context("a list")?.iter().map(|one| &one["id"]).collect();
    ensure!(ids == [&again["id"], &state["id"]], "{listed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_host_gets_its_own_platform_unless_told_otherwise() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let (here, there, proof) =
        (Image::random(1, &[200_000])?, Image::random(2, &[300_000])?, Image::random(3, &[10])?);
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let entry = |image: &Image, os: &str, architecture: &str| {
        json!({
            "mediaType": image.manifest.media_type,
            "digest": image.manifest.digest.to_string(),
            "size": image.manifest.size(),
            "platform": {"os": os, "architecture": architecture},
        })
    };
    for image in [&here, &there, &proof] {
        image.lay_into(&origin, "app", "part");
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            entry(&there, "linux", "s390x"),
            entry(&here, "linux", architecture),
            entry(&proof, "unknown", "unknown"),
        ],
    });
    origin.add_manifest("app", Some("v1"), INDEX, index.to_string());
    let settings = Settings::of(&[&origin]);
    let hub = Hub::start(&settings).await?;
    let _nodes = nodes(&hub, &settings, &["a", "a"]).await?;
    let image = name(&origin, "app:v1");
    let state = dfctl(&hub, &["preheat", &image, "--wait"]).await?;
    ensure!(state["state"] == "done" && state["bytes"] == 2 * here.blob_bytes(), "{state}");
    ensure!(state["images"][0]["platforms"] == json!([format!("linux/{architecture}")]), "{state}");
    once(&origin, &here)?;
    ensure!(origin.blob_bytes_total() == here.blob_bytes(), "and nothing else");
    let state = dfctl(&hub, &["preheat", &image, "--platform", "all", "--wait"]).await?;
    ensure!(state["bytes"] == 2 * (here.blob_bytes() + there.blob_bytes()), "{state}");
    let wrong = dfctl(&hub, &["preheat", &image, "--platform", "linux/mips"]).await;
    let why = format!("{:#}", wrong.expect_err("there is none"));
    ensure!(why.contains("linux/mips") && why.contains("linux/s390x"), "{why}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_served_while_a_preheat_goes_on_and_a_cancelled_one_stops() -> Result<()> {
    let rate = 2_000_000;
    let origin = FaultyOrigin::builder().rate(rate).start().await?;
    let (large, small) = (Image::random(1, &[20_000_000, 20_000_000])?, Image::random(2, &[1_000_000])?);
    large.lay_into(&origin, "large", "v1");
    small.lay_into(&origin, "small", "v1");
    let settings = Settings::of(&[&origin]);
    let hub = Hub::start(&settings).await?;
    let nodes = nodes(&hub, &settings, &["a", "a"]).await?;
    let begun = dfctl(&hub, &["preheat", &name(&origin, "large:v1")]).await?;
    let id = begun["id"].as_str().context("an id")?.to_owned();
    poll::until_async("the preheat has begun", BOUND, || async {
        Ok((dfctl(&hub, &["preheats", "show", &id]).await?["held_bytes"].as_u64() > Some(0)).then_some(()))
    })
    .await?;
    pull(&origin, &nodes[0], "small", &small).await?;
    let state = dfctl(&hub, &["preheats", "show", &id]).await?;
    ensure!(state["state"] == "running", "a client does not wait for its end: {state}");
    let rows = state["rows"].as_array().context("rows")?;
    ensure!(
        rows.len() == 2 && rows.iter().all(|row| row["state"] == "running" && row["zone"] == "a"),
        "{state}"
    );

    let cancelled = dfctl(&hub, &["preheats", "cancel", &id]).await?;
    ensure!(cancelled["state"] == "cancelled", "{cancelled}");
    for node in &nodes {
        poll::until_async("the preheat is over on the host", BOUND, || async {
            Ok((node.status().await?["preheats"] == 0).then_some(()))
        })
        .await?;
    }
    let before = origin.blob_bytes_total();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let more = origin.blob_bytes_total() - before;
    ensure!(more < rate / 8, "{more} bytes are more than what was on its way");
    ensure!(origin.blob_bytes_total() < large.blob_bytes() + small.blob_bytes(), "it was stopped on the way");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_preheated_says_why() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let image = Image::random(1, &[400_000, 300_000])?;
    image.lay_into(&origin, "app", "v1");
    let settings = Settings::of(&[&origin]);
    let hub = Hub::start(&settings).await?;
    let nodes = nodes(&hub, &settings, &["a"]).await?;
    let failed = async |args: &[&str]| {
        let failed = dfctl(&hub, args).await;
        failed.map_or_else(|error| Ok(format!("{error:#}")), |said| anyhow::bail!("it worked: {said}"))
    };
    let why = failed(&["preheat", &name(&origin, "app:v2")]).await?;
    ensure!(why.contains("app:v2") && why.contains("does not have it"), "{why}");
    let why = failed(&["preheat", &name(&origin, "app:v1"), "--zone", "c"]).await?;
    ensure!(why.contains("zone c"), "{why}");
    let why = failed(&["preheat", &name(&origin, "app:v1"), "--host", "0123456789abcdef"]).await?;
    ensure!(why.contains("0123456789abcdef"), "{why}");

    // A layer that is gone fails the host, with the others held.
    origin.remove("app", &image.layers[1].blob.digest);
    let why = failed(&["preheat", &name(&origin, "app:v1"), "--wait"]).await?;
    ensure!(why.contains(&image.layers[1].blob.digest.to_string()[..19]), "{why}");
    let listed = dfctl(&hub, &["preheats", "list"]).await?;
    let state = &listed[0];
    ensure!(state["state"] == "failed" && state["hosts"]["failed"] == 1, "{state}");
    ensure!(state["held_bytes"] == image.blob_bytes() - image.layers[1].blob.size(), "{state}");
    drop(nodes);
    Ok(())
}
