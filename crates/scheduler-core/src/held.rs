//! What a member holds: a bitmap of its own, or, once it holds all, one that all such members share.

use std::ops::Deref;
use std::sync::Arc;
use types::{PieceIndex, PieceSet};

#[derive(Clone, Debug)]
pub(crate) enum Held {
    Part(PieceSet),
    All(Arc<PieceSet>),
}

impl Held {
    pub(crate) fn none(count: u32) -> Self {
        Self::Part(PieceSet::empty(count))
    }

    /// Adds a piece that is not in it; `full` is what it becomes with the last one.
    pub(crate) fn add(&mut self, piece: PieceIndex, full: &Arc<PieceSet>) {
        if let Self::Part(part) = self {
            part.insert(piece);
            if part.is_full() {
                *self = Self::All(Arc::clone(full));
            }
        }
    }

    pub(crate) fn remove(&mut self, piece: PieceIndex) {
        if let Self::All(full) = self {
            *self = Self::Part(PieceSet::clone(full));
        }
        if let Self::Part(part) = self {
            part.remove(piece);
        }
    }
}

impl Deref for Held {
    type Target = PieceSet;

    fn deref(&self) -> &PieceSet {
        match self {
            Self::Part(part) => part,
            Self::All(full) => full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_set_is_shared_until_something_is_lost() {
        let full = Arc::new(PieceSet::full(3));
        let mut held = Held::none(3);
        (0..3).for_each(|piece| held.add(PieceIndex(piece), &full));
        assert!(held.is_full());
        assert_eq!(Arc::strong_count(&full), 2, "the bitmap is shared");
        held.remove(PieceIndex(1));
        assert_eq!(held.iter().collect::<Vec<_>>(), [PieceIndex(0), PieceIndex(2)]);
        assert_eq!((Arc::strong_count(&full), full.len()), (1, 3), "and is nobody's to change");
    }
}
