//! Daemons of a cluster that is joined by tokens: who exchanges with whom, and what a daemon that may not join does.

use crate::stage::{Stage, credential, dfctl};
use anyhow::{Result, ensure};
use e2e::inside::{BOUND, Content, Hub, Node, Settings, blob_target};
use futures::future::{join_all, try_join_all};
use membership::JoinSecret;
use std::time::{Duration, Instant};
use support::origin::FaultyOrigin;
use support::poll;

/// How soon a removal has to be felt everywhere.
const REMOVAL_LIMIT: Duration = Duration::from_secs(60);

/// Daemons that ask for one image at once.
const CROWD: usize = 200;

fn blob(origin: &FaultyOrigin, seed: u64) -> Content {
    let content = Content::random(seed, 700_000);
    origin.add_blob("app", content.bytes.clone());
    content
}

async fn gets(node: &Node, origin: &FaultyOrigin, content: &Content) -> Result<()> {
    let target = blob_target(origin, "app", &content.digest);
    let reply = node.get(&target).await?;
    ensure!(reply.status == 200 && reply.body == content.bytes, "{}", reply.summary());
    Ok(())
}

/// With a token that was revoked, or is none of this cluster's, a daemon serves its node as a pull without it would; it
/// gets nothing from members and they nothing from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_daemon_without_a_good_token_gets_nothing_from_peers() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let settings = Settings::of(&[&origin]);
    let hub = Hub::start(&settings).await?;
    let member = Node::join(&hub, &settings).await?;
    let second = Node::join(&hub, &settings).await?;
    hub.until_hosts(2).await?;
    let content = blob(&origin, 1);
    gets(&member, &origin, &content).await?;

    let mut guessed = hub.token().clone();
    guessed.secret = JoinSecret::generate().ok_or_else(|| anyhow::anyhow!("no randomness"))?;
    let mut foreign = hub.token().clone();
    foreign.authority = Hub::start(&settings).await?.token().authority;
    for token in [guessed, foreign] {
        let before = origin.blob_bytes(&content.digest);
        let stranger = Node::join_with(&hub, token, &settings).await?;
        gets(&stranger, &origin, &content).await?;
        let sent = origin.blob_bytes(&content.digest) - before;
        ensure!(sent == content.bytes.len() as u64, "{sent} bytes from the origin: the rest from a member?");
        ensure!(hub.status().await?["hosts_total"] == 2, "it was let in");
        stranger.stop().await?;
    }
    let before = origin.blob_bytes(&content.digest);
    gets(&second, &origin, &content).await?;
    ensure!(origin.blob_bytes(&content.digest) == before, "members still share");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_rotated_without_downtime() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let settings = Settings::of(&[&origin]);
    let hub = Hub::start(&settings).await?;
    let member = Node::join(&hub, &settings).await?;
    let made = dfctl(&hub, &["token", "create", "--lifetime", "1h", "--note", "rotation"]).await?;
    let list = dfctl(&hub, &["token", "list", "-o", "json"]).await?;
    let list: Vec<serde_json::Value> = serde_json::from_str(&list)?;
    // Both may have been made in the same second.
    let (new, old): (Vec<_>, Vec<_>) = list.iter().partition(|token| token["note"] == "rotation");
    ensure!((new.len(), old.len()) == (1, 1), "{list:?}");
    dfctl(&hub, &["token", "revoke", old[0]["id"].as_str().unwrap_or_default()]).await?;

    let refused = Node::join(&hub, &settings).await?;
    let joined = Node::join_with(&hub, made.trim().parse()?, &settings).await?;
    hub.until_hosts(2).await?;
    let content = blob(&origin, 1);
    for node in [&member, &joined] {
        gets(node, &origin, &content).await?;
    }
    ensure!(origin.blob_bytes(&content.digest) == content.bytes.len() as u64, "members still share");
    // A member that comes back needs no token: it has a certificate.
    let dir = member.stop().await?;
    let again = Node::join_again(&hub, &settings, dir).await?;
    hub.until_hosts(2).await?;
    gets(&again, &origin, &content).await?;
    ensure!(hub.status().await?["hosts_total"] == 2, "the revoked token let one in");
    drop(refused);
    Ok(())
}

/// The removed daemon goes on as a node's mirror; it is a member nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_removed_host_gets_nothing_more() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let settings = Settings::of(&[&origin]);
    let hub = Hub::start(&settings).await?;
    let (a, b) = (Node::join(&hub, &settings).await?, Node::join(&hub, &settings).await?);
    let bad = Node::join(&hub, &settings).await?;
    hub.until_hosts(3).await?;
    let (first, second) = (blob(&origin, 1), blob(&origin, 2));
    gets(&a, &origin, &first).await?;
    gets(&bad, &origin, &first).await?;
    ensure!(origin.blob_bytes(&first.digest) == first.bytes.len() as u64, "it was a member");

    gets(&a, &origin, &second).await?;
    let id = bad.status().await?["host"].as_str().unwrap_or_default().to_owned();
    let begun = Instant::now();
    dfctl(&hub, &["host", "remove", &id]).await?;
    hub.until_hosts(2).await?;
    poll::until_async("the removed daemon knows that it is alone", BOUND, || async {
        Ok((bad.status().await?["scheduler"] == "down").then_some(()))
    })
    .await?;
    let before = origin.blob_bytes(&second.digest);
    gets(&bad, &origin, &second).await?;
    let sent = origin.blob_bytes(&second.digest) - before;
    ensure!(sent == second.bytes.len() as u64, "{sent} bytes from the origin: a member gave it the rest");
    ensure!(begun.elapsed() < REMOVAL_LIMIT, "it took {:?}", begun.elapsed());
    gets(&b, &origin, &second).await?;
    ensure!(origin.blob_bytes(&second.digest) == before + sent, "members still share");

    ensure!(dfctl(&hub, &["host", "removed"]).await?.trim() == id);
    dfctl(&hub, &["host", "restore", &id]).await?;
    hub.until_hosts(3).await
}

/// A daemon with the scheduler inside lets others join, as the README's second form has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_with_the_scheduler_inside_is_joined() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let settings = Settings::of(&[&origin]);
    let (first, door) = Node::host(&settings).await?;
    let second = Node::join_at_door(door, &settings).await?;
    poll::until_async("two hosts", BOUND, || async {
        Ok((first.status().await?["hosts"].as_array().map(Vec::len) == Some(2)).then_some(()))
    })
    .await?;
    let content = blob(&origin, 1);
    gets(&first, &origin, &content).await?;
    gets(&second, &origin, &content).await?;
    ensure!(origin.blob_bytes(&content.digest) == content.bytes.len() as u64, "both are members");
    Ok(())
}

async fn crowd(settings: &Settings) -> Result<(Hub, Vec<Node>)> {
    let hub = Hub::start(settings).await?;
    let mut nodes = Vec::with_capacity(CROWD);
    while nodes.len() < CROWD {
        nodes.extend(try_join_all((0..20).map(|_| Node::join(&hub, settings))).await?);
    }
    hub.until_hosts(CROWD as u64).await?;
    Ok((hub, nodes))
}

fn asked(stage: &Stage, method: &str, part: &str) -> usize {
    let requests = stage.origin.requests();
    requests.iter().filter(|request| request.method == method && request.path.contains(part)).count()
}

/// Two hundred daemons, one private image, the credential that all are configured with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_daemons_ask_once_with_a_configured_credential() -> Result<()> {
    let stage = Stage::bearer().await?;
    let mut settings = stage.settings();
    let particular = settings.registry(&stage.origin);
    particular.share_credential = true;
    particular.credential = Some(credential());
    let (_hub, nodes) = crowd(&settings).await?;
    let [by_tag, _, layer] = stage.private_targets();
    let pulls = nodes.iter().map(async |node| -> Result<()> {
        for target in [&by_tag, &layer] {
            let reply = node.get(target).await?;
            ensure!(reply.status == 200, "{target}: {}", reply.summary());
        }
        Ok(())
    });
    join_all(pulls).await.into_iter().collect::<Result<()>>()?;
    let sent = stage.origin.blob_bytes(&stage.private.layer.digest);
    let heads = asked(&stage, "HEAD", "/blobs/");
    let requests = stage.origin.requests();
    let tokens = requests.iter().filter(|request| request.path == "/token");
    let (with, without): (Vec<_>, Vec<_>) = tokens.partition(|r| r.header("authorization").is_some());
    let (with, without) = (with.len(), without.len());
    eprintln!(
        "  {with} tokens for the credential, {without} for nobody, {heads} permissions asked for, {sent} bytes"
    );
    ensure!(sent == stage.private.layer.bytes.len() as u64, "{sent} bytes from the registry");
    // The scheduler's question and the source's read; before them, the question whether anybody may.
    ensure!(with <= 2, "{with} tokens for the credential");
    ensure!(without <= 1, "{without} anonymous tokens");
    ensure!(heads <= 2, "{heads} questions whether the blob may be read");
    Ok(())
}

/// Two hundred daemons, one private image, and each runtime has a token of its own, which the registry is asked about once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_runtimes_own_tokens_are_asked_about_once_each() -> Result<()> {
    let stage = Stage::bearer().await?;
    let (_hub, nodes) = crowd(&stage.settings()).await?;
    let tokens = try_join_all((0..CROWD).map(|_| stage.users_token())).await?;
    let [_, _, layer] = stage.private_targets();
    let before = stage.origin.requests().len();
    let pulls = nodes.iter().zip(&tokens).map(async |(node, token)| -> Result<()> {
        for _ in 0..2 {
            let reply = node.get_with(&layer, token).await?;
            ensure!(reply.status == 200 && reply.body == stage.private.layer.bytes, "{}", reply.summary());
        }
        Ok(())
    });
    join_all(pulls).await.into_iter().collect::<Result<()>>()?;
    let requests = stage.origin.requests();
    let asked = |token: &str| {
        let of_token = |request: &&support::origin::Request| request.header("authorization") == Some(token);
        requests[before..].iter().filter(of_token).filter(|request| request.method == "HEAD").count()
    };
    let most = tokens.iter().map(|token| asked(token)).max().unwrap_or_default();
    let sent = stage.origin.blob_bytes(&stage.private.layer.digest);
    eprintln!("  at most {most} questions for one token, {sent} bytes");
    ensure!(tokens.iter().all(|token| asked(token) >= 1), "a token that nobody asked about opened the layer");
    ensure!(most <= 1, "{most} questions for one token");
    ensure!(sent == stage.private.layer.bytes.len() as u64, "{sent} bytes from the registry");
    Ok(())
}
