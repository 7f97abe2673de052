//! A set of a blob's pieces.

use crate::PieceIndex;
use std::fmt;
use std::ops::Range;

/// Which pieces of a blob: a bitmap of fixed length, with the number of its members kept.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PieceSet {
    count: u32,
    len: u32,
    words: Box<[u64]>,
}

impl PieceSet {
    /// None of `count` pieces.
    #[must_use]
    pub fn empty(count: u32) -> Self {
        Self { count, len: 0, words: vec![0; count.div_ceil(64) as usize].into() }
    }

    /// All of `count` pieces.
    #[must_use]
    pub fn full(count: u32) -> Self {
        let words = vec![u64::MAX; count.div_ceil(64) as usize].into();
        let mut set = Self { count, len: count, words };
        if let Some(last) = set.words.last_mut()
            && !count.is_multiple_of(64)
        {
            *last = (1 << (count % 64)) - 1;
        }
        set
    }

    /// The set whose runs these are; nothing if a run is empty, out of order, or leaves the blob.
    #[must_use]
    pub fn from_runs(count: u32, runs: impl IntoIterator<Item = Range<u32>>) -> Option<Self> {
        let mut set = Self::empty(count);
        let mut at = 0;
        for run in runs {
            if run.start < at || run.start >= run.end || run.end > count {
                return None;
            }
            at = run.end;
            set.insert_run(&run);
        }
        Some(set)
    }

    /// Adds the pieces of a run that is not empty and of which the set has none, a word at a time: a message of a few bytes
    /// can name very many.
    fn insert_run(&mut self, run: &Range<u32>) {
        let (first, last) = (run.start, run.end - 1);
        let words = first as usize / 64..=last as usize / 64;
        let (from, to) = (u64::MAX << (first % 64), u64::MAX >> (63 - last % 64));
        match &mut self.words[words] {
            [only] => *only |= from & to,
            [head, between @ .., tail] => {
                *head |= from;
                between.fill(u64::MAX);
                *tail |= to;
            }
            [] => unreachable!("a run has a piece"),
        }
        self.len += run.end - run.start;
    }

    /// How many pieces the blob has.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// How many pieces are in the set.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no piece is in the set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether every piece of the blob is in the set.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len == self.count
    }

    /// Whether `piece` is in the set; a piece that the blob does not have never is.
    #[must_use]
    pub fn contains(&self, piece: PieceIndex) -> bool {
        piece.0 < self.count && self.words[piece.as_usize() / 64] >> (piece.0 % 64) & 1 == 1
    }

    /// Adds `piece`; whether it is new.
    ///
    /// # Panics
    /// If the blob has no such piece.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        assert!(piece.0 < self.count, "piece {piece} of {}", self.count);
        let word = &mut self.words[piece.as_usize() / 64];
        let new = *word >> (piece.0 % 64) & 1 == 0;
        *word |= 1 << (piece.0 % 64);
        self.len += u32::from(new);
        new
    }

    /// Takes `piece` out; whether it was in.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        let had = self.contains(piece);
        if had {
            self.words[piece.as_usize() / 64] &= !(1 << (piece.0 % 64));
            self.len -= 1;
        }
        had
    }

    /// Adds the members of `other`, a set of the same blob.
    pub fn union_with(&mut self, other: &Self) {
        self.combine(other, |a, b| a | b);
    }

    /// Takes the members of `other`, a set of the same blob, out.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, |a, b| a & !b);
    }

    /// Keeps only the members of `other`, a set of the same blob.
    pub fn intersect_with(&mut self, other: &Self) {
        self.combine(other, |a, b| a & b);
    }

    fn combine(&mut self, other: &Self, f: impl Fn(u64, u64) -> u64) {
        assert_eq!(self.count, other.count, "sets of different blobs");
        self.len = 0;
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine = f(*mine, *theirs);
            self.len += mine.count_ones();
        }
    }

    /// The pieces that are not in the set.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut all = Self::full(self.count);
        all.subtract(self);
        all
    }

    /// The bitmap: piece `i` is bit `i % 64` of word `i / 64`; bits beyond the last piece are zero.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.words.iter().zip(0u32..).flat_map(|(word, w)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros();
                    rest &= rest - 1;
                    PieceIndex(w * 64 + bit)
                })
            })
        })
    }

    /// The first member at or after `from`.
    #[must_use]
    pub fn next_in(&self, from: PieceIndex) -> Option<PieceIndex> {
        self.scan(from, |word| word)
    }

    /// The first piece at or after `from` that is not in the set.
    #[must_use]
    pub fn next_out(&self, from: PieceIndex) -> Option<PieceIndex> {
        self.scan(from, |word| !word)
    }

    fn scan(&self, from: PieceIndex, f: impl Fn(u64) -> u64) -> Option<PieceIndex> {
        if from.0 >= self.count {
            return None;
        }
        let mut w = from.as_usize() / 64;
        let mut word = f(self.words[w]) & (u64::MAX << (from.0 % 64));
        while word == 0 {
            w += 1;
            word = f(*self.words.get(w)?);
        }
        #[allow(clippy::cast_possible_truncation, reason = "w indexes pieces / 64, which came from a u32")]
        let found = w as u32 * 64 + word.trailing_zeros();
        (found < self.count).then_some(PieceIndex(found))
    }

    /// The runs of consecutive members, in order: the form that travels.
    pub fn runs(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let mut at = PieceIndex(0);
        std::iter::from_fn(move || {
            let start = self.next_in(at)?;
            let end = self.next_out(start).map_or(self.count, |p| p.0);
            at = PieceIndex(end);
            Some(start.0..end)
        })
    }
}

impl fmt::Debug for PieceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PieceSet({}/{}: ", self.len, self.count)?;
        f.debug_list().entries(self.runs()).finish()?;
        f.write_str(")")
    }
}
