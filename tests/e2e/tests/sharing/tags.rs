//! Tags: resolved once per lifetime for everybody; a push is seen within it, and at once after a refresh.

use anyhow::{Context, Result, ensure};
use e2e::inside::{BOUND, Hub, Node, Settings, manifest_target};
use std::time::{Duration, Instant};
use support::images::Image;
use support::origin::{FaultyOrigin, When};
use support::poll;
use types::Digest;

async fn digest_of(node: &Node, target: &str) -> Result<Digest> {
    let reply = node.get(target).await?;
    ensure!(reply.status == 200, "{}", reply.summary());
    let digest: Digest = reply.header("docker-content-digest").context("a digest")?.parse()?;
    ensure!(digest.matches(&reply.body), "the body is the digest's");
    Ok(digest)
}

async fn two(settings: &Settings) -> Result<(Hub, Node, Node)> {
    let hub = Hub::start(settings).await?;
    let (a, b) = tokio::try_join!(Node::join(&hub, settings), Node::join(&hub, settings))?;
    hub.until_hosts(2).await?;
    Ok((hub, a, b))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_seen_by_all_within_the_lifetime() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let (old, new) = (Image::random(1, &[100])?, Image::random(2, &[100])?);
    old.lay_into(&origin, "app", "v1");
    let mut settings = Settings::of(&[&origin]);
    settings.resolver.tag_lifetime = Duration::from_millis(800);
    let (_hub, a, b) = two(&settings).await?;
    let target = manifest_target(&origin, "app", "v1");
    let first = Instant::now();
    ensure!(digest_of(&a, &target).await? == old.manifest.digest);
    new.lay_into(&origin, "app", "v1");
    for node in [&b, &a] {
        poll::until_async("the push is seen", BOUND, || async {
            let digest = digest_of(node, &target).await?;
            // Neither asks the origin on its own: until the lifetime is over both say what was.
            ensure!(digest == new.manifest.digest || digest == old.manifest.digest);
            ensure!(digest == old.manifest.digest || first.elapsed() >= settings.resolver.tag_lifetime);
            Ok((digest == new.manifest.digest).then_some(()))
        })
        .await?;
    }
    // The polls were many; the origin was asked once in each lifetime.
    let lifetimes = first.elapsed().as_millis() / settings.resolver.tag_lifetime.as_millis() + 1;
    let heads = origin.count(&When::manifest("v1").head());
    ensure!(heads as u128 <= lifetimes, "{heads} HEADs in {lifetimes} lifetimes");
    ensure!(origin.manifest_gets() == 2, "{} GETs of two manifests", origin.manifest_gets());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_refresh_all_see_it_at_once() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let (old, new) = (Image::random(3, &[100])?, Image::random(4, &[100])?);
    old.lay_into(&origin, "app", "v1");
    let mut settings = Settings::of(&[&origin]);
    settings.resolver.tag_lifetime = Duration::from_secs(3600);
    let (_hub, a, b) = two(&settings).await?;
    let target = manifest_target(&origin, "app", "v1");
    for node in [&a, &b] {
        ensure!(digest_of(node, &target).await? == old.manifest.digest);
    }
    new.lay_into(&origin, "app", "v1");
    ensure!(digest_of(&b, &target).await? == old.manifest.digest, "the lifetime is not over");
    let refreshed = refresh(&a, &format!("{}/app:v1", origin.registry())).await?;
    ensure!(refreshed["digest"] == new.manifest.digest.to_string(), "{refreshed}");
    for node in [&a, &b] {
        ensure!(digest_of(node, &target).await? == new.manifest.digest);
    }
    // A tag that is gone is so at once as well.
    origin.remove("app", &new.manifest.digest);
    let gone = refresh(&b, &format!("{}/app:v1", origin.registry())).await?;
    ensure!(gone["error"].is_string(), "{gone}");
    for node in [&a, &b] {
        let reply = node.get(&target).await?;
        ensure!((reply.status, reply.code().as_str()) == (404, "MANIFEST_UNKNOWN"), "{}", reply.summary());
    }
    Ok(())
}

async fn refresh(node: &Node, image: &str) -> Result<serde_json::Value> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.post(format!("{}/v1/refresh?image={image}", node.admin())).send().await?;
    Ok(answer.json().await?)
}
