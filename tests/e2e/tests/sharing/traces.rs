//! One trace leads from a client's request through the scheduler's answer to the parent's upload, and a download for two is
//! linked with the other's. Nothing secret is in it, hosts that make no traces are in none, and a collector that is not there
//! is no trouble. What its URL says is not printed.
//!
//! The programs run as processes: what makes spans belongs to a whole process, and the other tests' daemons make none.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use e2e::inside::{BOUND, Content, blob_target, manifest_target};
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use support::binaries::{Binaries, Profile};
use support::daemon::{DaemonPlace, READY_LIMIT, SchedulerPlace, Upstream, loopback};
use support::images::MANIFEST;
use support::origin::{AuthMode, FaultyOrigin};
use support::poll;
use support::process::Program;
use support::traces::{Collector, Span};

const USER: &str = "ada";
const PASSWORD: &str = "correct-horse-battery";
const PRIVATE: &str = "team/secret";
/// What a query may carry, and nobody has to know.
const IN_THE_QUERY: &str = "hunter2-in-a-query";

/// Six pieces.
const SIZE: usize = 3_000_000;

/// Clients that record, and one that does not.
const CALLER: (&str, &str) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
const OTHER: (&str, &str) = ("2cf7651916cd43dd8448eb211c80319c", "d7ad6b7169203331");
const UNRECORDED: (&str, &str) = ("1bf7651916cd43dd8448eb211c80319c", "c7ad6b7169203331");

const PAGE: &str = include_str!("../../../../docs/traces.md");

/// A daemon as a program.
struct Node {
    program: Program,
    place: DaemonPlace,
    /// What it is called in its cluster.
    host: String,
}

impl Node {
    async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Result<Bytes> {
        let client = reqwest::Client::builder().no_proxy().timeout(BOUND).build()?;
        let mut request = client.get(format!("{}{target}", self.place.proxy_url()));
        if target.contains("/manifests/") {
            request = request.header("accept", MANIFEST);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.send().await?.error_for_status()?.bytes().await?)
    }

    fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.program.log())?).into_owned())
    }
}

/// Daemons and their scheduler. The daemons end first.
struct Scene {
    nodes: Vec<Node>,
    _scheduler: Program,
}

/// What a configuration has more to send traces there; each program's own keys follow.
fn to(endpoint: &str) -> String {
    format!("\n[traces]\nendpoint = {endpoint:?}\n")
}

impl Scene {
    /// Starts a scheduler on the loopback address `first` and a daemon on each of those after it, with these tables more.
    async fn start(
        dir: &Path,
        first: u8,
        origin: &FaultyOrigin,
        scheduler: &str,
        daemons: &[String],
    ) -> Result<Self> {
        let binaries = Binaries::build(Profile::of_caller())?;
        let upstreams = [Upstream::new(origin.registry().to_string(), origin.url())];
        let place = SchedulerPlace {
            address: loopback(first),
            dir: dir.join("scheduler"),
            namespace: None,
            plain: false,
            quiet_period: Duration::ZERO,
        };
        let mut program = place.start_with(&binaries, &upstreams, scheduler)?;
        program.wait_for_ok(&format!("{}/healthz", place.admin_url()), READY_LIMIT).await?;
        let mut nodes = Vec::new();
        for (more, i) in daemons.iter().zip(1u8..) {
            let name = format!("node-{i}");
            let node_dir = dir.join(&name);
            let node = DaemonPlace {
                scheduler: Some(place.door()),
                ..DaemonPlace::new(name, loopback(first + i), node_dir)
            };
            let mut daemon = node.start_with(&binaries, &upstreams, more)?;
            daemon.wait_for_ok(&format!("{}/readyz", node.admin_url()), READY_LIMIT).await?;
            let status = status(&node.admin_url()).await?;
            let host = status["host"].as_str().context("a host has a name")?.to_owned();
            nodes.push(Node { program: daemon, place: node, host });
        }
        poll::until_async("hosts join", BOUND, || async {
            let status = status(&place.admin_url()).await?;
            Ok((status["hosts_total"] == nodes.len()).then_some(()))
        })
        .await?;
        Ok(Self { nodes, _scheduler: program })
    }
}

async fn status(admin: &str) -> Result<serde_json::Value> {
    let client = reqwest::Client::builder().no_proxy().timeout(BOUND).build()?;
    Ok(client.get(format!("{admin}/v1/status")).send().await?.error_for_status()?.json().await?)
}

/// What a client says of its span.
fn traceparent((trace, span): (&str, &str), flags: &str) -> String {
    format!("00-{trace}-{span}-{flags}")
}

fn named<'a>(spans: &'a [Span], name: &str) -> impl Iterator<Item = &'a Span> {
    spans.iter().filter(move |span| span.name == name)
}

/// The sum of the bytes of spans.
fn bytes<'a>(spans: impl IntoIterator<Item = &'a Span>) -> usize {
    spans.into_iter().filter_map(|span| span.says("damselfly.bytes").parse::<usize>().ok()).sum()
}

/// All that came of this trace, once it has the request, what the scheduler was asked, and as many bytes stored from peers
/// and sent by them as the blob has.
async fn whole(collector: &Collector, trace: &str) -> Result<Vec<Span>> {
    poll::until_async("a trace is whole", BOUND, || async {
        let spans: Vec<Span> = collector.spans().into_iter().filter(|span| span.trace == trace).collect();
        let stored = named(&spans, "fetch piece").filter(|span| span.says("damselfly.result") == "stored");
        let whole = bytes(stored) == SIZE
            && bytes(named(&spans, "upload piece")) >= SIZE
            && named(&spans, "client request").count() == 1
            && named(&spans, "damselfly.v1.Scheduler/CheckAccess").count() == 2
            && named(&spans, "download").count() == 1;
        Ok(whole.then_some(spans))
    })
    .await
}

/// The child's request for a blob that another host has: from the caller's span to the parents' uploads.
fn check_shared(spans: &[Span], child: &str, parent: &str, content: &Content) -> Result<()> {
    let by_id = |id: &str| spans.iter().find(|span| span.id == id);
    let request = named(spans, "client request").next().context("a request")?;
    ensure!(request.parent == CALLER.1, "the caller's span is its parent: {request:?}");
    let maker = (request.about("service.name"), request.about("service.instance.id"));
    ensure!(maker == ("dfdaemon", child), "{request:?}");
    ensure!(request.says("damselfly.asked").ends_with(&content.digest.to_string()), "{request:?}");
    ensure!(request.says("http.response.status_code") == "200" && !request.failed, "{request:?}");
    for key in ["damselfly.bytes", "damselfly.bytes.peer"] {
        ensure!(request.says(key) == SIZE.to_string(), "{key}: {request:?}");
    }

    let mut asked = named(spans, "damselfly.v1.Scheduler/CheckAccess");
    let (one, other) = (asked.next().context("a question")?, asked.next().context("its answer")?);
    let (question, answer) =
        if one.about("service.name") == "dfdaemon" { (one, other) } else { (other, one) };
    ensure!(answer.about("service.name") == "scheduler" && answer.parent == question.id, "{answer:?}");
    let permission = by_id(&question.parent).context("the question's reason")?;
    ensure!(permission.name == "permission" && permission.parent == request.id, "{permission:?}");
    ensure!(permission.says("damselfly.result") == "permitted", "{permission:?}");

    let download = named(spans, "download").next().context("a download")?;
    ensure!(download.parent == request.id, "{download:?}");
    for fetch in named(spans, "fetch piece").filter(|span| span.says("damselfly.result") == "stored") {
        ensure!(fetch.parent == download.id && fetch.says("damselfly.parent") == parent, "{fetch:?}");
        let mut uploads = spans.iter().filter(|span| span.parent == fetch.id);
        let (upload, None) = (uploads.next().context("an upload")?, uploads.next()) else {
            anyhow::bail!("two uploads for {fetch:?}")
        };
        ensure!(upload.name == "upload piece" && upload.says("damselfly.child") == child, "{upload:?}");
        ensure!(upload.about("service.instance.id") == parent, "{upload:?}");
        for key in ["damselfly.digest", "damselfly.piece", "damselfly.bytes"] {
            ensure!(upload.says(key) == fetch.says(key), "{key}: {upload:?} {fetch:?}");
        }
    }
    Ok(())
}

/// The first request for a blob: its origin is read, under the lease.
async fn check_first(collector: &Collector, host: &str, content: &Content) -> Result<()> {
    poll::until_async("the origin's reads are told", BOUND, || async {
        let spans = collector.spans();
        let request = named(&spans, "client request").find(|span| {
            span.about("service.instance.id") == host
                && span.says("damselfly.asked").ends_with(&content.digest.to_string())
        });
        let Some(request) = request else { return Ok(None) };
        ensure!(request.parent.is_empty(), "nobody's trace: {request:?}");
        let reads = named(&spans, "read origin").filter(|span| {
            span.trace == request.trace
                && span.says("damselfly.result") == "read"
                && span.says("damselfly.lease") == "held"
        });
        Ok((bytes(reads) == SIZE).then_some(()))
    })
    .await
}

/// Every name and key is in the page, and no secret is in anything.
fn check_what_is_said(spans: &[Span], secrets: &[String]) -> Result<()> {
    let mut words = BTreeSet::new();
    for span in spans {
        words.insert(span.name.as_str());
        words.extend(span.attributes.keys().chain(span.about.keys()).map(String::as_str));
        let said = format!("{span:?}");
        for secret in secrets {
            ensure!(!said.contains(secret.as_str()), "{secret} is in {said}");
        }
    }
    let missing: Vec<&str> = words.into_iter().filter(|word| !PAGE.contains(&format!("`{word}`"))).collect();
    ensure!(missing.is_empty(), "docs/traces.md does not have {missing:?}");
    Ok(())
}

/// A client's token for the private repository: `Bearer …`.
async fn token(origin: &FaultyOrigin) -> Result<String> {
    let url = format!("{}/token?service=test-registry&scope=repository:{PRIVATE}:pull", origin.url());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(url).basic_auth(USER, Some(PASSWORD)).send().await?.error_for_status()?;
    let answer: serde_json::Value = answer.json().await?;
    Ok(format!("Bearer {}", answer["token"].as_str().context("a token")?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_client_to_the_parent() -> Result<()> {
    let (collector, dir) = (Collector::start().await?, tempfile::tempdir()?);
    let origin = FaultyOrigin::builder().auth(AuthMode::bearer(USER, PASSWORD)).start().await?;
    let [public, private, unrecorded] = [1, 2, 3].map(|seed| Content::random(seed, SIZE));
    for (repository, content) in [("app", &public), (PRIVATE, &private), ("app", &unrecorded)] {
        origin.add_blob(repository, content.bytes.clone());
    }
    origin.make_private(PRIVATE);
    let manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": MANIFEST, "layers": [] }).to_string();
    origin.add_manifest("app", Some("v1"), MANIFEST, manifest);

    let daemon = to(&collector.endpoint()) + "sample_ratio = 1\n";
    let daemons = [daemon.clone(), daemon, String::new()];
    let scheduler = to(&collector.endpoint());
    let mut scene = Scene::start(dir.path(), 1, &origin, &scheduler, &daemons).await?;
    let [first, second, third] = &mut scene.nodes[..] else { anyhow::bail!("three nodes") };

    let blob = |content: &Content| blob_target(&origin, "app", &content.digest);
    let wrong = "wrong bytes came";
    let caller = traceparent(UNRECORDED, "00");
    let got = first.get(&blob(&unrecorded), &[("traceparent", caller.as_str())]).await?;
    ensure!(got == unrecorded.bytes, wrong);
    let got = first.get(&blob(&public), &[]).await?;
    ensure!(got == public.bytes, wrong);
    let caller = traceparent(CALLER, "01");
    let got = second.get(&blob(&public), &[("traceparent", caller.as_str())]).await?;
    ensure!(got == public.bytes, wrong);
    check_shared(&whole(&collector, CALLER.0).await?, &second.host, &first.host, &public)?;
    check_first(&collector, &first.host, &public).await?;

    // A host without traces gets its pieces as ever, and is in none.
    let got = third.get(&blob(&public), &[]).await?;
    ensure!(got == public.bytes, wrong);
    // What only its owner may read, with all that makes him the owner.
    let token = token(&origin).await?;
    let target = format!("{}&token={IN_THE_QUERY}", blob_target(&origin, PRIVATE, &private.digest));
    let got = first.get(&target, &[("authorization", token.as_str())]).await?;
    ensure!(got == private.bytes, wrong);

    // What is not sent yet is sent when the program ends: it ends at once, before it would send by itself.
    second.get(&manifest_target(&origin, "app", "v1"), &[]).await?;
    let begun = Instant::now();
    let ended = [second.program.stop(), first.program.stop()];
    ensure!(ended.iter().all(|status| status.is_some_and(|status| status.success())), "{ended:?}");
    let spans = collector.spans();
    let last = named(&spans, "client request").find(|span| span.says("damselfly.asked").ends_with("app:v1"));
    ensure!(last.is_some_and(|span| span.about("service.instance.id") == second.host), "{last:?}");
    eprintln!("  {} spans; stopped after {:.1?}", spans.len(), begun.elapsed());

    ensure!(spans.iter().all(|span| span.trace != UNRECORDED.0), "the caller does not record its trace");
    let of_third = |span: &&Span| {
        span.says("damselfly.child") == third.host || span.about("service.instance.id") == third.host
    };
    let found = spans.iter().find(of_third);
    ensure!(found.is_none(), "{found:?}");
    ensure!(!third.log()?.contains("traces"), "it says nothing of traces");
    let requests = origin.requests();
    ensure!(requests.iter().all(|request| request.header("traceparent").is_none()), "the origin is told");
    let mut secrets = vec![token, PASSWORD.to_owned(), IN_THE_QUERY.to_owned()];
    let shown = requests.iter().filter_map(|request| request.header("authorization")?.split_once(' '));
    secrets.extend(shown.map(|(_, secret)| secret.to_owned()));
    check_what_is_said(&spans, &secrets)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_for_two_is_linked_with_the_trace_of_the_second() -> Result<()> {
    // The blob takes twelve seconds, and the second client comes when its first bytes do.
    const RATE: u64 = 250_000;
    let (collector, dir) = (Collector::start().await?, tempfile::tempdir()?);
    let origin = FaultyOrigin::builder().rate(RATE).start().await?;
    let content = Content::random(1, SIZE);
    origin.add_blob("app", content.bytes.clone());
    let scene = Scene::start(dir.path(), 21, &origin, "", &[to(&collector.endpoint())]).await?;
    let [node] = &scene.nodes[..] else { anyhow::bail!("one node") };

    let target = blob_target(&origin, "app", &content.digest);
    let [caller, other] = [CALLER, OTHER].map(|client| traceparent(client, "01"));
    let first = async { node.get(&target, &[("traceparent", caller.as_str())]).await };
    let second = async {
        poll::until_async("the origin is read", BOUND, || async {
            Ok((origin.blob_gets(&content.digest) > 0).then_some(()))
        })
        .await?;
        node.get(&target, &[("traceparent", other.as_str())]).await
    };
    let (first, second) = tokio::try_join!(first, second)?;
    ensure!(first == content.bytes && second == content.bytes, "wrong bytes came");

    let download = poll::until_async("the download is told", BOUND, || async {
        let spans = collector.spans();
        Ok(named(&spans, "download").find(|span| span.trace == CALLER.0).cloned())
    })
    .await?;
    ensure!(download.says("damselfly.digest") == content.digest.to_string(), "{download:?}");
    ensure!(download.links == [OTHER.0], "{download:?}");
    Ok(())
}

/// Runs a program to its end, with a variable of its environment.
fn run(program: &Path, args: &[&str], (variable, value): (&str, &str)) -> Result<Output> {
    let mut command = Command::new("timeout");
    Ok(command.arg("20").arg(program).args(args).env(variable, value).output()?)
}

#[test]
fn what_a_collectors_url_says_is_not_printed() -> Result<()> {
    let binaries = Binaries::build(Profile::of_caller())?;
    let programs = [(&binaries.dfdaemon, "DFDAEMON_TRACES"), (&binaries.scheduler, "SCHEDULER_TRACES")];
    for (program, variable) in programs {
        for secret in ["http://ada:hunter2@c.test:4317", "http://c.test:4317/?token=hunter2"] {
            let by_variable = run(program, &["--check"], (variable, secret))?;
            let by_flag = run(program, &["--check", "--traces", secret], (variable, "http://c.test:1"))?;
            let help = run(program, &["--help"], (variable, secret))?;
            for (output, code, expected) in [
                (by_variable, 64, "--traces: must be of the form http://HOST:PORT"),
                (by_flag, 64, "--traces: must be of the form http://HOST:PORT"),
                (help, 0, variable),
            ] {
                let printed = [output.stdout, output.stderr].concat();
                let printed = String::from_utf8_lossy(&printed);
                ensure!(output.status.code() == Some(code), "{:?}: {printed}", output.status);
                ensure!(printed.contains(expected) && !printed.contains("hunter2"), "{printed}");
            }
        }
    }
    Ok(())
}

/// What the log says of a loss, at most every ten minutes.
const LOSS: &str = "spans of traces are lost; nothing else is the worse for it";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_is_no_trouble() -> Result<()> {
    let (dir, origin) = (tempfile::tempdir()?, FaultyOrigin::start().await?);
    // Nobody listens at one address; who listens at the other never says a word.
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let daemon = |address: SocketAddr| to(&format!("http://{address}")) + "sample_ratio = 1\n";
    let daemons = [String::new(), daemon(nobody), daemon(silent.local_addr()?)];
    let mut scene = Scene::start(dir.path(), 11, &origin, &to(&format!("http://{nobody}")), &daemons).await?;

    let mut took = Vec::new();
    for (node, seed) in scene.nodes.iter().zip(1..) {
        let content = Content::random(seed, SIZE);
        origin.add_blob("app", content.bytes.clone());
        let begun = Instant::now();
        let got = node.get(&blob_target(&origin, "app", &content.digest), &[]).await?;
        took.push(begun.elapsed());
        ensure!(got == content.bytes, "wrong bytes came");
    }
    eprintln!("  pulls took {took:.1?}");
    // Whoever waited for the collector would wait for seconds.
    ensure!(took.iter().all(|each| *each < took[0] + Duration::from_secs(2)), "{took:?}");

    for (node, why) in scene.nodes[1..].iter_mut().zip(["refused", "it did not answer in time"]) {
        let told = |line: &str| (line.contains(LOSS) && line.contains(why)).then_some(());
        node.program.wait_for_line(BOUND, told)?;
    }
    for node in &mut scene.nodes {
        // More is lost, and not told of again; nor does the end wait for long.
        let content = Content::random(1, SIZE);
        node.get(&blob_target(&origin, "app", &content.digest), &[]).await?;
        let begun = Instant::now();
        let status = node.program.stop();
        ensure!(status.is_some_and(|status| status.success()), "{status:?}");
        ensure!(begun.elapsed() < Duration::from_secs(8), "{}: {:?}", node.place.name, begun.elapsed());
    }
    for (node, expected) in scene.nodes.iter().zip([0, 1, 1]) {
        let log = node.log()?;
        ensure!(log.matches(LOSS).count() == expected, "{}:\n{log}", node.place.name);
    }
    Ok(())
}
