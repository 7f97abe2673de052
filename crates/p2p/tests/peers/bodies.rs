//! Pieces that a parent sends in parts: all of them, too few, too many, an error or silence in the middle.

use crate::support::{Blob, Node, hasty};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use p2p::{
    BoxFuture, Bytes, ConnectError, FetchError, Identity, Member, Members, P2p, PieceBody, PieceRequest,
    PieceSource, Refusal,
};
use std::io;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;
use types::HostId;

type Parts = BoxStream<'static, io::Result<Bytes>>;

/// Has bodies for the next requests, the last first.
struct Bodies(Mutex<Vec<(u64, Parts)>>);

impl PieceSource for Bodies {
    fn piece(&self, _: HostId, _: PieceRequest) -> BoxFuture<'_, Result<PieceBody, Refusal>> {
        let next = self.0.lock().unwrap().pop();
        Box::pin(async { next.map(|(len, parts)| PieceBody::new(len, parts)).ok_or(Refusal::NotHeld) })
    }
}

/// What a child gets of a piece of the blob whose body is this, and then of one that is whole.
async fn fetched(
    blob: &Blob,
    len: u64,
    parts: impl FnOnce(Vec<Bytes>) -> Parts,
) -> Result<Bytes, FetchError> {
    let content = blob.content.clone();
    let cut: Vec<_> = (0..content.len()).step_by(300_000).collect();
    let cut: Vec<_> = cut.iter().map(|&at| content.slice(at..content.len().min(at + 300_000))).collect();
    let whole = stream::iter(cut.clone().into_iter().map(Ok)).boxed();
    let bodies = Arc::new(Bodies(Mutex::new(vec![(content.len() as u64, whole), (len, parts(cut))])));
    let (identity, members, cancel) = (Identity::generate(), Members::new(), CancellationToken::new());
    let parent = P2p::start(identity, hasty(), members.clone(), bodies, cancel.clone()).await.unwrap();
    let child = Node::start(hasty()).await;
    members.insert(child.as_member()).unwrap();
    let (host, bulk) = (parent.host_id(), parent.bulk_addr());
    let member = Member { host, peer_id: parent.peer_id_bytes(), control: None, bulk };
    child.members.insert(member).unwrap();
    let first = child.fetch(host, blob.request(0)).await;
    assert_eq!(child.fetch(host, blob.request(0)).await.unwrap(), content, "the parent goes on");
    cancel.cancel();
    first
}

#[tokio::test]
async fn a_body_comes_part_by_part() {
    let blob = Blob::new(21, 1_000_000, 1 << 20);
    let ok = |parts: Vec<Bytes>| stream::iter(parts.into_iter().map(Ok)).boxed();
    assert_eq!(fetched(&blob, 1_000_000, ok).await.unwrap(), blob.content);
    let bytewise = |parts: Vec<Bytes>| {
        let bytes: Vec<_> = parts[0].chunks(1).map(Bytes::copy_from_slice).collect();
        let empty = Bytes::new();
        stream::iter(bytes.into_iter().chain([empty]).chain(parts.into_iter().skip(1)).map(Ok)).boxed()
    };
    let blob = Blob::new(22, 301_000, 1 << 20);
    assert_eq!(fetched(&blob, 301_000, bytewise).await.unwrap(), blob.content);
}

#[tokio::test]
async fn a_body_of_another_length_or_with_an_error_is_no_piece() {
    let blob = Blob::new(23, 1_000_000, 1 << 20);
    let ok = |parts: Vec<Bytes>| stream::iter(parts.into_iter().map(Ok)).boxed();
    let error = fetched(&blob, 999_999, ok).await.unwrap_err();
    assert!(matches!(error, FetchError::Refused(Refusal::NotHeld)), "announced too short: {error:?}");

    let broken = |error: FetchError, what: &str| {
        assert!(matches!(error, FetchError::Unreachable(ConnectError::Broken(_))), "{what}: {error:?}");
    };
    let few = |parts: Vec<Bytes>| stream::iter(parts.into_iter().take(2).map(Ok)).boxed();
    broken(fetched(&blob, 1_000_000, few).await.unwrap_err(), "too few");
    let lost = |parts: Vec<Bytes>| {
        let lost = Err(io::Error::other("the disk is gone"));
        stream::iter(parts.into_iter().take(2).map(Ok).chain([lost])).boxed()
    };
    broken(fetched(&blob, 1_000_000, lost).await.unwrap_err(), "an error");
    let many = |mut parts: Vec<Bytes>| {
        let last = parts.pop().unwrap();
        parts.push([&last[..], b"!"].concat().into());
        stream::iter(parts.into_iter().map(Ok)).boxed()
    };
    broken(fetched(&blob, 1_000_000, many).await.unwrap_err(), "too many");
    let silent =
        |parts: Vec<Bytes>| stream::iter(parts.into_iter().take(2).map(Ok)).chain(stream::pending()).boxed();
    let error = fetched(&blob, 1_000_000, silent).await.unwrap_err();
    assert!(matches!(error, FetchError::Stalled { bytes: 600_000 }), "silence: {error:?}");
}
