//! What this host sends to peers: verified pieces from the store, and the count of their bytes.

use crate::traffic::Traffic;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use p2p::{Holdings, PieceBody, PieceRequest, PieceSource, Refusal};
use process::traces::{Kind, Span};
use std::io;
use std::time::SystemTime;
use store::{Blob, READ_LEN, Store, StoreError};
use types::{ByteRange, Digest, HostId};

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

    /// Pieces of a proven chain alone: others belong to the readers of one registry until it is proven.
    fn holdings(&self, _asker: HostId, digest: Digest) -> BoxFuture<'_, Option<Holdings>> {
        let blob = self.store.get(&digest).filter(Blob::is_closed);
        let held = blob.map(|blob| Holdings { layout: blob.layout(), pieces: blob.pieces() });
        Box::pin(std::future::ready(held))
    }

    fn uploaded(&self, child: HostId, request: &PieceRequest, bytes: u64) {
        tracing::debug!(digest = %request.digest, piece = %request.piece, %child, bytes, "piece uploaded");
        self.traffic.sent(child, bytes);
    }

    fn answered_in_trace(
        &self,
        child: HostId,
        request: &PieceRequest,
        began: SystemTime,
        answer: &io::Result<Option<Refusal>>,
    ) {
        let mut span = Span::child_since(Kind::Server, "upload piece", request.trace, began);
        span.note("damselfly.child", child);
        span.note("damselfly.digest", request.digest);
        span.count("damselfly.piece", request.piece.0.into());
        match answer {
            Ok(None) => {
                span.note("damselfly.result", "sent");
                span.count("damselfly.bytes", request.expected_len().unwrap_or(0).into());
            }
            Ok(Some(refusal)) => span.fail(format_args!("{refusal:?}")),
            Err(error) => span.fail(format_args!("{:?}", error.kind())),
        }
    }
}

/// The ranges in which a piece is read.
fn parts_of(piece: ByteRange) -> impl Iterator<Item = ByteRange> + Send {
    (0..piece.len().div_ceil(READ_LEN)).filter_map(move |part| {
        let start = piece.start() + part * READ_LEN;
        ByteRange::new(start, (start + READ_LEN).min(piece.end()))
    })
}

fn note(error: &StoreError, child: HostId) {
    match error {
        StoreError::Corrupt { .. } => {
            tracing::warn!(%error, %child, "a stored piece is corrupt and was dropped");
        }
        _ => tracing::debug!(%error, %child, "a piece could not be read for a peer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Label, PieceIndex, PieceLayout, PieceSet, State, hash_piece};

    const PIECE: u32 = 1 << 20;
    const SIZE: usize = 2_500_000;

    /// A blob of three pieces in a store; two of them are written.
    async fn written(dir: &std::path::Path) -> (Uploads, Blob, Vec<u8>) {
        let options = store::Options { free_floor: 0.0, ..store::Options::new(dir) };
        let store = tokio::task::spawn_blocking(|| Store::open(options)).await.unwrap().unwrap();
        let content: Vec<u8> = (0..251).cycle().take(SIZE).collect();
        let digest = Digest::sha256(&content);
        let layout = PieceLayout::new(SIZE as u64, PIECE).unwrap();
        let blob = store.create(&digest, layout).await.unwrap();
        let uploads = Uploads::new(store, Traffic::new(Label::default(), Label::default()));
        let mut state = State::initial(digest.algorithm());
        for (piece, bytes) in layout.pieces().zip(content.chunks(PIECE as usize)) {
            let after = hash_piece(layout, piece, &state, bytes).unwrap();
            blob.learn_states(piece.0, &[state, after]).unwrap();
            if piece.0 > 0 {
                blob.write_piece(piece, bytes.to_vec().into()).await.unwrap();
            }
            state = after;
        }
        (uploads, blob, content)
    }

    fn request(blob: &Blob, piece: u32) -> PieceRequest {
        let (size, piece_len) = (blob.layout().size(), blob.layout().piece_len());
        PieceRequest { digest: *blob.digest(), size, piece_len, piece: PieceIndex(piece), trace: None }
    }

    #[tokio::test]
    async fn a_piece_is_read_in_parts_and_refused_if_it_is_not_held() {
        let dir = tempfile::tempdir().unwrap();
        let (uploads, blob, content) = written(dir.path()).await;
        let child = HostId::of_peer_id(b"child");
        for (piece, bytes) in [(1, &content[1 << 20..2 << 20]), (2, &content[2 << 20..])] {
            let body = uploads.piece(child, request(&blob, piece)).await.unwrap();
            let parts: Vec<_> = body.into_parts().try_collect().await.unwrap();
            assert!(parts.concat() == bytes, "piece {piece}");
            assert!(parts.iter().all(|part| part.len() as u64 <= READ_LEN), "no part is long");
        }
        let otherwise = PieceRequest { piece_len: PIECE / 2, ..request(&blob, 1) };
        let unknown = PieceRequest { digest: Digest::sha256(b"unknown"), ..request(&blob, 1) };
        for wrong in [request(&blob, 0), otherwise, unknown] {
            assert_eq!(uploads.piece(child, wrong).await.unwrap_err(), Refusal::NotHeld);
        }
    }

    #[tokio::test]
    async fn only_what_is_proven_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (uploads, blob, content) = written(dir.path()).await;
        let asker = HostId::of_peer_id(b"asker");
        assert_eq!(uploads.holdings(asker, *blob.digest()).await, None, "its chain may be false");
        blob.write_piece(PieceIndex(0), content[..PIECE as usize].to_vec().into()).await.unwrap();
        blob.close().await.unwrap();
        let held = Holdings { layout: blob.layout(), pieces: PieceSet::full(3) };
        assert_eq!(uploads.holdings(asker, *blob.digest()).await, Some(held));
        assert_eq!(uploads.holdings(asker, Digest::sha256(b"unknown")).await, None);
    }
}
