//! Every byte leaves the origin once, whatever the size and however many ask.

use anyhow::{Result, ensure};
use bytes::Bytes;
use e2e::inside::{Content, Hub, Node, Settings, blob_target, check_store};
use futures::future::{join_all, try_join_all};
use sha2::Digest as _;
use std::time::Instant;
use support::images::Image;
use support::origin::{FaultyOrigin, When};
use support::pull::{self, Source};
use types::{Algorithm, Digest};

/// Nodes that pull at once.
const NODES: usize = 6;

/// How many HEADs came for paths with this in them.
fn heads(origin: &FaultyOrigin, kind: &str) -> usize {
    origin.requests().iter().filter(|r| r.method == "HEAD" && r.path.contains(kind)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_crowd_reads_an_image_once() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let image = Image::random(1, &[3_000_000, 1_200_000, 400_000, 10])?;
    image.lay_into(&origin, "app", "v1");
    let settings = Settings::of(&[&origin]);
    let hub = Hub::start(&settings).await?;
    let nodes = try_join_all((0..NODES).map(|_| Node::join(&hub, &settings))).await?;
    hub.until_hosts(NODES as u64).await?;
    let client = pull::client()?;
    // Two clients on each node, so that those of one node share as well.
    let pulls = nodes.iter().chain(&nodes).map(|node| {
        let source = Source {
            base: node.proxy().to_owned(),
            ns: Some(origin.registry().to_string()),
            repository: "app".to_owned(),
            reference: "v1".to_owned(),
            concurrency: 3,
        };
        let client = &client;
        async move { pull::pull(client, &source, |_| {}).await }
    });
    for pulled in join_all(pulls).await {
        let pulled = pulled?;
        ensure!(pulled.wrong_bytes == 0 && pulled.bytes == image.blob_bytes(), "{pulled:?}");
        ensure!(pulled.manifest == image.manifest.digest);
    }
    for blob in image.blobs() {
        let sent = origin.blob_bytes(&blob.digest);
        ensure!(sent == blob.size(), "{}: {sent} bytes of {}", blob.digest, blob.size());
    }
    let (manifests, blobs) = (heads(&origin, "/manifests/"), heads(&origin, "/blobs/"));
    eprintln!(
        "  {} manifest GETs, {manifests} and {blobs} HEADs of manifests and blobs",
        origin.manifest_gets()
    );
    ensure!(origin.manifest_gets() <= 2, "{} manifest GETs", origin.manifest_gets());
    // The tag, and each blob's permission: asked by the scheduler for all.
    ensure!(manifests <= 2, "{manifests} HEADs of manifests");
    ensure!(blobs <= image.blobs().count(), "{blobs} HEADs of blobs");
    Ok(())
}

/// A piece takes longer than a lease without progress and a reader's patience: that bytes come must be enough for both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_origin_is_read_once() -> Result<()> {
    const RATE: u64 = 64 << 10;
    let origin = FaultyOrigin::builder().rate(RATE).start().await?;
    let settings = Settings::of(&[&origin]);
    let hub = Hub::start(&settings).await?;
    let nodes = try_join_all((0..3).map(|_| Node::join(&hub, &settings))).await?;
    hub.until_hosts(3).await?;
    let content = Content::random(1, 640 << 10);
    origin.add_blob("app", content.bytes.clone());
    let target = blob_target(&origin, "app", &content.digest);
    let started = Instant::now();
    for reply in try_join_all(nodes.iter().map(|node| node.get(&target))).await? {
        ensure!(reply.is_right(&content.bytes), "{}", reply.summary());
    }
    let (sent, size) = (origin.blob_bytes(&content.digest), content.bytes.len() as u64);
    eprintln!("  {sent} bytes of {size} in {:.1} s", started.elapsed().as_secs_f64());
    ensure!(sent == size, "{sent} bytes of {size}");
    Ok(())
}

fn sha512(bytes: &Bytes) -> Result<Digest> {
    Ok(Digest::new(Algorithm::Sha512, &sha2::Sha512::digest(bytes))?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_is_shared() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let settings = Settings::of(&[&origin]);
    let hub = Hub::start(&settings).await?;
    let (a, b) = tokio::try_join!(Node::join(&hub, &settings), Node::join(&hub, &settings))?;
    hub.until_hosts(2).await?;
    let piece = types::piece_len_for(1) as usize;
    // A hash's block and its padding, and pieces, each with its neighbours.
    let sizes = [0, 1, 55, 56, 63, 64, 65, 111, 112, 127, 128, 129];
    let sizes =
        sizes.into_iter().chain([piece - 1, piece, piece + 1, 2 * piece - 1, 2 * piece, 2 * piece + 1]);
    let mut contents = Vec::new();
    for (seed, size) in (0..).zip(sizes) {
        let content = Content::random(seed, size);
        origin.add_blob("app", content.bytes.clone());
        let other = Content::random(seed + 1000, size);
        let other = Content { digest: sha512(&other.bytes)?, ..other };
        origin.add_blob_as("app", &other.digest, other.bytes.clone());
        contents.extend([content, other]);
    }
    let pulls = contents.iter().flat_map(|content| [(&a, content), (&b, content)]).map(|(node, content)| {
        let target = blob_target(&origin, "app", &content.digest);
        async move {
            let reply = node.get(&target).await?;
            ensure!(reply.is_right(&content.bytes), "{}: {}", content.digest, reply.summary());
            let len = content.bytes.len();
            ensure!(reply.header("content-length") == Some(len.to_string().as_str()));
            if len > 0 {
                let last = node.get_range(&target, "bytes=-1").await?;
                ensure!(last.is_right(&content.bytes[len - 1..]), "{}: {}", content.digest, last.summary());
            }
            Ok(())
        }
    });
    try_join_all(pulls).await?;
    for content in &contents {
        let (sent, size) = (origin.blob_bytes(&content.digest), content.bytes.len() as u64);
        ensure!(sent == size, "{}: {sent} bytes of {size}", content.digest);
    }
    for node in [a, b] {
        check_store(node.stop().await?.path(), &contents).await?;
    }
    Ok(())
}

/// Several repositories with the same layer: their clients share it, each after its own repository has said yes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_of_several_repositories_is_read_once() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let content = Content::random(5, 1_300_000);
    let settings = Settings::of(&[&origin]);
    let hub = Hub::start(&settings).await?;
    let (a, b) = tokio::try_join!(Node::join(&hub, &settings), Node::join(&hub, &settings))?;
    hub.until_hosts(2).await?;
    let repositories = ["app/one", "app/two", "other"];
    for repository in repositories {
        origin.add_blob(repository, content.bytes.clone());
    }
    let asks = repositories.iter().flat_map(|repository| [(&a, repository), (&b, repository)]);
    let replies = asks.map(|(node, repository)| {
        let target = blob_target(&origin, repository, &content.digest);
        async move { node.get(&target).await }
    });
    for reply in try_join_all(replies).await? {
        ensure!(reply.is_right(&content.bytes), "{}", reply.summary());
    }
    let sent = origin.blob_bytes(&content.digest);
    ensure!(sent == content.bytes.len() as u64, "{sent} bytes from the origin");
    for repository in repositories {
        let path = format!("/v2/{repository}/blobs/{}", content.digest);
        ensure!(origin.count(&When::path(&path).head()) == 1, "{repository} was asked");
    }
    Ok(())
}
