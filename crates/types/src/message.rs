//! What hosts and the scheduler tell each other, as values.
//!
//! Both cores speak in these and never in bytes; `proto` turns them into the wire's form and back. Everything is
//! idempotent or fenced by an epoch, so that a message that comes late or twice changes nothing that it should not.

use crate::{Digest, Epoch, HostId, Label, PieceIndex, PieceSet, Registry, State};
use std::ops::Range;
use std::time::Duration;

/// Which content: a digest, the size that goes with it, and the registry that it is asked of.
///
/// Until a chain is closed, what one registry's askers say of a digest must not reach another's, so the registry is
/// part of the key. Once closed, the scheduler serves every key with the same digest and size from the same hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey {
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// The origin that it is asked of.
    pub registry: Registry,
}

/// What a host is and can carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSpec {
    /// The zone it stands in; traffic between zones costs money.
    pub zone: Label,
    /// The rack within the zone.
    pub rack: Label,
    /// How many pieces it uploads at once.
    pub upload_slots: u16,
    /// How many pieces it downloads at once.
    pub download_slots: u16,
    /// Bytes per second that it uploads at most; 0 if unknown.
    pub upload_rate: u64,
    /// Bytes per second that it downloads at most; 0 if unknown.
    pub download_rate: u64,
}

/// With which right a host would read a blob from its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Credential {
    /// None of its own: it can receive from peers, but never be the source.
    None,
    /// The origin gives it to anyone.
    Anonymous,
    /// The daemon's configuration has a credential for it.
    Configured,
    /// A client's own, good for about this long.
    Client {
        /// Until the credential lapses.
        remaining: Duration,
    },
}

/// How urgent a download is; the smallest goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A client waits for it.
    #[default]
    Waiting,
    /// Somebody asked for it to be there before it is needed.
    Preheat,
    /// A guess.
    Prefetch,
}

/// Why a piece did not come from a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FetchFailure {
    /// The bytes do not match the chain: blame for the parent or for the chain.
    Corrupt,
    /// The parent does not hold the piece (any more).
    NotHeld,
    /// The parent has no slot free; no blame.
    Busy,
    /// The parent does not know this host.
    NotAllowed,
    /// No connection, or it broke.
    Unreachable,
    /// No byte for too long.
    Stalled,
    /// The child could not store it, or gave up: nothing to do with the parent.
    Local,
}

/// Why a source gives its lease back, or fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseFailure {
    /// The origin refused the credential (401 or 403).
    Refused,
    /// The credential is about to lapse, or the client that owned it left.
    CredentialEnds,
    /// Nobody on this host waits for the blob.
    NoReader,
    /// The origin does not have the blob (404).
    NotFound,
    /// The origin asked to slow down (429), or answered 5xx, and the retries are used up.
    Throttled,
    /// No connection to the origin, or it broke, and the retries are used up.
    Unreachable,
    /// What the origin sent is not the blob: another length, or another digest.
    Wrong,
    /// The host cannot store what it reads.
    Local,
}

/// Why the scheduler cannot help with a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobFailure {
    /// No host that asks may read it from the origin, and no live host holds all of it.
    NoEligibleHost,
    /// The origin does not have it.
    NotFound,
    /// The origin's bytes do not have this digest; two hosts found the same.
    OriginWrong,
    /// The key makes no sense: a size beyond the limit, or an empty blob with another digest.
    BadKey,
}

/// From where a verified piece came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PieceFrom {
    /// Read from the origin under the lease.
    Origin,
    /// Read from the origin without the lease, since patience ran out.
    Fallback,
    /// Received from this host.
    Peer(HostId),
}

/// From a host to the scheduler, about one blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMessage {
    /// Which blob.
    pub key: BlobKey,
    /// What about it.
    pub body: HostBody,
}

/// The kinds of [`HostMessage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostBody {
    /// At connect and after: what this host holds verified, and offers. Replaces what was said before.
    Hold {
        /// Whether this host has seen the chain end in the digest.
        closed: bool,
        /// The verified pieces.
        pieces: PieceSet,
    },
    /// This host holds nothing of the blob any more.
    Drop,
    /// This host wants the blob. Replaces an earlier want; sent again after a reconnect.
    Want {
        /// The verified pieces, which it offers.
        held: PieceSet,
        /// With which right it could be the source.
        credential: Credential,
        /// How urgent.
        priority: Priority,
        /// The piece that a reader waits for, or will first.
        position: PieceIndex,
        /// The lease that this host believes to have, from before a reconnect.
        lease: Option<Epoch>,
    },
    /// A reader moved.
    Position {
        /// The piece that it waits for next.
        piece: PieceIndex,
        /// Whether it waits already.
        blocked: bool,
    },
    /// This host wants the blob no more; a lease of it ends. What it holds it still offers.
    Leave,
    /// A piece was verified and stored, and is offered from now on.
    Verified {
        /// Which.
        piece: PieceIndex,
        /// From where.
        from: PieceFrom,
    },
    /// A piece from a peer will be there in about one round trip: its slot can be promised.
    NearlyDone {
        /// Which.
        piece: PieceIndex,
    },
    /// A piece did not come from its parent.
    Failed {
        /// Which.
        piece: PieceIndex,
        /// The parent it should have come from.
        parent: HostId,
        /// The assignment's epoch, which is the chain's.
        epoch: Epoch,
        /// Why.
        why: FetchFailure,
    },
    /// States of the chain: from the source as it reads, or in answer to [`SchedulerBody::WantChain`].
    Chain {
        /// The lease's epoch; that of the question in an answer.
        epoch: Epoch,
        /// The boundary of the first state.
        boundary: u32,
        /// One state for each boundary.
        states: Vec<State>,
        /// Whether this host has seen the whole chain end in the digest.
        closed: bool,
    },
    /// Bytes come from the origin under the lease, if no whole piece has for a while: the origin is slow, not the source.
    LeaseAlive {
        /// Which.
        epoch: Epoch,
    },
    /// The lease ends.
    LeaseReturned {
        /// Which.
        epoch: Epoch,
        /// Why.
        why: LeaseFailure,
    },
    /// The chain of this epoch does not lead to the digest.
    ChainFalse {
        /// Which.
        epoch: Epoch,
    },
}

/// From the scheduler to a host, about one blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerMessage {
    /// Which blob.
    pub key: BlobKey,
    /// What about it.
    pub body: SchedulerBody,
}

/// The kinds of [`SchedulerMessage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchedulerBody {
    /// Get this piece from that host.
    Assign {
        /// Which piece.
        piece: PieceIndex,
        /// From whom.
        parent: HostId,
        /// The chain's epoch, quoted in a failure.
        epoch: Epoch,
        /// The chain's state before the piece.
        before: State,
        /// The chain's state after the piece.
        after: State,
    },
    /// The piece is not needed from that host any more.
    Cancel {
        /// Which piece.
        piece: PieceIndex,
        /// From whom it was to come.
        parent: HostId,
    },
    /// Be the source: read what is missing from the origin, in order, and extend the chain.
    Lease {
        /// Fences everything said under it.
        epoch: Epoch,
        /// Without progress for this long it lapses.
        ttl: Duration,
        /// What no live host holds.
        missing: PieceSet,
        /// The states known so far, from boundary 0 on without a gap (state 0 included).
        prefix: Vec<State>,
        /// Pieces at and above this number are not to be read yet.
        limit: u32,
    },
    /// The source may read up to here: further than before, or no further for now than what it has asked for.
    LeaseLimit {
        /// The lease.
        epoch: Epoch,
        /// Pieces at and above this number are not to be read yet.
        limit: u32,
    },
    /// The lease has ended: read no more. What was read and verified stays.
    Revoke {
        /// The lease.
        epoch: Epoch,
    },
    /// The chain so far is false. States other than the two ends are to be forgotten, pieces to be verified again
    /// against what comes; only the pieces whose states turn out the same stay.
    ChainReset {
        /// Epochs up to this one are void.
        epoch: Epoch,
    },
    /// Send the states of these boundaries as far as they are known.
    WantChain {
        /// Quoted in the answer.
        epoch: Epoch,
        /// Which boundaries.
        boundaries: Range<u32>,
    },
    /// The source gets on, though nothing of it has come here yet. To read from the origin too would only make it slower.
    SourceReads,
    /// The scheduler cannot help.
    Failed {
        /// Why.
        why: BlobFailure,
    },
}
