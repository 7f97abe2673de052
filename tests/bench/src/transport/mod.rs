//! The two sides of a transfer of pieces, each a process, over one of three stacks.
//!
//! The receiver asks for a piece of 4 MiB, gets it, and asks for the next, on one connection; the sender has the piece
//! in memory. Nothing is hashed: what is measured is the way from memory to memory.

mod ours;
mod plain;
mod stock;

use crate::role::{TransportRole, say};
use anyhow::{Context, Result};
use bytes::Bytes;
use clap::ValueEnum;
use p2p::Identity;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A piece's length in bytes.
pub const PIECE_LEN: u32 = 4 << 20;

/// The length of a request on the stacks that have no protocol of their own on top: about that of ours.
const REQUEST_LEN: usize = 64;

/// Which side of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// Has the pieces.
    Sender,
    /// Asks for them.
    Receiver,
}

impl Side {
    /// As an argument.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        }
    }
}

/// What carries the pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stack {
    /// Damselfly's bulk transport.
    Ours,
    /// tokio-rustls with AES-128-GCM and nothing else.
    Plain,
    /// libp2p's TCP, TLS and yamux as they come.
    Stock,
}

impl Stack {
    /// As an argument.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Plain => "plain",
            Self::Stock => "stock",
        }
    }
}

/// Both sides' identities.
struct Identities {
    own: Identity,
    other: Identity,
}

/// Plays one side. The sender says `ready ADDRESS`, the receiver at the end `done SECONDS`.
///
/// # Errors
/// If the transfer fails.
pub async fn run(role: &TransportRole) -> Result<()> {
    let identities = identities(&role.keys, role.side)?;
    match role.side {
        Side::Sender => match role.stack {
            Stack::Ours => ours::send(&identities, piece()).await,
            Stack::Plain => plain::send(&role.keys, piece()).await,
            Stack::Stock => stock::send(&identities, piece()).await,
        },
        Side::Receiver => {
            let address = role.address.context("a receiver needs an address")?;
            let start = Instant::now();
            match role.stack {
                Stack::Ours => ours::receive(&identities, address, role.pieces).await,
                Stack::Plain => plain::receive(&role.keys, address, role.pieces).await,
                Stack::Stock => stock::receive(&identities, address, role.pieces).await,
            }?;
            say("done", start.elapsed().as_secs_f64());
            Ok(())
        }
    }
}

/// The two processes make the keys, whichever comes first.
fn identities(keys: &Path, side: Side) -> Result<Identities> {
    let load = |name| Identity::load_or_create(&keys.join(name));
    let (sender, receiver) = (load("sender.key")?, load("receiver.key")?);
    Ok(match side {
        Side::Sender => Identities { own: sender, other: receiver },
        Side::Receiver => Identities { own: receiver, other: sender },
    })
}

fn piece() -> Bytes {
    let mut piece = vec![0; PIECE_LEN as usize];
    fastrand::Rng::with_seed(1).fill(&mut piece);
    piece.into()
}

/// Tells the parent where the sender listens.
fn say_ready(address: SocketAddr) {
    say("ready", address);
}

/// Sends a piece for each request until the receiver closes.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, piece: &[u8]) -> Result<()> {
    let mut request = [0; REQUEST_LEN];
    while stream.read_exact(&mut request).await.is_ok() {
        stream.write_all(piece).await?;
        stream.flush().await?;
    }
    Ok(())
}

/// Asks for `pieces` pieces, one after the other; each arrives in the same buffer, which is the least that can be done.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, pieces: u32) -> Result<()> {
    let mut piece = vec![0; PIECE_LEN as usize];
    for _ in 0..pieces {
        stream.write_all(&[7; REQUEST_LEN]).await?;
        stream.flush().await?;
        stream.read_exact(&mut piece).await?;
        std::hint::black_box(&piece);
    }
    Ok(())
}
