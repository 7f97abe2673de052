//! Who is let in: members, and those whose introduction is on its way.

use crate::support::{Blob, Node, SOON, eventually, hasty, introduce, pair};
use p2p::{ConnectError, FetchError, Member, Options, Refusal};
use std::sync::Arc;
use std::time::Duration;
use types::FetchFailure;

#[tokio::test]
async fn attack_a_stranger_is_refused() {
    let blob = Blob::new(1, 1000, 1024);
    let (parent, child) = (Node::start(hasty()).await, Node::start(Options::default()).await);
    parent.shelf.put(&blob);
    child.members.insert(parent.as_member()).unwrap();
    let error = child.fetch(parent.host(), blob.request(0)).await.unwrap_err();
    assert!(matches!(error, FetchError::Refused(Refusal::NotAllowed)), "{error:?}");
    assert_eq!(error.failure(), FetchFailure::NotAllowed);
    eventually("the parent closes", || parent.p2p.stats().open == 0).await;
    assert_eq!(child.p2p.stats().open, 0, "a connection after a refusal is not kept");
}

#[tokio::test]
async fn a_member_named_within_the_grace_is_served() {
    let blob = Blob::new(2, 1000, 1024);
    let (parent, child) = (Node::start(Options::default()).await, Node::start(Options::default()).await);
    parent.shelf.put(&blob);
    child.members.insert(parent.as_member()).unwrap();
    let fetch = child.fetch(parent.host(), blob.request(0));
    let introduction = async {
        eventually("the child has connected", || parent.p2p.stats().accepted == 1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        parent.members.insert(child.as_member()).unwrap();
    };
    let (got, ()) = tokio::join!(fetch, introduction);
    assert_eq!(got.unwrap(), blob.content);
}

#[tokio::test]
async fn nobody_fetches_from_a_stranger() {
    let blob = Blob::new(3, 1000, 1024);
    let (parent, child) = (Node::start(Options::default()).await, Node::start(Options::default()).await);
    parent.members.insert(child.as_member()).unwrap();
    let error = child.fetch(parent.host(), blob.request(0)).await.unwrap_err();
    assert!(matches!(error, FetchError::NotMember), "{error:?}");
    assert_eq!(parent.p2p.stats().accepted, 0);
}

#[tokio::test]
async fn attack_another_peer_at_the_address_is_refused() {
    let blob = Blob::new(4, 1000, 1024);
    let (parent, child) = pair(&blob, Options::default(), Options::default()).await;
    let other = Node::start(Options::default()).await;
    introduce(&other, &child);
    let lie = Member { bulk: parent.p2p.bulk_addr(), ..other.as_member() };
    child.members.insert(lie).unwrap();
    let error = child.fetch(other.host(), blob.request(0)).await.unwrap_err();
    let FetchError::Unreachable(ConnectError::WrongPeer { address }) = error else { panic!("{error:?}") };
    assert_eq!(address, parent.p2p.bulk_addr());
}

#[tokio::test]
async fn removal_ends_a_transfer_on_either_side() {
    let blob = Blob::new(5, 1000, 1024);
    for parent_forgets in [true, false] {
        let (parent, child) = pair(&blob, Options::default(), Options::default()).await;
        parent.shelf.permits.forget_permits(usize::MAX);
        let fetch = child.fetch(parent.host(), blob.request(0));
        let removal = async {
            eventually("the parent is asked", || parent.p2p.stats().open == 1 && asked(&parent) == 1).await;
            if parent_forgets {
                parent.members.remove(child.host());
            } else {
                child.members.remove(parent.host());
            }
        };
        let (result, ()) = tokio::join!(fetch, removal);
        let error = result.unwrap_err();
        if parent_forgets {
            // The one retry on a fresh connection is for reused ones only.
            assert!(matches!(error, FetchError::Unreachable(ConnectError::Broken(_))), "{error:?}");
        } else {
            assert!(matches!(error, FetchError::NotMember), "{error:?}");
        }
        eventually("both sides close", || parent.p2p.stats().open + child.p2p.stats().open == 0).await;
    }
}

#[tokio::test]
async fn removal_closes_idle_connections() {
    let blob = Blob::new(6, 1000, 1024);
    let (parent, child) = pair(&blob, Options::default(), Options::default()).await;
    child.fetch(parent.host(), blob.request(0)).await.unwrap();
    assert_eq!(child.p2p.stats().open, 1);
    child.members.remove(parent.host());
    eventually("both sides close", || parent.p2p.stats().open + child.p2p.stats().open == 0).await;
}

#[tokio::test]
async fn cancelling_stops_everything() {
    let blob = Blob::new(7, 1000, 1024);
    let (parent, child) = pair(&blob, Options::default(), Options::default()).await;
    child.fetch(parent.host(), blob.request(0)).await.unwrap();
    parent.shelf.permits.forget_permits(usize::MAX);
    let child = Arc::new(child);
    let running = tokio::spawn({
        let (child, parent, request) = (Arc::clone(&child), parent.host(), blob.request(0));
        async move { child.fetch(parent, request).await }
    });
    eventually("the parent is asked", || asked(&parent) == 2).await;
    child.cancel.cancel();
    let error = running.await.unwrap().unwrap_err();
    assert!(matches!(error, FetchError::Stopping), "{error:?}");
    tokio::time::timeout(SOON, child.p2p.stopped()).await.expect("the child stops");
    parent.cancel.cancel();
    tokio::time::timeout(SOON, parent.p2p.stopped()).await.expect("the parent stops");
    assert_eq!(parent.p2p.stats().open + child.p2p.stats().open, 0);
    std::net::TcpListener::bind(parent.p2p.bulk_addr()).expect("the address is free again");
    std::net::TcpListener::bind(parent.p2p.control_addr()).expect("the address is free again");
}

fn asked(node: &Node) -> u64 {
    node.shelf.asked.load(std::sync::atomic::Ordering::Relaxed)
}
