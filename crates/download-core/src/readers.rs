//! Who reads the blob, how far, and what each waits for.

use crate::{Options, ReaderId};
use std::collections::BTreeMap;
use std::time::Duration;
use types::{ByteRange, PieceIndex, PieceLayout, PieceSet, Priority, Timestamp};

#[derive(Debug)]
struct Reader {
    range: ByteRange,
    priority: Priority,
    offset: u64,
    /// Drawn once, so that hosts do not lose patience all at once.
    patience: Duration,
    /// What it waits for.
    blocked: Option<Blocked>,
    /// Bytes that it gets straight from the origin.
    through: Option<ByteRange>,
    /// It has been read through before, so the next part need not wait.
    cold: bool,
}

/// The wait of a reader.
#[derive(Clone, Copy, Debug)]
struct Blocked {
    /// Without which it cannot go on.
    piece: PieceIndex,
    since: Timestamp,
    passed: Passed,
}

/// What came while a reader waited for another piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// How many pieces, from peers.
    pub(crate) count: usize,
    /// When the first of them came.
    pub(crate) first: Timestamp,
}

/// What a reader lacks next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) reader: ReaderId,
    /// The first piece that it lacks. For one that only lacks the proof, the blob's first missing piece.
    pub(crate) piece: PieceIndex,
    /// Since when it cannot go on; `None` while it still has bytes to consume.
    pub(crate) since: Option<Timestamp>,
    /// What has come since then.
    pub(crate) passed: Passed,
    /// How long it waits without progress.
    pub(crate) patience: Duration,
    /// Whether it has all its bytes and waits for the last to be proven.
    pub(crate) unproven: bool,
    /// Whether it began with the first byte, and so may get a whole blob.
    pub(crate) from_start: bool,
    /// Whether it has been read through before.
    pub(crate) cold: bool,
    /// Whether a client reads.
    pub(crate) is_awaited: bool,
}

#[derive(Debug)]
pub(crate) struct Readers {
    layout: PieceLayout,
    readers: BTreeMap<ReaderId, Reader>,
    /// Since when nobody reads.
    empty_since: Option<Timestamp>,
    /// Whether the last to leave was no client.
    abandoned: bool,
    /// When a client left last.
    client_left: Option<Timestamp>,
}

impl Readers {
    pub(crate) const fn new(layout: PieceLayout) -> Self {
        Self { layout, readers: BTreeMap::new(), empty_since: None, abandoned: false, client_left: None }
    }

    /// Whether a client reads.
    pub(crate) fn is_awaited(&self) -> bool {
        self.priority() == Some(Priority::Waiting)
    }

    /// That of the most urgent reader.
    pub(crate) fn priority(&self) -> Option<Priority> {
        self.readers.values().map(|reader| reader.priority).min()
    }

    pub(crate) fn join(
        &mut self,
        reader: ReaderId,
        range: ByteRange,
        priority: Priority,
        options: &Options,
        rng: &mut fastrand::Rng,
    ) {
        let range = range.intersect(ByteRange::whole(self.layout.size())).unwrap_or(ByteRange::whole(0));
        let patience = jittered(options.patience, options.patience_jitter_percent, rng);
        let offset = range.start();
        let joined = Reader { range, priority, offset, patience, blocked: None, through: None, cold: false };
        self.readers.insert(reader, joined);
    }

    pub(crate) fn moved(&mut self, reader: ReaderId, offset: u64) {
        if let Some(reader) = self.readers.get_mut(&reader) {
            reader.offset = offset.clamp(reader.offset, reader.range.end().max(reader.offset));
            if reader.through.is_some_and(|through| reader.offset >= through.end()) {
                reader.through = None;
            }
        }
    }

    pub(crate) fn leave(&mut self, now: Timestamp, reader: ReaderId) {
        if let Some(left) = self.readers.remove(&reader) {
            self.abandoned = left.priority != Priority::Waiting;
            if !self.abandoned {
                self.client_left = Some(now);
            }
        }
    }

    /// When a client left last.
    pub(crate) const fn client_left(&self) -> Option<Timestamp> {
        self.client_left
    }

    /// Whether nobody is likely to come back: the last to leave was no client.
    pub(crate) const fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// A reader is on its way: that nobody reads counts anew from now on.
    pub(crate) fn expect(&mut self, now: Timestamp) {
        self.empty_since = self.empty_since.map(|_| now);
        self.abandoned = false;
    }

    /// A piece came from a peer; whoever waits for another one was passed over by it.
    pub(crate) fn came(&mut self, now: Timestamp) {
        for blocked in self.readers.values_mut().filter_map(|reader| reader.blocked.as_mut()) {
            let passed = &mut blocked.passed;
            passed.count += 1;
            if passed.count == 1 {
                passed.first = now;
            }
        }
    }

    /// Brings the waiting times up to date, and says since when nobody reads.
    pub(crate) fn update(&mut self, now: Timestamp, held: &PieceSet, closed: bool) -> Option<Timestamp> {
        for reader in self.readers.values_mut() {
            let blocked = lacks(self.layout, reader, held, closed)
                .filter(|lack| lack.blocked && reader.priority == Priority::Waiting)
                .map(|lack| lack.piece);
            reader.blocked = match (blocked, reader.blocked) {
                (Some(piece), Some(before)) if piece == before.piece => Some(before),
                (Some(piece), _) => Some(Blocked { piece, since: now, passed: Passed::default() }),
                (None, _) => None,
            };
        }
        if !self.readers.is_empty() {
            self.empty_since = None;
        } else if self.empty_since.is_none() {
            self.empty_since = Some(now);
        }
        self.empty_since
    }

    /// What the readers lack: clients' first, of these those that wait, the longest first, then by position.
    pub(crate) fn needs(&self, held: &PieceSet, closed: bool) -> Vec<Need> {
        let need = |(id, reader): (&ReaderId, &Reader)| {
            let lack = lacks(self.layout, reader, held, closed)?;
            Some(Need {
                reader: *id,
                piece: lack.piece,
                since: reader.blocked.map(|blocked| blocked.since),
                passed: reader.blocked.map(|blocked| blocked.passed).unwrap_or_default(),
                patience: reader.patience,
                unproven: lack.unproven,
                from_start: reader.range.start() == 0,
                cold: reader.cold,
                is_awaited: reader.priority == Priority::Waiting,
            })
        };
        let mut needs: Vec<_> = self.readers.iter().filter_map(need).collect();
        needs.sort_by_key(|need| {
            (!need.is_awaited, need.since.is_none(), need.since, need.piece, need.reader)
        });
        needs
    }

    /// One past the last piece that this reader needs; all of the blob's if it needs the proof.
    pub(crate) fn needs_up_to(&self, reader: ReaderId) -> u32 {
        let Some(reader) = self.readers.get(&reader) else { return 0 };
        self.layout.pieces_of(reader.range).end
    }

    pub(crate) fn read_through_count(&self) -> usize {
        self.readers.values().filter(|reader| reader.through.is_some()).count()
    }

    /// Where this reader goes on, to be read through from there over at most `bytes_max` bytes; nothing if its range
    /// has ended.
    pub(crate) fn read_through(&mut self, reader: ReaderId, bytes_max: u64) -> Option<ByteRange> {
        let reader = self.readers.get_mut(&reader)?;
        let end = reader.range.end().min(reader.offset.saturating_add(bytes_max));
        let range = ByteRange::new(reader.offset, end).filter(|range| !range.is_empty())?;
        reader.through = Some(range);
        reader.blocked = None;
        reader.cold = true;
        Some(range)
    }

    /// Whether this reader began in the middle and asked for no more than `bytes_max` bytes.
    pub(crate) fn is_short_part(&self, reader: ReaderId, bytes_max: u64) -> bool {
        let short = |reader: &Reader| reader.range.start() > 0 && reader.range.len() <= bytes_max;
        self.readers.get(&reader).is_some_and(short)
    }

    /// # Panics
    /// If a position left its range.
    pub(crate) fn check_invariants(&self) {
        for (id, reader) in &self.readers {
            let inside = reader.range.start() <= reader.offset && reader.offset <= reader.range.end();
            assert!(inside, "{id:?} is at {} of {}", reader.offset, reader.range);
            assert!(reader.through.is_none() || reader.blocked.is_none(), "{id:?} waits and is read through");
            let patient = reader.priority != Priority::Waiting;
            assert!(
                !patient || (reader.through.is_none() && reader.blocked.is_none()),
                "{id:?} lost patience"
            );
        }
    }
}

struct Lack {
    piece: PieceIndex,
    blocked: bool,
    unproven: bool,
}

fn lacks(layout: PieceLayout, reader: &Reader, held: &PieceSet, closed: bool) -> Option<Lack> {
    if reader.through.is_some() || reader.offset >= reader.range.end() {
        return None;
    }
    let pieces = layout.pieces_of(ByteRange::new(reader.offset, reader.range.end())?);
    let first = PieceIndex(pieces.start);
    if let Some(piece) = held.next_out(first).filter(|piece| piece.0 < pieces.end) {
        return Some(Lack { piece, blocked: piece == first, unproven: false });
    }
    if reader.range.end() < layout.size() || closed {
        return None;
    }
    let piece = held.next_out(PieceIndex(0))?;
    // How much of the last piece it has consumed is not always told: it may have come to its end.
    Some(Lack { piece, blocked: true, unproven: true })
}

/// `duration`, up to `percent` of it more or less.
pub(crate) fn jittered(duration: Duration, percent: u8, rng: &mut fastrand::Rng) -> Duration {
    let percent = u32::from(percent.min(100));
    duration * rng.u32(100 - percent..=100 + percent) / 100
}
