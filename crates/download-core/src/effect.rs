//! What a download asks of its driver.

use crate::{FetchId, ReadId, ReaderId};
use std::ops::Range;
use types::{ByteRange, HostBody, HostId, LeaseFailure, PieceIndex, PieceSet, State};

/// Why readers get an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The origin does not have the blob.
    #[error("the origin does not have the blob")]
    NotFound,
    /// No host has a right to read it; the client gets the origin's challenge.
    #[error("no credential that the origin accepts")]
    Denied,
    /// The origin's bytes do not have the blob's digest.
    #[error("the origin's bytes do not have the digest")]
    OriginWrong,
    /// The key makes no sense: too large, or an empty blob with another digest.
    #[error("no blob can have this digest and size")]
    BadKey,
    /// The origin failed for too long.
    #[error("the origin failed: {0:?}")]
    Origin(LeaseFailure),
    /// The store cannot take the pieces.
    #[error("the pieces cannot be stored")]
    Store,
}

/// An output of the core, to be executed in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell the scheduler; lost if the link is not up, the core says it again when it is.
    Send(HostBody),
    /// Get a piece from a peer, verify it against the two states, store it, and report by
    /// [`Event::Fetched`](crate::Event::Fetched).
    Fetch {
        /// Quoted in the report.
        fetch: FetchId,
        /// Who has it.
        parent: HostId,
        /// Which piece.
        piece: PieceIndex,
        /// The chain's state before it.
        before: State,
        /// The chain's state after it.
        after: State,
    },
    /// The transfer is not needed any more. It may still be reported as stored if it just was.
    CancelFetch {
        /// Which.
        fetch: FetchId,
    },
    /// Read the bytes of these pieces from the origin in one ranged request; report each whole piece by
    /// [`Event::OriginPiece`](crate::Event::OriginPiece) and the end by [`Event::OriginEnded`](crate::Event::OriginEnded).
    ReadOrigin {
        /// Quoted in the reports.
        read: ReadId,
        /// Which pieces; not empty.
        pieces: Range<u32>,
    },
    /// The request is not needed any more; its pieces that have not been reported are not to be.
    CancelRead {
        /// Which.
        read: ReadId,
    },
    /// Hash the kept bytes of this piece from the state `before`. If `expect` is given and the result differs, report
    /// that it did not match and forget the bytes; otherwise store them and report, by
    /// [`Event::Hashed`](crate::Event::Hashed) in both cases.
    Hash {
        /// Which piece.
        piece: PieceIndex,
        /// The state before it.
        before: State,
        /// The state that should be after it, where known.
        expect: Option<State>,
    },
    /// Forget the kept, unhashed bytes of this piece.
    DropBytes {
        /// Which piece.
        piece: PieceIndex,
    },
    /// Persist these states of the chain, the first at `boundary`.
    LearnStates {
        /// The boundary of the first.
        boundary: u32,
        /// One for each boundary.
        states: Vec<State>,
    },
    /// Forget, in the store too, every state of the chain but its two ends: the chain was false. The pieces stay, but none
    /// is to be served before the states around it are known again (by [`LearnStates`](Self::LearnStates), which agrees
    /// with the piece, or [`Discard`](Self::Discard) follows).
    ForgetStates,
    /// The piece is verified and stored: its readers can go on. The blob's last byte must wait for
    /// [`Closed`](Self::Closed).
    Held {
        /// Which piece.
        piece: PieceIndex,
    },
    /// Every piece is held and the chain leads to the digest: the whole blob is proven, and the store may say so.
    Closed,
    /// Serve these bytes to this reader straight from the origin with its own permission: unverified, not stored, not
    /// offered to peers. Consumption is reported by [`Event::ReaderMoved`](crate::Event::ReaderMoved).
    ReadThrough {
        /// Which reader.
        reader: ReaderId,
        /// Which bytes of the blob, from its position on.
        range: ByteRange,
    },
    /// These pieces were verified against a false chain: the store must forget them. A reader that was given bytes of
    /// them gets an error, since what it has is not the blob.
    Discard {
        /// Which pieces.
        pieces: PieceSet,
    },
    /// Everybody who reads the blob gets this error. [`Stop`](Self::Stop) follows at once.
    FailReaders {
        /// Why.
        reason: Failure,
    },
    /// Nothing is left to do: the driver ends this download, with all that still runs or is kept for it. Its pieces
    /// stay offered. No effect follows, whatever happens.
    Stop,
}
