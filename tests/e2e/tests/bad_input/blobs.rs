//! Origins that misbehave when they are asked for a blob.

use crate::rows::Of::{All, FirstGets, Get, Head};
use crate::rows::Seen::{Broken, BrokenOrRight, Refused, Right};
use crate::rows::{Prepared, Row, row, see};
use anyhow::{Result, ensure};
use e2e::inside::{Content, Hub, Node, Settings, blob_target, check_store, manifest_target, until_right};
use futures::future::try_join_all;
use std::net::Ipv4Addr;
use std::time::Duration;
use support::images::MANIFEST;
use support::origin::{Fault, FaultyOrigin, When};

/// Longer than a refusal is remembered, and than the scheduler is careful with a source that failed.
const HEALED: Duration = Duration::from_secs(15);

/// Three pieces.
const SIZE: usize = 2 * 512 * 1024 + 1000;

fn table() -> Vec<Row> {
    let size = SIZE as u64;
    let nowhere = || Fault::Redirect("http://169.254.169.254/latest/meta-data".to_owned());
    vec![
        row(All, Fault::Status(401), Refused(401, "FAULT")),
        row(All, Fault::Status(403), Refused(403, "FAULT")),
        row(All, Fault::Status(404), Refused(404, "BLOB_UNKNOWN")),
        row(All, Fault::Throttle(None), Refused(503, "UNAVAILABLE")),
        row(All, Fault::Throttle(Some(3600)), Refused(503, "UNAVAILABLE")),
        row(All, Fault::Status(500), Refused(502, "UNAVAILABLE")),
        row(All, Fault::Status(503), Refused(502, "UNAVAILABLE")),
        row(All, Fault::RedirectLoop, Refused(502, "UNAVAILABLE")),
        row(All, nowhere(), Refused(403, "DENIED")),
        row(Head, Fault::Status(404), Refused(404, "BLOB_UNKNOWN")),
        // Where HEAD is refused, GET of the first byte decides.
        row(Head, Fault::Status(401), Right),
        row(Head, Fault::Status(403), Right),
        row(Head, Fault::Status(405), Right),
        // HEAD was good, so the client has its 200 when GET fails.
        row(Get, Fault::Status(401), Broken),
        row(Get, Fault::Status(403), Broken),
        row(Get, Fault::Status(404), Broken),
        row(Get, Fault::Status(400), Broken),
        row(Get, Fault::RedirectLoop, Broken),
        row(Get, nowhere(), Broken),
        row(Get, Fault::TooFew(1000), Broken),
        row(Get, Fault::TooMany(1000), BrokenOrRight),
        row(Get, Fault::Endless, BrokenOrRight),
        row(Get, Fault::Corrupt(0), Broken),
        row(Get, Fault::Corrupt(600_000), Broken),
        row(Get, Fault::Corrupt(size - 1), Broken),
        row(Get, Fault::ContentLength(10), Broken),
        row(Get, Fault::ContentLength(size + 10), Broken),
        row(Head, Fault::ContentLength(size - 1), Broken),
        row(Head, Fault::ContentLength(size + 1), Broken),
        // What passes by itself, the client never learns.
        row(FirstGets(1), Fault::Status(503), Right),
        row(FirstGets(1), Fault::Throttle(Some(0)), Right),
        row(FirstGets(2), Fault::BreakAfter(300_000), Right),
        row(Get, Fault::BreakAfter(300_000), Right),
        row(FirstGets(1), Fault::TooFew(1000), Right),
        row(Get, Fault::IgnoreRange, Right),
        row(Get, Fault::NoContentLength, Right),
    ]
}

/// One repository and blob for each row, so that all can go wrong at once.
fn prepare(origin: &FaultyOrigin, rows: Vec<Row>) -> Vec<Prepared<Content>> {
    let prepare = |(i, row): (u64, Row)| {
        let repository = format!("rows/blob-{i}");
        let content = Content::random(i, SIZE);
        let digest = origin.add_blob(&repository, content.bytes.clone());
        let when = When::blob(&digest);
        let when = match row.of {
            Head => when.head(),
            Get => when.get(),
            FirstGets(times) => when.get().times(times),
            All => when,
        };
        origin.fault(when, row.fault.clone());
        Prepared { row, target: blob_target(origin, &repository, &digest), content }
    };
    (1000..).zip(rows).map(prepare).collect()
}

fn bytes(content: &Content) -> &[u8] {
    &content.bytes
}

fn contents(prepared: &[Prepared<Content>]) -> Vec<Content> {
    prepared.iter().map(|prepared| prepared.content.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_of_an_origin_is_seen_and_passes() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let prepared = prepare(&origin, table());
    let node = Node::alone(&Settings::of(&[&origin])).await?;
    see(&node, &prepared, bytes).await?;
    origin.heal();
    let healed = prepared.iter().map(|p| until_right(&node, &p.target, &p.content.bytes, HEALED));
    try_join_all(healed).await?;
    let held = check_store(node.stop().await?.path(), &contents(&prepared)).await?;
    ensure!(held.len() == prepared.len() && held.values().all(|bytes| *bytes == SIZE as u64), "{held:?}");
    Ok(())
}

/// Without a scheduler the client sees the same; and what an origin sent wrong is not in the store afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_wrong_stays_in_the_store() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let prepared = prepare(&origin, table());
    let nobody = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?;
    let node = Node::join_at(nobody, &Settings::of(&[&origin])).await?;
    see(&node, &prepared, bytes).await?;
    check_store(node.stop().await?.path(), &contents(&prepared)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_falls_silent_is_left_for_another_connection() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let rows = vec![
        row(All, Fault::Hang, Refused(504, "UNAVAILABLE")),
        row(FirstGets(1), Fault::Hang, Right),
        row(FirstGets(1), Fault::StallAfter(0), Right),
        row(FirstGets(1), Fault::StallAfter(700_000), Right),
    ];
    let prepared = prepare(&origin, rows);
    let mut settings = Settings::of(&[&origin]);
    settings.origin.response_timeout = Duration::from_millis(700);
    settings.origin.stall_timeout = Duration::from_millis(700);
    let node = Node::alone(&settings).await?;
    see(&node, &prepared, bytes).await?;
    origin.heal();
    let healed = prepared.iter().map(|p| until_right(&node, &p.target, &p.content.bytes, HEALED));
    try_join_all(healed).await?;
    Ok(())
}

/// An origin whose bytes are another blob's, or none at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_content_under_a_false_name_is_never_whole() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let node = Node::alone(&Settings::of(&[&origin])).await?;
    let (same_size, shorter, nothing) =
        (Content::random(1, SIZE), Content::random(2, SIZE), Content::random(3, SIZE));
    origin.add_blob_as("app", &same_size.digest, Content::random(4, SIZE).bytes);
    origin.add_blob_as("app", &shorter.digest, Content::random(5, 700).bytes);
    origin.add_blob_as("app", &nothing.digest, "");
    let table = [(&same_size, Broken), (&shorter, Broken), (&nothing, Refused(502, "UNAVAILABLE"))];
    for (content, seen) in table {
        let reply = node.get(&blob_target(&origin, "app", &content.digest)).await?;
        // Whoever knows a blob's size by its false name sees a shorter one.
        let as_claimed =
            if content.digest == shorter.digest { &content.bytes[..700] } else { &content.bytes };
        ensure!(seen.is(&reply, as_claimed), "{seen:?}: {}", reply.summary());
    }
    for content in [&same_size, &shorter, &nothing] {
        origin.add_blob("app", content.bytes.clone());
        until_right(&node, &blob_target(&origin, "app", &content.digest), &content.bytes, HEALED).await?;
    }
    check_store(node.stop().await?.path(), &[same_size, shorter, nothing]).await?;
    Ok(())
}

/// Wrong bytes are found by two hosts, and then all are told: nobody reads them a third time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_reads_a_wrong_origin_twice_at_most() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let content = Content::random(8, SIZE);
    origin.add_blob("app", content.bytes.clone());
    origin.fault(When::blob(&content.digest).get(), Fault::Corrupt(600_000));
    let settings = Settings::of(&[&origin]);
    let hub = Hub::start(&settings).await?;
    let nodes = try_join_all((0..5).map(|_| Node::join(&hub, &settings))).await?;
    hub.until_hosts(5).await?;
    let target = blob_target(&origin, "app", &content.digest);
    for reply in try_join_all(nodes.iter().map(|node| node.get(&target))).await? {
        ensure!(Broken.is(&reply, &content.bytes), "{}", reply.summary());
    }
    let sent = origin.blob_bytes(&content.digest);
    ensure!(sent <= 2 * SIZE as u64, "{sent} bytes from the origin");
    origin.heal();
    let healed = nodes.iter().map(|node| until_right(node, &target, &content.bytes, HEALED));
    try_join_all(healed).await?;
    for node in nodes {
        check_store(node.stop().await?.path(), std::slice::from_ref(&content)).await?;
    }
    Ok(())
}

/// A registry that does not say how large a blob is: its manifest does. What another repository's manifest says of the
/// same digest does not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_size_that_the_registry_keeps_to_itself_is_the_manifests() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let node = Node::alone(&Settings::of(&[&origin])).await?;
    let content = Content::random(7, SIZE);
    let manifest = |size: usize| {
        let layer = serde_json::json!({ "digest": content.digest.to_string(), "size": size });
        serde_json::json!({ "schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer] }).to_string()
    };
    origin.add_blob("app", content.bytes.clone());
    origin.add_manifest("app", Some("v1"), MANIFEST, manifest(SIZE));
    origin.add_manifest("liar", Some("v1"), MANIFEST, manifest(7));
    origin.fault(When::blob(&content.digest).head(), Fault::NoContentLength);
    let target = blob_target(&origin, "app", &content.digest);
    let reply = node.get(&target).await?;
    ensure!(Refused(502, "UNAVAILABLE").is(&reply, &content.bytes), "{}", reply.summary());
    for repository in ["app", "liar"] {
        ensure!(node.get(&manifest_target(&origin, repository, "v1")).await?.status == 200);
    }
    let reply = node.get(&target).await?;
    ensure!(Right.is(&reply, &content.bytes), "{}", reply.summary());
    Ok(())
}
