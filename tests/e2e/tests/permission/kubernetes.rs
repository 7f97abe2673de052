//! Daemons in pods, which join with their service account's projected token. The API server is a stand-in for the one
//! call that the scheduler makes to it.

use anyhow::{Context, Result, ensure};
use e2e::inside::{BOUND, Content, Hub, Node, Settings, blob_target};
use futures::future::join_all;
use membership::{AuthorityHash, HostKey, SERVER_NAME, ServiceAccountToken, client_config};
use proto::client::SchedulerClient;
use proto::{Credentials, ServiceAccountJoinRequest, wire};
use scheduler::{KubernetesOptions, ServiceAccount};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::kubernetes::{ApiServer, Fault, Grant};
use support::origin::FaultyOrigin;
use support::poll;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const AUDIENCE: &str = "damselfly";
const DAEMON: &str = "system:serviceaccount:images:damselfly";

/// How long the scheduler waits for the API server.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);

/// By how much an answer may be late, on a busy machine.
const SLACK: Duration = Duration::from_secs(5);

pub(crate) fn grant(username: &str, audience: &str) -> Grant {
    let pod = Some(("damselfly-x7k2p".to_owned(), "node-1.example".to_owned()));
    Grant { username: username.to_owned(), audiences: vec![audience.to_owned()], pod }
}

/// Tokens of `images/damselfly` are good at this API server.
pub(crate) fn options(api: &ApiServer) -> Result<KubernetesOptions> {
    let account = ServiceAccount::try_from("images/damselfly".to_owned()).map_err(anyhow::Error::msg)?;
    Ok(KubernetesOptions {
        service_accounts: vec![account],
        api: Some(api.url().parse()?),
        token_file: api.token_file(),
        ca_file: api.ca_file(),
        ..KubernetesOptions::default()
    })
}

/// A token in a file, as kubelet lays it there.
fn projected(dir: &TempDir, token: &str) -> Result<PathBuf> {
    let path = dir.path().join("token");
    std::fs::write(&path, token)?;
    Ok(path)
}

struct Pods {
    api: ApiServer,
    hub: Hub,
    origin: FaultyOrigin,
    settings: Settings,
    dir: TempDir,
}

impl Pods {
    async fn start() -> Result<Self> {
        let api = ApiServer::start("reviewer.token.1").await?;
        let origin = FaultyOrigin::start().await?;
        let settings = Settings::of(&[&origin]);
        let hub = Hub::start_in(&settings, options(&api)?).await?;
        Ok(Self { api, hub, origin, settings, dir: tempfile::tempdir()? })
    }

    fn door(&self) -> (SocketAddr, AuthorityHash) {
        (self.hub.address(), self.hub.token().authority)
    }

    /// A daemon whose pod has this token.
    async fn pod(&self, token: &str) -> Result<Node> {
        let file = projected(&self.dir, token)?;
        Node::join_by_service_account(self.door(), &file, &self.settings).await
    }

    fn blob(&self, seed: u64) -> Content {
        let content = Content::random(seed, 700_000);
        self.origin.add_blob("app", content.bytes.clone());
        content
    }

    async fn gets(&self, node: &Node, content: &Content) -> Result<()> {
        let reply = node.get(&blob_target(&self.origin, "app", &content.digest)).await?;
        ensure!(reply.status == 200 && reply.body == content.bytes, "{}", reply.summary());
        Ok(())
    }
}

fn host(seed: u8) -> Result<HostKey> {
    HostKey::from_secret(&[seed; 32]).context("a key")
}

fn channel(hub: &Hub, shown: Option<(HostKey, Vec<u8>)>) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", hub.address()))?;
    let authority = hub.token().authority;
    Ok(process::grpc::channel(&endpoint, &SERVER_NAME.try_into()?, move || {
        let shown = shown.as_ref().map(|(key, certificate)| (key, &certificate[..]));
        client_config(authority, shown).map_err(std::io::Error::other)
    }))
}

fn request(hub: &Hub, key: &HostKey, token: &str) -> Result<ServiceAccountJoinRequest> {
    let proof = ServiceAccountToken::from_bytes(token.as_bytes())?.prove(&hub.token().authority, key);
    Ok(ServiceAccountJoinRequest { peer_id: key.public().peer_id(), token: token.to_owned().into(), proof })
}

/// Says this to the scheduler, on a connection of its own.
async fn say(hub: &Hub, request: ServiceAccountJoinRequest) -> Result<Result<Credentials, Status>> {
    let mut client = SchedulerClient::new(channel(hub, None)?);
    let answer = client.join_by_service_account(wire::ServiceAccountJoinRequest::from(request)).await;
    Ok(answer.map(|answer| answer.into_inner().try_into().expect("well formed")))
}

/// What it answers, once this address may ask: those that were refused count for a moment.
async fn refusal(hub: &Hub, request: ServiceAccountJoinRequest) -> Result<Status> {
    poll::until_async("an answer", BOUND, || async {
        let status = say(hub, request.clone()).await?.err().context("it was let in")?;
        Ok((status.code() != Code::ResourceExhausted).then_some(status))
    })
    .await
}

/// Pods and a host with a join token are members of one cluster. The scheduler's own token changes in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_join_with_their_service_accounts_tokens() -> Result<()> {
    let pods = Pods::start().await?;
    pods.api.grant("pod.token.1", grant(DAEMON, AUDIENCE));
    pods.api.grant("pod.token.2", grant(DAEMON, AUDIENCE));
    let first = pods.pod("pod.token.1").await?;
    pods.hub.until_hosts(1).await?;
    pods.api.rotate("reviewer.token.2")?;
    let second = pods.pod("pod.token.2").await?;
    let third = Node::join(&pods.hub, &pods.settings).await?;
    pods.hub.until_hosts(3).await?;
    let content = pods.blob(1);
    for node in [&first, &second, &third] {
        pods.gets(node, &content).await?;
    }
    ensure!(pods.origin.blob_bytes(&content.digest) == content.bytes.len() as u64, "all are members");
    ensure!(pods.api.asked() == ["pod.token.1", "pod.token.2"], "{:?}", pods.api.asked());
    ensure!(pods.api.mistakes().is_empty(), "{:?}", pods.api.mistakes());
    Ok(())
}

/// Its daemon serves its node as a pull without it would; members give it nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_join_with_another_service_accounts_token() -> Result<()> {
    let pods = Pods::start().await?;
    pods.api.grant("pod.token.1", grant(DAEMON, AUDIENCE));
    pods.api.grant("other.token", grant("system:serviceaccount:images:web", AUDIENCE));
    let member = pods.pod("pod.token.1").await?;
    pods.hub.until_hosts(1).await?;
    let content = pods.blob(1);
    pods.gets(&member, &content).await?;
    let before = pods.origin.blob_bytes(&content.digest);
    let stranger = pods.pod("other.token").await?;
    poll::until_async("it tries to join", BOUND, || async {
        Ok(pods.api.asked().contains(&"other.token".to_owned()).then_some(()))
    })
    .await?;
    pods.gets(&stranger, &content).await?;
    let sent = pods.origin.blob_bytes(&content.digest) - before;
    ensure!(sent == content.bytes.len() as u64, "{sent} bytes from the origin: the rest from a member?");
    ensure!(pods.hub.status().await?["hosts_total"] == 1, "it was let in");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_join_with_a_token_that_is_not_good_for_it() -> Result<()> {
    let pods = Pods::start().await?;
    let (hub, key) = (&pods.hub, host(1)?);
    pods.api.grant("other.audience", grant(DAEMON, "https://kubernetes.default.svc"));
    pods.api.grant("other.account", grant("system:serviceaccount:default:default", AUDIENCE));
    pods.api.grant("a.user", grant("images/damselfly", AUDIENCE));
    pods.api.grant("good", grant(DAEMON, AUDIENCE));
    for (token, code, why) in [
        ("unknown", Code::Unauthenticated, "Kubernetes does not accept"),
        ("other.audience", Code::Unauthenticated, "Kubernetes does not accept"),
        ("other.account", Code::PermissionDenied, "a service account that may not join"),
        ("a.user", Code::PermissionDenied, "a service account that may not join"),
    ] {
        for _ in 0..3 {
            let status = refusal(hub, request(hub, &key, token)?).await?;
            ensure!(status.code() == code && status.message().contains(why), "{token}: {status}");
            ensure!(!status.message().contains(token), "{status}");
        }
        let asked = pods.api.asked().iter().filter(|asked| *asked == token).count();
        ensure!(asked == 1, "asked {asked} times about {token}");
    }
    pods.api.fault(Some(Fault::NoAudiences));
    pods.api.grant("default.audience", grant(DAEMON, "https://kubernetes.default.svc"));
    let status = refusal(hub, request(hub, &key, "default.audience")?).await?;
    ensure!(status.message().contains("not projected for the scheduler's audience"), "{status}");
    pods.api.fault(None);

    let asked = pods.api.asked().len();
    let long = ServiceAccountJoinRequest { token: vec![b'a'; 8193].into(), ..request(hub, &key, "good")? };
    let strange = ServiceAccountJoinRequest { token: "go\r\nod".into(), ..request(hub, &key, "good")? };
    for request in [long, strange] {
        let status = refusal(hub, request).await?;
        ensure!(status.code() == Code::InvalidArgument, "{status}");
    }
    ensure!(pods.api.asked().len() == asked, "it was asked about what is no token");
    poll::until_async("the good one is let in", BOUND, || async {
        Ok(say(hub, request(hub, &key, "good")?).await?.ok())
    })
    .await?;
    let status = refusal(&Hub::start(&pods.settings).await?, request(hub, &key, "good")?).await?;
    ensure!(status.code() == Code::FailedPrecondition, "a cluster that takes none: {status}");
    Ok(())
}

/// Whoever reads a join on its way, or has the token and not the key, gets nothing for a key of another; and nobody is
/// asked about it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_service_account_token_is_bound_to_the_key_that_signs_for_it() -> Result<()> {
    let pods = Pods::start().await?;
    pods.api.grant("good", grant(DAEMON, AUDIENCE));
    pods.api.grant("better", grant(DAEMON, AUDIENCE));
    let other = Hub::start_in(&pods.settings, options(&pods.api)?).await?;
    let (hub, key) = (&pods.hub, host(1)?);
    let seen = || request(hub, &key, "good");
    let of_another = ServiceAccountJoinRequest { peer_id: host(2)?.public().peer_id(), ..seen()? };
    let another_token = ServiceAccountJoinRequest { token: "better".into(), ..seen()? };
    for (hub, request) in [(hub, of_another), (hub, another_token), (&other, seen()?)] {
        let status = refusal(hub, request).await?;
        ensure!(status.code() == Code::Unauthenticated, "{status}");
        ensure!(status.message().contains("does not prove"), "{status}");
    }
    ensure!(pods.api.asked().is_empty(), "{:?}", pods.api.asked());
    // Repeated as it is, it certifies a key that the thief does not have.
    let credentials = say(hub, seen()?).await??;
    let thief = client_config(hub.token().authority, Some((&host(2)?, &credentials.certificate)));
    ensure!(thief.is_err(), "the certificate is for another key");
    Ok(())
}

/// One that another authority certified and that would take any token, and one that speaks no TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_service_account_token_is_not_shown_to_a_false_scheduler() -> Result<()> {
    let pods = Pods::start().await?;
    let token = "a.token.that.is.never.sent";
    pods.api.grant(token, grant(DAEMON, AUDIENCE));
    let plain = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let plain_address = plain.local_addr()?;
    let listening = tokio::spawn(async move {
        let (mut heard, mut hellos) = (Vec::new(), 0);
        while hellos < 3 {
            let Ok((mut socket, _)) = plain.accept().await else { continue };
            // What TLS says first; whatever follows comes within a moment.
            let reading = socket.read_buf(&mut heard);
            hellos += usize::from(matches!(tokio::time::timeout(BOUND, reading).await, Ok(Ok(1..))));
            drop(tokio::time::timeout(Duration::from_millis(100), socket.read_buf(&mut heard)).await);
        }
        heard
    });
    let authority = Hub::start(&pods.settings).await?.token().authority;
    let file = projected(&pods.dir, token)?;
    let doors = [(pods.hub.address(), authority), (plain_address, authority)];
    let first = Node::join_by_service_account(doors[0], &file, &pods.settings).await?;
    let second = Node::join_by_service_account(doors[1], &file, &pods.settings).await?;
    let heard = listening.await?;
    ensure!(!heard.windows(token.len()).any(|window| window == token.as_bytes()), "the token was sent");
    let content = pods.blob(1);
    for node in [&first, &second] {
        pods.gets(node, &content).await?;
        ensure!(node.status().await?["scheduler"] == "down", "{}", node.status().await?);
    }
    ensure!(pods.api.asked().is_empty(), "the false scheduler has the token");
    ensure!(pods.hub.status().await?["hosts_total"] == 0, "it joined a false scheduler");
    // The true one gets it.
    let third = pods.pod(token).await?;
    pods.hub.until_hosts(1).await?;
    drop(third);
    Ok(())
}

/// Each of these is no word on the token: it is said, and the same token is asked about again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_gives_no_answer_is_named_and_asked_again() -> Result<()> {
    let pods = Pods::start().await?;
    let (hub, key) = (&pods.hub, host(1)?);
    pods.api.grant("good", grant(DAEMON, AUDIENCE));
    let yes =
        r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":{"authenticated":true"#;
    let endless = format!("{yes},\"audiences\":[\"{}\"]}}}}", "a".repeat(1 << 20));
    for (fault, why) in [
        (Fault::Status(401), "HTTP 401: it does not accept the scheduler's own token"),
        (Fault::Status(403), "HTTP 403: the scheduler's service account may not create tokenreviews"),
        (Fault::Status(500), "HTTP 500"),
        (Fault::Status(307), "HTTP 307"),
        (Fault::Body("<html>".to_owned()), "its answer is no TokenReview"),
        (Fault::Body(yes.to_owned()), "its answer is no TokenReview"),
        (Fault::Body(endless), "it is too long"),
        (Fault::Hang, "there is no answer in 5s"),
    ] {
        pods.api.fault(Some(fault));
        let begun = Instant::now();
        let status = refusal(hub, request(hub, &key, "good")?).await?;
        ensure!(status.code() == Code::Unavailable, "{status}");
        ensure!(
            status.message().contains("Kubernetes API server") && status.message().contains(why),
            "{status}"
        );
        ensure!(begun.elapsed() < REVIEW_TIMEOUT + SLACK, "{why}: {:?}", begun.elapsed());
    }
    ensure!(pods.api.asked().len() == 8, "a redirect is not followed: {:?}", pods.api.asked());
    pods.api.fault(Some(Fault::Status(500)));
    // A daemon goes on trying, and reads its token anew.
    let node = pods.pod("expired").await?;
    poll::until_async("it tries", BOUND, || async {
        Ok(pods.api.asked().contains(&"expired".to_owned()).then_some(()))
    })
    .await?;
    projected(&pods.dir, "good")?;
    pods.api.fault(None);
    pods.hub.until_hosts(1).await?;
    drop(node);
    Ok(())
}

/// The scheduler's own token opens the API server to whoever has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_false_api_server_is_told_nothing_and_not_believed() -> Result<()> {
    let (real, fake) = (ApiServer::start("reviewer").await?, ApiServer::start("reviewer").await?);
    for api in [&real, &fake] {
        api.grant("good", grant(DAEMON, AUDIENCE));
    }
    let origin = FaultyOrigin::start().await?;
    let kubernetes = KubernetesOptions { api: Some(fake.url().parse()?), ..options(&real)? };
    let hub = Hub::start_in(&Settings::of(&[&origin]), kubernetes).await?;
    let status = refusal(&hub, request(&hub, &host(1)?, "good")?).await?;
    ensure!(status.code() == Code::Unavailable && status.message().contains("cannot be reached"), "{status}");
    ensure!(fake.connections() == 0 && fake.asked().is_empty(), "it was told: {fake:?}");
    // The authority's certificate is another from now on, and the same server believed.
    std::fs::copy(fake.ca_file(), real.ca_file())?;
    say(&hub, request(&hub, &host(1)?, "good")?).await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_stay_members_while_the_api_server_is_away() -> Result<()> {
    let Pods { api, hub, settings, dir, origin: _origin } = Pods::start().await?;
    api.grant("good", grant(DAEMON, AUDIENCE));
    let key = host(1)?;
    let credentials = say(&hub, request(&hub, &key, "good")?).await??;
    let file = projected(&dir, "good")?;
    let door = (hub.address(), hub.token().authority);
    let node = Node::join_by_service_account(door, &file, &settings).await?;
    hub.until_hosts(1).await?;
    api.stop();
    std::fs::remove_file(&file)?;
    let status = refusal(&hub, request(&hub, &host(2)?, "good")?).await?;
    ensure!(status.code() == Code::Unavailable && status.message().contains("cannot be reached"), "{status}");
    let member = channel(&hub, Some((key, credentials.certificate.to_vec())))?;
    SchedulerClient::new(member).renew(wire::RenewRequest {}).await?;
    let dir = node.stop().await?;
    hub.until_hosts(0).await?;
    let again = Node::join_again_by_service_account(door, &file, &settings, dir).await?;
    hub.until_hosts(1).await?;
    drop(again);
    Ok(())
}

/// One address asks about hundreds of tokens that are not good, and does not wait for the answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_flood_of_bad_tokens_is_not_passed_on() -> Result<()> {
    let pods = Pods::start().await?;
    let (hub, key) = (&pods.hub, host(1)?);
    let begun = Instant::now();
    for round in 0..10 {
        let mut client = SchedulerClient::new(channel(hub, None)?);
        // The connection stands from then on.
        let first = wire::ServiceAccountJoinRequest::from(request(hub, &key, "bad.first")?);
        ensure!(client.join_by_service_account(first).await.is_err(), "it was let in");
        let calls = (0..50).map(|i| {
            let (mut client, request) = (client.clone(), request(hub, &key, &format!("bad.{round}.{i}")));
            async move {
                let asking = client.join_by_service_account(wire::ServiceAccountJoinRequest::from(request?));
                if let Ok(answer) = tokio::time::timeout(Duration::from_millis(50), asking).await {
                    ensure!(answer.is_err(), "it was let in");
                }
                anyhow::Ok(())
            }
        });
        join_all(calls).await.into_iter().collect::<Result<()>>()?;
    }
    // Four at a time, each of which counts for a second.
    let (asked, most) = (pods.api.asked().len() as u64, 4 * (begun.elapsed().as_secs() + 2));
    ensure!((1..=most).contains(&asked), "{asked} of 500 tokens were asked about, {most} at most");
    // The same bad token is asked about once.
    for _ in 0..50 {
        let status = refusal(hub, request(hub, &key, "bad")?).await?;
        ensure!(status.code() == Code::Unauthenticated, "{status}");
    }
    let asked = pods.api.asked().iter().filter(|token| *token == "bad").count();
    ensure!(asked == 1, "asked {asked} times");
    Ok(())
}
