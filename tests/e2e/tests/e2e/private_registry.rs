//! A private registry as companies have it, Debian's docker-registry with TLS of an authority of its own and tokens:
//! whoever may read the image pulls it through the daemons, and nobody else, wherever in the cluster it is cached.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use e2e::REGISTRY;
use e2e::cluster::{Cluster, Options, Readers};
use e2e::debian::{Stored, TAG};
use e2e::gate::{PASSWORD, STRANGER, STRANGERS_PASSWORD, USER};
use e2e::runtime::containers::Containers;
use e2e::runtime::cri::{Cri, PullSecret};
use support::daemon::Traffic;
use support::token_server::{Outcome, Question};

const WRONG_PASSWORD: &str = "incorrect-horse-battery";

const SECRET: PullSecret<'_> = PullSecret { user: USER, password: PASSWORD };

/// What containerd says when a registry does not take its token.
const DENIED: &str = "pull access denied, repository does not exist or may require authorization: \
                      server message: insufficient_scope: authorization failed";

/// What containerd says when it gets no token.
const NO_TOKEN: &str =
    "failed to authorize: failed to fetch oauth token: unexpected status: 401 Unauthorized";

/// What does not open the image, and what kubelet is told.
const REFUSED: [(Option<PullSecret<'_>>, &str); 3] = [
    (None, DENIED),
    (Some(PullSecret { user: USER, password: WRONG_PASSWORD }), NO_TOKEN),
    (Some(PullSecret { user: STRANGER, password: STRANGERS_PASSWORD }), DENIED),
];

fn cluster(sharing: u8) -> Result<Cluster> {
    Cluster::start(&Options { readers: Readers::Users { sharing }, nodes: 3, ..Options::default() })
}

fn cri(cluster: &Cluster, i: usize) -> Result<Cri> {
    let (node, gate) = (&cluster.nodes[i], cluster.gate.as_ref().context("a private registry")?);
    let dir = cluster.dir().join(format!("cri-{i}"));
    Cri::start(&node.host, &dir, &node.place.proxy_url(), &cluster.registry.url(), &gate.ca)
}

fn podman(cluster: &Cluster, i: usize) -> Result<Containers> {
    let (node, gate) = (&cluster.nodes[i], cluster.gate.as_ref().context("a private registry")?);
    let dir = cluster.dir().join(format!("podman-{i}"));
    let (proxy, server) = (node.place.proxy().to_string(), cluster.registry.address().to_string());
    Containers::with_ca(&node.host, &dir, &proxy, &server, &gate.ca)
}

/// What each node has read and sent so far.
fn traffic(cluster: &Cluster) -> Result<Vec<Traffic>> {
    (0..cluster.nodes.len()).map(|i| cluster.traffic(i)).collect()
}

/// The statuses with which the daemon of node `i` has answered questions for content so far.
fn answers(cluster: &Cluster, i: usize) -> Result<Vec<u64>> {
    let text = std::fs::read_to_string(cluster.log_of(i))?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Ok(lines
        .filter(|line| line["message"] == "request served" && line["kind"] != "ping")
        .filter_map(|l| l["status"].as_u64())
        .collect())
}

/// The first node has read the whole image from the registry, the second has it from the first, and no runtime went
/// past its daemon.
fn left_the_registry_once(cluster: &Cluster, image: &Stored) -> Result<()> {
    let log = cluster.accesses(image.blob_bytes())?;
    ensure!(log.blob_bytes_total() == image.blob_bytes(), "{:?}", log.blob_bytes());
    let (first, second) = (cluster.traffic(0)?, cluster.traffic(1)?);
    ensure!(first.origin == image.blob_bytes(), "{first:?}");
    ensure!(second.origin + second.fallback == 0, "{second:?}");
    ensure!(second.from_peers() >= image.blob_bytes(), "{second:?}");
    Ok(())
}

/// During `pulls` by the runtimes of node `i` its daemon says 401 and nothing else, no content leaves the registry, and
/// nobody sends or reads a byte of a blob.
fn nothing_is_given(cluster: &Cluster, i: usize, pulls: impl FnOnce() -> Result<()>) -> Result<()> {
    let (read, sent, said) = (cluster.registry.accesses()?, traffic(cluster)?, answers(cluster, i)?);
    pulls()?;
    let log = cluster.registry.accesses()?.since(&read);
    ensure!(log.blob_bytes_total() == 0 && log.manifest_gets().is_empty(), "{:?}", log.requests());
    let now = traffic(cluster)?;
    ensure!(now == sent, "{now:?} after {sent:?}");
    let said = answers(cluster, i)?.split_off(said.len());
    ensure!(said.contains(&401) && said.iter().all(|status| *status == 401), "{said:?}");
    Ok(())
}

/// Whatever secret a pod has but the right one.
fn is_refused(runtime: &Cri, reference: &str) -> Result<()> {
    for (secret, why) in REFUSED {
        let Err(error) = runtime.pull(reference, secret) else { bail!("{secret:?} opened {reference}") };
        ensure!(error.to_string().contains(why), "{secret:?}: {error:#}");
        ensure!(runtime.digests(reference)?.is_empty(), "{secret:?}: it is there");
    }
    Ok(())
}

/// The daemon, podman's mirror, has refused it.
fn podman_is_refused(cluster: &Cluster, i: usize, image: &Stored) -> Result<()> {
    let Err(error) = podman(cluster, i)?.podman_pull(&image.repository, TAG) else {
        bail!("podman pulled it")
    };
    let at_mirror =
        format!("{}/{REGISTRY}/{}: unauthorized", cluster.nodes[i].place.proxy(), image.repository);
    ensure!(format!("{error:#}").contains(&at_mirror), "{error:#}");
    Ok(())
}

/// Whoever asked for a token by now has named the user, with the right password, or nobody.
fn questions(cluster: &Cluster, after: &str) -> Result<()> {
    let questions = cluster.gate.as_ref().context("a private registry")?.tokens.questions();
    let (anonymous, named): (Vec<_>, Vec<_>) = questions.iter().partition(|q| q.account.is_none());
    eprintln!("  {after}: {} tokens for nobody, {} for {USER}", anonymous.len(), named.len());
    ensure!(anonymous.iter().all(|question| question.outcome == Outcome::Less), "{questions:?}");
    let granted = |q: &&Question| q.account.as_deref() == Some(USER) && q.outcome == Outcome::Granted;
    ensure!(!named.is_empty() && named.iter().all(granted), "{questions:?}");
    Ok(())
}

/// Passwords and tokens are in no program's log.
fn no_secret_is_logged(cluster: &Cluster) -> Result<()> {
    let basic = |user: &str, password: &str| {
        base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
    };
    let gate = cluster.gate.as_ref().context("a private registry")?;
    let mut secrets: Vec<String> = gate.tokens.tokens();
    ensure!(secrets.len() >= 3, "{} tokens", secrets.len());
    for (user, password) in [(USER, PASSWORD), (USER, WRONG_PASSWORD), (STRANGER, STRANGERS_PASSWORD)] {
        secrets.extend([password.to_owned(), basic(user, password)]);
    }
    let scheduler = cluster.scheduler.as_ref().context("a scheduler")?.log().to_owned();
    for file in (0..cluster.nodes.len()).map(|i| cluster.log_of(i)).chain([scheduler]) {
        let text = String::from_utf8_lossy(&std::fs::read(&file)?).into_owned();
        ensure!(!text.is_empty(), "{} is empty", file.display());
        // A token's end is its signature, which is nowhere else.
        let ends = secrets.iter().map(|secret| secret.rsplit('.').next().unwrap_or(secret));
        for end in ends {
            let line = text.lines().find(|line| line.contains(end));
            ensure!(line.is_none(), "{} has a secret: {}", file.display(), line.unwrap_or_default());
        }
    }
    Ok(())
}

#[test]
fn a_pods_pull_secret_opens_its_image_and_nothing_else_does() -> Result<()> {
    let test = "private_registry::a_pods_pull_secret_opens_its_image_and_nothing_else_does";
    let Some(_guard) = e2e::begin(test) else { return Ok(()) };
    let cluster = cluster(0)?;
    let image = &cluster.images.small;
    let name = format!("{REGISTRY}/{}", image.repository);
    let (tagged, digested) = (format!("{name}:{TAG}"), format!("{name}@{}", image.manifest()));
    let pulled = |runtime: &Cri| -> Result<()> {
        runtime.pull(&tagged, Some(SECRET))?;
        let digests = runtime.digests(&tagged)?;
        ensure!(digests == [digested.clone()], "{digests:?}");
        Ok(())
    };
    let (first, second, third) = (cri(&cluster, 0)?, cri(&cluster, 1)?, cri(&cluster, 2)?);

    pulled(&first)?;
    pulled(&second)?;
    left_the_registry_once(&cluster, image)?;
    questions(&cluster, "two pulls of containerd")?;

    // Its peers have it.
    nothing_is_given(&cluster, 2, || is_refused(&third, &tagged))?;
    pulled(&third)?;

    // Its daemon has it too.
    first.remove(&tagged)?;
    nothing_is_given(&cluster, 0, || {
        is_refused(&first, &tagged)?;
        is_refused(&first, &digested)?;
        podman_is_refused(&cluster, 0, image)
    })?;
    pulled(&first)?;
    let log = cluster.registry.accesses()?;
    ensure!(log.blob_bytes_total() == image.blob_bytes(), "{:?}", log.blob_bytes());
    no_secret_is_logged(&cluster)
}

#[test]
fn podman_pulls_by_the_daemons_credential_and_only_there() -> Result<()> {
    let test = "private_registry::podman_pulls_by_the_daemons_credential_and_only_there";
    let Some(_guard) = e2e::begin(test) else { return Ok(()) };
    let cluster = cluster(2)?;
    let image = &cluster.images.small;
    for i in [0, 1] {
        let digest = podman(&cluster, i)?.podman_pull(&image.repository, TAG)?;
        ensure!(digest == image.manifest(), "{digest}");
    }
    left_the_registry_once(&cluster, image)?;
    questions(&cluster, "two pulls of podman")?;
    nothing_is_given(&cluster, 2, || podman_is_refused(&cluster, 2, image))?;
    no_secret_is_logged(&cluster)
}
