//! Slots, rates and numbers of connections.

use crate::support::{Blob, Node, SOON, eventually, hasty, pair};
use p2p::{ConnectError, FetchError, Members, Options, P2p, P2pError, Refusal};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use types::FetchFailure;

#[tokio::test]
async fn without_a_free_slot_a_child_hears_busy() {
    let blob = Blob::new(1, 1000, 128);
    let (parent, child) =
        pair(&blob, Options { upload_slots: 1, ..Options::default() }, Options::default()).await;
    let all = parent.shelf.permits.forget_permits(usize::MAX);
    assert!(all > 0);
    let first = child.fetch(parent.host(), blob.request(0));
    let second = async {
        eventually("the first holds the slot", || parent.shelf.asked.load(Ordering::Relaxed) == 1).await;
        let start = Instant::now();
        let error = child.fetch(parent.host(), blob.request(1)).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(1), "a refusal comes soon");
        parent.shelf.permits.add_permits(10);
        error
    };
    let (first, error) = tokio::join!(first, second);
    first.unwrap();
    assert!(matches!(error, FetchError::Refused(Refusal::Busy)), "{error:?}");
    assert_eq!(error.failure(), FetchFailure::Busy);
    child.fetch(parent.host(), blob.request(1)).await.unwrap();
    assert_eq!(child.p2p.stats().dialed, 2, "a refusal closes no connection");
}

#[tokio::test]
async fn a_fetch_that_is_dropped_closes_its_connection_and_frees_the_slot() {
    let blob = Blob::new(2, 4 << 20, 4 << 20);
    let parent =
        Options { upload_slots: 1, upload_rate_bytes_per_second: Some(1 << 20), ..Options::default() };
    let (parent, child) = pair(&blob, parent, Options::default()).await;
    {
        let fetch = child.fetch(parent.host(), blob.request(0));
        let some = eventually("bytes come", || child.p2p.stats().downloaded_bytes > 100_000);
        tokio::select! {
            _ = fetch => panic!("4 s are not over"),
            () = some => {}
        }
    }
    assert_eq!(child.p2p.stats().open, 0);
    eventually("the parent closes", || parent.p2p.stats().open == 0).await;
    let small = Blob::new(3, 1000, 1024);
    parent.shelf.put(&small);
    child.fetch(parent.host(), small.request(0)).await.unwrap();
    assert_eq!(child.p2p.stats().dialed, 2);
}

#[tokio::test]
async fn rates_are_kept() {
    const RATE: u64 = 4 << 20;
    let limited = |up, down| Options {
        upload_rate_bytes_per_second: up,
        download_rate_bytes_per_second: down,
        ..Options::default()
    };
    let blob = Blob::new(4, 4 << 20, 1 << 20);
    for (parent, child) in
        [(limited(Some(RATE), None), limited(None, None)), (limited(None, None), limited(None, Some(RATE)))]
    {
        let (parent, child) = pair(&blob, parent, child).await;
        // A busy machine can be late, but nothing makes a rate too high.
        let mut late = 0;
        loop {
            let start = Instant::now();
            let fetches = blob.layout.pieces().map(|piece| child.fetch(parent.host(), blob.request(piece.0)));
            for got in futures::future::join_all(fetches).await {
                got.unwrap();
            }
            let seconds = start.elapsed().as_secs_f64();
            assert!(seconds > 0.85, "{seconds} s for 1 s");
            if seconds < 1.15 {
                break;
            }
            late += 1;
            assert!(late < 5, "{seconds} s for 1 s, for the fifth time");
        }
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let blob = Blob::new(5, 1000, 1024);
    let parent = Options { connections_max: 1, ..Options::default() };
    let (parent, child) = pair(&blob, parent, Options::default()).await;
    let other = Node::start(Options::default()).await;
    crate::support::introduce(&parent, &other);
    parent.shelf.permits.forget_permits(usize::MAX);
    let first = child.fetch(parent.host(), blob.request(0));
    let second = async {
        eventually("the first is served", || parent.shelf.asked.load(Ordering::Relaxed) == 1).await;
        let error = other.fetch(parent.host(), blob.request(0)).await.unwrap_err();
        parent.shelf.permits.add_permits(10);
        error
    };
    let (first, error) = tokio::join!(first, second);
    first.unwrap();
    assert!(matches!(error, FetchError::Unreachable(ConnectError::Handshake { .. })), "{error:?}");
    assert_eq!(parent.p2p.stats().rejected, 1);
}

#[tokio::test]
async fn an_idle_child_gives_way_to_another() {
    let blob = Blob::new(11, 1000, 1024);
    let parent = Options { connections_max: 1, ..Options::default() };
    let (parent, child) = pair(&blob, parent, Options::default()).await;
    let other = Node::start(Options::default()).await;
    crate::support::introduce(&parent, &other);
    for _ in 0..3 {
        child.fetch(parent.host(), blob.request(0)).await.unwrap();
        other.fetch(parent.host(), blob.request(0)).await.unwrap();
    }
    assert_eq!(parent.p2p.stats().accepted, 6);
    assert_eq!(parent.p2p.stats().rejected, 0);
}

#[tokio::test]
async fn an_idle_connection_gives_way_to_another_parent() {
    let blob = Blob::new(6, 1000, 1024);
    let child = Options { connections_max: 1, ..Options::default() };
    let (parent, child) = pair(&blob, Options::default(), child).await;
    let other = Node::start(Options::default()).await;
    other.shelf.put(&blob);
    crate::support::introduce(&other, &child);
    for _ in 0..3 {
        child.fetch(parent.host(), blob.request(0)).await.unwrap();
        child.fetch(other.host(), blob.request(0)).await.unwrap();
    }
    assert_eq!(child.p2p.stats().dialed, 6);
    assert_eq!(child.p2p.stats().open, 1);
    // Both at once: the second waits until the first has ended.
    let (a, b) =
        tokio::join!(child.fetch(parent.host(), blob.request(0)), child.fetch(other.host(), blob.request(0)));
    a.unwrap();
    b.unwrap();
}

#[tokio::test]
async fn a_peer_with_too_many_connections_hears_busy() {
    let blob = Blob::new(7, 1000, 128);
    let parent = Options { connections_per_peer_max: 1, ..Options::default() };
    let (parent, child) = pair(&blob, parent, Options::default()).await;
    parent.shelf.permits.forget_permits(usize::MAX);
    let first = child.fetch(parent.host(), blob.request(0));
    let second = async {
        eventually("the first is served", || parent.shelf.asked.load(Ordering::Relaxed) == 1).await;
        let error = child.fetch(parent.host(), blob.request(1)).await.unwrap_err();
        parent.shelf.permits.add_permits(10);
        error
    };
    let (first, error) = tokio::join!(first, second);
    first.unwrap();
    assert!(matches!(error, FetchError::Refused(Refusal::Busy)), "{error:?}");
}

#[tokio::test]
async fn silent_connections_do_not_keep_members_out() {
    let blob = Blob::new(8, 1000, 1024);
    let parent = Options { handshakes_max: 2, ..hasty() };
    let (parent, child) = pair(&blob, parent, Options::default()).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(tokio::net::TcpStream::connect(parent.p2p.bulk_addr()).await.unwrap());
    }
    child.fetch(parent.host(), blob.request(0)).await.unwrap();
    eventually("the silent are closed", || parent.p2p.stats().rejected == 4).await;
}

#[tokio::test]
async fn idle_connections_are_closed_after_their_time() {
    let blob = Blob::new(9, 1000, 1024);
    let idle = Options { idle_timeout: Duration::from_millis(200), ..Options::default() };
    let (parent, child) = pair(&blob, Options::default(), idle).await;
    child.fetch(parent.host(), blob.request(0)).await.unwrap();
    eventually("the child closes", || child.p2p.stats().open == 0).await;
    eventually("the parent closes", || parent.p2p.stats().open == 0).await;
}

#[tokio::test]
async fn a_parent_closes_what_a_child_leaves_idle() {
    let blob = Blob::new(10, 1000, 1024);
    let idle = Options { idle_timeout: Duration::from_millis(100), ..Options::default() };
    let (parent, child) = pair(&blob, idle, Options::default()).await;
    child.fetch(parent.host(), blob.request(0)).await.unwrap();
    eventually("the parent closes", || parent.p2p.stats().open == 0).await;
    child.fetch(parent.host(), blob.request(0)).await.unwrap();
    assert_eq!(child.p2p.stats().dialed, 2);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let node = Node::start(Options::default()).await;
    let (bulk, control) = (node.p2p.bulk_addr(), node.p2p.control_addr());
    for (options, taken) in [
        (Options { bulk_listen: bulk, ..Options::default() }, bulk),
        (Options { control_listen: control, ..Options::default() }, control),
    ] {
        let shelf = std::sync::Arc::clone(&node.shelf) as std::sync::Arc<dyn p2p::PieceSource>;
        let cancel = CancellationToken::new();
        let start = P2p::start(node.identity.clone(), options, Members::new(), shelf, cancel);
        let error = tokio::time::timeout(SOON, start).await.unwrap().unwrap_err();
        assert!(matches!(error, P2pError::Listen { address, .. } if address == taken), "{error}");
        assert!(error.to_string().contains(&taken.to_string()), "{error}");
    }
}
