//! Bytes straight from the origin to one reader, past the store and the peers.
//!
//! For a reader whose range the chain will not reach soon, and for one whose bytes the store cannot take: a full disk
//! must not fail a pull. Where the chain's state before the first byte's piece is known, that piece is read from its
//! beginning, each is verified before it is handed on, and the last one against the digest; in the middle of a blob of
//! which nothing is known, nothing can be.

use super::Parts;
use super::reading::Reading;
use super::rights::Right;
use crate::traffic::ReadUnder;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use origin::OriginError;
use types::{
    BlobKey, ByteRange, Chain, ChainError, LeaseFailure, PieceLayout, State, TraceContext, hash_piece,
};

/// Why bytes from the origin cannot be handed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectError {
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// A read of one range.
pub(crate) struct Direct {
    layout: PieceLayout,
    range: ByteRange,
    /// Offset in the blob of the next byte that comes.
    at: u64,
    /// Bytes that come before those that were asked for: to verify their piece.
    skip: usize,
    /// The chain as far as it was known at the start.
    chain: Chain,
    /// The state before the piece that `at` begins, while whole pieces are verified.
    state: Option<State>,
    rest: Bytes,
    body: BoxStream<'static, Result<Bytes, OriginError>>,
    parts: Parts,
    /// In the reader's trace, if it has one.
    reading: Reading,
}

impl Direct {
    /// Whether all bytes of `range` up to its end, or to the last whole piece in it, are verified by what is known.
    pub(crate) fn is_verified(chain: &Chain, range: ByteRange) -> bool {
        Self::start(chain, range).is_some()
    }

    /// Where to begin, and the state there, so that the first piece can be verified.
    fn start(chain: &Chain, range: ByteRange) -> Option<(u64, State)> {
        let piece = chain.layout().piece_at(range.start())?;
        let whole = chain.layout().range(piece);
        let state = chain.state(piece.0).copied()?;
        (whole.end() <= range.end()).then_some((whole.start(), state))
    }

    /// Opens a read of `range`, with what is known of the chain, for the span `trace`.
    pub(crate) async fn open(
        parts: &Parts,
        right: &Right,
        key: &BlobKey,
        chain: Chain,
        range: ByteRange,
        trace: Option<TraceContext>,
    ) -> Result<Self, DirectError> {
        let layout = chain.layout();
        let (start, state) = match Self::start(&chain, range) {
            Some((start, state)) => (start, Some(state)),
            None => (range.start(), None),
        };
        // At most a piece's length.
        let skip = usize::try_from(range.start() - start).unwrap_or(usize::MAX);
        let range = ByteRange::new(start, range.end()).unwrap_or(range);
        let mut reading = Reading::new(trace, right, key, layout.piece_at(range.start()), ReadUnder::Nothing);
        let body = parts
            .origin
            .read_blob(&right.repository, &key.digest, Some(range), Some(key.size), &right.auth)
            .await
            .inspect_err(|error| reading.failed(&error.lease_failure()))?;
        Ok(Self {
            layout,
            range,
            at: range.start(),
            skip,
            chain,
            state,
            rest: Bytes::new(),
            body: body.body.boxed(),
            parts: parts.clone(),
            reading,
        })
    }

    /// The next bytes, or nothing at the end of the range.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, DirectError> {
        if self.at == self.range.end() {
            return Ok(None);
        }
        let piece =
            self.layout.piece_at(self.at).filter(|piece| self.layout.range(*piece).end() <= self.range.end());
        let (Some(piece), Some(before)) = (piece, self.state) else {
            // A piece that the range cuts off, or one whose chain is not known: as it comes.
            self.state = None;
            return Ok(Some(self.take(self.range.end() - self.at).await?));
        };
        let len = self.layout.len_of(piece) as usize;
        let mut bytes = BytesMut::with_capacity(len);
        while bytes.len() < len {
            let part = self.take((len - bytes.len()) as u64).await?;
            bytes.extend_from_slice(&part);
        }
        let bytes = bytes.freeze();
        let (layout, hashed) = (self.layout, bytes.clone());
        let after = tokio::task::spawn_blocking(move || hash_piece(layout, piece, &before, &hashed)).await;
        let after = after.unwrap_or(Err(ChainError::Piece { piece })).and_then(|after| {
            let known = self.chain.state(piece.0 + 1);
            known.is_none_or(|known| *known == after).then_some(after).ok_or(ChainError::Piece { piece })
        });
        self.state = Some(after.inspect_err(|_| self.reading.failed(&LeaseFailure::Wrong))?);
        Ok(Some(bytes.slice(std::mem::take(&mut self.skip).min(bytes.len())..)))
    }

    async fn take(&mut self, max: u64) -> Result<Bytes, OriginError> {
        while self.rest.is_empty() {
            let part = match self.body.next().await {
                Some(part) => part,
                None => Err(OriginError::TooShort { expected: self.range.end(), got: self.at }),
            };
            self.rest = part.inspect_err(|error| self.reading.failed(&error.lease_failure()))?;
        }
        let len = usize::try_from(max).unwrap_or(usize::MAX).min(self.rest.len());
        self.at += len as u64;
        self.reading.came(len);
        if self.at == self.range.end() {
            self.reading.whole();
        }
        self.parts.p2p.admit_download(len).await;
        self.parts.traffic.origin_read(ReadUnder::Nothing, len as u64);
        Ok(self.rest.split_to(len))
    }
}
