//! What this host sends to peers: verified pieces from the store, and the count of their bytes.

use crate::traffic::Traffic;
use bytes::Bytes;
use futures::future::BoxFuture;
use p2p::{PieceRequest, PieceSource, Refusal};
use store::{Store, StoreError};
use types::HostId;

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
    fn piece(&self, child: HostId, request: PieceRequest) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(async move {
            let blob = self.store.get(&request.digest).ok_or(Refusal::NotHeld)?;
            // Another layout means other pieces under the same numbers.
            if request.layout() != Some(blob.layout()) || !blob.has(request.piece) {
                return Err(Refusal::NotHeld);
            }
            let read = blob.read_piece(request.piece).await;
            if let Ok(bytes) = &read {
                let (digest, piece, bytes) = (&request.digest, request.piece, bytes.len());
                tracing::debug!(%digest, %piece, %child, bytes, "piece uploaded");
            }
            read.map_err(|error| {
                match error {
                    StoreError::Corrupt { .. } => {
                        tracing::warn!(%error, %child, "a stored piece is corrupt and was dropped");
                    }
                    _ => tracing::debug!(%error, %child, "a piece could not be read for a peer"),
                }
                Refusal::NotHeld
            })
        })
    }

    fn uploaded(&self, child: HostId, bytes: u64) {
        self.traffic.sent(child, bytes);
    }
}
