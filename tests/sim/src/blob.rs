//! The blobs of a run: real bytes with a real chain, in pieces so small that both cost nothing.

use types::{BlobKey, ByteRange, Digest, PieceIndex, PieceLayout, Registry};

/// Bytes of a piece.
pub const PIECE_LEN: u32 = 128;

/// A blob as the origin has it.
#[derive(Debug)]
pub struct Blob {
    /// Its name.
    pub key: BlobKey,
    /// Its pieces.
    pub layout: PieceLayout,
    /// Its bytes.
    pub content: Vec<u8>,
}

impl Blob {
    /// A blob of so many pieces, the last of them so long, or as long as chance will; another number, another blob.
    ///
    /// # Panics
    /// If it would have no pieces, or too many.
    #[must_use]
    pub fn new(pieces: u32, last: Option<u32>, number: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(number);
        let by_chance = PIECE_LEN - rng.u32(0..PIECE_LEN);
        let len = (pieces - 1) * PIECE_LEN + last.unwrap_or(by_chance).clamp(1, PIECE_LEN);
        let content: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
        let layout = PieceLayout::new(u64::from(len), PIECE_LEN).expect("a small blob");
        let registry = Registry::parse("registry.sim").expect("a good name");
        let key = BlobKey { digest: Digest::sha256(&content), size: u64::from(len), registry };
        Self { key, layout, content }
    }

    /// The bytes of a range.
    #[must_use]
    pub fn bytes(&self, range: ByteRange) -> &[u8] {
        &self.content[to_index(range.start())..to_index(range.end())]
    }

    /// The bytes of a piece.
    #[must_use]
    pub fn piece(&self, piece: PieceIndex) -> &[u8] {
        self.bytes(self.layout.range(piece))
    }
}

pub(crate) fn to_index(offset: u64) -> usize {
    usize::try_from(offset).expect("a small blob")
}
