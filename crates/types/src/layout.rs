//! How a blob is divided into pieces.

use crate::ByteRange;
use std::fmt;
use std::ops::Range;

/// The number of a piece in its blob, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(pub u32);

impl PieceIndex {
    /// The piece after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// As an index into a slice.
    #[must_use]
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// The piece length of a blob of `size` bytes, in bytes.
///
/// Every host computes the same one, so that pieces are the same everywhere. A small piece fills the pipeline of a
/// rollout sooner (its ramp is about `log2(hosts)` pieces long) and costs more messages, a large one the other way
/// round. The steps keep the ramp at a few percent of the whole (docs/scheduling.md has figures) and the number of pieces
/// at 16,384 or below; above 64 GiB pieces are as long as they get. Always a power of two and so a multiple of every
/// hash's block.
#[must_use]
pub const fn piece_len_for(size: u64) -> u32 {
    let len = if size < 32 * MIB {
        512 * KIB
    } else if size < 4 * GIB {
        MIB
    } else if size < 64 * GIB {
        4 * MIB
    } else {
        16 * MIB
    };
    #[allow(clippy::cast_possible_truncation, reason = "at most 16 MiB")]
    {
        len as u32
    }
}

/// A blob's size and piece length: where each piece begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PieceLayout {
    size: u64,
    piece_len: u32,
}

impl PieceLayout {
    /// The largest blob, 1 TiB: it keeps a set of pieces at 8 KiB.
    pub const SIZE_MAX: u64 = 64 * 1024 * 16 * MIB;

    /// The layout that every host uses for a blob of `size` bytes; nothing if the blob is larger than
    /// [`Self::SIZE_MAX`].
    #[must_use]
    pub const fn for_size(size: u64) -> Option<Self> {
        Self::new(size, piece_len_for(size))
    }

    /// A layout with a piece length of its own, for tests and for blobs whose layout was stored. The length must be a
    /// power of two of at least 128 bytes (a block of the widest hash), and the pieces not too many.
    #[must_use]
    pub const fn new(size: u64, piece_len: u32) -> Option<Self> {
        let bounded = size <= Self::SIZE_MAX && size / (piece_len as u64 + 1) <= 1 << 24;
        if bounded && piece_len.is_power_of_two() && piece_len >= 128 {
            Some(Self { size, piece_len })
        } else {
            None
        }
    }

    /// The blob's size in bytes.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.size
    }

    /// The length of every piece but the last, in bytes.
    #[must_use]
    pub const fn piece_len(self) -> u32 {
        self.piece_len
    }

    /// How many pieces; none for an empty blob.
    #[must_use]
    pub const fn count(self) -> u32 {
        #[allow(clippy::cast_possible_truncation, reason = "bounded by the constructor")]
        {
            self.size.div_ceil(self.piece_len as u64) as u32
        }
    }

    /// All pieces in order.
    pub fn pieces(self) -> impl DoubleEndedIterator<Item = PieceIndex> + ExactSizeIterator {
        (0..self.count()).map(PieceIndex)
    }

    /// The bytes of piece `index`.
    ///
    /// # Panics
    /// If the blob has no such piece.
    #[must_use]
    pub fn range(self, index: PieceIndex) -> ByteRange {
        assert!(index.0 < self.count(), "piece {index} of {}", self.count());
        let start = u64::from(index.0) * u64::from(self.piece_len);
        let end = self.size.min(start + u64::from(self.piece_len));
        ByteRange::new(start, end).expect("a piece starts before it ends")
    }

    /// The length of piece `index` in bytes: less than the piece length only for the last.
    #[must_use]
    pub fn len_of(self, index: PieceIndex) -> u32 {
        #[allow(clippy::cast_possible_truncation, reason = "at most the piece length")]
        {
            self.range(index).len() as u32
        }
    }

    /// The piece that holds the byte at `offset`; nothing beyond the end.
    #[must_use]
    pub fn piece_at(self, offset: u64) -> Option<PieceIndex> {
        #[allow(clippy::cast_possible_truncation, reason = "bounded by the constructor")]
        (offset < self.size).then(|| PieceIndex((offset / u64::from(self.piece_len)) as u32))
    }

    /// The pieces that hold the bytes of `range`, clipped to the blob.
    #[must_use]
    pub fn pieces_of(self, range: ByteRange) -> Range<u32> {
        let Some(range) = range.intersect(ByteRange::whole(self.size)) else { return 0..0 };
        let first = self.piece_at(range.start()).map_or(0, |p| p.0);
        let last = self.piece_at(range.end() - 1).map_or(0, |p| p.0);
        first..last + 1
    }

    /// Whether `index` is the blob's last piece.
    #[must_use]
    pub const fn is_last(self, index: PieceIndex) -> bool {
        index.0 + 1 == self.count()
    }
}
