//! The control listener: stock libp2p, members only.

use crate::support::{Node, SOON};
use futures::StreamExt;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::swarm::{self, NetworkBehaviour, Swarm, SwarmEvent, dial_opts::DialOpts};
use libp2p::{PeerId, identify, ping};
use p2p::{Identity, Member, Options};
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
