//! What the store knows of one blob, in memory. No I/O here: `blob`, `read` and `sync` do that.
//!
//! The sets are always there; the chain and the open file only while somebody holds the blob or something of it waits
//! to be stored, so that a large cache costs little memory.

use crate::database::Record;
use crate::lock::lock;
use crate::possession::Possessions;
use crate::{Possession, StoreError};
use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use types::{Chain, Digest, PieceIndex, PieceLayout, PieceSet, Registry, State};

/// Pieces of a blob are written one after the other if their numbers leave the same remainder by this.
const WRITERS: usize = 16;

/// One blob.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) digest: Digest,
    pub(crate) layout: PieceLayout,
    /// How many handles there are. Grows only under the index's lock, so that an eviction can rely on zero.
    pub(crate) handles: AtomicUsize,
    /// The stamp of the last use.
    pub(crate) used: AtomicU64,
    held: Mutex<Held>,
    /// The turn to write a piece, by its number's remainder: a piece never has two writers at once.
    writers: [Mutex<()>; WRITERS],
    /// Grows when `held` has changed; only after its lock was released, since a reader may look at the blob while it
    /// holds this one's.
    pub(crate) changed: watch::Sender<u64>,
}

/// The part that changes.
#[derive(Debug)]
pub(crate) struct Held {
    /// The pieces that are on the file.
    pieces: PieceSet,
    /// Those of them that were written since the last sync began.
    unsynced: PieceSet,
    /// Those that the running sync makes durable; `None` while none runs.
    syncing: Option<PieceSet>,
    /// Those that were hashed since `checked_from`.
    checked: PieceSet,
    checked_from: Option<Instant>,
    closed: bool,
    possessions: Possessions,
    record_changed: bool,
    chain_changed: bool,
    /// Counts what makes a check that is under way void: pieces taken back, the chain forgotten.
    revocations: u64,
    /// Counts the times that pieces turned out not to be the blob's.
    pub(crate) voids: u64,
    /// The stamp that the record has.
    used_saved: u64,
    live: Option<Live>,
}

/// What is loaded while the blob is in use.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) file: Arc<File>,
    pub(crate) chain: Chain,
}

/// What it takes to check a piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) before: State,
    pub(crate) after: State,
    /// [`Entry::verdict`] wants it back.
    revocations: u64,
}

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The piece is good.
    Good,
    /// The piece was bad, and is not held any more.
    Removed,
    /// Something changed meanwhile: the check says nothing.
    Void,
}

impl Entry {
    /// A blob as its record says, or of which nothing is held.
    pub(crate) fn new(digest: Digest, record: Record, live: Option<Live>) -> Self {
        let none = PieceSet::empty(record.layout.count());
        Self {
            digest,
            layout: record.layout,
            handles: AtomicUsize::new(0),
            used: AtomicU64::new(record.used),
            held: Mutex::new(Held {
                pieces: record.pieces,
                unsynced: none.clone(),
                syncing: None,
                checked: none,
                checked_from: None,
                closed: record.closed,
                possessions: record.possessions,
                record_changed: false,
                chain_changed: false,
                revocations: 0,
                voids: 0,
                used_saved: record.used,
                live,
            }),
            writers: std::array::from_fn(|_| Mutex::new(())),
            changed: watch::Sender::new(0),
        }
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }

    /// Whether nobody holds the blob.
    pub(crate) fn is_idle(&self) -> bool {
        self.handles.load(Ordering::Acquire) == 0
    }

    fn announce(&self) {
        self.changed.send_modify(|generation| *generation += 1);
    }

    /// The error for a piece that is not held.
    pub(crate) fn not_held(&self, piece: PieceIndex) -> StoreError {
        StoreError::NotHeld { digest: self.digest, piece }
    }

    /// Refuses a number beyond the last piece's.
    pub(crate) fn exists(&self, piece: PieceIndex) -> Result<(), StoreError> {
        if piece.0 < self.layout.count() {
            Ok(())
        } else {
            Err(StoreError::NoPiece { digest: self.digest, piece })
        }
    }

    /// The turn to write a piece: one writer at a time.
    pub(crate) fn writes(&self, piece: PieceIndex) -> MutexGuard<'_, ()> {
        lock(&self.writers[piece.0 as usize % WRITERS])
    }

    /// A piece was written that its writer had verified against these states, or else knows. It need not be hashed again
    /// soon if they are the chain's still: a false chain may have been found meanwhile.
    pub(crate) fn wrote(&self, piece: PieceIndex, against: Option<(State, State)>, now: Instant) {
        let mut held = self.held();
        let chain = held.live.as_ref().map(|live| &live.chain);
        let is_of_chain = |(before, after): (State, State)| {
            chain.and_then(|chain| chain.link(piece)) == Some((&before, &after))
        };
        let good = against.is_none_or(is_of_chain);
        if held.pieces.insert(piece) {
            held.unsynced.insert(piece);
            if good {
                held.note_checked(piece, now);
            }
            drop(held);
            self.announce();
        }
    }

    /// Takes pieces back; whether any was held.
    pub(crate) fn discard(&self, pieces: &PieceSet) -> bool {
        let mut held = self.held();
        let removed = held.discard(pieces);
        held.voids += 1;
        drop(held);
        if removed {
            self.announce();
        }
        removed
    }

    /// Takes over states of the chain; whether any was new.
    pub(crate) fn learn(&self, boundary: u32, states: &[State]) -> Result<bool, StoreError> {
        let mut held = self.held();
        let end = boundary.saturating_add(u32::try_from(states.len()).unwrap_or(u32::MAX));
        let around = boundary.saturating_sub(1)..end.min(self.layout.count());
        let waiting: Vec<_> = around.map(PieceIndex).filter(|piece| held.waits_for_states(*piece)).collect();
        let new = held.live()?.chain.learn(boundary, states)?;
        held.chain_changed |= new;
        let readable = waiting.into_iter().any(|piece| !held.waits_for_states(piece));
        drop(held);
        if readable {
            self.announce();
        }
        Ok(new)
    }

    /// Forgets the chain but for its ends, unless it is closed: a closed chain is proven. Whether it did.
    pub(crate) fn forget(&self) -> Result<bool, StoreError> {
        let chain = Chain::new(self.digest, self.layout)?;
        let mut held = self.held();
        if held.closed {
            return Ok(false);
        }
        held.live()?.chain = chain;
        held.checked = PieceSet::empty(self.layout.count());
        held.chain_changed = true;
        held.record_changed = true;
        held.revocations += 1;
        Ok(true)
    }

    /// Remembers from where the blob was read; whether that is new.
    pub(crate) fn allow(&self, registry: &Registry, repository: &str, possession: Possession) -> bool {
        let mut held = self.held();
        let new = held.possessions.allow(registry, repository, possession);
        held.record_changed |= new;
        new
    }

    /// Marks the chain as proven; whether it was not yet.
    pub(crate) fn close(&self) -> Result<bool, StoreError> {
        let mut held = self.held();
        let states = held.live()?.chain.is_whole();
        if held.closed {
            return Ok(false);
        }
        if !states || !held.pieces.is_full() {
            let pieces = self.layout.count() - held.pieces.len();
            return Err(StoreError::NotWhole { digest: self.digest, pieces, states });
        }
        held.closed = true;
        held.record_changed = true;
        drop(held);
        self.announce();
        Ok(true)
    }

    /// The first of `pieces` from `from` on that has to be checked before it is read, all of which must be held.
    pub(crate) fn due(
        &self,
        pieces: Range<u32>,
        now: Instant,
        reverify_after: Duration,
    ) -> Result<Option<PieceIndex>, StoreError> {
        let mut held = self.held();
        let end = PieceIndex(pieces.end);
        let within = |found: Option<PieceIndex>| found.filter(|piece| *piece < end);
        if let Some(missing) = within(held.pieces.next_out(PieceIndex(pieces.start))) {
            return Err(self.not_held(missing));
        }
        if held.checked_from.is_some_and(|from| now.saturating_duration_since(from) > reverify_after) {
            held.checked = PieceSet::empty(self.layout.count());
            held.checked_from = None;
        }
        Ok(within(held.checked.next_out(PieceIndex(pieces.start))))
    }

    /// What it takes to check a held piece.
    pub(crate) fn link(&self, piece: PieceIndex) -> Result<Link, StoreError> {
        let mut held = self.held();
        if !held.pieces.contains(piece) {
            return Err(self.not_held(piece));
        }
        let revocations = held.revocations;
        let link = held.live()?.chain.link(piece).map(|(before, after)| (*before, *after));
        let (before, after) = link.ok_or(StoreError::Unproven { digest: self.digest, piece })?;
        Ok(Link { before, after, revocations })
    }

    /// A check of `piece` ended.
    pub(crate) fn verdict(&self, piece: PieceIndex, link: &Link, good: bool, now: Instant) -> Verdict {
        let mut held = self.held();
        if held.revocations != link.revocations {
            return Verdict::Void;
        }
        if good {
            held.note_checked(piece, now);
            return Verdict::Good;
        }
        let mut bad = PieceSet::empty(self.layout.count());
        bad.insert(piece);
        held.discard(&bad);
        drop(held);
        self.announce();
        Verdict::Removed
    }

    /// A sync begins: its file and the pieces to make durable, if any.
    pub(crate) fn begin_sync(&self) -> Option<Arc<File>> {
        let mut held = self.held();
        let unsynced = std::mem::replace(&mut held.unsynced, PieceSet::empty(self.layout.count()));
        let any = !unsynced.is_empty();
        held.record_changed |= any;
        held.syncing = Some(unsynced);
        held.live.as_ref().filter(|_| any).map(|live| Arc::clone(&live.file))
    }

    /// The file's sync failed: what it was to make durable may be lost, and has to be checked before it is read.
    pub(crate) fn sync_failed(&self) {
        let mut held = self.held();
        if let Some(syncing) = held.syncing.take() {
            held.unsynced.union_with(&syncing);
            held.checked.subtract(&syncing);
        }
        held.syncing = Some(PieceSet::empty(self.layout.count()));
    }

    /// What is to be stored now: the record, and the chain if it changed.
    pub(crate) fn snapshot(&self) -> (Option<Record>, Option<Chain>) {
        let mut held = self.held();
        let used = self.used.load(Ordering::Relaxed);
        let record = std::mem::take(&mut held.record_changed).then(|| {
            held.used_saved = used;
            let mut pieces = held.pieces.clone();
            pieces.subtract(&held.unsynced);
            let possessions = held.possessions.clone();
            Record { layout: self.layout, used, closed: held.closed, pieces, possessions }
        });
        let chain_changed = std::mem::take(&mut held.chain_changed);
        let chain = held.live.as_ref().filter(|_| chain_changed).map(|live| live.chain.clone());
        (record, chain)
    }

    /// The chain, if it is not stored as it is.
    pub(crate) fn unsaved_chain(&self) -> Option<Chain> {
        let held = self.held();
        held.live
            .as_ref()
            .filter(|_| held.chain_changed || held.syncing.is_some())
            .map(|live| live.chain.clone())
    }

    /// The record once the bytes are gone.
    pub(crate) fn record_without_pieces(&self) -> Record {
        let held = self.held();
        let pieces = PieceSet::empty(self.layout.count());
        let possessions = held.possessions.clone();
        let used = self.used.load(Ordering::Relaxed);
        Record { layout: self.layout, used, closed: held.closed, pieces, possessions }
    }

    /// A sync ended. If it was not `stored`, all of it is to be stored again; whether anything is.
    pub(crate) fn end_sync(&self, stored: bool) -> bool {
        let mut held = self.held();
        let syncing = held.syncing.take();
        if !stored {
            if let Some(syncing) = syncing {
                held.unsynced.union_with(&syncing);
            }
            held.record_changed = true;
            held.chain_changed = held.live.is_some();
        }
        held.unload(self.is_idle());
        held.is_changed()
    }

    /// A handle went: lets go of what is loaded if it was the last.
    pub(crate) fn release(&self) {
        let last = self.handles.fetch_sub(1, Ordering::AcqRel) == 1;
        if last {
            self.held().unload(self.is_idle());
        }
    }

    /// The blob was asked for; whether that is to be stored.
    pub(crate) fn touch(&self, stamp: u64, granularity: u64) -> bool {
        self.used.fetch_max(stamp, Ordering::Relaxed);
        let mut held = self.held();
        let old = held.used_saved.saturating_add(granularity) <= stamp;
        held.record_changed |= old;
        old
    }
}

impl Held {
    pub(crate) const fn pieces(&self) -> &PieceSet {
        &self.pieces
    }

    /// Whether `piece` is held and cannot be read, since its states were forgotten.
    pub(crate) fn waits_for_states(&self, piece: PieceIndex) -> bool {
        self.pieces.contains(piece) && self.live.as_ref().is_some_and(|live| live.chain.link(piece).is_none())
    }

    pub(crate) const fn closed(&self) -> bool {
        self.closed
    }

    pub(crate) const fn possessions(&self) -> &Possessions {
        &self.possessions
    }

    /// Whether the chain and the file are loaded.
    pub(crate) const fn is_live(&self) -> bool {
        self.live.is_some()
    }

    pub(crate) fn make_live(&mut self, live: Live) {
        self.live = Some(live);
    }

    /// What is loaded. It is while there is a handle.
    pub(crate) fn live(&mut self) -> Result<&mut Live, StoreError> {
        self.live.as_mut().ok_or(StoreError::Closed)
    }

    fn discard(&mut self, pieces: &PieceSet) -> bool {
        let before = self.pieces.len();
        for set in
            [&mut self.pieces, &mut self.unsynced, &mut self.checked].into_iter().chain(&mut self.syncing)
        {
            set.subtract(pieces);
        }
        self.revocations += 1;
        let removed = self.pieces.len() < before;
        self.record_changed |= removed;
        removed
    }

    fn note_checked(&mut self, piece: PieceIndex, now: Instant) {
        if self.pieces.contains(piece) {
            self.checked.insert(piece);
            self.checked_from.get_or_insert(now);
        }
    }

    fn is_changed(&self) -> bool {
        self.record_changed || self.chain_changed || !self.unsynced.is_empty()
    }

    fn unload(&mut self, idle: bool) {
        if idle && self.syncing.is_none() && !self.is_changed() {
            self.live = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECES: u32 = 3;
    const LAPSE: Duration = Duration::from_secs(60);

    /// A blob in use of which nothing is held, with a chain that holds for no bytes.
    fn entry() -> Entry {
        let layout = PieceLayout::new(u64::from(PIECES) * 128, 128).unwrap();
        let digest = Digest::sha256(b"blob");
        let pieces = PieceSet::empty(PIECES);
        let record = Record { layout, used: 0, closed: false, pieces, possessions: Possessions::default() };
        let mut chain = Chain::new(digest, layout).unwrap();
        chain.learn(1, &[State::last_of(&digest); 3]).unwrap();
        let file = Arc::new(tempfile::tempfile().unwrap());
        let entry = Entry::new(digest, record, Some(Live { file, chain }));
        entry.handles.store(1, Ordering::Release);
        entry
    }

    fn set(pieces: Range<u32>) -> PieceSet {
        PieceSet::from_runs(PIECES, [pieces]).unwrap()
    }

    fn stored(entry: &Entry) -> Option<PieceSet> {
        entry.snapshot().0.map(|record| record.pieces)
    }

    #[test]
    fn checks_lapse_together() {
        let (entry, start) = (entry(), Instant::now());
        let due = |pieces, seconds| entry.due(pieces, start + Duration::from_secs(seconds), LAPSE).unwrap();
        entry.wrote(PieceIndex(0), None, start);
        entry.wrote(PieceIndex(1), None, start + Duration::from_secs(30));
        assert_eq!((due(0..2, 60), due(0..2, 61)), (None, Some(PieceIndex(0))));
        let link = entry.link(PieceIndex(0)).unwrap();
        assert_eq!(entry.verdict(PieceIndex(0), &link, true, start + Duration::from_secs(61)), Verdict::Good);
        assert_eq!(
            (due(0..1, 121), due(0..2, 121), due(0..1, 122)),
            (None, Some(PieceIndex(1)), Some(PieceIndex(0)))
        );
    }

    #[test]
    fn a_record_names_only_what_a_sync_covered() {
        let (entry, now) = (entry(), Instant::now());
        entry.wrote(PieceIndex(0), None, now);
        assert!(entry.begin_sync().is_some());
        entry.wrote(PieceIndex(1), None, now);
        assert_eq!(stored(&entry), Some(set(0..1)));
        assert!(entry.end_sync(true), "piece 1 still waits");
        assert!(entry.begin_sync().is_some());
        entry.sync_failed();
        assert_eq!(stored(&entry), Some(set(0..1)));
        assert!(entry.end_sync(true));
        assert_eq!(entry.due(0..2, now, LAPSE).unwrap(), Some(PieceIndex(1)), "its bytes may be lost");
        assert!(entry.begin_sync().is_some());
        assert_eq!(stored(&entry), Some(set(0..2)));
        assert!(entry.end_sync(false), "the commit failed");
        entry.discard(&set(0..1));
        assert!(entry.begin_sync().is_some());
        assert_eq!(stored(&entry), Some(set(1..2)));
        assert!(!entry.end_sync(true));
        assert!(entry.begin_sync().is_none() && stored(&entry).is_none() && !entry.end_sync(true));
    }

    #[test]
    fn a_check_that_was_overtaken_says_nothing() {
        let (entry, now) = (entry(), Instant::now());
        entry.wrote(PieceIndex(2), None, now);
        let link = entry.link(PieceIndex(2)).unwrap();
        entry.discard(&set(2..3));
        entry.wrote(PieceIndex(2), None, now);
        assert_eq!(entry.verdict(PieceIndex(2), &link, false, now), Verdict::Void);
        let link = entry.link(PieceIndex(2)).unwrap();
        assert_eq!(entry.verdict(PieceIndex(2), &link, false, now), Verdict::Removed);
        assert!(matches!(entry.link(PieceIndex(2)), Err(StoreError::NotHeld { .. })));
    }

    #[test]
    fn nothing_is_unloaded_before_it_is_stored() {
        let entry = entry();
        entry.wrote(PieceIndex(0), None, Instant::now());
        entry.release();
        assert!(entry.held().is_live());
        assert!(entry.begin_sync().is_some());
        entry.snapshot();
        assert!(!entry.end_sync(true) && !entry.held().is_live());
    }
}
