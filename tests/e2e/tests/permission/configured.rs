//! Credentials of the configuration: they serve clients without one only where it says so, and only what they are for.

use crate::stage::{PRIVATE, Stage, cluster, credential};
use anyhow::{Result, ensure};
use e2e::inside::{Hub, Node, Settings, blob_target};

async fn gets_private(stage: &Stage, settings: &Settings) -> Result<Vec<u16>> {
    let (_hub, a, b) = cluster(settings).await?;
    let mut seen = Vec::new();
    for node in [&a, &b] {
        for target in stage.private_targets() {
            seen.push(node.get(&target).await?.status);
        }
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configured_credential_serves_clients_only_if_it_is_shared() -> Result<()> {
    let stage = Stage::bearer().await?;
    let mut settings = stage.settings();
    settings.registry(&stage.origin).credential = Some(credential());
    ensure!(gets_private(&stage, &settings).await? == [401; 6]);
    ensure!(
        stage
            .origin
            .requests()
            .iter()
            .all(|request| request.header("authorization").is_none_or(|auth| !auth.starts_with("Basic"))),
        "the password was not even used"
    );

    settings.registry(&stage.origin).share_credential = true;
    ensure!(gets_private(&stage, &settings).await? == [200; 6]);
    let sent = stage.origin.blob_bytes(&stage.private.layer.digest);
    ensure!(sent == stage.private.layer.bytes.len() as u64, "{sent} bytes from the registry");
    Ok(())
}

/// One for some repositories opens no others, and is not sent for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_for_some_repositories_is_for_them_alone() -> Result<()> {
    let stage = Stage::bearer().await?;
    stage.private.lay_into(&stage.origin, "other/secret");
    stage.origin.make_private("other/secret");
    let mut settings = stage.settings();
    let particular = settings.registry(&stage.origin);
    particular.repositories.insert("team".to_owned(), credential());
    particular.share_credential = true;
    let (_hub, a, b) = cluster(&settings).await?;
    let digest = stage.private.layer.digest;
    for node in [&a, &b] {
        let reply = node.get(&blob_target(&stage.origin, PRIVATE, &digest)).await?;
        ensure!(reply.is_right(&stage.private.layer.bytes), "{}", reply.summary());
        let reply = node.get(&blob_target(&stage.origin, "other/secret", &digest)).await?;
        ensure!(reply.status == 401, "{}", reply.summary());
    }
    Ok(())
}

/// A client's own token comes before the configured credential: with a bad one it is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_bad_token_is_not_made_up_for() -> Result<()> {
    let stage = Stage::bearer().await?;
    let mut settings = stage.settings();
    settings.registry(&stage.origin).credential = Some(credential());
    settings.registry(&stage.origin).share_credential = true;
    let (_hub, a, _b) = cluster(&settings).await?;
    for target in stage.private_targets() {
        let reply = a.get_with(&target, "Bearer token-of-nobody").await?;
        ensure!(reply.status == 401, "{target}: {}", reply.summary());
        ensure!(a.get(&target).await?.status == 200, "{target}");
    }
    Ok(())
}

/// A scheduler with the settings `scheduler`, a daemon with the shared credential and one without: what each answers a
/// client that has none.
async fn with_and_without(stage: &Stage, scheduler: &Settings, with: &Settings) -> Result<[Vec<u16>; 2]> {
    let without = stage.settings();
    let hub = Hub::start(scheduler).await?;
    let (a, b) = tokio::try_join!(Node::join(&hub, with), Node::join(&hub, &without))?;
    hub.until_hosts(2).await?;
    let mut seen = [Vec::new(), Vec::new()];
    for target in stage.private_targets() {
        for (node, seen) in [&a, &b].into_iter().zip(&mut seen) {
            seen.push(node.get(&target).await?.status);
        }
    }
    Ok(seen)
}

fn shared(stage: &Stage) -> Settings {
    let mut settings = stage.settings();
    settings.registry(&stage.origin).credential = Some(credential());
    settings.registry(&stage.origin).share_credential = true;
    settings
}

/// What the scheduler may read by a credential of its own is for those daemons that have one too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_the_credential_of_others_serves_no_clients_of_a_daemon_without() -> Result<()> {
    let stage = Stage::bearer().await?;
    let with = shared(&stage);
    let seen = with_and_without(&stage, &with, &with).await?;
    ensure!(seen == [[200; 3], [401; 3]], "{seen:?}");
    let sent = stage.origin.blob_bytes(&stage.private.layer.digest);
    ensure!(sent == stage.private.layer.bytes.len() as u64, "{sent} bytes from the registry");
    Ok(())
}

/// A scheduler that has no credential speaks for nobody who has one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemons_credential_serves_its_clients_where_the_scheduler_has_none() -> Result<()> {
    let stage = Stage::bearer().await?;
    let seen = with_and_without(&stage, &stage.settings(), &shared(&stage)).await?;
    ensure!(seen == [[200; 3], [401; 3]], "{seen:?}");
    Ok(())
}
