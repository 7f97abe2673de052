//! How many copies of each piece there are, held and in flight, and the rarest piece of a set.
//!
//! Copies above a cap count as equal, so that new pieces spread first and the rest comes in reading order
//! (docs: "capped rarity, then the lowest index"). Below it they are told apart the less finely the more there are: in
//! a large crowd a piece with ten copies is as far behind one with fifteen as a piece with hundred behind one with
//! hundred and fifty. One bitmap per level makes the choice a scan over words.

use types::{PieceIndex, PieceSet};

/// Up to so many candidates are looked at one by one.
const FEW: u32 = 16;

#[derive(Debug)]
pub(crate) struct Rarity {
    copies: Vec<u32>,
    cap: u32,
    /// Pieces by [`level_of`] their copies, up to the cap.
    levels: Vec<PieceSet>,
}

impl Rarity {
    /// No copies of any of `count` pieces.
    pub(crate) fn new(count: u32, cap: u8) -> Self {
        let cap = u32::from(cap.max(1));
        let mut levels = vec![PieceSet::empty(count); usize::from(level_of(cap)) + 1];
        levels[0] = PieceSet::full(count);
        Self { copies: vec![0; count as usize], cap, levels }
    }

    pub(crate) fn copies(&self, piece: PieceIndex) -> u32 {
        self.copies[piece.as_usize()]
    }

    pub(crate) fn level(&self, piece: PieceIndex) -> u8 {
        level_of(self.copies(piece).min(self.cap))
    }

    pub(crate) fn add(&mut self, piece: PieceIndex) {
        self.set(piece, self.copies(piece) + 1);
    }

    pub(crate) fn sub(&mut self, piece: PieceIndex) {
        let copies = self.copies(piece).checked_sub(1).expect("a copy that goes was counted when it came");
        self.set(piece, copies);
    }

    fn set(&mut self, piece: PieceIndex, copies: u32) {
        let (old, new) = (self.level(piece), level_of(copies.min(self.cap)));
        self.copies[piece.as_usize()] = copies;
        if old != new {
            self.levels[usize::from(old)].remove(piece);
            self.levels[usize::from(new)].insert(piece);
        }
    }

    /// Of the pieces in the bitmap `candidates`, the first of the lowest level, and that level.
    pub(crate) fn rarest(&self, candidates: &[u64]) -> Option<(u8, PieceIndex)> {
        let start = candidates.iter().position(|word| *word != 0)?;
        let end = candidates.iter().rposition(|word| *word != 0)? + 1;
        let candidates = &candidates[start..end];
        let piece = |w: usize, word: u64| {
            let w = u32::try_from(start + w).expect("a blob's pieces are counted in 32 bits");
            PieceIndex(w * 64 + word.trailing_zeros())
        };
        if candidates.iter().map(|word| word.count_ones()).sum::<u32>() <= FEW {
            let mut rarest = (u8::MAX, PieceIndex(u32::MAX));
            for (w, word) in candidates.iter().enumerate() {
                let mut left = *word;
                while left != 0 {
                    let next = piece(w, left);
                    rarest = rarest.min((self.level(next), next));
                    left &= left - 1;
                }
            }
            return Some(rarest);
        }
        for (level, set) in (0u8..).zip(&self.levels).filter(|(_, set)| !set.is_empty()) {
            let mut words = candidates.iter().zip(&set.words()[start..end]).enumerate();
            if let Some((w, (word, mine))) = words.find(|(_, (word, mine))| *word & *mine != 0) {
                return Some((level, piece(w, word & mine)));
            }
        }
        None
    }
}

/// The level of a number of copies: itself up to 8, then 12, 16, 24, 32, 48 and so on begin another.
fn level_of(copies: u32) -> u8 {
    const EXACT: u32 = 8;
    let level = match copies {
        0..=EXACT => copies,
        _ => {
            let octave = copies.ilog2();
            EXACT + 2 * (octave - EXACT.ilog2()) + (copies >> (octave - 1) & 1)
        }
    };
    u8::try_from(level).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_copies_are_no_lower_level() {
        assert_eq!(
            [0, 1, 7, 8, 11, 12, 15, 16, 23, 24, 255].map(level_of),
            [0, 1, 7, 8, 8, 9, 9, 10, 10, 11, 17]
        );
        assert!((0..2_000).all(|copies| level_of(copies) <= level_of(copies + 1)));
        assert_eq!(level_of(u32::MAX), 8 + 57, "no number is too large");
    }

    #[test]
    fn rarest_first_then_lowest_index() {
        let mut rarity = Rarity::new(130, 3);
        for p in 0..130 {
            for _ in 0..(if p == 129 { 1 } else { 2 + p % 7 }) {
                rarity.add(PieceIndex(p));
            }
        }
        let all = PieceSet::full(130);
        assert_eq!(rarity.rarest(all.words()), Some((1, PieceIndex(129))));
        rarity.add(PieceIndex(129));
        assert_eq!(rarity.rarest(all.words()), Some((2, PieceIndex(0))));
        let mut some = PieceSet::empty(130);
        [5, 6, 66].into_iter().for_each(|p| assert!(some.insert(PieceIndex(p))));
        assert_eq!(
            rarity.rarest(some.words()),
            Some((3, PieceIndex(5))),
            "beyond the cap all count as equal"
        );
        assert_eq!(rarity.rarest(PieceSet::empty(130).words()), None);
        (0..5).for_each(|_| rarity.sub(PieceIndex(66)));
        assert_eq!((rarity.copies(PieceIndex(66)), rarity.level(PieceIndex(66))), (0, 0));
    }
}
