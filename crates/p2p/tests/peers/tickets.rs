//! What peers have to show: a ticket of their cluster, their own, and of today.

use crate::support::{Blob, Node, SOON, eventually, hasty, introduce};
use membership::{Authority, HostCredentials, TICKET_LIFETIME};
use p2p::{FetchError, Identity, Members, Options, Refusal, Tickets};
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use types::FetchFailure;

struct Cluster {
    authority: Authority,
    _dir: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { authority: Authority::load_or_create(dir.path()).unwrap(), _dir: dir }
    }

    fn certify(&self, identity: &Identity, ago: Duration) -> HostCredentials {
        let key = identity.host_key().unwrap().public();
        self.authority.certify(&key, SystemTime::now() - ago).unwrap()
    }

    /// A node that shows what it got so long ago.
    async fn node(&self, ago: Duration) -> (Node, Tickets) {
        self.node_with(hasty(), ago).await
    }

    async fn node_with(&self, options: Options, ago: Duration) -> (Node, Tickets) {
        let identity = Identity::generate();
        let got = self.certify(&identity, ago);
        let tickets = Tickets::needed();
        tickets.set(got.ticket, got.ticket_keys);
        let members = Members::with_tickets(tickets.clone());
        (Node::start_as(identity, options, members).await, tickets)
    }
}

const OLD: Duration = TICKET_LIFETIME.saturating_mul(2);

/// The scheduler has named all of them: a ticket is needed all the same.
async fn fetch(child: &Node, parent: &Node) -> Result<p2p::Bytes, FetchError> {
    let blob = Blob::new(1, 1000, 1024);
    parent.shelf.put(&blob);
    introduce(parent, child);
    child.fetch(parent.host(), blob.request(0)).await
}

#[tokio::test]
async fn members_with_tickets_exchange_pieces_and_tell_what_they_hold() {
    let cluster = Cluster::new();
    let ((parent, _), (child, _)) = (cluster.node(Duration::ZERO).await, cluster.node(Duration::ZERO).await);
    assert_eq!(fetch(&child, &parent).await.unwrap(), Blob::new(1, 1000, 1024).content);
    let held = child.p2p.holdings(parent.host(), Blob::new(1, 1000, 1024).digest).await.unwrap();
    assert_eq!(held.unwrap().pieces.len(), 1);
}

#[tokio::test]
async fn attack_peer_with_a_bad_ticket_gets_no_piece_and_no_word() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let (parent, _) = cluster.node(Duration::ZERO).await;
    let (thief, tickets) = cluster.node(Duration::ZERO).await;
    let keys = cluster.certify(&thief.identity, Duration::ZERO).ticket_keys;
    let stolen = cluster.certify(&parent.identity, Duration::ZERO).ticket;
    let attacks = [
        ("none", Vec::new()),
        ("an expired one", cluster.certify(&thief.identity, OLD).ticket),
        ("another peer's, replayed", stolen),
        ("another cluster's", other.certify(&thief.identity, Duration::ZERO).ticket),
        ("garbage", vec![1; 121]),
    ];
    let digest = Blob::new(1, 1000, 1024).digest;
    for (what, ticket) in attacks {
        tickets.set(ticket, keys.clone());
        let error = fetch(&thief, &parent).await.expect_err(what);
        assert!(matches!(error, FetchError::Refused(Refusal::NotAllowed)), "{what}: {error:?}");
        let asked = thief.p2p.holdings(parent.host(), digest).await;
        assert!(matches!(asked, Err(FetchError::Unreachable(_))), "{what}: {asked:?}");
    }
    assert_eq!(parent.shelf.asked.load(std::sync::atomic::Ordering::Relaxed), 0, "nothing was looked up");
    // The service goes on: for a member, and for this one once it shows its own.
    let (member, _) = cluster.node(Duration::ZERO).await;
    fetch(&member, &parent).await.unwrap();
    tickets.set(cluster.certify(&thief.identity, Duration::ZERO).ticket, keys);
    fetch(&thief, &parent).await.unwrap();
}

#[tokio::test]
async fn attack_parent_with_a_bad_ticket_is_not_believed() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let (child, _) = cluster.node(Duration::ZERO).await;
    let (liar, tickets) = cluster.node(Duration::ZERO).await;
    let keys = cluster.certify(&liar.identity, Duration::ZERO).ticket_keys;
    for ticket in [Vec::new(), other.certify(&liar.identity, Duration::ZERO).ticket] {
        tickets.set(ticket, keys.clone());
        let error = fetch(&child, &liar).await.unwrap_err();
        assert!(matches!(error, FetchError::Ticket(_)), "{error:?}");
        assert_eq!(error.failure(), FetchFailure::Unreachable);
        let asked = child.p2p.holdings(liar.host(), Blob::new(1, 1000, 1024).digest).await;
        assert!(matches!(asked, Err(FetchError::Ticket(_))), "{asked:?}");
    }
}

/// A connection does not outlive the ticket that opened it; with a new one the exchange goes on.
#[tokio::test]
async fn connections_end_with_their_tickets() {
    let cluster = Cluster::new();
    let (parent, _) = cluster.node(Duration::ZERO).await;
    // Good for about five seconds more, the leeway included.
    let ago = TICKET_LIFETIME + membership::CLOCK_LEEWAY - Duration::from_secs(5);
    let (child, tickets) = cluster.node(ago).await;
    fetch(&child, &parent).await.unwrap();
    let refused = async {
        while fetch(&child, &parent).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, refused).await.expect("the ticket expires");
    let got = cluster.certify(&child.identity, Duration::ZERO);
    tickets.set(got.ticket, got.ticket_keys);
    fetch(&child, &parent).await.unwrap();
}

/// Ten thousand connections that say nothing, from one address; a member comes from another.
#[tokio::test]
async fn attack_a_flood_of_silent_connections_does_not_keep_members_out() {
    const FLOOD: usize = 10_000;
    let cluster = Cluster::new();
    // In turn, sixty-four at a time, two hundred would take half a minute.
    let patient = Options { handshake_timeout: Duration::from_secs(10), ..Options::default() };
    let (parent, _) = cluster.node_with(patient.clone(), Duration::ZERO).await;
    let (child, _) = cluster.node_with(patient, Duration::ZERO).await;
    let address = parent.p2p.bulk_addr();
    let mut silent = Vec::new();
    for _ in 0..FLOOD {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let connected = tokio::time::timeout(SOON, socket.connect(address)).await.expect("in time");
        // The parent closes those that wait for too long or are too many.
        silent.extend(connected.ok());
        // The process has 1,024 descriptors on some machines, and the other end of each is here too.
        if silent.len() > 200 {
            silent.drain(..100).for_each(drop::<TcpStream>);
        }
    }
    let begun = std::time::Instant::now();
    fetch(&child, &parent).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8), "it took {:?}", begun.elapsed());
    drop(silent);
    eventually("the flood is forgotten", || parent.p2p.stats().open <= 1).await;
}

/// Peers that make the handshake, show no ticket, and then say nothing: a turn each, and not the members' connections.
#[tokio::test]
async fn attack_strangers_without_tickets_do_not_take_members_connections() {
    const STRANGERS: usize = 40;
    let cluster = Cluster::new();
    let patient = Options { handshake_timeout: Duration::from_secs(15), ..Options::default() };
    let narrow = Options { connections_max: 20, ..patient.clone() };
    let (parent, _) = cluster.node_with(narrow, Duration::ZERO).await;
    let (child, _) = cluster.node_with(patient, Duration::ZERO).await;
    let (address, expected) = (parent.p2p.bulk_addr(), parent.identity.peer_id());
    let mut strangers = tokio::task::JoinSet::new();
    for _ in 0..STRANGERS {
        strangers.spawn(async move {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            let stream = socket.connect(address).await.unwrap();
            let tls = p2p::tls::Tls::new(&Identity::generate()).unwrap();
            // Those that get no turn wait here.
            let mut stream = tls.dial(stream, expected).await.unwrap();
            stream.write_all(&[0, 1, 0, 0]).await.unwrap();
            stream.flush().await.unwrap();
            std::future::pending::<()>().await;
        });
    }
    eventually("strangers have their turns", || parent.p2p.stats().open >= 16).await;
    let fetched = tokio::time::timeout(Duration::from_secs(10), fetch(&child, &parent)).await;
    fetched.expect("in time").unwrap();
    assert_eq!(parent.p2p.stats().open, 17, "sixteen turns of one address, and the member");
    strangers.shutdown().await;
}
