//! How many copies of each piece there are, held and in flight, and the rarest piece of a set.
//!
//! Copies above a cap count as equal, so that new pieces spread first and the rest comes in reading order
//! (docs: "capped rarity, then the lowest index"). Below it they are told apart the less finely the more there are: in
//! a large crowd a piece with ten copies is as far behind one with fifteen as a piece with hundred behind one with
//! hundred and fifty. One bitmap per level, side by side for every 64 pieces, makes the choice a scan over words.

use types::PieceIndex;

/// 64 pieces in a row.
#[derive(Clone, Debug)]
struct Block {
    /// The levels that a piece of them is of, as bits.
    present: u32,
    /// By level, which pieces are of it.
    pieces: Box<[u64]>,
}

#[derive(Debug)]
pub(crate) struct Rarity {
    copies: Vec<u32>,
    cap: u32,
    /// Pieces by [`level_of`] their copies, up to the cap.
    blocks: Vec<Block>,
}

impl Rarity {
    /// No copies of any of `count` pieces.
    pub(crate) fn new(count: u32, cap: u8) -> Self {
        let cap = u32::from(cap.max(1));
        let levels = usize::from(level_of(cap)) + 1;
        let block = Block { present: 0, pieces: vec![0; levels].into() };
        let mut rarity =
            Self { copies: vec![0; count as usize], cap, blocks: vec![block; count.div_ceil(64) as usize] };
        (0..count).for_each(|piece| rarity.enter(PieceIndex(piece), 0));
        rarity
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
            self.leave(piece, old);
            self.enter(piece, new);
        }
    }

    fn enter(&mut self, piece: PieceIndex, level: u8) {
        let block = &mut self.blocks[piece.as_usize() / 64];
        block.pieces[usize::from(level)] |= 1 << (piece.0 % 64);
        block.present |= 1 << level;
    }

    fn leave(&mut self, piece: PieceIndex, level: u8) {
        let block = &mut self.blocks[piece.as_usize() / 64];
        let pieces = &mut block.pieces[usize::from(level)];
        *pieces &= !(1 << (piece.0 % 64));
        if *pieces == 0 {
            block.present &= !(1 << level);
        }
    }

    /// Of the pieces in the bitmap `candidates`, the first of the lowest level, and that level.
    pub(crate) fn rarest(&self, candidates: impl IntoIterator<Item = u64>) -> Option<(u8, PieceIndex)> {
        let mut rarest = None;
        // Only a piece of a lower level is better than one that comes before it.
        let mut better = u32::MAX;
        for (word, (i, block)) in candidates.into_iter().zip((0u32..).zip(&self.blocks)) {
            let mut levels = if word == 0 { 0 } else { block.present & better };
            while levels != 0 {
                let level = levels.trailing_zeros();
                let found = word & block.pieces[level as usize];
                if found != 0 {
                    rarest = Some((level, i * 64 + found.trailing_zeros()));
                    better = (1 << level) - 1;
                    break;
                }
                levels &= levels - 1;
            }
        }
        rarest.map(|(level, piece)| (u8::try_from(level).expect("fewer levels than bits"), PieceIndex(piece)))
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
    use types::PieceSet;

    fn bits(set: &PieceSet) -> impl Iterator<Item = u64> {
        set.words().iter().copied()
    }

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
        assert_eq!(rarity.rarest(bits(&all)), Some((1, PieceIndex(129))));
        rarity.add(PieceIndex(129));
        assert_eq!(rarity.rarest(bits(&all)), Some((2, PieceIndex(0))));
        let mut some = PieceSet::empty(130);
        [5, 6, 66].into_iter().for_each(|p| assert!(some.insert(PieceIndex(p))));
        assert_eq!(rarity.rarest(bits(&some)), Some((3, PieceIndex(5))), "beyond the cap all count as equal");
        assert_eq!(rarity.rarest(bits(&PieceSet::empty(130))), None);
        (0..5).for_each(|_| rarity.sub(PieceIndex(66)));
        assert_eq!((rarity.copies(PieceIndex(66)), rarity.level(PieceIndex(66))), (0, 0));
    }
}
