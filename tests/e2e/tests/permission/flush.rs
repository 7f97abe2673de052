//! What origins permitted is asked anew when an operator says so, everywhere and at once.

use crate::stage::{PUBLIC, Stage, cluster, dfctl};
use anyhow::{Context, Result, ensure};
use e2e::inside::{BOUND, Content, Node, audit_lines, blob_target};
use process::audit::{Event, Line};
use std::path::Path;
use support::poll;

/// Operations in a log: by which way, what, to what; and the user.
fn operations(lines: Vec<Line>) -> Vec<(String, String, String, Option<u32>)> {
    let told = lines.into_iter().filter_map(|line| match line.event {
        Event::Operation(operation) => {
            Some((operation.by.into_owned(), operation.name.into_owned(), operation.detail, line.uid))
        }
        _ => None,
    });
    told.collect()
}

fn own_uid() -> Result<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(std::fs::metadata("/proc/self")?.uid())
}

async fn until_status(node: &Node, target: &str, status: u16) -> Result<()> {
    poll::until_async("the daemon hears of it", BOUND, || async {
        Ok((node.get(target).await?.status == status).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_right_that_has_ended_is_gone_with_a_flush() -> Result<()> {
    let stage = Stage::bearer().await?;
    let mut settings = stage.settings();
    settings.audit = true;
    let (hub, a, b) = cluster(&settings).await?;
    let other = Content::random(5, 100_000);
    stage.origin.add_blob("library/other", other.bytes.clone());
    let other_layer = blob_target(&stage.origin, "library/other", &other.digest);
    for node in [&a, &b] {
        stage.pull_public(node).await?;
        ensure!(node.get(&other_layer).await?.status == 200);
    }

    stage.origin.make_private(PUBLIC);
    let [by_tag, by_digest, layer] = stage.public_targets();
    for node in [&a, &b] {
        ensure!(node.get(&layer).await?.status == 200, "the right is remembered for its lifetime");
    }
    let asked = stage.origin.requests().len();
    let repository = format!("{}/{PUBLIC}", stage.origin.registry());
    let said = dfctl(&hub, &["flush", &repository]).await?;
    ensure!(said == format!("the scheduler and 2 hosts ask anew who may read {repository}\n"), "{said}");
    for node in [&a, &b] {
        for target in [&layer, &by_tag, &by_digest] {
            until_status(node, target, 401).await?;
        }
        ensure!(node.get(&other_layer).await?.status == 200);
    }
    let requests = stage.origin.requests();
    let of_other = requests[asked..].iter().filter(|request| request.path.contains("library/other")).count();
    ensure!(of_other == 0, "nobody asks anew about another repository");
    // Nor does an outage bring it back.
    stage.origin.set_reachable(false);
    for node in [&a, &b] {
        let reply = node.get(&layer).await?;
        ensure!(matches!(reply.status, 401 | 503), "{}", reply.summary());
    }
    stage.origin.set_reachable(true);

    let asked = stage.origin.requests().len();
    ensure!(dfctl(&hub, &["flush"]).await?.contains("2 hosts ask anew who may read all repositories"));
    poll::until_async("the other repository is asked about too", BOUND, || async {
        ensure!(a.get(&other_layer).await?.status == 200);
        let requests = stage.origin.requests();
        Ok(requests[asked..].iter().any(|request| request.path.contains("library/other")).then_some(()))
    })
    .await?;

    for node in [a, b] {
        let told = operations(audit_lines(node.stop().await?.path())?);
        let expected = |what: &str| ("scheduler".to_owned(), "flush".to_owned(), what.to_owned(), None);
        ensure!(told == [expected(&repository), expected("all repositories")], "{told:?}");
    }
    Ok(())
}

/// A daemon that was stopped at a flush hears of it when it comes back, though the registry is away by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_right_that_ended_while_a_host_was_away() -> Result<()> {
    let stage = Stage::bearer().await?;
    let mut settings = stage.settings();
    settings.audit = true;
    let (hub, a, b) = cluster(&settings).await?;
    for node in [&a, &b] {
        stage.pull_public(node).await?;
    }
    let [by_tag, by_digest, layer] = stage.public_targets();
    let (kept, away) = (a.stop().await?, b.stop().await?);
    stage.origin.make_private(PUBLIC);
    stage.origin.set_reachable(false);
    // One that comes back before has the grace.
    let a = Node::join_again(&hub, &settings, kept).await?;
    hub.until_hosts(1).await?;
    until_status(&a, &layer, 200).await?;
    let repository = format!("{}/{PUBLIC}", stage.origin.registry());
    dfctl(&hub, &["flush", &repository]).await?;
    let b = Node::join_again(&hub, &settings, away).await?;
    hub.until_hosts(2).await?;
    for target in [&layer, &by_tag, &by_digest] {
        poll::until_async("the daemon hears of it", BOUND, || async {
            Ok(matches!(b.get(target).await?.status, 401 | 503).then_some(()))
        })
        .await?;
    }
    // It hears of it once, in one life or another; of all, since it had heard of none before.
    let b = Node::join_again(&hub, &settings, b.stop().await?).await?;
    hub.until_hosts(2).await?;
    let told = operations(audit_lines(b.stop().await?.path())?);
    let everything = "all repositories".to_owned();
    ensure!(told == [("scheduler".to_owned(), "flush".to_owned(), everything, None)], "{told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_operators_do_at_the_scheduler_is_told() -> Result<()> {
    let stage = Stage::bearer().await?;
    let mut settings = stage.settings();
    settings.audit = true;
    let (hub, a, _b) = cluster(&settings).await?;
    let token = dfctl(&hub, &["token", "create", "--note", "for rack 7"]).await?;
    let list: Vec<serde_json::Value> =
        serde_json::from_str(&dfctl(&hub, &["token", "list", "-o", "json"]).await?)?;
    let of_note = |token: &&serde_json::Value| token["note"] == "for rack 7";
    let id = list.iter().find(of_note).context("the token")?["id"].as_str().context("an id")?.to_owned();
    dfctl(&hub, &["token", "revoke", &id]).await?;
    ensure!(dfctl(&hub, &["token", "revoke", &id]).await.is_err(), "it is gone");
    let image = format!("{}/{PUBLIC}:v1", stage.origin.registry());
    let begun = dfctl(&hub, &["preheat", &image, "-o", "json"]).await?;
    let begun: serde_json::Value = serde_json::from_str(&begun)?;
    let preheat = begun["id"].as_str().context("an id")?.to_owned();
    dfctl(&hub, &["preheats", "cancel", &preheat]).await?;
    let host = a.status().await?["host"].as_str().context("an id")?.to_owned();
    dfctl(&hub, &["host", "remove", &host]).await?;
    dfctl(&hub, &["host", "restore", &host]).await?;
    dfctl(&hub, &["flush"]).await?;

    let dir = hub.stop().await?;
    let uid = Some(own_uid()?);
    let expected = [
        ("token_create", format!("{id} for rack 7")),
        ("token_revoke", id),
        ("preheat_begin", format!("{preheat} of {image} on 2 hosts")),
        ("preheat_cancel", format!("{preheat} of {image}")),
        ("host_remove", host.clone()),
        ("host_restore", host),
        ("flush", "all repositories".to_owned()),
    ]
    .map(|(name, detail)| ("operator".to_owned(), name.to_owned(), detail, uid));
    let (joined, told): (Vec<_>, Vec<_>) =
        operations(audit_lines(dir.path())?).into_iter().partition(|(by, ..)| by == "grpc");
    ensure!(told == expected, "{told:?}");
    let first = list.iter().find(|token| token["note"] != "for rack 7").context("the first token")?;
    let first = first["id"].as_str().context("an id")?;
    let expected = format!("{} from 127.0.0.1 by token {first}", expected[4].2);
    ensure!(joined.len() == 2 && joined.iter().any(|(_, _, detail, _)| *detail == expected), "{joined:?}");
    let secret = token.trim().rsplit('.').next().context("a secret")?.to_owned();
    ensure!(!std::fs::read_to_string(log_file(dir.path()))?.contains(&secret), "the token is in the log");
    Ok(())
}

fn log_file(dir: &Path) -> std::path::PathBuf {
    dir.join("audit.log")
}
