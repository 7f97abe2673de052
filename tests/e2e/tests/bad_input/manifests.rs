//! Origins that misbehave when they are asked for a manifest.

use crate::rows::Of::{All, FirstGets, Get, Head};
use crate::rows::Seen::{Refused, Right};
use crate::rows::{Prepared, Row, row, see};
use anyhow::{Result, ensure};
use e2e::inside::{Node, Settings, check_store, manifest_target, until_right};
use futures::future::try_join_all;
use std::net::Ipv4Addr;
use std::time::Duration;
use support::images::MANIFEST;
use support::origin::{Fault, FaultyOrigin, When};
use types::Digest;

/// Longer than a refusal is remembered.
const HEALED: Duration = Duration::from_secs(10);

fn table() -> Vec<Row> {
    let nowhere = "http://169.254.169.254/latest/meta-data".to_owned();
    vec![
        row(All, Fault::Status(401), Refused(401, "UNAUTHORIZED")),
        row(All, Fault::Status(403), Refused(403, "DENIED")),
        row(All, Fault::Status(404), Refused(404, "MANIFEST_UNKNOWN")),
        row(Get, Fault::Status(404), Refused(404, "MANIFEST_UNKNOWN")),
        row(All, Fault::Status(400), Refused(502, "UNAVAILABLE")),
        row(All, Fault::Throttle(None), Refused(503, "UNAVAILABLE")),
        row(All, Fault::Throttle(Some(3600)), Refused(503, "UNAVAILABLE")),
        row(All, Fault::Status(500), Refused(502, "UNAVAILABLE")),
        row(Get, Fault::Status(503), Refused(502, "UNAVAILABLE")),
        row(All, Fault::Status(504), Refused(502, "UNAVAILABLE")),
        row(All, Fault::RedirectLoop, Refused(502, "UNAVAILABLE")),
        row(All, Fault::Redirect(nowhere), Refused(403, "DENIED")),
        row(All, Fault::Redirect("ftp://registry.test/x".to_owned()), Refused(502, "UNAVAILABLE")),
        row(Get, Fault::TooFew(5), Refused(502, "UNAVAILABLE")),
        row(Get, Fault::TooMany(5), Refused(502, "UNAVAILABLE")),
        row(Get, Fault::Endless, Refused(502, "UNAVAILABLE")),
        row(Get, Fault::Corrupt(20), Refused(502, "UNAVAILABLE")),
        row(Get, Fault::ContentLength(20), Refused(502, "UNAVAILABLE")),
        row(Get, Fault::ContentLength(5000), Refused(503, "UNAVAILABLE")),
        row(Get, Fault::BreakAfter(20), Refused(503, "UNAVAILABLE")),
        row(Head, Fault::FalseDigest(Digest::sha256(b"another")), Refused(404, "MANIFEST_UNKNOWN")),
        row(Head, Fault::Status(405), Right),
        row(Head, Fault::NoDigest, Right),
        row(All, Fault::NoContentType, Right),
        row(All, Fault::NoContentLength, Right),
        row(FirstGets(1), Fault::BreakAfter(20), Right),
        row(FirstGets(1), Fault::Status(503), Right),
        row(FirstGets(1), Fault::Throttle(Some(0)), Right),
    ]
}

/// One repository, tag and manifest for each row, so that all can go wrong at once.
fn prepare(origin: &FaultyOrigin, rows: Vec<Row>) -> Vec<Prepared<String>> {
    let prepare = |(i, row): (usize, Row)| {
        let (repository, tag) = (format!("rows/manifest-{i}"), format!("t{i}"));
        let content =
            serde_json::json!({ "schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "row": i })
                .to_string();
        let digest = origin.add_manifest(&repository, Some(&tag), MANIFEST, content.clone());
        let (named, of_digest) = (When::manifest(&tag), When::manifest(&digest.to_string()));
        // A tag is asked for by HEAD, its manifest by GET of the digest; some fall back to GET of the tag.
        for when in [named, of_digest] {
            let when = match row.of {
                Head => when.head(),
                Get => when.get(),
                FirstGets(times) => when.get().times(times),
                All => when,
            };
            origin.fault(when, row.fault.clone());
        }
        Prepared { row, target: manifest_target(origin, &repository, &tag), content }
    };
    rows.into_iter().enumerate().map(prepare).collect()
}

async fn recover(node: &Node, origin: &FaultyOrigin, prepared: &[Prepared<String>]) -> Result<()> {
    origin.heal();
    try_join_all(prepared.iter().map(|p| until_right(node, &p.target, p.content.as_bytes(), HEALED))).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_of_an_origin_has_its_answer_and_passes() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let prepared = prepare(&origin, table());
    let node = Node::alone(&Settings::of(&[&origin])).await?;
    see(&node, &prepared, String::as_bytes).await?;
    recover(&node, &origin, &prepared).await?;
    check_store(node.stop().await?.path(), &[]).await?;
    Ok(())
}

/// The daemon asks the origin itself then, and says the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_scheduler_the_answers_are_the_same() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let prepared = prepare(&origin, table());
    let nobody = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?;
    let node = Node::join_at(nobody, &Settings::of(&[&origin])).await?;
    see(&node, &prepared, String::as_bytes).await?;
    recover(&node, &origin, &prepared).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_does_not_answer_is_not_waited_for_without_end() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let prepared = prepare(
        &origin,
        vec![
            row(All, Fault::Hang, Refused(504, "UNAVAILABLE")),
            row(Get, Fault::StallAfter(20), Refused(504, "UNAVAILABLE")),
            row(Get, Fault::Hang, Refused(504, "UNAVAILABLE")),
            row(FirstGets(1), Fault::Hang, Right),
        ],
    );
    let mut settings = Settings::of(&[&origin]);
    settings.origin.response_timeout = Duration::from_millis(700);
    settings.origin.stall_timeout = Duration::from_millis(700);
    let node = Node::alone(&settings).await?;
    see(&node, &prepared, String::as_bytes).await?;
    recover(&node, &origin, &prepared).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_an_oversized_manifest_is_refused_and_not_kept() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let mut settings = Settings::of(&[&origin]);
    settings.origin.manifest_len_max = 10_000;
    let manifest = |len: usize| {
        let filler = "x".repeat(len);
        serde_json::json!({ "schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "x": filler })
            .to_string()
    };
    let (large, small) = (manifest(10_000), manifest(9_000));
    let digest = origin.add_manifest("app", Some("large"), MANIFEST, large);
    origin.add_manifest("app", Some("small"), MANIFEST, small.clone());
    let node = Node::alone(&settings).await?;
    for reference in ["large".to_owned(), digest.to_string()] {
        let reply = node.get(&manifest_target(&origin, "app", reference)).await?;
        ensure!((reply.status, reply.code().as_str()) == (502, "UNAVAILABLE"), "{}", reply.summary());
    }
    let reply = node.get(&manifest_target(&origin, "app", "small")).await?;
    ensure!(reply.is_right(small.as_bytes()), "{}", reply.summary());
    Ok(())
}
