//! What happens to a download: everything that its driver tells [`Download::tell`](crate::Download::tell).

use types::{
    ByteRange, Credential, LeaseFailure, PieceIndex, PieceSet, Priority, SchedulerBody, State, Timestamp,
};

/// A reader of the blob, numbered by the driver; never used twice in one download.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderId(pub u64);

/// A transfer from a peer, numbered by the core; never used twice in one download.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

/// A ranged request to the origin, numbered by the core; never used twice in one download.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// How the link to the scheduler stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkState {
    /// A stream is open, and the scheduler has been heard on it. Said again after every reconnect.
    Up,
    /// There is no stream.
    Down,
    /// There is a stream, but the scheduler has been silent for too long.
    Silent,
}

/// How a transfer from a peer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fetched {
    /// The piece was verified against the states of [`Effect::Fetch`](crate::Effect::Fetch) and stored. The last word.
    Stored,
    /// The piece will be there in about one round trip. May come once before the last word.
    NearlyDone,
    /// The piece did not come. The last word.
    Failed(types::FetchFailure),
}

/// The store could not take a piece: no space, or an error of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the piece could not be stored")]
pub struct StoreFailed;

/// An input of the core.
#[derive(Clone, Debug)]
pub enum Event {
    /// Pieces come to this host, for whichever download that clients wait for: one was stored, or bytes of one came from a
    /// peer. Need not come for each; it is enough to hear of it several times in one
    /// [`patience`](crate::Options::patience).
    HostMoved {
        /// When the last came; not in the future.
        at: Timestamp,
    },
    /// A reader wants these bytes, from the first on in order.
    ReaderJoined {
        /// Which reader.
        reader: ReaderId,
        /// What it wants.
        range: ByteRange,
        /// Whether a client waits for it. A reader that is no client's never loses patience: it gets what comes from peers and
        /// under a lease, and waits while there is no scheduler.
        priority: Priority,
    },
    /// A reader has consumed everything before `offset`, an offset in the blob. Comes also when it consumed bytes of a
    /// [`ReadThrough`](crate::Effect::ReadThrough).
    ReaderMoved {
        /// Which reader.
        reader: ReaderId,
        /// The first byte that it has not consumed.
        offset: u64,
    },
    /// A reader has all that it wanted, or has gone.
    ReaderLeft {
        /// Which reader.
        reader: ReaderId,
    },
    /// The link to the scheduler changed.
    Link(LinkState),
    /// The host can now read this blob from its origin with this right. Replaces the one before.
    Credential(Credential),
    /// The scheduler said this about the blob.
    Message(SchedulerBody),
    /// A transfer from a peer went on or ended. After [`CancelFetch`](crate::Effect::CancelFetch) it may be left out.
    Fetched {
        /// Which transfer.
        fetch: FetchId,
        /// How it went.
        outcome: Fetched,
    },
    /// All bytes of this piece have come from the origin. The driver keeps them in memory, unhashed, until
    /// [`Hash`](crate::Effect::Hash) or [`DropBytes`](crate::Effect::DropBytes).
    OriginPiece {
        /// Which request. The pieces of one request come in order.
        read: ReadId,
        /// Which piece.
        piece: PieceIndex,
    },
    /// Some bytes of a piece have come from the origin, and the piece is not whole yet. Said now and then, while they come.
    OriginMoved {
        /// Which request.
        read: ReadId,
    },
    /// A request to the origin ended. After [`CancelRead`](crate::Effect::CancelRead) it may be left out.
    OriginEnded {
        /// Which request.
        read: ReadId,
        /// `Ok` after the last piece, otherwise why not.
        result: Result<(), LeaseFailure>,
    },
    /// The store has these pieces no more: they were evicted, or their bytes have changed on the disk.
    Lost {
        /// Which pieces.
        pieces: PieceSet,
    },
    /// The answer to [`Hash`](crate::Effect::Hash); exactly one for each. The driver has let go of the bytes.
    Hashed {
        /// Which piece.
        piece: PieceIndex,
        /// The state after it, as computed.
        after: State,
        /// Whether this is the state that was expected, or none was.
        matched: bool,
        /// Whether the piece was stored; of no meaning (`Ok`) if it did not match.
        stored: Result<(), StoreFailed>,
    },
}
