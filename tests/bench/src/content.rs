//! Blobs of any size that nobody has to keep: their bytes follow from the offset.
//!
//! Pages of 4 KiB out of one random block, each with its own number in front: no two are the same, nothing compresses
//! them, and making them costs no more than copying.

use sha2::{Digest as _, Sha256};
use types::{Algorithm, ByteRange, Digest};

const PAGE: u64 = 4096;
/// How many pages the block has.
const PAGES: u64 = 256;
/// How many bytes are hashed at once.
const STEP: u64 = 1 << 20;

/// A blob's bytes.
#[derive(Clone, Debug)]
pub struct Content {
    block: Vec<u8>,
    len: u64,
}

impl Content {
    /// The blob of this length, in bytes; the same in each run.
    #[must_use]
    pub fn new(len: u64) -> Self {
        let mut block = vec![0; as_len(PAGE * PAGES)];
        fastrand::Rng::with_seed(len).fill(&mut block);
        Self { block, len }
    }

    /// The length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes of `range`, which lies within the blob.
    #[must_use]
    pub fn bytes(&self, range: ByteRange) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(as_len(range.len()));
        let mut at = range.start();
        while at < range.end() {
            let (page, from) = (at / PAGE, at % PAGE);
            let until = PAGE.min(from + range.end() - at);
            let base = page % PAGES * PAGE;
            let start = bytes.len();
            bytes.extend_from_slice(&self.block[as_len(base + from)..as_len(base + until)]);
            for (i, byte) in (0..).zip(page.to_le_bytes()) {
                if (from..until).contains(&i) {
                    bytes[start + as_len(i - from)] = byte;
                }
            }
            at += until - from;
        }
        bytes
    }

    /// The blob's digest; reads all of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for start in (0..self.len).step_by(as_len(STEP)) {
            if let Some(range) = ByteRange::new(start, self.len.min(start + STEP)) {
                hash.update(self.bytes(range));
            }
        }
        Digest::new(Algorithm::Sha256, &hash.finalize()).expect("a SHA-256 hash has the length of one")
    }
}

/// A length that fits into memory.
fn as_len(len: u64) -> usize {
    usize::try_from(len).expect("callers ask for parts that fit into memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_the_whole_has() {
        let content = Content::new(5_000_003);
        let whole = content.bytes(ByteRange::whole(content.len()));
        assert_eq!(whole.len(), 5_000_003);
        assert!(content.digest().matches(&whole));
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..1000 {
            let start = rng.u64(..content.len());
            let end = rng.u64(start + 1..=content.len().min(start + 20_000));
            let part = content.bytes(ByteRange::new(start, end).unwrap());
            assert!(part == whole[as_len(start)..as_len(end)], "{start}..{end}");
        }
    }

    #[test]
    fn no_two_pages_are_the_same() {
        let content = Content::new(PAGE * (PAGES * 2));
        let whole = content.bytes(ByteRange::whole(content.len()));
        let pages: std::collections::BTreeSet<&[u8]> = whole.chunks(as_len(PAGE)).collect();
        assert_eq!(pages.len() as u64, PAGES * 2);
    }
}
