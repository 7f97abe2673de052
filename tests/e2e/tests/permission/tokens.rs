//! Clients with and without a credential of their own, at a registry that asks for one.

use crate::stage::{PASSWORD, PRIVATE, PUBLIC, Stage, USER, cluster, shows};
use anyhow::{Context, Result, ensure};
use e2e::inside::{BOUND, Content, Node, Reply, blob_target};
use support::origin::AuthMode;
use support::poll;

/// How the registry itself challenges a client without a credential.
async fn origins_challenges(stage: &Stage, target: &str) -> Result<Vec<String>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(format!("{}{target}", stage.origin.url())).send().await?;
    ensure!(answer.status() == 401, "{target} is private: {}", answer.status());
    let lines = answer.headers().get_all("www-authenticate").iter();
    lines.map(|line| Ok(line.to_str()?.to_owned())).collect()
}

fn challenges(reply: &Reply) -> Vec<String> {
    let lines = reply.headers.get_all("www-authenticate").iter();
    lines.filter_map(|line| line.to_str().ok().map(str::to_owned)).collect()
}

/// Without a credential everything private is refused, with the registry's own challenge.
async fn is_refused(stage: &Stage, node: &Node) -> Result<()> {
    for target in stage.private_targets() {
        let reply = node.get(&target).await?;
        ensure!(
            (reply.status, reply.code().as_str()) == (401, "UNAUTHORIZED"),
            "{target}: {}",
            reply.summary()
        );
        let lines = origins_challenges(stage, &target).await?;
        ensure!(!lines.is_empty() && challenges(&reply) == lines, "{:?}", challenges(&reply));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_client_without_a_real_token_gets_nothing_private() -> Result<()> {
    let stage = Stage::bearer().await?;
    let (_hub, a, b) = cluster(&stage.settings()).await?;
    is_refused(&stage, &a).await?;

    let token = stage.users_token().await?;
    stage.pull_private(&a, &token).await?;
    // It is on this node now, and a member can give it to the other; nobody else can have it.
    is_refused(&stage, &a).await?;
    is_refused(&stage, &b).await?;
    let others = [
        stage.token(PRIVATE, None).await?,
        stage.token(PUBLIC, Some((USER, PASSWORD))).await?,
        "Bearer token-of-nobody".to_owned(),
        "Basic bm9ib2R5Om5vdGhpbmc=".to_owned(),
    ];
    for other in &others {
        for (node, target) in [&a, &b].into_iter().flat_map(|node| stage.private_targets().map(|t| (node, t)))
        {
            let reply = node.get_with(&target, other).await?;
            ensure!(reply.status == 401, "{other}, {target}: {}", reply.summary());
            ensure!(!shows(&reply.body, &stage.private.layer.bytes));
        }
    }
    // With the token the other node gets it, from the first: the registry has given each byte once.
    stage.pull_private(&b, &token).await?;
    let sent = stage.origin.blob_bytes(&stage.private.layer.digest);
    ensure!(sent == stage.private.layer.bytes.len() as u64, "{sent} bytes from the registry");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_basic_credential_is_passed_on_likewise() -> Result<()> {
    let stage = Stage::new(AuthMode::basic(USER, PASSWORD)).await?;
    let (_hub, a, b) = cluster(&stage.settings()).await?;
    is_refused(&stage, &a).await?;
    let authorization = basic(USER, PASSWORD);
    stage.pull_private(&a, &authorization).await?;
    is_refused(&stage, &a).await?;
    is_refused(&stage, &b).await?;
    let wrong = b.get_with(&stage.private_targets()[2], &basic(USER, "guess")).await?;
    ensure!(wrong.status == 401, "{}", wrong.summary());
    stage.pull_private(&b, &authorization).await
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// What anyone may read needs no token of the client's: the cluster gets one for itself, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_public_needs_no_token_even_where_the_registry_hands_them_out() -> Result<()> {
    let stage = Stage::bearer().await?;
    let (_hub, a, b) = cluster(&stage.settings()).await?;
    tokio::try_join!(stage.pull_public(&a), stage.pull_public(&b))?;
    let sent = stage.origin.blob_bytes(&stage.public.layer.digest);
    ensure!(sent == stage.public.layer.bytes.len() as u64, "{sent} bytes from the registry");
    // One for the scheduler's questions, one for the source's reads; the other node read nothing.
    let tokens = stage.origin.count(&support::origin::When::token());
    ensure!((1..=3).contains(&tokens), "{tokens} tokens");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_revoked_token_opens_nothing_new() -> Result<()> {
    let stage = Stage::bearer().await?;
    let (_hub, a, b) = cluster(&stage.settings()).await?;
    let token = stage.users_token().await?;
    stage.pull_private(&a, &token).await?;
    stage.origin.revoke_tokens();
    // This node has not asked with that token yet, so it asks now, and the registry says no.
    for target in stage.private_targets() {
        let reply = b.get_with(&target, &token).await?;
        ensure!(reply.status == 401, "{target}: {}", reply.summary());
    }
    let fresh = stage.users_token().await?;
    stage.pull_private(&b, &fresh).await
}

/// The token of the client for which a host reads the blob ends on the way: another host, whose client has a token that
/// works, goes on where that one was, and both clients get everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_ends_on_the_way_is_succeeded_by_another() -> Result<()> {
    let stage = Stage::slow(8 << 20).await?;
    // More than what is asked of the registry at once.
    let content = Content::random(77, 20_000_000);
    let digest = stage.origin.add_blob(PRIVATE, content.bytes.clone());
    let (_hub, a, b) = cluster(&stage.settings()).await?;
    let target = blob_target(&stage.origin, PRIVATE, &digest);
    let old = stage.users_token().await?;
    let first = a.get_with(&target, &old);
    let second = async {
        poll::until_async("the first bytes", BOUND, || async {
            Ok((stage.origin.blob_bytes(&digest) > 500_000).then_some(()))
        })
        .await?;
        stage.origin.revoke_tokens();
        b.get_with(&target, &stage.users_token().await?).await
    };
    let (first, second) = tokio::try_join!(first, second)?;
    ensure!(second.is_right(&content.bytes), "{}", second.summary());
    ensure!(first.is_right(&content.bytes), "{}", first.summary());
    let sent = stage.origin.blob_bytes(&digest);
    // What was on its way when the lease went over is read again: three requests of 4 MiB.
    ensure!(sent <= content.bytes.len() as u64 + (12 << 20), "{sent} bytes from the registry");
    Ok(())
}

/// `/v2/` of a mirror is the daemon's own; with a token it is the registry's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_with_a_bad_token_gets_the_challenge() -> Result<()> {
    let stage = Stage::bearer().await?;
    let node = Node::alone(&stage.settings()).await?;
    let ping = format!("/v2/?ns={}", stage.origin.registry());
    ensure!(node.get(&ping).await?.status == 200);
    let reply = node.get_with(&ping, "Bearer token-of-nobody").await?;
    let line = challenges(&reply).into_iter().next().context("a challenge")?;
    ensure!(reply.status == 401 && line.contains("/token"), "{}", reply.summary());
    let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
    let target = blob_target(&stage.origin, PRIVATE, &stage.private.layer.digest);
    let reply = node.ask(reqwest::Method::GET, &target, &twice).await?;
    ensure!(reply.status == 400, "{}", reply.summary());
    Ok(())
}
