//! The bulk transport as the daemon uses it: two whole peer-to-peer sides, members of each other.

use super::{Identities, PIECE_LEN, say_ready};
use anyhow::Result;
use bytes::Bytes;
use p2p::{
    BoxFuture, Identity, Member, Members, Options, P2p, PieceBody, PieceRequest, PieceSource, Refusal,
};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use types::{Digest, HostId, PieceIndex};

/// Has the same bytes for every piece.
struct OnePiece(Bytes);

impl PieceSource for OnePiece {
    fn piece(&self, _: HostId, _: PieceRequest) -> BoxFuture<'_, Result<PieceBody, Refusal>> {
        Box::pin(std::future::ready(Ok(self.0.clone().into())))
    }
}

/// A side that knows the other one, at `bulk`.
async fn start(identities: &Identities, bulk: SocketAddr, piece: Bytes) -> Result<P2p> {
    let members = Members::new();
    members.insert(member(&identities.other, bulk))?;
    let source = Arc::new(OnePiece(piece));
    let identity = identities.own.clone();
    Ok(P2p::start(identity, Options::default(), members, source, CancellationToken::new()).await?)
}

fn member(identity: &Identity, bulk: SocketAddr) -> Member {
    Member { host: identity.host_id(), peer_id: identity.peer_id_bytes(), control: None, bulk }
}

pub(super) async fn send(identities: &Identities, piece: Bytes) -> Result<()> {
    // The receiver sends nothing, so its address does not matter.
    let p2p = start(identities, SocketAddr::from(([127, 0, 0, 1], 1)), piece).await?;
    say_ready(p2p.bulk_addr());
    p2p.stopped().await;
    Ok(())
}

pub(super) async fn receive(identities: &Identities, address: SocketAddr, pieces: u32) -> Result<()> {
    let p2p = start(identities, address, Bytes::new()).await?;
    let request = PieceRequest {
        digest: Digest::sha256(b"bench"),
        size: u64::from(PIECE_LEN),
        piece_len: PIECE_LEN,
        piece: PieceIndex(0),
        trace: None,
    };
    let mut piece = Vec::new();
    for _ in 0..pieces {
        p2p.fetch(identities.other.host_id(), request, &mut piece, || ()).await?;
        std::hint::black_box(&piece);
    }
    Ok(())
}
