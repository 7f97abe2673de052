//! What one peer asks of another, and who answers.

use crate::Holdings;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use std::time::SystemTime;
use std::{fmt, io};
use types::{Digest, HostId, PieceIndex, PieceLayout, TraceContext};

/// Which piece of which blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceRequest {
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// The blob's piece length in bytes.
    pub piece_len: u32,
    /// Which piece.
    pub piece: PieceIndex,
    /// For which span of a trace the child asks, if it records one. Nothing depends on it.
    pub trace: Option<TraceContext>,
}

impl PieceRequest {
    /// The longest piece that is asked for or sent, in bytes: it bounds the buffer of a transfer.
    pub const PIECE_LEN_MAX: u32 = 64 << 20;

    /// The blob's layout; nothing if there is no such layout, no such piece, or the piece is longer than
    /// [`Self::PIECE_LEN_MAX`].
    #[must_use]
    pub fn layout(&self) -> Option<PieceLayout> {
        let layout = PieceLayout::new(self.size, self.piece_len)?;
        (self.piece.0 < layout.count() && self.piece_len <= Self::PIECE_LEN_MAX).then_some(layout)
    }

    /// How many bytes the piece has; nothing if the request makes no sense.
    #[must_use]
    pub fn expected_len(&self) -> Option<u32> {
        Some(self.layout()?.len_of(self.piece))
    }
}

/// Why a parent does not send a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// It does not hold the piece (any more).
    #[error("the piece is not held")]
    NotHeld,
    /// No upload slot fell free in time; no blame.
    #[error("no upload slot is free")]
    Busy,
    /// It does not know the child as a member, or the child may not have the piece.
    #[error("not allowed")]
    NotAllowed,
    /// The request makes no sense to it.
    #[error("the request is malformed")]
    Malformed,
}

/// The bytes of a piece that is sent, part by part, so that nobody has to hold all of it.
pub struct PieceBody {
    pub(crate) len: u64,
    pub(crate) parts: BoxStream<'static, io::Result<Bytes>>,
}

impl PieceBody {
    /// `len` bytes in parts of any size. With an error, or if they are fewer or more, the connection breaks: the child
    /// has been told the length.
    pub fn new(len: u64, parts: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self { len, parts: parts.boxed() }
    }

    /// The parts.
    #[must_use]
    pub fn into_parts(self) -> BoxStream<'static, io::Result<Bytes>> {
        self.parts
    }
}

/// All in one part.
impl From<Bytes> for PieceBody {
    fn from(piece: Bytes) -> Self {
        Self::new(piece.len() as u64, futures::stream::iter([Ok(piece)]))
    }
}

impl fmt::Debug for PieceBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PieceBody({} bytes)", self.len)
    }
}

/// Where the pieces come from that this host sends: the daemon, from its store.
pub trait PieceSource: Send + Sync + 'static {
    /// The bytes of a piece for `child`, a member. The request makes sense and an upload slot is held meanwhile.
    ///
    /// A body of another length than the piece's is not sent: the child is told [`Refusal::NotHeld`].
    fn piece(&self, child: HostId, request: PieceRequest) -> BoxFuture<'_, Result<PieceBody, Refusal>>;

    /// What this host holds of a blob and offers to `asker`, a member; nothing if it does not know the blob.
    ///
    /// Asked over control, at most 256 at once. Without an implementation nothing is known.
    fn holdings(&self, asker: HostId, digest: Digest) -> BoxFuture<'_, Option<Holdings>> {
        let _ = (asker, digest);
        Box::pin(std::future::ready(None))
    }

    /// All `bytes` of the piece have been handed to the kernel for `child`.
    fn uploaded(&self, child: HostId, request: &PieceRequest, bytes: u64) {
        let _ = (child, request, bytes);
    }

    /// A request that belongs to a trace is answered, or it could not be: nothing if all bytes of the piece are on their
    /// way, else why they are not. It came at `began`. Of other requests this is not called.
    fn answered_in_trace(
        &self,
        child: HostId,
        request: &PieceRequest,
        began: SystemTime,
        answer: &io::Result<Option<Refusal>>,
    ) {
        let _ = (child, request, began, answer);
    }
}
