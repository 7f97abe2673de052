//! A first look at many members for one: whether they have anything that it could use. Most have not, and to see that
//! costs no more than a few words of each one's bitmap. The last are looked at first: a source reads in order, so what is
//! new stands there.

use types::PieceIndex;

/// Pieces of the one for whom others are looked at.
#[derive(Debug, Default)]
pub(crate) struct Glance {
    words: Vec<u64>,
    /// Which word of a bitmap the first one is.
    from: usize,
    /// They are what a child needs, and not what a parent offers.
    pub(crate) needed: bool,
}

impl Glance {
    /// Looks for these pieces from now on. Whether there are any.
    pub(crate) fn set(&mut self, words: impl Iterator<Item = u64>) -> bool {
        self.words.clear();
        self.words.extend(words);
        let used = self.words.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
        self.words.truncate(used);
        self.from = self.words.iter().position(|word| *word != 0).unwrap_or(0);
        self.words.drain(..self.from);
        used > 0
    }

    /// The words with their places.
    pub(crate) fn words(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        (self.from..).zip(self.words.iter().copied())
    }

    /// Those of the pieces that are in `bitmap`, in place of what was in `into`.
    pub(crate) fn meet(&self, bitmap: &[u64], into: &mut Vec<u64>) {
        self.fill(bitmap, |mine, theirs| mine & theirs, into);
    }

    /// Those of the pieces that are not in `bitmap`, in place of what was in `into`.
    pub(crate) fn lack(&self, bitmap: &[u64], into: &mut Vec<u64>) {
        self.fill(bitmap, |mine, theirs| mine & !theirs, into);
    }

    fn fill(&self, bitmap: &[u64], of: impl Fn(u64, u64) -> u64, into: &mut Vec<u64>) {
        into.clear();
        into.resize(self.from, 0);
        into.extend(self.words.iter().zip(&bitmap[self.from..]).map(|(mine, theirs)| of(*mine, *theirs)));
        into.resize(bitmap.len(), 0);
    }

    /// Whether some of the pieces are in `bitmap`.
    pub(crate) fn any_in(&self, bitmap: &[u64]) -> bool {
        let theirs = &bitmap[self.from..][..self.words.len()];
        self.words.iter().zip(theirs).rev().any(|(mine, theirs)| mine & theirs != 0)
    }

    /// Whether some of the pieces are neither in `bitmap` nor among `others`.
    pub(crate) fn any_out_of(&self, bitmap: &[u64], others: &[PieceIndex]) -> bool {
        let theirs = &bitmap[self.from..][..self.words.len()];
        self.words.iter().zip(theirs).enumerate().rev().any(|(w, (mine, theirs))| {
            let mut left = mine & !theirs;
            if left != 0 {
                for other in others.iter().filter(|other| other.as_usize() / 64 == self.from + w) {
                    left &= !(1 << (other.0 % 64));
                }
            }
            left != 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::PieceSet;

    #[test]
    fn only_the_pieces_looked_for_count() {
        let set = |pieces: &[u32]| {
            let mut set = PieceSet::empty(300);
            pieces.iter().for_each(|piece| assert!(set.insert(PieceIndex(*piece))));
            set
        };
        let mut glance = Glance::default();
        for wanted in [&[70, 200][..], &[0], &[299], &[5, 299]] {
            assert!(glance.set(set(wanted).words().iter().copied()));
            for (other, is_in, is_out) in [
                (set(&[1, 71, 298]), false, true),
                (set(wanted), true, false),
                (set(&wanted[1..]), wanted.len() > 1, true),
                (PieceSet::full(300), true, false),
            ] {
                let whole = set(wanted);
                let pairs = || whole.words().iter().zip(other.words());
                let mut found = Vec::new();
                glance.meet(other.words(), &mut found);
                assert_eq!(found, pairs().map(|(mine, theirs)| mine & theirs).collect::<Vec<_>>());
                glance.lack(other.words(), &mut found);
                assert_eq!(found, pairs().map(|(mine, theirs)| mine & !theirs).collect::<Vec<_>>());
                assert_eq!(
                    (glance.any_in(other.words()), glance.any_out_of(other.words(), &[])),
                    (is_in, is_out),
                    "{wanted:?} in {other:?}"
                );
            }
        }
        assert!(glance.set(set(&[70, 200]).words().iter().copied()));
        let [none, one] = [set(&[]), set(&[200])];
        let left =
            |bitmap: &PieceSet, others: [u32; 2]| glance.any_out_of(bitmap.words(), &others.map(PieceIndex));
        assert!(left(&none, [70, u32::MAX]) && left(&none, [6, 200]) && left(&one, [71, 200]));
        assert!(!left(&none, [200, 70]) && !left(&one, [70, u32::MAX]));
        assert!(!glance.set(set(&[]).words().iter().copied()));
        let (full, empty) = (PieceSet::full(300), PieceSet::empty(300));
        assert!(!glance.any_in(full.words()) && !glance.any_out_of(empty.words(), &[]));
    }
}
