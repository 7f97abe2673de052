//! Clients that leave, blobs that were evicted, nodes that come when the origin has gone.

use anyhow::{Context, Result, ensure};
use e2e::inside::{BOUND, Content, Hub, Node, Settings, blob_target, check_store};
use std::time::Duration;
use support::images::Image;
use support::origin::FaultyOrigin;
use support::poll;
use support::pull::{self, Source};

/// What the scheduler says of this blob.
async fn wanting(hub: &Hub, content: &Content) -> Result<Option<u64>> {
    let status = hub.status().await?;
    let blobs = status["blobs"].as_array().context("blobs")?;
    let blob = blobs.iter().find(|blob| blob["digest"] == content.digest.to_string());
    blob.map(|blob| blob["wanting"].as_u64().context("a number")).transpose()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_ends_the_work_after_a_while() -> Result<()> {
    let origin = FaultyOrigin::builder().rate(2 << 20).start().await?;
    let content = Content::random(1, 12_000_000);
    origin.add_blob("app", content.bytes.clone());
    let mut settings = Settings::of(&[&origin]);
    settings.linger = Duration::from_millis(300);
    let hub = Hub::start(&settings).await?;
    let node = Node::join(&hub, &settings).await?;
    let target = blob_target(&origin, "app", &content.digest);
    node.leave_after(&target, 600_000).await?;
    poll::until_async("nobody wants it any more", BOUND, || async {
        Ok(wanting(&hub, &content).await?.is_none_or(|count| count == 0).then_some(()))
    })
    .await?;
    let sent = origin.blob_bytes(&content.digest);
    ensure!(sent < content.bytes.len() as u64 / 2, "{sent} bytes were read for nobody");
    // What is held is kept: the rest is read when somebody comes again, and little of it twice.
    let tail = node.get_range(&target, "bytes=0-99").await?;
    ensure!(tail.is_right(&content.bytes[..100]), "{}", tail.summary());
    let (piece, streams) = (512 << 10, 3);
    ensure!(origin.blob_bytes(&content.digest) <= sent + streams * piece, "the first bytes were held");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicted_blob_is_read_again_and_offered_to_nobody_meanwhile() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let contents: Vec<Content> = (1..=4).map(|seed| Content::random(seed, 2_000_000)).collect();
    for content in &contents {
        origin.add_blob("app", content.bytes.clone());
    }
    let roomy = Settings::of(&[&origin]);
    let mut small = roomy.clone();
    // Two of them fit.
    small.quota_bytes = 5_000_000;
    small.linger = Duration::from_millis(50);
    let hub = Hub::start(&roomy).await?;
    let (a, b) = tokio::try_join!(Node::join(&hub, &small), Node::join(&hub, &roomy))?;
    hub.until_hosts(2).await?;
    let target = |content: &Content| blob_target(&origin, "app", &content.digest);
    for content in &contents {
        let reply = a.get(&target(content)).await?;
        ensure!(reply.is_right(&content.bytes), "{}", reply.summary());
    }
    let (first, last) = (&contents[0], &contents[3]);
    let size = first.bytes.len() as u64;
    ensure!(origin.blob_bytes(&first.digest) == size);
    // The first is gone: another node is not sent in vain to who had it, and the origin gives it once more.
    let reply = b.get(&target(first)).await?;
    ensure!(reply.is_right(&first.bytes), "{}", reply.summary());
    ensure!(origin.blob_bytes(&first.digest) == 2 * size, "{}", origin.blob_bytes(&first.digest));
    // Who had it gets it from there now, and the last one is still where it was.
    let reply = a.get(&target(first)).await?;
    ensure!(reply.is_right(&first.bytes), "{}", reply.summary());
    let reply = b.get(&target(last)).await?;
    ensure!(reply.is_right(&last.bytes), "{}", reply.summary());
    ensure!(origin.blob_bytes(&first.digest) == 2 * size && origin.blob_bytes(&last.digest) == size);
    for node in [a, b] {
        check_store(node.stop().await?.path(), &contents).await?;
    }
    Ok(())
}

/// A blob larger than the whole cache passes through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_does_not_fit_is_served_all_the_same() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let content = Content::random(9, 7_000_000);
    origin.add_blob("app", content.bytes.clone());
    let mut settings = Settings::of(&[&origin]);
    settings.quota_bytes = 5_000_000;
    let node = Node::alone(&settings).await?;
    let target = blob_target(&origin, "app", &content.digest);
    let reply = node.get(&target).await?;
    ensure!(reply.is_right(&content.bytes), "{}", reply.summary());
    let reply = node.get_range(&target, "bytes=6000000-6999999").await?;
    ensure!(reply.is_right(&content.bytes[6_000_000..]), "{}", reply.summary());
    check_store(node.stop().await?.path(), &[content]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_late_pulls_though_the_origin_has_gone() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let image = Image::random(11, &[1_500_000, 700_000])?;
    image.lay_into(&origin, "app", "v1");
    let mut settings = Settings::of(&[&origin]);
    // What the scheduler knows has lapsed when the late node asks.
    settings.resolver.tag_lifetime = Duration::from_millis(50);
    settings.resolver.access_lifetime = Duration::from_millis(50);
    let hub = Hub::start(&settings).await?;
    let client = pull::client()?;
    let source = |node: &Node| Source {
        base: node.proxy().to_owned(),
        ns: Some(origin.registry().to_string()),
        repository: "app".to_owned(),
        reference: "v1".to_owned(),
        concurrency: 2,
    };
    let (a, b) = tokio::try_join!(Node::join(&hub, &settings), Node::join(&hub, &settings))?;
    for node in [&a, &b] {
        ensure!(pull::pull(&client, &source(node), |_| {}).await?.wrong_bytes == 0);
    }
    origin.set_reachable(false);
    // Even the one that read it from the origin may go: the other has all.
    drop(a.stop().await?);
    let late = Node::join(&hub, &settings).await?;
    let pulled = pull::pull(&client, &source(&late), |_| {}).await?;
    ensure!(pulled.wrong_bytes == 0 && pulled.manifest == image.manifest.digest, "{pulled:?}");
    ensure!(origin.blob_bytes_total() == image.blob_bytes(), "{}", origin.blob_bytes_total());
    Ok(())
}
