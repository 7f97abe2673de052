//! Hosts that are no members, at the ports of those that are. Each tries again and again; what is said of it is said once.

use crate::scene::Scene;
use anyhow::{Context, Result, bail, ensure};
use e2e::inside::{Content, Hub, Liar, Node, Settings, Uploads, silent};
use membership::{JoinSecret, SERVER_NAME, client_config};
use p2p::{FetchError, Identity, Member, Members, P2p, PieceRequest, Refusal, Tickets};
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use types::PieceIndex;

/// How often each is tried.
const TRIES: usize = 3;

/// One that knows the members, and that nobody has told them of.
struct Thief {
    p2p: P2p,
    members: Members,
}

/// A thief with such a ticket.
async fn thief(
    hub: &Hub,
    ticket: impl FnOnce(&Identity) -> Result<Vec<u8>>,
    cancel: &CancellationToken,
) -> Result<Thief> {
    let identity = Identity::generate();
    let keys = hub.admit(&identity.host_key().context("a key")?.public())?.ticket_keys;
    let tickets = Tickets::needed();
    tickets.set(ticket(&identity)?, keys);
    let nothing = Arc::new(Uploads::Refused(Refusal::NotHeld));
    let members = Members::with_tickets(tickets);
    let p2p = P2p::start(identity, p2p::Options::default(), members.clone(), nothing, cancel.clone()).await?;
    Ok(Thief { p2p, members })
}

fn admitted(hub: &Hub, identity: &Identity) -> Result<Vec<u8>> {
    Ok(hub.admit(&identity.host_key().context("a key")?.public())?.ticket)
}

/// Asks a member for a piece, and whether it has one.
async fn ask(thief: &Thief, member: &Member, content: &Content) -> Result<()> {
    let request = PieceRequest {
        digest: content.digest,
        size: content.bytes.len() as u64,
        piece_len: 1 << 20,
        piece: PieceIndex(0),
        trace: None,
    };
    let mut piece = Vec::new();
    let refused = thief.p2p.fetch(member.host, request, &mut piece, || {}).await;
    ensure!(matches!(refused, Err(FetchError::Refused(Refusal::NotAllowed))), "{refused:?}");
    let told = thief.p2p.holdings(member.host, content.digest).await;
    ensure!(matches!(told, Err(FetchError::Unreachable(_))), "{told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_strangers_at_the_ports_of_peers_are_told_of_once() -> Result<()> {
    let scene = Scene::start(|_| {}).await?;
    let other_cluster = Hub::start(&Settings::of(&[&scene.origin])).await?;
    let spy = Liar::join(&scene.hub, Uploads::Nobody, silent()).await?;
    let members = spy.meets(2).await?;
    let content = Content::random(31, 100_000);
    let cancel = CancellationToken::new();
    let _ended = cancel.clone().drop_guard();
    let attack = async {
        let another = Identity::generate();
        let thieves = [
            // Its ticket is good, but the scheduler has told nobody of it. The first, since the others are told so at the
            // port that it tries last, and of one address it is said once.
            thief(&scene.hub, |own| admitted(&scene.hub, own), &cancel).await?,
            thief(&scene.hub, |_| Ok(Vec::new()), &cancel).await?,
            thief(&scene.hub, |_| admitted(&scene.hub, &another), &cancel).await?,
            thief(&scene.hub, |own| admitted(&other_cluster, own), &cancel).await?,
            thief(&scene.hub, |_| Ok(vec![1; 20]), &cancel).await?,
        ];
        for thief in &thieves {
            for member in &members {
                thief.members.insert(member.clone())?;
                for _ in 0..TRIES {
                    ask(thief, member, &content).await?;
                }
            }
        }
        Ok(())
    };
    let ((), lines) =
        scene.beside_with(32, Box::pin(attack), |line| line.contains("a peer is refused")).await?;
    // Each of the two members says each once.
    for reason in [
        "no ticket",
        "another peer's ticket",
        "a ticket of another cluster",
        "a ticket of unknown form",
        "the scheduler has not named it",
    ] {
        let reason = format!("reason={reason} unsaid");
        let of_pieces = |line: &&String| line.contains("p2p::serve: a peer is refused remote=127.0.0.1");
        let count = lines.iter().filter(of_pieces).filter(|line| line.contains(&reason)).count();
        ensure!(count == members.len(), "{reason}: {count} lines: {lines:#?}");
    }
    ensure!(lines.len() == 5 * members.len(), "{lines:#?}");
    Ok(())
}

/// Calls the scheduler without a certificate, and to join with a token that was guessed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_strangers_at_the_scheduler_are_told_of_once() -> Result<()> {
    let scene = Scene::start(|_| {}).await?;
    let token = scene.hub.token().clone();
    let mut guessed = token.clone();
    guessed.secret = JoinSecret::generate().context("no randomness")?;
    let secret = guessed.expose();
    let secret = secret.rsplit('.').next().and_then(|rest| rest.split('@').next()).context("a secret")?;
    let attack = async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", scene.hub.address()))?;
        for _ in 0..TRIES {
            let channel = process::grpc::channel(&endpoint, &SERVER_NAME.try_into()?, move || {
                client_config(token.authority, None).map_err(std::io::Error::other)
            });
            let (_frames, outgoing) = tokio::sync::mpsc::channel(1);
            let answer =
                proto::client::SchedulerClient::new(channel).connect(ReceiverStream::new(outgoing)).await;
            let status = answer.err().context("a stranger is let in")?;
            ensure!(status.code() == tonic::Code::Unauthenticated, "{status:?}");
        }
        let alone = Settings::of(&[&scene.origin]);
        let strangers = [(); TRIES].map(|()| Node::join_with(&scene.hub, guessed.clone(), &alone));
        let strangers = Box::pin(futures::future::try_join_all(strangers)).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(strangers);
        Ok(())
    };
    let ours = |line: &str| line.contains("scheduler::") && line.contains("WARN") || line.contains(secret);
    let ((), lines) = scene.beside_with(33, attack, ours).await?;
    let [called, joined] = &lines[..] else { bail!("{lines:#?}") };
    ensure!(called.contains("a call is refused") && called.contains("join first"), "{called}");
    ensure!(joined.contains("a host may not join") && joined.contains("not good here"), "{joined}");
    Ok(())
}
