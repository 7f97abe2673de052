//! libp2p's stock stack: TCP, TLS, yamux; one stream that is kept.

use super::{Identities, answer, ask, say_ready};
use anyhow::Result;
use bytes::Bytes;
use p2p::stock::{Listener, dial};
use std::net::SocketAddr;

pub(super) async fn send(identities: &Identities, piece: Bytes) -> Result<()> {
    let mut listener = Listener::bind(&identities.own).await?;
    say_ready(listener.address());
    let stream = listener.accept(identities.other.peer_id()).await?;
    answer(stream, &piece).await
}

pub(super) async fn receive(identities: &Identities, address: SocketAddr, pieces: u32) -> Result<()> {
    let stream = dial(&identities.own, address, identities.other.peer_id()).await?;
    ask(stream, pieces).await
}
