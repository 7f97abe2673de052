//! The control listener: stock libp2p, members only.

use crate::support::{Blob, Node, SOON, introduce};
use futures::StreamExt;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::swarm::{self, NetworkBehaviour, Swarm, SwarmEvent, dial_opts::DialOpts};
use libp2p::{PeerId, identify, ping};
use p2p::{FetchError, Identity, Member, Options};
use tokio::time::timeout;

#[derive(NetworkBehaviour)]
struct Stock {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

fn swarm(keypair: &libp2p::identity::Keypair) -> Swarm<Stock> {
    libp2p::SwarmBuilder::with_existing_identity(keypair.clone())
        .with_tokio()
        .with_tcp(libp2p::tcp::Config::default(), libp2p::tls::Config::new, libp2p::yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| Stock {
            identify: identify::Behaviour::new(identify::Config::new("/test/1".to_owned(), key.public())),
            ping: ping::Behaviour::default(),
        })
        .unwrap()
        .with_swarm_config(|config: swarm::Config| config.with_idle_connection_timeout(SOON))
        .build()
}

fn dial(swarm: &mut Swarm<Stock>, node: &Node) {
    let address = node.p2p.control_addr();
    let address = Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()));
    let peer = PeerId::from_bytes(&node.p2p.peer_id_bytes()).unwrap();
    swarm.dial(DialOpts::peer_id(peer).addresses(vec![address]).build()).unwrap();
}

fn member(peer: &PeerId, node: &Node) -> Member {
    let peer_id = peer.to_bytes();
    Member { host: types::HostId::of_peer_id(&peer_id), peer_id, control: None, bulk: node.p2p.bulk_addr() }
}

#[tokio::test]
async fn a_member_is_identified_and_answered_until_it_is_removed() {
    let node = Node::start(Options::default()).await;
    let mut stock = swarm(&libp2p::identity::Keypair::generate_ed25519());
    let member = member(stock.local_peer_id(), &node);
    node.members.insert(member.clone()).unwrap();
    dial(&mut stock, &node);
    let (mut identified, mut pinged) = (false, false);
    let met = async {
        while !(identified && pinged) {
            match stock.select_next_some().await {
                SwarmEvent::Behaviour(StockEvent::Identify(identify::Event::Received { info, .. })) => {
                    assert!(info.agent_version.starts_with("damselfly/"), "{}", info.agent_version);
                    identified = true;
                }
                SwarmEvent::Behaviour(StockEvent::Ping(event)) => pinged = event.result.is_ok(),
                _ => {}
            }
        }
    };
    timeout(SOON, met).await.expect("identify and ping");
    node.members.remove(member.host);
    let closed =
        async { while !matches!(stock.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {} };
    timeout(SOON, closed).await.expect("a former member is closed");
}

#[tokio::test]
async fn a_stranger_is_closed() {
    let node = Node::start(Options::default()).await;
    let other = Identity::generate();
    node.members.insert(member(&other.peer_id(), &node)).unwrap();
    let mut stock = swarm(&libp2p::identity::Keypair::generate_ed25519());
    dial(&mut stock, &node);
    let closed = async {
        loop {
            match stock.select_next_some().await {
                SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => break,
                SwarmEvent::Behaviour(StockEvent::Ping(event)) => assert!(event.result.is_err()),
                _ => {}
            }
        }
    };
    timeout(SOON, closed).await.expect("a stranger is closed");
}

#[tokio::test]
async fn members_tell_each_other_what_they_hold() {
    let (a, b) = (Node::start(Options::default()).await, Node::start(Options::default()).await);
    introduce(&a, &b);
    let (blob, other) = (Blob::new(1, 1000, 128), Blob::new(2, 1000, 128));
    a.shelf.put(&blob);
    for _ in 0..3 {
        let held = b.p2p.holdings(a.host(), blob.digest).await.unwrap().expect("a holds it");
        assert_eq!(held.layout, blob.layout);
        assert!(held.pieces.is_full());
        assert_eq!(b.p2p.holdings(a.host(), other.digest).await.unwrap(), None);
        assert_eq!(a.p2p.holdings(b.host(), blob.digest).await.unwrap(), None);
    }
    let digests = (0..40).map(|_| b.p2p.holdings(a.host(), blob.digest));
    assert!(futures::future::join_all(digests).await.iter().all(|held| matches!(held, Ok(Some(_)))));
}

#[tokio::test]
async fn strangers_are_told_nothing() {
    let (a, b) = (Node::start(Options::default()).await, Node::start(Options::default()).await);
    let blob = Blob::new(3, 1000, 128);
    a.shelf.put(&blob);
    let error = b.p2p.holdings(a.host(), blob.digest).await.unwrap_err();
    assert!(matches!(error, FetchError::NotMember), "{error:?}");
    b.members.insert(a.as_member()).unwrap();
    let asked = timeout(SOON, b.p2p.holdings(a.host(), blob.digest)).await.unwrap();
    assert!(matches!(asked, Err(FetchError::Unreachable(_))), "{asked:?}");
    b.members.insert(Member { control: None, ..a.as_member() }).unwrap();
    let error = b.p2p.holdings(a.host(), blob.digest).await.unwrap_err();
    assert!(matches!(error, FetchError::NotMember), "{error:?}");
    b.cancel.cancel();
    b.p2p.stopped().await;
    b.members.insert(a.as_member()).unwrap();
    let error = b.p2p.holdings(a.host(), blob.digest).await.unwrap_err();
    assert!(matches!(error, FetchError::Stopping), "{error:?}");
}

/// More than all handshakes there are, from one address; a member comes from another.
#[tokio::test]
async fn attack_silent_connections_of_one_address_do_not_keep_members_out() {
    let (a, b) = (Node::start(Options::default()).await, Node::start(Options::default()).await);
    let blob = Blob::new(3, 1000, 128);
    a.shelf.put(&blob);
    a.members.insert(b.as_member()).unwrap();
    b.members.insert(a.as_member()).unwrap();
    let mut silent = Vec::new();
    for _ in 0..100 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(a.p2p.control_addr()).await.unwrap());
    }
    let begun = std::time::Instant::now();
    let asked = timeout(SOON, b.p2p.holdings(a.host(), blob.digest)).await.unwrap();
    assert!(asked.is_ok(), "{asked:?}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "it took {:?}", begun.elapsed());
    drop(silent);
}
