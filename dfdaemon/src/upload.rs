//! What this host sends to peers: verified pieces from the store, and the count of their bytes.

use crate::traffic::Traffic;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use p2p::{PieceBody, PieceRequest, PieceSource, Refusal};
use std::io;
use store::{READ_LEN, Store, StoreError};
use types::{ByteRange, HostId};

/// The store as peers see it.
#[derive(Debug)]
pub(crate) struct Uploads {
    store: Store,
    traffic: Traffic,
}

impl Uploads {
    pub(crate) fn new(store: Store, traffic: Traffic) -> Self {
        Self { store, traffic }
    }
}

impl PieceSource for Uploads {
    fn piece(&self, child: HostId, request: PieceRequest) -> BoxFuture<'_, Result<PieceBody, Refusal>> {
        Box::pin(async move {
            let blob = self.store.get(&request.digest).ok_or(Refusal::NotHeld)?;
            // Another layout means other pieces under the same numbers.
            if request.layout() != Some(blob.layout()) || !blob.has(request.piece) {
                return Err(Refusal::NotHeld);
            }
            let piece = blob.layout().range(request.piece);
            let mut parts = parts_of(piece);
            let first = parts.next().ok_or(Refusal::Malformed)?;
            // The first read checks the whole piece, so that what is corrupt is refused and not begun.
            let first = blob.read(first).await.map_err(|error| {
                note(&error, child);
                Refusal::NotHeld
            })?;
            let rest = stream::iter(parts).then(move |part| {
                let blob = blob.clone();
                async move { blob.read(part).await }
            });
            let rest = rest.map_err(move |error| {
                note(&error, child);
                io::Error::other(error)
            });
            Ok(PieceBody::new(piece.len(), stream::iter([Ok(first)]).chain(rest)))
        })
    }

    fn uploaded(&self, child: HostId, request: &PieceRequest, bytes: u64) {
        tracing::debug!(digest = %request.digest, piece = %request.piece, %child, bytes, "piece uploaded");
        self.traffic.sent(child, bytes);
    }
}

/// The ranges in which a piece is read.
fn parts_of(piece: ByteRange) -> impl Iterator<Item = ByteRange> + Send {
    let starts = (piece.start()..piece.end()).step_by(READ_LEN as usize);
    starts.filter_map(move |start| ByteRange::new(start, (start + READ_LEN).min(piece.end())))
}

fn note(error: &StoreError, child: HostId) {
    match error {
        StoreError::Corrupt { .. } => {
            tracing::warn!(%error, %child, "a stored piece is corrupt and was dropped");
        }
        _ => tracing::debug!(%error, %child, "a piece could not be read for a peer"),
    }
}
