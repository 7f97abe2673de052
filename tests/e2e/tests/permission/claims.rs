//! Repositories and registries that claim to have what is somebody else's: nothing of it leaves the cluster through them.

use crate::stage::{PRIVATE, Stage, cluster, manifest_of, shows};
use anyhow::{Result, ensure};
use e2e::inside::{Content, Node, blob_target, manifest_target};
use reqwest::Method;
use support::images::MANIFEST;
use support::origin::{Fault, FaultyOrigin, When};
use types::Digest;

/// Anyone can push a manifest that names a digest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_repository_that_only_names_a_digest_does_not_give_it() -> Result<()> {
    let stage = Stage::bearer().await?;
    let (_hub, a, b) = cluster(&stage.settings()).await?;
    stage.pull_private(&a, &stage.users_token().await?).await?;
    let (origin, secret) = (&stage.origin, &stage.private);
    // Not the same manifest, which would be Eve's as well.
    let named = manifest_of(&secret.layer.digest, secret.layer.bytes.len() + 1);
    origin.add_manifest("eve/app", Some("v1"), MANIFEST, named);
    for node in [&a, &b] {
        ensure!(node.get(&manifest_target(origin, "eve/app", "v1")).await?.status == 200);
        let reply = node.get(&blob_target(origin, "eve/app", &secret.layer.digest)).await?;
        ensure!((reply.status, reply.code().as_str()) == (404, "BLOB_UNKNOWN"), "{}", reply.summary());
        let reply = node.get(&manifest_target(origin, "eve/app", secret.manifest)).await?;
        ensure!((reply.status, reply.code().as_str()) == (404, "MANIFEST_UNKNOWN"), "{}", reply.summary());
        let eve = stage.token("eve/app", None).await?;
        let reply = node.get_with(&blob_target(origin, "eve/app", &secret.layer.digest), &eve).await?;
        ensure!(reply.status == 404, "{}", reply.summary());
    }
    Ok(())
}

/// A registry that the configuration does not trust, and that says yes to every question.
struct Eve {
    registry: FaultyOrigin,
}

impl Eve {
    async fn new() -> Result<Self> {
        Ok(Self { registry: FaultyOrigin::start().await? })
    }

    /// Claims to have these: their real digests, other bytes of the same length.
    fn claim(&self, digest: &Digest, len: usize) {
        self.registry.add_blob_as("eve/app", digest, Content::random(99, len).bytes);
        self.registry.add_manifest_as("eve/app", digest, MANIFEST, Content::random(98, len).bytes);
    }
}

async fn with_eve() -> Result<(Stage, Eve, e2e::inside::Hub, Node, Node)> {
    let (stage, eve) = (Stage::bearer().await?, Eve::new().await?);
    let mut settings = e2e::inside::Settings::of(&[&stage.origin, &eve.registry]);
    settings.registry(&eve.registry).untrusted = true;
    settings.patience = std::time::Duration::from_millis(300);
    let (hub, a, b) = cluster(&settings).await?;
    stage.pull_private(&a, &stage.users_token().await?).await?;
    Ok((stage, eve, hub, a, b))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_lying_registry_does_not_get_a_private_blob_out() -> Result<()> {
    let (stage, eve, _hub, a, b) = with_eve().await?;
    let secret = &stage.private.layer;
    eve.claim(&secret.digest, secret.bytes.len());
    let target = blob_target(&eve.registry, "eve/app", &secret.digest);
    for (node, range) in
        [&a, &b].into_iter().flat_map(|node| [None, Some("bytes=0-"), Some("bytes=-1000")].map(|r| (node, r)))
    {
        for authorization in [None, Some("Bearer eves")] {
            let headers = range.map(|range| ("range", range)).into_iter();
            let headers: Vec<_> = headers.chain(authorization.map(|auth| ("authorization", auth))).collect();
            let reply = node.ask(Method::GET, &target, &headers).await?;
            ensure!(!shows(&reply.body, &secret.bytes), "{headers:?}: {}", reply.summary());
            let tail = &secret.bytes[secret.bytes.len() - 500..];
            ensure!(!shows(&reply.body, tail), "{headers:?}: {}", reply.summary());
            ensure!(range.is_some_and(|range| range != "bytes=0-") || !reply.is_right(&secret.bytes));
        }
    }
    // What it really has its clients get, from it and not from the cluster.
    eve.registry.add_blob("eve/app", secret.bytes.clone());
    eve.registry.forget_requests();
    let reply = a.get(&target).await?;
    ensure!(reply.is_right(&secret.bytes), "{}", reply.summary());
    ensure!(eve.registry.blob_bytes(&secret.digest) == secret.bytes.len() as u64);
    Ok(())
}

/// Nor does it learn whether the cluster has a blob, or how large it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_lying_registry_learns_nothing_of_a_private_blob() -> Result<()> {
    let (stage, eve, _hub, a, _b) = with_eve().await?;
    let (held, strange) = (stage.private.layer.digest, Digest::sha256(b"nobody has this"));
    let mut seen = Vec::new();
    for digest in [&held, &strange] {
        eve.claim(digest, 1234);
        let target = blob_target(&eve.registry, "eve/app", digest);
        let with_size = a.ask(Method::HEAD, &target, &[]).await?;
        let whole = a.get(&target).await?;
        eve.registry.add_blob_as("eve/silent", digest, "x");
        eve.registry.fault(When::blob(digest).head(), Fault::NoContentLength);
        let without = a.get(&blob_target(&eve.registry, "eve/silent", digest)).await?;
        let size = with_size.header("content-length").map(str::to_owned);
        seen.push((with_size.status, size, whole.status, whole.body.len(), without.status, without.body));
    }
    ensure!(seen[0] == seen[1], "{seen:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_lying_registry_does_not_get_a_private_manifest_out() -> Result<()> {
    let (stage, eve, _hub, a, b) = with_eve().await?;
    let (secret, text) = (stage.private.manifest, &stage.private.text);
    eve.claim(&secret, text.len());
    eve.registry.tag("eve/app", "v1", &secret);
    for node in [&a, &b] {
        for reference in [secret.to_string(), "v1".to_owned()] {
            let target = manifest_target(&eve.registry, "eve/app", reference);
            for authorization in [None, Some("Bearer eves")] {
                let headers: Vec<_> = authorization.map(|auth| ("authorization", auth)).into_iter().collect();
                let reply = node.ask(Method::GET, &target, &headers).await?;
                ensure!(reply.status != 200 && !shows(&reply.body, text), "{target}: {}", reply.summary());
            }
        }
    }
    // The same names are as good as ever for those who may.
    stage.pull_private(&b, &stage.users_token().await?).await?;
    ensure!(a.get(&manifest_target(&stage.origin, PRIVATE, secret)).await?.status == 401);
    Ok(())
}
