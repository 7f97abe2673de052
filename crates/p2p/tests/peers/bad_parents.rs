//! Parents that lie, break off, or say nothing: each gets a typed error in bounded time.

use crate::support::{Blob, Node, eventually, hasty};
use libp2p::PeerId;
use p2p::tls::{Secured, Tls};
use p2p::{ConnectError, FetchError, Identity, Member, ProtocolError};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use types::FetchFailure;

const HELLO: [u8; 4] = [0, 1, 0, 0];
/// Hello and a request with a SHA-256 digest.
const FIRST_REQUEST: usize = 4 + 54;

/// A node and a member that the test plays itself.
async fn child_of(identity: &Identity, bulk: SocketAddr) -> Node {
    let child = Node::start(hasty()).await;
    let member = Member { host: identity.host_id(), peer_id: identity.peer_id_bytes(), control: None, bulk };
    child.members.insert(member).unwrap();
    child
}

async fn local() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Accepts one connection, secures it and reads the first request.
async fn asked(listener: &TcpListener, identity: &Identity) -> (PeerId, Secured<TcpStream>) {
    let (socket, _) = listener.accept().await.unwrap();
    let (peer, mut stream) = Tls::new(identity).unwrap().accept(socket).await.unwrap();
    stream.read_exact(&mut [0; FIRST_REQUEST]).await.unwrap();
    (peer, stream)
}

/// Answers the first request with `answer`, then stays silent or closes.
async fn parent_that_says(answer: Vec<u8>, closes: bool) -> (Node, Identity, JoinHandle<()>) {
    let (listener, identity) = (local().await, Identity::generate());
    let child = child_of(&identity, listener.local_addr().unwrap()).await;
    let task = tokio::spawn({
        let identity = identity.clone();
        async move {
            let (_, mut stream) = asked(&listener, &identity).await;
            stream.write_all(&answer).await.unwrap();
            stream.flush().await.unwrap();
            if closes {
                let _ = stream.shutdown().await;
            } else {
                // Until the child closes.
                let _ = stream.read_u8().await;
            }
        }
    });
    (child, identity, task)
}

async fn error_from(answer: Vec<u8>, closes: bool) -> FetchError {
    let (child, identity, task) = parent_that_says(answer, closes).await;
    let blob = Blob::new(1, 1000, 1024);
    let start = Instant::now();
    let error = child.fetch(identity.host_id(), blob.request(0)).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5), "within the time-outs");
    task.await.unwrap();
    assert_eq!(child.p2p.stats().open, 0, "a connection after an error is not kept");
    error
}

fn after_hello(bytes: &[u8]) -> Vec<u8> {
    [&HELLO, bytes].concat()
}

#[tokio::test]
async fn nobody_listens() {
    let (listener, identity) = (local().await, Identity::generate());
    let address = listener.local_addr().unwrap();
    drop(listener);
    let child = child_of(&identity, address).await;
    let error = child.fetch(identity.host_id(), Blob::new(1, 10, 128).request(0)).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreachable(ConnectError::Dial { address: a, .. }) if a == address));
    assert_eq!(error.failure(), FetchFailure::Unreachable);
}

#[tokio::test]
async fn silence_from_the_start() {
    let (listener, identity) = (local().await, Identity::generate());
    let child = child_of(&identity, listener.local_addr().unwrap()).await;
    let start = Instant::now();
    let error = child.fetch(identity.host_id(), Blob::new(1, 10, 128).request(0)).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreachable(ConnectError::TimedOut { .. })), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn silence_after_the_handshake() {
    let error = error_from(Vec::new(), false).await;
    assert!(matches!(error, FetchError::Stalled { bytes: 0 }), "{error:?}");
    assert_eq!(error.failure(), FetchFailure::Stalled);
}

#[tokio::test]
async fn silence_in_the_middle() {
    let half = [&[0, 0, 0, 3, 232][..], &[7; 400]].concat();
    let error = error_from(after_hello(&half), false).await;
    assert!(matches!(error, FetchError::Stalled { bytes: 400 }), "{error:?}");
}

#[tokio::test]
async fn the_end_in_the_middle() {
    let half = [&[0, 0, 0, 3, 232][..], &[7; 400]].concat();
    for answer in [after_hello(&half), after_hello(&[]), after_hello(&[0, 0]), vec![0, 1], Vec::new()] {
        let error = error_from(answer, true).await;
        assert!(matches!(error, FetchError::Unreachable(ConnectError::Broken(_))), "{error:?}");
    }
}

#[tokio::test]
async fn answers_against_the_rules() {
    let length = |got| ProtocolError::Length { expected: 1000, got };
    let cases = [
        (after_hello(&[0, 0, 0, 3, 231]), length(999)),
        (after_hello(&[0, 0, 0, 3, 233]), length(1001)),
        (after_hello(&[0, 255, 255, 255, 255]), length(u32::MAX)),
        (after_hello(&[0, 0, 0, 0, 0]), length(0)),
        (after_hello(&[99, 0, 0, 0, 0]), ProtocolError::Unknown { field: "status", value: 99 }),
        (after_hello(&[1, 0, 0, 0, 9]), ProtocolError::Length { expected: 0, got: 9 }),
        (vec![0, 0, 0, 0], ProtocolError::Version { theirs: 0, ours: 1 }),
        (vec![0, 1, 16, 1], ProtocolError::TooLong { frame: "ticket", len: 4097, max: 4096 }),
    ];
    for (answer, expected) in cases {
        let error = error_from(answer, false).await;
        assert!(matches!(&error, FetchError::Protocol(e) if *e == expected), "{error:?} for {expected:?}");
        assert_eq!(error.failure(), FetchFailure::Unreachable);
    }
}

#[tokio::test]
async fn garbage_instead_of_a_handshake() {
    for garbage in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x13/multistream/1.0.0\n\x03na\n", &[0xff; 3000]]
    {
        let (listener, identity) = (local().await, Identity::generate());
        let child = child_of(&identity, listener.local_addr().unwrap()).await;
        let task = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.write_all(garbage).await;
            let _ = socket.shutdown().await;
            let mut rest = Vec::new();
            let _ = socket.read_to_end(&mut rest).await;
        });
        let error = child.fetch(identity.host_id(), Blob::new(1, 10, 128).request(0)).await.unwrap_err();
        assert!(matches!(error, FetchError::Unreachable(ConnectError::Handshake { .. })), "{error:?}");
        task.await.unwrap();
    }
}

#[tokio::test]
async fn bytes_beyond_the_answer_end_the_connection() {
    let blob = Blob::new(2, 1000, 1024);
    let answer = [&[0, 0, 0, 3, 232][..], &blob.content, b"more"].concat();
    let (child, identity, task) = parent_that_says(after_hello(&answer), false).await;
    assert_eq!(child.fetch(identity.host_id(), blob.request(0)).await.unwrap(), blob.content);
    // Nobody accepts a second connection: the child must try one all the same.
    let error = child.fetch(identity.host_id(), blob.request(0)).await.unwrap_err();
    let FetchError::Unreachable(why) = error else { panic!("{error:?}") };
    assert!(!matches!(why, ConnectError::Broken(_)), "{why:?}");
    task.await.unwrap();
}

#[tokio::test]
async fn attack_drips_are_no_progress_for_ever() {
    let (listener, identity) = (local().await, Identity::generate());
    let options = p2p::Options { transfer_timeout: Duration::from_millis(800), ..hasty() };
    let child = Node::start(options).await;
    let bulk = listener.local_addr().unwrap();
    let member = Member { host: identity.host_id(), peer_id: identity.peer_id_bytes(), control: None, bulk };
    child.members.insert(member).unwrap();
    let task = tokio::spawn({
        let identity = identity.clone();
        async move {
            let (_, mut stream) = asked(&listener, &identity).await;
            stream.write_all(&after_hello(&[0, 0, 0, 3, 232])).await.unwrap();
            while stream.write_all(&[1]).await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let start = Instant::now();
    let error = child.fetch(identity.host_id(), Blob::new(1, 1000, 1024).request(0)).await.unwrap_err();
    assert!(matches!(error, FetchError::Stalled { bytes: 1.. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(3));
    task.await.unwrap();
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_made_anew() {
    let (listener, identity) = (local().await, Identity::generate());
    let child = child_of(&identity, listener.local_addr().unwrap()).await;
    let blob = Blob::new(3, 1000, 1024);
    let answer = after_hello(&[&[0, 0, 0, 3, 232][..], &blob.content].concat());
    let task = tokio::spawn({
        let identity = identity.clone();
        async move {
            for _ in 0..3 {
                let (_, mut stream) = asked(&listener, &identity).await;
                stream.write_all(&answer).await.unwrap();
                stream.flush().await.unwrap();
                // Reads the next request and closes without an answer.
                let _ = stream.read_u8().await;
            }
        }
    });
    for n in 1..=3 {
        assert_eq!(child.fetch(identity.host_id(), blob.request(0)).await.unwrap(), blob.content);
        assert_eq!(child.p2p.stats().dialed, n);
    }
    drop(child);
    task.await.unwrap();
}

#[tokio::test]
async fn a_parent_is_asked_only_once_when_it_breaks_a_fresh_connection() {
    let (child, identity, task) = parent_that_says(Vec::new(), true).await;
    let error = child.fetch(identity.host_id(), Blob::new(1, 1000, 1024).request(0)).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreachable(ConnectError::Broken(_))), "{error:?}");
    assert_eq!(child.p2p.stats().dialed, 1);
    task.await.unwrap();
    eventually("nothing is kept", || child.p2p.stats().open == 0).await;
}
