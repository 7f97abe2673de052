//! While the registry is out of reach, what was permitted stays so, and nothing else becomes so.

use crate::stage::{PUBLIC, Stage, cluster, nobody, shows};
use anyhow::{Result, ensure};
use e2e::inside::{BOUND, Node, Settings, blob_target, manifest_target};
use std::time::Duration;
use support::poll;

/// Answers lapse at once, so that the grace is all that is left of them.
fn forgetful(stage: &Stage) -> Settings {
    let mut settings = stage.settings();
    settings.resolver.tag_lifetime = Duration::from_millis(50);
    settings.resolver.access_lifetime = Duration::from_millis(50);
    settings
}

/// What was never public is not given out, under no name.
async fn private_is_refused(stage: &Stage, node: &Node) -> Result<()> {
    let (origin, secret) = (&stage.origin, &stage.private);
    let under_public =
        [manifest_target(origin, PUBLIC, secret.manifest), blob_target(origin, PUBLIC, &secret.layer.digest)];
    for target in stage.private_targets().into_iter().chain(under_public) {
        let reply = node.get(&target).await?;
        ensure!(reply.status >= 400, "{target}: {}", reply.summary());
        ensure!(!shows(&reply.body, &secret.text) && !shows(&reply.body, &secret.layer.bytes));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_scheduler_only_what_was_public_is_still_given() -> Result<()> {
    let stage = Stage::bearer().await?;
    let (_hub, a, b) = cluster(&forgetful(&stage)).await?;
    stage.pull_public(&a).await?;
    stage.pull_public(&b).await?;
    stage.pull_private(&a, &stage.users_token().await?).await?;
    stage.origin.set_reachable(false);
    stage.pull_public(&a).await?;
    stage.pull_public(&b).await?;
    private_is_refused(&stage, &a).await?;
    private_is_refused(&stage, &b).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_scheduler_only_what_was_public_is_still_given() -> Result<()> {
    let stage = Stage::bearer().await?;
    let node = Node::join_at(nobody().await?, &forgetful(&stage)).await?;
    stage.pull_public(&node).await?;
    stage.pull_private(&node, &stage.users_token().await?).await?;
    stage.origin.set_reachable(false);
    stage.pull_public(&node).await?;
    private_is_refused(&stage, &node).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_become_private_is_refused_when_its_permission_has_lapsed() -> Result<()> {
    let stage = Stage::bearer().await?;
    let (_hub, a, _b) = cluster(&forgetful(&stage)).await?;
    stage.pull_public(&a).await?;
    stage.origin.make_private(PUBLIC);
    for target in stage.public_targets() {
        poll::until_async(&target, BOUND, || async {
            Ok((a.get(&target).await?.status == 401).then_some(()))
        })
        .await?;
    }
    // And stays so when nobody can be asked any more.
    stage.origin.set_reachable(false);
    for target in stage.public_targets() {
        let reply = a.get(&target).await?;
        ensure!(reply.status >= 400, "{target}: {}", reply.summary());
    }
    Ok(())
}
