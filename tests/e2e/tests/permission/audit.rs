//! The audit log says who pulled what, and what permitted it, and keeps credentials to itself.

use crate::stage::{PASSWORD, PRIVATE, PUBLIC, Stage, cluster, credential, nobody};
use anyhow::{Context, Result, ensure};
use e2e::inside::{BOUND, Node, Settings, audit_lines, blob_target, manifest_target};
use process::audit::{Event, Line, PermittedBy, Request, Sources, VouchedBy};
use reqwest::Method;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;
use support::poll;

fn audited(stage: &Stage) -> Settings {
    Settings { audit: true, ..stage.settings() }
}

fn own_uid() -> Result<u32> {
    Ok(std::fs::metadata("/proc/self")?.uid())
}

fn requests(dir: &Path) -> Result<Vec<(Line, Request)>> {
    let requests = audit_lines(dir)?.into_iter().filter_map(|line| match line.event.clone() {
        Event::Request(request) => Some((line, *request)),
        _ => None,
    });
    Ok(requests.collect())
}

fn by(request: &Request) -> Option<PermittedBy> {
    request.permit.map(|permit| permit.permitted_by)
}

/// What each of three targets of an image (tag, digest, layer) has in the log when it was refused or permitted.
fn ensure_image(
    lines: &[(Line, Request)],
    repository: &str,
    status: u16,
    permitted: Option<PermittedBy>,
) -> Result<()> {
    for (line, request) in lines {
        ensure!(request.repository == repository && request.status == Some(status), "{request:?}");
        ensure!(by(request) == permitted, "{request:?}");
        ensure!(line.uid == Some(own_uid()?), "{line:?}");
        ensure!(line.client.is_some_and(|client| client.ip().is_loopback()), "{line:?}");
    }
    let [tag, manifest, layer] = lines else { anyhow::bail!("three lines: {lines:?}") };
    ensure!(tag.1.tag.as_deref() == Some("v1") && manifest.1.tag.is_none(), "{lines:?}");
    ensure!(
        tag.1.digest.is_some() == permitted.is_some(),
        "a tag that is refused stands for nothing: {lines:?}"
    );
    ensure!(layer.1.sources.is_some() == permitted.is_some(), "{lines:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pull_is_told_with_what_permitted_it() -> Result<()> {
    let stage = Stage::bearer().await?;
    let mut settings = audited(&stage);
    settings.registry(&stage.origin).repositories.insert("configured".to_owned(), credential());
    settings.registry(&stage.origin).share_credential = true;
    stage.private.lay_into(&stage.origin, "configured/app");
    stage.origin.make_private("configured/app");
    let node = Node::alone(&settings).await?;
    let token = stage.users_token().await?;
    stage.pull_public(&node).await?;
    for target in stage.private_targets() {
        ensure!(node.get(&target).await?.status == 401);
    }
    stage.pull_private(&node, &token).await?;
    stage.pull_private(&node, &token).await?;
    for target in stage.private_targets() {
        ensure!(node.get(&target.replace(PRIVATE, "configured/app")).await?.status == 200);
        ensure!(node.get_with(&target, "Bearer token-of-nobody").await?.status == 401);
    }
    let refused = node.get("/v2/team/secret/manifests/v1?ns=10.0.0.1:5000").await?;
    ensure!(refused.status == 403, "{}", refused.summary());
    let dir = node.stop().await?;

    let lines = requests(dir.path())?;
    ensure!(lines.len() == 3 * 4 + 6 + 1, "{lines:#?}");
    ensure_image(&lines[0..3], PUBLIC, 200, Some(PermittedBy::Anonymous))?;
    ensure_image(&lines[3..6], PRIVATE, 401, None)?;
    ensure_image(&lines[6..9], PRIVATE, 200, Some(PermittedBy::Client))?;
    ensure_image(&lines[9..12], PRIVATE, 200, Some(PermittedBy::Client))?;
    let (configured, nobodys): (Vec<_>, Vec<_>) =
        lines[12..18].iter().cloned().partition(|(_, request)| request.repository == "configured/app");
    ensure_image(&configured, "configured/app", 200, Some(PermittedBy::Configured))?;
    ensure_image(&nobodys, PRIVATE, 401, None)?;
    let (_, elsewhere) = &lines[18];
    ensure!((elsewhere.registry.as_str(), elsewhere.status) == ("10.0.0.1:5000", Some(403)), "{elsewhere:?}");

    // A blob's second pull goes by the answer that the first got, and by what was read then.
    let [first, second] = [&lines[8].1, &lines[11].1].map(|request| request.permit);
    let (first, second) = (first.context("a permit")?, second.context("a permit")?);
    ensure!(!first.remembered && second.remembered, "{first:?} {second:?}");
    ensure!(first.vouched_by == Some(VouchedBy::Registry), "{first:?}");
    ensure!(second.vouched_by == Some(VouchedBy::Possession), "{second:?}");

    // The hash tells credentials from each other, and none is there without one.
    let credential = |at: usize| lines[at].1.credential.as_deref();
    ensure!(credential(0).is_none() && credential(3).is_none());
    let users = credential(6).context("a hash")?;
    ensure!(users.len() == 16 && (7..12).all(|at| credential(at) == Some(users)), "{users}");
    let nobody = nobodys[0].1.credential.as_deref().context("a hash")?;
    ensure!(nobody != users && nobodys.iter().all(|(_, line)| line.credential.as_deref() == Some(nobody)));
    let text = std::fs::read_to_string(dir.path().join("audit.log"))?;
    for secret in [token.as_str(), "token-of-nobody", PASSWORD] {
        ensure!(!text.contains(secret.trim_start_matches("Bearer ")), "{secret} is in the audit log");
    }
    ensure!(std::fs::metadata(dir.path().join("audit.log"))?.mode() & 0o777 == 0o600);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grace_and_the_same_credential_after_a_restart() -> Result<()> {
    let stage = Stage::bearer().await?;
    let settings = audited(&stage);
    let node = Node::alone(&settings).await?;
    let token = stage.users_token().await?;
    stage.pull_private(&node, &token).await?;
    stage.pull_public(&node).await?;
    // Nobody remembers anything but what this daemon has written down.
    let node = Node::join_again_at(nobody().await?, &settings, node.stop().await?).await?;
    stage.pull_private(&node, &token).await?;
    stage.origin.set_reachable(false);
    stage.pull_public(&node).await?;
    let dir = node.stop().await?;

    let lines = requests(dir.path())?;
    ensure!(lines.len() == 12, "one file over the restart: {lines:#?}");
    let hash = lines[0].1.credential.clone();
    ensure!(
        hash.is_some() && lines[6..9].iter().all(|(_, request)| request.credential == hash),
        "{lines:#?}"
    );
    ensure_image(&lines[9..12], PUBLIC, 200, Some(PermittedBy::Grace))
}

/// The scheduler's own grace, which is not this daemon's to extend.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_has_lapsed_at_the_scheduler_is_grace() -> Result<()> {
    let stage = Stage::bearer().await?;
    let mut settings = audited(&stage);
    settings.resolver.tag_lifetime = Duration::from_millis(1);
    settings.resolver.access_lifetime = Duration::from_millis(1);
    let (_hub, a, _b) = cluster(&settings).await?;
    stage.pull_public(&a).await?;
    stage.origin.set_reachable(false);
    stage.pull_public(&a).await?;
    let dir = a.stop().await?;
    let lines = requests(dir.path())?;
    ensure_image(&lines[..3], PUBLIC, 200, Some(PermittedBy::Anonymous))?;
    ensure_image(&lines[3..], PUBLIC, 200, Some(PermittedBy::Grace))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_told_by_where_they_came_from() -> Result<()> {
    let stage = Stage::bearer().await?;
    let (_hub, a, b) = cluster(&audited(&stage)).await?;
    let layer = &stage.public.layer;
    let target = blob_target(&stage.origin, PUBLIC, &layer.digest);
    for node in [&a, &b, &b] {
        ensure!(node.get(&target).await?.is_right(&layer.bytes));
    }
    ensure!(b.get_range(&target, "bytes=10-19").await?.is_right(&layer.bytes[10..20]));
    ensure!(b.ask(Method::HEAD, &target, &[]).await?.status == 200);
    ensure!(b.get_range(&target, "bytes=9999999-").await?.status == 416);
    let (a, b) = (a.stop().await?, b.stop().await?);
    let size = layer.bytes.len() as u64;
    let told = |dir: &Path| -> Result<Vec<_>> {
        let lines = requests(dir)?.into_iter();
        Ok(lines.map(|(_, r)| (r.method, r.status, r.range, r.sent_bytes, r.sources)).collect())
    };
    let get = |status, range: Option<&str>, sent: u64, sources| {
        ("GET".into(), Some(status), range.map(str::to_owned), sent, Some(sources))
    };
    let none = Sources::default();
    ensure!(told(a.path())? == [get(200, None, size, Sources { origin_bytes: size, ..none })]);
    let seen = told(b.path())?;
    let error_len = seen.last().context("a line")?.3;
    let expected = [
        get(200, None, size, Sources { peer_bytes: size, ..none }),
        get(200, None, size, Sources { cache_bytes: size, ..none }),
        get(206, Some("bytes=10-19"), 10, Sources { cache_bytes: 10, ..none }),
        ("HEAD".into(), Some(200), None, 0, Some(none)),
        get(416, Some("bytes=9999999-"), error_len, none),
    ];
    ensure!(seen == expected, "{seen:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_breaks_off_is_told() -> Result<()> {
    let stage = Stage::slow(200_000).await?;
    let node = Node::alone(&audited(&stage)).await?;
    let target = blob_target(&stage.origin, PUBLIC, &stage.public.layer.digest);
    node.leave_after(&target, 1000).await?;
    let metrics = || async {
        let metrics = node.metrics().await?;
        Ok(metrics.lines().any(|line| line == "damselfly_audit_lines_total 1").then_some(()))
    };
    poll::until_async("the line is written", BOUND, metrics).await?;
    let dir = node.stop().await?;
    let lines = requests(dir.path())?;
    let [(_, request)] = &lines[..] else { anyhow::bail!("{lines:?}") };
    ensure!((request.outcome.as_ref(), request.status) == ("client_left", Some(200)), "{request:?}");
    ensure!(request.sent_bytes >= 1000 && request.sent_bytes < stage.public.layer.bytes.len() as u64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_operators_do_is_told() -> Result<()> {
    let stage = Stage::bearer().await?;
    let node = Node::alone(&audited(&stage)).await?;
    let image = format!("{}/{PUBLIC}:v1", stage.origin.registry());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let asked = client.post(format!("{}/v1/refresh?image={image}", node.admin())).send().await?;
    ensure!(asked.status() == 200, "{}", asked.status());
    drop((asked, client));
    let dir = node.stop().await?;
    let lines = audit_lines(dir.path())?;
    let [line] = &lines[..] else { anyhow::bail!("{lines:?}") };
    let Event::Operation(operation) = &line.event else { anyhow::bail!("{line:?}") };
    ensure!((operation.name.as_ref(), operation.by.as_ref()) == ("refresh", "admin"), "{operation:?}");
    let expected = format!("{}/{PUBLIC} v1: {}", stage.origin.registry(), stage.public.manifest);
    ensure!(operation.detail == expected, "{operation:?}");
    ensure!(line.uid == Some(own_uid()?) && line.client.is_some(), "{line:?}");
    Ok(())
}

/// A place that takes no file: pulls go on, and what is missing is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_stops_no_pull() -> Result<()> {
    let stage = Stage::bearer().await?;
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("audit.log"))?;
    let hub = e2e::inside::Hub::start(&audited(&stage)).await?;
    let node = Node::join_again(&hub, &audited(&stage), dir).await?;
    stage.pull_public(&node).await?;
    ensure!(node.get(&manifest_target(&stage.origin, PRIVATE, "v1")).await?.status == 401);
    poll::until_async("lost lines are counted", BOUND, || async {
        let metrics = node.metrics().await?;
        Ok(metrics.lines().any(|line| line == "damselfly_audit_lost_lines_total 4").then_some(()))
    })
    .await?;
    stage.pull_public(&node).await
}
