//! The chain: a blob's hash cut at the piece boundaries, so that each piece can be checked alone.
//!
//! SHA-2 (FIPS 180-4, section 6) is a Merkle–Damgård construction: a state is replaced, block after block, by
//! `compress(state, block)`. A piece is a whole number of blocks, so the state before and after it is well defined.
//! `state[0]` is the hash's initial value, `state[count]`, after the last piece and the hash's padding, is the blob's
//! digest. If every link from one to the other holds, the blob's digest has been checked: in any order, on any core,
//! with one pass over the bytes.
//!
//! States that come from another host are claims. A false chain can hold over any number of pieces, but then some link
//! on the way from the initial value to the digest does not hold.

use crate::{Algorithm, Digest, PieceIndex, PieceLayout, PieceSet};
use sha2::block_api::{compress256, compress512};
use std::fmt;

/// FIPS 180-4, section 5.3.3.
const INITIAL_256: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// FIPS 180-4, section 5.3.5.
const INITIAL_512: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// A hash function's state between two blocks.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Of SHA-256.
    Sha256([u32; 8]),
    /// Of SHA-512.
    Sha512([u64; 8]),
}

impl State {
    /// The state before the first block.
    #[must_use]
    pub const fn initial(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(INITIAL_256),
            Algorithm::Sha512 => Self::Sha512(INITIAL_512),
        }
    }

    /// The state after the padding, of which the digest is the bytes.
    #[must_use]
    pub fn last_of(digest: &Digest) -> Self {
        Self::from_bytes(digest.algorithm(), digest.as_bytes()).expect("a digest has the length of a state")
    }

    /// Which hash function's.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// From its words in big-endian order, as in a digest; nothing if the length is not the algorithm's.
    #[must_use]
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != algorithm.digest_len() {
            return None;
        }
        Some(match algorithm {
            Algorithm::Sha256 => {
                let (words, _) = bytes.as_chunks();
                Self::Sha256(std::array::from_fn(|i| u32::from_be_bytes(words[i])))
            }
            Algorithm::Sha512 => {
                let (words, _) = bytes.as_chunks();
                Self::Sha512(std::array::from_fn(|i| u64::from_be_bytes(words[i])))
            }
        })
    }

    /// Its words in big-endian order: 32 or 64 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Sha256(words) => words.iter().flat_map(|w| w.to_be_bytes()).collect(),
            Self::Sha512(words) => words.iter().flat_map(|w| w.to_be_bytes()).collect(),
        }
    }

    /// The state after `blocks`, whole blocks each, and after the rest with its padding if `total` is the message's
    /// length in bytes.
    fn absorb(&mut self, bytes: &[u8], total: Option<u64>) {
        match self {
            Self::Sha256(words) => {
                let (blocks, rest) = bytes.as_chunks::<64>();
                compress256(words, blocks);
                if let Some(total) = total {
                    let (padding, len) = padding::<64>(rest, total);
                    compress256(words, &padding[..len]);
                }
            }
            Self::Sha512(words) => {
                let (blocks, rest) = bytes.as_chunks::<128>();
                compress512(words, blocks);
                if let Some(total) = total {
                    let (padding, len) = padding::<128>(rest, total);
                    compress512(words, &padding[..len]);
                }
            }
        }
    }
}

/// The message's `rest` with a one bit, zeros, and the length in bits (FIPS 180-4, section 5.1): one block or two.
fn padding<const BLOCK: usize>(rest: &[u8], total: u64) -> ([[u8; BLOCK]; 2], usize) {
    debug_assert!(rest.len() < BLOCK, "the rest is less than a block");
    let mut blocks = [[0; BLOCK]; 2];
    blocks[0][..rest.len()].copy_from_slice(rest);
    blocks[0][rest.len()] = 0x80;
    // The length field is an eighth of a block: 64 bits for SHA-256, 128 for SHA-512.
    let count = if rest.len() < BLOCK - BLOCK / 8 { 1 } else { 2 };
    let bits = u128::from(total) * 8;
    blocks[count - 1][BLOCK - 8..].copy_from_slice(&bits.to_be_bytes()[8..]);
    (blocks, count)
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({}…)", &hex::encode(self.to_bytes())[..12])
    }
}

/// What is wrong with a piece or with a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The piece has another length than its blob's layout says.
    #[error("piece {piece} has {got} bytes instead of {expected}")]
    Length {
        /// Which piece.
        piece: PieceIndex,
        /// Bytes it should have.
        expected: u32,
        /// Bytes it has.
        got: usize,
    },
    /// The bytes do not lead from the state before the piece to the state after it.
    #[error("the bytes of piece {piece} do not match its chain")]
    Piece {
        /// Which piece.
        piece: PieceIndex,
    },
    /// Two claims for one state: one of them, or both, are false.
    #[error("two different states at boundary {boundary}")]
    Conflict {
        /// The boundary before the piece of this number.
        boundary: u32,
    },
    /// The boundary does not exist in this blob, or the state is another hash function's.
    #[error("no such state: boundary {boundary}")]
    Boundary {
        /// The boundary before the piece of this number.
        boundary: u32,
    },
    /// A blob of no bytes whose digest is not that of nothing.
    #[error("an empty blob does not have this digest")]
    Empty,
}

/// The state after `piece`, whose bytes follow the state `before`.
///
/// The last piece takes the hash's padding with it, so its result is the state whose bytes are the digest.
///
/// # Errors
/// [`ChainError::Length`] if the bytes are not as many as the layout says.
pub fn hash_piece(
    layout: PieceLayout,
    piece: PieceIndex,
    before: &State,
    bytes: &[u8],
) -> Result<State, ChainError> {
    let expected = layout.len_of(piece);
    if bytes.len() != expected as usize {
        return Err(ChainError::Length { piece, expected, got: bytes.len() });
    }
    let mut state = *before;
    state.absorb(bytes, layout.is_last(piece).then_some(layout.size()));
    Ok(state)
}

/// The hash of one piece that comes in parts: [`hash_piece`] for a caller who does not hold the piece in one buffer.
#[derive(Clone, Debug)]
pub struct PieceHash {
    layout: PieceLayout,
    piece: PieceIndex,
    state: State,
    hashed: usize,
}

impl PieceHash {
    /// Parts are multiples of this length but for the last, in bytes: a block of the widest hash.
    pub const PART: usize = 128;

    /// Of `piece`, whose bytes follow the state `before`.
    #[must_use]
    pub const fn new(layout: PieceLayout, piece: PieceIndex, before: State) -> Self {
        Self { layout, piece, state: before, hashed: 0 }
    }

    /// Takes the next bytes.
    ///
    /// # Panics
    /// If an earlier part was not a multiple of [`Self::PART`].
    pub fn update(&mut self, bytes: &[u8]) {
        assert!(self.hashed.is_multiple_of(Self::PART), "a part that is no multiple of a block is the last");
        self.hashed += bytes.len();
        let ends = self.hashed == self.layout.len_of(self.piece) as usize;
        self.state.absorb(bytes, (ends && self.layout.is_last(self.piece)).then_some(self.layout.size()));
    }

    /// The state after the piece.
    ///
    /// # Errors
    /// [`ChainError::Length`] if the bytes were not as many as the layout says.
    pub fn finish(self) -> Result<State, ChainError> {
        let expected = self.layout.len_of(self.piece);
        if self.hashed == expected as usize {
            Ok(self.state)
        } else {
            Err(ChainError::Length { piece: self.piece, expected, got: self.hashed })
        }
    }
}

/// Checks that the bytes of `piece` lead from the state `before` it to the state `after` it.
///
/// # Errors
/// [`ChainError::Length`] or [`ChainError::Piece`].
pub fn verify_piece(
    layout: PieceLayout,
    piece: PieceIndex,
    before: &State,
    after: &State,
    bytes: &[u8],
) -> Result<(), ChainError> {
    if hash_piece(layout, piece, before, bytes)? == *after {
        Ok(())
    } else {
        Err(ChainError::Piece { piece })
    }
}

/// What is known of a blob's chain: the state at each piece boundary, with gaps.
///
/// The first and the last are known from the start: the hash's initial value and the digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Chain {
    digest: Digest,
    layout: PieceLayout,
    /// Boundary `i` lies before piece `i`; there are `count + 1`.
    states: Vec<State>,
    /// Which boundaries' states are known.
    known: PieceSet,
}

impl Chain {
    /// A chain of which only the two ends are known.
    ///
    /// # Errors
    /// [`ChainError::Empty`] if the blob has no bytes and the digest is not that of nothing.
    pub fn new(digest: Digest, layout: PieceLayout) -> Result<Self, ChainError> {
        let count = layout.count();
        if count == 0 && !digest.matches(&[]) {
            return Err(ChainError::Empty);
        }
        let initial = State::initial(digest.algorithm());
        let mut chain = Self {
            digest,
            layout,
            states: vec![initial; count as usize + 1],
            known: PieceSet::empty(count + 1),
        };
        chain.known.insert(PieceIndex(0));
        chain.states[count as usize] = State::last_of(&digest);
        chain.known.insert(PieceIndex(count));
        Ok(chain)
    }

    /// The blob's digest.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The blob's size and piece length.
    #[must_use]
    pub const fn layout(&self) -> PieceLayout {
        self.layout
    }

    /// The state before piece `boundary`, where known; `boundary == count` is the digest.
    #[must_use]
    pub fn state(&self, boundary: u32) -> Option<&State> {
        self.known.contains(PieceIndex(boundary)).then(|| &self.states[boundary as usize])
    }

    /// The states before and after `piece`, where both are known: what it takes to verify it.
    #[must_use]
    pub fn link(&self, piece: PieceIndex) -> Option<(&State, &State)> {
        Some((self.state(piece.0)?, self.state(piece.0 + 1)?))
    }

    /// The states from the one before piece `first` to the one after piece `first + count - 1`, if all are known.
    #[must_use]
    pub fn segment(&self, first: PieceIndex, count: u32) -> Option<Vec<State>> {
        (first.0..=first.0.checked_add(count)?).map(|i| self.state(i).copied()).collect()
    }

    /// Takes over `states`, the first of which stands at `boundary`; whether any was new. On an error nothing changes.
    ///
    /// # Errors
    /// [`ChainError::Conflict`] if one contradicts what is known, [`ChainError::Boundary`] if one does not belong here.
    pub fn learn(&mut self, boundary: u32, states: &[State]) -> Result<bool, ChainError> {
        let numbered = || (boundary..=u32::MAX).zip(states);
        for (i, state) in numbered() {
            if i > self.layout.count() || state.algorithm() != self.digest.algorithm() {
                return Err(ChainError::Boundary { boundary: i });
            }
            if self.state(i).is_some_and(|known| known != state) {
                return Err(ChainError::Conflict { boundary: i });
            }
        }
        let mut new = false;
        for (i, state) in numbered() {
            self.states[i as usize] = *state;
            new |= self.known.insert(PieceIndex(i));
        }
        Ok(new)
    }

    /// The number of pieces that can be verified from the start on without a gap.
    #[must_use]
    pub fn prefix(&self) -> u32 {
        self.known.next_out(PieceIndex(0)).map_or(self.layout.count(), |gap| gap.0 - 1)
    }

    /// Whether every state is known. Whether they are true is another question: all pieces verified against them.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.known.is_full()
    }

    /// Checks the bytes of `piece`; `None` if its states are not known yet.
    #[must_use]
    pub fn verify(&self, piece: PieceIndex, bytes: &[u8]) -> Option<Result<(), ChainError>> {
        let (before, after) = self.link(piece)?;
        Some(verify_piece(self.layout, piece, before, after, bytes))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Chain({}, {:?}, {}/{} states)",
            self.digest,
            self.layout,
            self.known.len(),
            self.known.count()
        )
    }
}
