//! What is being read from the origin: requests under way, whole pieces kept unhashed, and the lease.
//!
//! This is the bookkeeping alone. Who may read what, and when, is decided in `reading`.

use crate::proof::Link;
use crate::turn::Turn;
use crate::{Effect, ReadId};
use std::collections::BTreeMap;
use std::ops::Range;
use types::{Epoch, PieceIndex, PieceLayout, PieceSet, State, Timestamp};

/// The right to be the source.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) epoch: Epoch,
    /// What this host is to read and does not hold.
    pub(crate) todo: PieceSet,
    /// Pieces at and above this number are not to be read yet.
    pub(crate) limit: u32,
    /// How long the lease lives without progress.
    pub(crate) ttl: std::time::Duration,
    /// After a reconnect: until when the scheduler must have confirmed it.
    pub(crate) unconfirmed_until: Option<Timestamp>,
}

/// A request under way.
#[derive(Debug)]
struct Read {
    /// The pieces that have not come yet.
    pieces: Range<u32>,
    leased: bool,
}

/// A piece whose bytes the driver keeps.
#[derive(Debug)]
struct Kept {
    leased: bool,
    /// Set while the driver hashes it.
    hashing: Option<Hashing>,
}

/// What was asked of the driver.
#[derive(Clone, Copy, Debug)]
struct Hashing {
    before: State,
    /// The result is of no use.
    void: bool,
}

/// A piece that was hashed.
#[derive(Debug)]
pub(crate) struct Hashed {
    /// Whether its bytes were read under a lease.
    pub(crate) leased: bool,
    /// Whether the result is of no use, and what was stored is to be discarded.
    pub(crate) void: bool,
    /// The states that its bytes lead from and to.
    pub(crate) link: Link,
}

#[derive(Debug)]
pub(crate) struct Source {
    layout: PieceLayout,
    pub(crate) lease: Option<Lease>,
    reads: BTreeMap<ReadId, Read>,
    kept: BTreeMap<PieceIndex, Kept>,
    next_read: u64,
}

impl Source {
    pub(crate) const fn new(layout: PieceLayout) -> Self {
        Self { layout, lease: None, reads: BTreeMap::new(), kept: BTreeMap::new(), next_read: 0 }
    }

    /// Whether the piece is on its way from the origin or kept already.
    pub(crate) fn is_busy(&self, piece: PieceIndex) -> bool {
        self.kept.contains_key(&piece) || self.reads.values().any(|read| read.pieces.contains(&piece.0))
    }

    pub(crate) fn reads_count(&self) -> usize {
        self.reads.len()
    }

    /// Whether a read without a lease is under way, or its pieces are being hashed.
    pub(crate) fn is_reading_alone(&self) -> bool {
        self.reads.values().any(|read| !read.leased)
            || self.kept.values().any(|kept| !kept.leased && kept.hashing.is_some())
    }

    /// Whether anything is under way that ends with an event.
    pub(crate) fn is_active(&self) -> bool {
        !self.reads.is_empty() || self.kept.values().any(|kept| kept.hashing.is_some())
    }

    /// Bytes of pieces asked of the origin and not hashed yet.
    pub(crate) fn unhashed_bytes(&self) -> u64 {
        let requested = self.reads.values().flat_map(|read| read.pieces.clone()).map(PieceIndex);
        requested.chain(self.kept.keys().copied()).map(|piece| u64::from(self.layout.len_of(piece))).sum()
    }

    /// The longest run of pieces from `first` on that are allowed and not under way, of about `bytes_max` bytes.
    pub(crate) fn stripe(
        &self,
        first: PieceIndex,
        bytes_max: u64,
        allowed: impl Fn(PieceIndex) -> bool,
    ) -> Range<u32> {
        let pieces_max =
            u32::try_from(bytes_max / u64::from(self.layout.piece_len())).unwrap_or(u32::MAX).max(1);
        let end = self.layout.count().min(first.0.saturating_add(pieces_max));
        let good = |i: &u32| allowed(PieceIndex(*i)) && !self.is_busy(PieceIndex(*i));
        first.0..(first.0..end).find(|i| !good(i)).unwrap_or(end)
    }

    pub(crate) fn begin(&mut self, pieces: Range<u32>, leased: bool, turn: &mut Turn<'_>) {
        assert!(!pieces.is_empty(), "a request for nothing");
        let read = ReadId(self.next_read);
        self.next_read += 1;
        self.reads.insert(read, Read { pieces: pieces.clone(), leased });
        turn.push(Effect::ReadOrigin { read, pieces });
    }

    /// The bytes of a piece have come. They are dropped if nobody waits for them any more.
    pub(crate) fn arrived(&mut self, read: ReadId, piece: PieceIndex, is_held: bool, turn: &mut Turn<'_>) {
        let mut leased = None;
        if let Some(known) = self.reads.get_mut(&read)
            && known.pieces.contains(&piece.0)
        {
            // The pieces of a request come in order; what was skipped will not come.
            known.pieces.start = piece.0 + 1;
            leased = Some(known.leased);
        }
        let wanted = leased.filter(|_| !is_held);
        match (wanted, self.kept.get(&piece)) {
            (Some(leased), None) => {
                self.kept.insert(piece, Kept { leased, hashing: None });
            }
            // The same bytes are kept already and wait.
            (_, Some(Kept { hashing: None, .. })) => {}
            _ => turn.push(Effect::DropBytes { piece }),
        }
    }

    /// Whether a request is under way under the lease.
    pub(crate) fn is_leased(&self, read: ReadId) -> bool {
        self.reads.get(&read).is_some_and(|read| read.leased)
    }

    /// A request ended. Gives what had not come, and whether it was under the lease.
    pub(crate) fn ended(&mut self, read: ReadId) -> Option<(Range<u32>, bool)> {
        self.reads.remove(&read).map(|read| (read.pieces, read.leased))
    }

    /// Whether the bytes of the piece are here.
    pub(crate) fn is_kept(&self, piece: PieceIndex) -> bool {
        self.kept.contains_key(&piece)
    }

    /// Whether the piece is kept and waits to be hashed.
    pub(crate) fn is_hashable(&self, piece: PieceIndex) -> bool {
        self.kept.get(&piece).is_some_and(|kept| kept.hashing.is_none())
    }

    /// Has every kept piece hashed whose state before is known.
    pub(crate) fn hash(
        &mut self,
        turn: &mut Turn<'_>,
        known: impl Fn(PieceIndex) -> (Option<State>, Option<State>),
    ) {
        for (piece, kept) in self.kept.iter_mut().filter(|(_, kept)| kept.hashing.is_none()) {
            if let (Some(before), expect) = known(*piece) {
                kept.hashing = Some(Hashing { before, void: false });
                turn.push(Effect::Hash { piece: *piece, before, expect });
            }
        }
    }

    /// A piece was hashed; nothing if that was not asked.
    pub(crate) fn hashed(&mut self, piece: PieceIndex, after: State) -> Option<Hashed> {
        let hashing = self.kept.get(&piece)?.hashing?;
        let kept = self.kept.remove(&piece)?;
        let Hashing { before, void } = hashing;
        Some(Hashed { leased: kept.leased, void, link: Link { before, after } })
    }

    /// The piece is held: its bytes are not needed from the origin any more.
    pub(crate) fn not_needed(&mut self, piece: PieceIndex, held: &PieceSet, turn: &mut Turn<'_>) {
        if let Some(lease) = &mut self.lease {
            lease.todo.remove(piece);
        }
        if self.kept.get(&piece).is_some_and(|kept| kept.hashing.is_none()) {
            self.kept.remove(&piece);
            turn.push(Effect::DropBytes { piece });
        }
        self.reads.retain(|id, read| {
            let needed = read.pieces.is_empty() || read.pieces.clone().any(|i| !held.contains(PieceIndex(i)));
            if !needed {
                turn.push(Effect::CancelRead { read: *id });
            }
            needed
        });
    }

    /// Drops what is kept of this piece; if it is being hashed, that is in vain.
    pub(crate) fn forget(&mut self, piece: PieceIndex, turn: &mut Turn<'_>) {
        match self.kept.get_mut(&piece).map(|kept| &mut kept.hashing) {
            Some(Some(hashing)) => hashing.void = true,
            Some(None) => {
                self.kept.remove(&piece);
                turn.push(Effect::DropBytes { piece });
            }
            None => {}
        }
    }

    /// A piece that was held is not any more: a source without others reads it again.
    pub(crate) fn needed_again(&mut self, piece: PieceIndex) {
        if let Some(lease) = &mut self.lease {
            lease.todo.insert(piece);
        }
    }

    /// Ends the reads whose kind `end` says, and drops what they brought unless it is being hashed.
    pub(crate) fn cancel(&mut self, turn: &mut Turn<'_>, end: impl Fn(bool) -> bool) {
        self.reads.retain(|id, read| {
            if end(read.leased) {
                turn.push(Effect::CancelRead { read: *id });
            }
            !end(read.leased)
        });
        self.kept.retain(|piece, kept| {
            let drop = end(kept.leased) && kept.hashing.is_none();
            if drop {
                turn.push(Effect::DropBytes { piece: *piece });
            }
            !drop
        });
    }

    /// From now on what is under way counts as read under the lease, where the lease asks for it.
    pub(crate) fn adopt(&mut self) {
        let Some(lease) = &self.lease else { return };
        for read in self.reads.values_mut() {
            read.leased |= read.pieces.clone().all(|i| lease.todo.contains(PieceIndex(i)));
        }
        for (piece, kept) in &mut self.kept {
            kept.leased |= lease.todo.contains(*piece);
        }
    }

    /// # Panics
    /// If a piece is under way twice, or more is than may be.
    pub(crate) fn check_invariants(&self, bytes_max: u64) {
        let mut seen = PieceSet::empty(self.layout.count());
        for read in self.reads.values() {
            for i in read.pieces.clone() {
                assert!(seen.insert(PieceIndex(i)), "piece {i} is read twice at once");
                assert!(!self.kept.contains_key(&PieceIndex(i)), "piece {i} is read and kept");
            }
        }
        let unhashed = self.unhashed_bytes();
        assert!(unhashed <= bytes_max, "{unhashed} bytes are not hashed, at most {bytes_max} may be");
    }
}
