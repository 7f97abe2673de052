//! Manifests that are made to cost as much as they can.

use crate::scene::Scene;
use anyhow::{Result, ensure};
use e2e::inside::manifest_target;
use std::time::{Duration, Instant};
use support::images::MANIFEST;
use support::origin::{Fault, OCI_INDEX, When};
use types::Digest;

const LARGE: usize = 100_000_000;

/// What the daemon takes of a manifest, and as much again for the buffers on the way.
const TAKEN_MAX: u64 = 2 * (4 << 20);

const MANIFESTS: usize = 10_000;

/// How long the index may take.
const INDEX_LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_manifest_of_a_hundred_megabytes() -> Result<()> {
    let scene = Scene::start(|_| {}).await?;
    let filler = "x".repeat(LARGE);
    let text = format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","layers":[],"x":"{filler}"}}"#);
    let digest = scene.origin.add_manifest("large/app", Some("v1"), MANIFEST, text);
    // It does not say how long it is, so that it has to be read to know.
    scene.origin.fault(When::manifest(&digest.to_string()), Fault::NoContentLength);
    scene.origin.fault(When::manifest("v1").get(), Fault::NoContentLength);
    let target = manifest_target(&scene.origin, "large/app", "v1");
    let (reply, lines) = scene.beside(31, scene.attacked.get(&target)).await?;
    ensure!(reply.status == 502, "{}", reply.summary());
    let of_it = |request: &&support::origin::Request| request.path.starts_with("/v2/large/");
    let sent: u64 = scene.origin.requests().iter().filter(of_it).map(support::origin::Request::sent).sum();
    eprintln!("  {sent} of {LARGE} bytes were read");
    ensure!(sent <= TAKEN_MAX, "{sent} bytes");
    ensure!(lines.len() == 1, "{lines:#?}");
    Ok(())
}

/// It is passed on as it is; nothing of what it names is fetched, counted on or kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_an_index_of_ten_thousand_manifests() -> Result<()> {
    let scene = Scene::start(|_| {}).await?;
    let named: Vec<Digest> = (0..MANIFESTS).map(|i| Digest::sha256(&i.to_be_bytes())).collect();
    let entry = |digest: &Digest| {
        let digest = digest.to_string();
        serde_json::json!({ "mediaType": MANIFEST, "digest": digest, "size": u64::MAX })
    };
    let manifests: Vec<_> = named.iter().map(entry).collect();
    let text =
        serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests }).to_string();
    let length = text.len();
    scene.origin.add_manifest("bomb/app", Some("v1"), OCI_INDEX, text.clone());
    let target = manifest_target(&scene.origin, "bomb/app", "v1");
    let begun = Instant::now();
    let ask = scene.attacked.ask(reqwest::Method::GET, &target, &[("accept", OCI_INDEX)]);
    let (reply, lines) = scene.beside(32, ask).await?;
    ensure!(reply.is_right(text.as_bytes()), "{}", reply.summary());
    eprintln!("  {length} bytes passed on in {:.2?}, with a pull beside", begun.elapsed());
    ensure!(begun.elapsed() < INDEX_LIMIT, "{:?}", begun.elapsed());
    ensure!(named.iter().all(|digest| scene.asked_for(digest) == 0), "what it names was asked for");
    let asked = scene.origin.requests().iter().filter(|r| r.path.starts_with("/v2/bomb/")).count();
    ensure!(asked <= 2, "{asked} requests");
    ensure!(lines.len() == 1, "{lines:#?}");
    Ok(())
}
