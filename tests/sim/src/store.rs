//! A host's disk: pieces and states, as the real store keeps them.

use crate::blob::{Blob, PIECE_LEN};
use types::{Chain, PieceIndex, PieceSet, State};

/// One blob on one host's disk.
#[derive(Debug)]
pub(crate) struct Stored {
    content: Vec<u8>,
    pieces: PieceSet,
    chain: Chain,
    closed: bool,
}

impl Stored {
    pub(crate) fn new(blob: &Blob) -> Self {
        Self {
            content: vec![0; blob.content.len()],
            pieces: PieceSet::empty(blob.layout.count()),
            chain: Chain::new(blob.key.digest, blob.layout).expect("a blob with bytes"),
            closed: false,
        }
    }

    pub(crate) const fn pieces(&self) -> &PieceSet {
        &self.pieces
    }

    pub(crate) const fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(crate) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// The bytes of a piece, if it is held.
    pub(crate) fn read(&self, piece: PieceIndex) -> Option<&[u8]> {
        let at = piece.as_usize() * PIECE_LEN as usize;
        let end = self.content.len().min(at + PIECE_LEN as usize);
        self.pieces.contains(piece).then(|| &self.content[at..end])
    }

    pub(crate) fn write(&mut self, piece: PieceIndex, bytes: &[u8]) {
        let at = piece.as_usize() * PIECE_LEN as usize;
        self.content[at..at + bytes.len()].copy_from_slice(bytes);
        self.pieces.insert(piece);
    }

    pub(crate) fn discard(&mut self, pieces: &PieceSet) {
        self.pieces.subtract(pieces);
    }

    pub(crate) fn learn(&mut self, boundary: u32, states: &[State]) {
        let learnt = self.chain.learn(boundary, states);
        assert!(learnt.is_ok(), "the core let the store learn a contradiction: {learnt:?}");
    }

    pub(crate) fn forget_states(&mut self) {
        self.chain = Chain::new(*self.chain.digest(), self.chain.layout()).expect("it was made before");
    }

    /// # Panics
    /// If the blob is not what its digest says: the core's proof was wrong.
    pub(crate) fn close(&mut self) {
        assert!(self.pieces.is_full() && self.chain.is_whole(), "closed with something missing");
        assert!(self.chain.digest().matches(&self.content), "a wrong blob was closed");
        self.closed = true;
    }
}
