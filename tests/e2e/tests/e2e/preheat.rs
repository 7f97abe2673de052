//! An image is preheated from a real registry; runtimes then pull it from their nodes' caches.

use anyhow::{Result, ensure};
use clap::Parser as _;
use e2e::REGISTRY;
use e2e::cluster::{Cluster, Options, Way};
use e2e::debian::TAG;
use e2e::runtime::containerd::Containerd;
use std::time::Duration;
use support::{poll, pull};

const NODES: u8 = 3;
/// How long the nodes may take to connect.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_preheated_image_is_pulled_without_another_byte_from_the_registry() -> Result<()> {
    let Some(_guard) = e2e::begin("a_preheated_image_is_pulled_without_another_byte_from_the_registry")
    else {
        return Ok(());
    };
    let cluster = Cluster::start(&Options { nodes: NODES, ..Options::default() })?;
    let image = &cluster.images.debian;
    let before = cluster.registry.accesses()?;
    poll::until("all nodes are connected", LIMIT, || {
        let node = &cluster.nodes[0];
        let url = format!("{}/v1/status", node.place.admin_url());
        let status: serde_json::Value =
            node.host.block_on(|| async { Ok(pull::client()?.get(url).send().await?.json().await?) })?;
        Ok((status["hosts_total"] == NODES).then_some(()))
    })?;

    let name = format!("{REGISTRY}/{}:{TAG}", image.repository);
    let socket = cluster.dir().join("scheduler/state/operator.sock");
    let socket = socket.to_str().unwrap_or_default();
    let line = ["dfctl", "-o", "json", "preheat", &name, "--wait", "--timeout", "60s", "--socket", socket];
    let mut out = Vec::new();
    let run = Box::pin(dfctl::run(dfctl::Cli::try_parse_from(line)?, &mut out));
    tokio::runtime::Runtime::new()?.block_on(run)?;
    let state: serde_json::Value = serde_json::from_slice(&out)?;
    ensure!(state["state"] == "done" && state["hosts"]["done"] == NODES, "{state}");
    ensure!(state["images"][0]["digest"] == image.manifest(), "{state}");

    let preheated = cluster.accesses(before.blob_bytes_total() + image.blob_bytes())?;
    let sent = preheated.since(&before).blob_bytes_total();
    eprintln!("  {sent} bytes from the registry for {NODES} nodes, the image has {}", image.blob_bytes());
    ensure!(sent == image.blob_bytes());

    let node = &cluster.nodes[0];
    let proxy = format!("http://{}", node.place.proxy());
    let dir = cluster.dir().join("containerd");
    let containerd = Containerd::start(&node.host, &dir, &proxy, &cluster.registry.url())?;
    let reference = Containerd::reference(&image.repository, TAG);
    ensure!(containerd.pull(&reference)? == image.manifest());
    ensure!(containerd.run(&reference, &[])?.trim() == "hello from the image");
    for i in 1..usize::from(NODES) {
        cluster.pull(i, image, Way::Daemon)?;
    }
    for i in 0..usize::from(NODES) {
        let traffic = cluster.traffic(i)?;
        ensure!(traffic.cache >= image.blob_bytes(), "node {i}: {traffic:?}");
    }
    let again = cluster.accesses(u64::MAX)?.since(&preheated).blob_bytes_total();
    ensure!(again == 0, "{again} bytes once more");
    Ok(())
}
