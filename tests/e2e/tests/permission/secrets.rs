//! Passwords and tokens are in no log at any level, not in the audit log, in no metric, no status, no error and no file of
//! the cache.

use crate::kubernetes;
use crate::stage::{PASSWORD, PRIVATE, Stage, USER, cluster, credential};
use anyhow::{Result, ensure};
use base64::Engine as _;
use e2e::inside::{BOUND, Hub, Logged, Node, Settings, audit_lines};
use process::audit::Event;
use std::path::Path;
use support::kubernetes::{ApiServer, Fault as ApiFault};
use support::origin::{Fault, When};
use support::poll;
use tracing_subscriber::filter::LevelFilter;

/// The scheduler's own token, a pod's, and one that is not good.
const REVIEWER: &str = "eyJhbGciOiJSUzI1NiJ9.cmV2aWV3ZXI.c2lnbmVk";
const POD_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.cG9kLW9mLXRoZS1sb2c.c2lnbmVkLXRvbw";
const BAD_POD_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.bm8tcG9kLWF0LWFsbA.dW5zaWduZWQ";

/// The texts of all files below `dir`.
fn files(dir: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push((
                path.display().to_string(),
                String::from_utf8_lossy(&std::fs::read(&path)?).into_owned(),
            ));
        }
    }
    Ok(found)
}

/// Two pods, one of which joins; where their tokens could be seen.
async fn pods(settings: &Settings, logged: &Logged) -> Result<Vec<(String, String)>> {
    let api = ApiServer::start(REVIEWER).await?;
    let mut grant = kubernetes::grant("system:serviceaccount:images:damselfly", "damselfly");
    grant.pod = Some(("pod-of-the-log".to_owned(), "node-of-the-log".to_owned()));
    api.grant(POD_TOKEN, grant);
    let hub = Hub::start_in(settings, kubernetes::options(&api)?).await?;
    let door = (hub.address(), hub.token().authority);
    let (good, bad) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
    std::fs::write(&good, POD_TOKEN)?;
    std::fs::write(&bad, BAD_POD_TOKEN)?;
    let joined = Node::join_by_service_account(door, good.path(), settings).await?;
    hub.until_hosts(1).await?;
    let says = |line: &str, part: &str| line.contains("a host joined") && line.contains(part);
    let named = logged.since(0);
    let named = named.lines().find(|line| says(line, "pod-of-the-log"));
    ensure!(named.is_some_and(|line| line.contains("node-of-the-log")), "the log says whose token it was");

    api.fault(Some(ApiFault::Status(500)));
    let refused = Node::join_by_service_account(door, bad.path(), settings).await?;
    let logs = async |what: &str| {
        poll::until_async(what, BOUND, || async { Ok(logged.since(0).contains(what).then_some(())) }).await
    };
    logs("the scheduler refused: the Kubernetes API server cannot be asked").await?;
    api.fault(None);
    logs("the scheduler refused: Kubernetes does not accept the service account's token").await?;

    let mut places = vec![("status of pods' scheduler".to_owned(), hub.status().await?.to_string())];
    for node in [joined, refused] {
        places.push(("metrics of a pod".to_owned(), node.metrics().await?));
        places.push(("status of a pod".to_owned(), node.status().await?.to_string()));
        places.extend(files(node.stop().await?.path())?);
    }
    places.extend(files(hub.stop().await?.path())?);
    Ok(places)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_seen_by_nobody() -> Result<()> {
    let logged = Logged::from_now_on(LevelFilter::TRACE);
    let stage = Stage::bearer().await?;
    let mut settings = stage.settings();
    settings.audit = true;
    settings.registry(&stage.origin).repositories.insert("configured".to_owned(), credential());
    settings.registry(&stage.origin).share_credential = true;
    stage.private.lay_into(&stage.origin, "configured/app");
    stage.origin.make_private("configured/app");
    let (hub, a, b) = cluster(&settings).await?;

    // A client's token, good and bad; a password of the configuration; errors with either.
    let token = stage.users_token().await?;
    stage.pull_private(&a, &token).await?;
    stage.pull_private(&b, &token).await?;
    let basic =
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let bad = "Bearer eyJhbGciOiJub25lIn0.c2VjcmV0.x";
    let mut said = Vec::new();
    for target in stage.private_targets() {
        for authorization in [bad, &basic] {
            said.push(a.get_with(&target, authorization).await?);
        }
        let configured = target.replace(PRIVATE, "configured/app");
        ensure!(b.get(&configured).await?.status == 200, "{configured}");
        said.push(b.get(&target).await?);
    }
    stage.origin.fault(When::any(), Fault::Status(500));
    for authorization in [&token, bad, &basic] {
        said.push(b.get_with(&stage.private_targets()[0], authorization).await?);
        let unknown = stage.private_targets()[2].replace(PRIVATE, "team/another");
        said.push(a.get_with(&unknown, authorization).await?);
    }
    stage.origin.heal();

    let of_pods = pods(&settings, &logged).await?;

    let mut places: Vec<(String, String)> = vec![("the log".to_owned(), logged.since(0))];
    ensure!(places[0].1.len() > 100_000, "the log has everything: {} bytes", places[0].1.len());
    places.extend(of_pods);
    for (name, node) in [("a", &a), ("b", &b)] {
        places.push((format!("metrics of {name}"), node.metrics().await?));
        places.push((format!("status of {name}"), node.status().await?.to_string()));
    }
    places.push(("status of the scheduler".to_owned(), hub.status().await?.to_string()));
    places.push(("the scheduler's list of tokens".to_owned(), hub.tokens_file()?));
    places.push(("the configuration's debug form".to_owned(), format!("{settings:?}")));
    for reply in &said {
        ensure!(reply.status >= 400, "{}", reply.summary());
        places.push(("an error".to_owned(), format!("{:?} {:?}", reply.headers, reply.body)));
    }
    for node in [a, b] {
        let dir = node.stop().await?;
        let hashed = |line: &process::audit::Line| match &line.event {
            Event::Request(request) => request.credential.is_some(),
            Event::Operation(_) | Event::Lost { .. } => false,
        };
        let hashed = audit_lines(dir.path())?.iter().filter(|line| hashed(line)).count();
        ensure!(hashed >= 6, "the audit log tells of credentials: {hashed}");
        places.extend(files(dir.path())?);
    }

    let issued = stage.origin.requests();
    let sent = issued.iter().filter_map(|request| request.header("authorization"));
    let mut secrets: Vec<String> =
        sent.filter_map(|line| line.split_once(' ')).map(|(_, s)| s.to_owned()).collect();
    secrets.extend([PASSWORD.to_owned(), token, basic, bad.to_owned()]);
    secrets.extend([REVIEWER, POD_TOKEN, BAD_POD_TOKEN].map(str::to_owned));
    // The join token's secret, in every form in which it could be shown.
    let join = hub.token().secret.expose();
    let written = hub.token().expose();
    secrets.extend(written.rsplit('.').next().map(str::to_owned));
    let hex = join.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let listed = format!("{join:?}");
    secrets.extend([hex, listed.trim_matches(['[', ']']).to_owned()]);
    secrets.push(format!("{:?}", bytes::Bytes::copy_from_slice(join)).trim_matches(['b', '"']).to_owned());
    secrets.sort();
    secrets.dedup();
    ensure!(secrets.len() > 5, "{secrets:?}");
    for secret in &secrets {
        for (place, text) in &places {
            if let Some(at) = text.find(secret.as_str()) {
                let line = text[..at].rfind('\n').map_or(0, |start| start + 1);
                let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
                anyhow::bail!("{secret} is in {place}: {}", &text[line..end.min(line + 2000)]);
            }
        }
    }
    Ok(())
}
