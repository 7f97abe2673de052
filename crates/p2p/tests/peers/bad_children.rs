//! Children that break the rules: they are refused or closed, and others are served meanwhile.

use crate::support::{Blob, Node, SOON, eventually, hasty};
use libp2p::PeerId;
use p2p::tls::{Secured, Tls};
use p2p::{Identity, Member, Options};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HELLO: [u8; 4] = [0, 1, 0, 0];
const MALFORMED: [u8; 5] = [4, 0, 0, 0, 0];

/// A secured connection to `parent` from a member that the test plays itself.
async fn connect(parent: &Node) -> Secured<TcpStream> {
    let identity = Identity::generate();
    let member = Member { bulk: parent.p2p.bulk_addr(), ..as_member(&identity) };
    parent.members.insert(member).unwrap();
    let socket = TcpStream::connect(parent.p2p.bulk_addr()).await.unwrap();
    let peer = PeerId::from_bytes(&parent.p2p.peer_id_bytes()).unwrap();
    Tls::new(&identity).unwrap().dial(socket, peer).await.unwrap()
}

fn as_member(identity: &Identity) -> Member {
    Member {
        host: identity.host_id(),
        peer_id: identity.peer_id_bytes(),
        control: None,
        bulk: "127.0.0.1:9".parse().unwrap(),
    }
}

/// All that the parent says until it closes.
async fn rest(stream: &mut Secured<TcpStream>) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset is an end as well.
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut all)).await.expect("the parent closes");
    all
}

#[tokio::test]
async fn a_request_without_sense_is_malformed_and_the_end() {
    let parent = Node::start(hasty()).await;
    let mut stream = connect(&parent).await;
    let request = [&HELLO[..], &[0, 5], b"abcde"].concat();
    stream.write_all(&request).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(rest(&mut stream).await, [&HELLO[..], &MALFORMED].concat());
}

#[tokio::test]
async fn frames_beyond_their_bounds_end_the_connection() {
    let parent = Node::start(hasty()).await;
    for (frames, said) in [
        (vec![0, 1, 255, 255], &[][..]),
        (vec![0, 0, 0, 0], &[]),
        ([&HELLO[..], &[2, 1]].concat(), &HELLO),
        ([&HELLO[..], &[255, 255]].concat(), &HELLO),
    ] {
        let mut stream = connect(&parent).await;
        stream.write_all(&frames).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(rest(&mut stream).await, said, "{frames:?}");
    }
    eventually("all are closed", || parent.p2p.stats().open == 0).await;
}

#[tokio::test]
async fn half_a_hello_and_half_a_request_time_out() {
    let parent = Node::start(hasty()).await;
    for half in [vec![0], [&HELLO[..], &[0, 54, 1, 1, 7]].concat()] {
        let mut stream = connect(&parent).await;
        stream.write_all(&half).await.unwrap();
        stream.flush().await.unwrap();
        let start = std::time::Instant::now();
        rest(&mut stream).await;
        assert!(start.elapsed() < Duration::from_secs(3), "{half:?}");
    }
}

#[tokio::test]
async fn attack_a_child_that_does_not_read_loses_its_slot() {
    let blob = Blob::new(1, 32 << 20, 32 << 20);
    let parent = Node::start(Options { upload_slots: 1, ..hasty() }).await;
    let small = Blob::new(2, 1000, 1024);
    parent.shelf.put(&blob);
    parent.shelf.put(&small);
    let mut stream = connect(&parent).await;
    let mut frame = HELLO.to_vec();
    let body = request_body(&blob);
    frame.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    frame.extend(body);
    stream.write_all(&frame).await.unwrap();
    stream.flush().await.unwrap();
    eventually("the upload starts", || parent.p2p.stats().uploaded_bytes > 0).await;
    let child = Node::start(Options::default()).await;
    crate::support::introduce(&parent, &child);
    eventually("the parent closes", || parent.p2p.stats().open == 0).await;
    assert_eq!(child.fetch(parent.host(), small.request(0)).await.unwrap(), small.content);
}

/// As the wire has it, without its length.
fn request_body(blob: &Blob) -> Vec<u8> {
    let mut body = vec![1, 1];
    body.extend(blob.digest.as_bytes());
    body.extend(blob.layout.size().to_be_bytes());
    body.extend(blob.layout.piece_len().to_be_bytes());
    body.extend([0; 4 + 2]);
    body
}

#[tokio::test]
async fn many_inbound_connections_are_all_answered() {
    // Nothing is handed over a queue that could drop one.
    let parent = Node::start(Options { upload_slots: 64, ..Options::default() }).await;
    let blob = Blob::new(3, 1000, 1024);
    parent.shelf.put(&blob);
    let mut children = Vec::new();
    for _ in 0..24 {
        let child = Node::start(Options::default()).await;
        crate::support::introduce(&parent, &child);
        children.push(child);
    }
    for _ in 0..3 {
        let fetches = children.iter().map(|child| child.fetch(parent.host(), blob.request(0)));
        for got in futures::future::join_all(fetches).await {
            assert_eq!(got.unwrap(), blob.content);
        }
    }
    assert_eq!(parent.p2p.stats().accepted, 24);
}
