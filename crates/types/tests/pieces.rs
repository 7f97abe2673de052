//! The piece set against a plain ordered set, and the laws of the layout.

use proptest::prelude::*;
use std::collections::BTreeSet;
use types::{ByteRange, PieceIndex, PieceLayout, PieceSet, piece_len_for};

#[derive(Clone, Debug)]
enum Op {
    Insert(u32),
    Remove(u32),
    Union(Vec<u32>),
    Subtract(Vec<u32>),
    Intersect(Vec<u32>),
    Complement,
}

fn ops(count: u32) -> impl Strategy<Value = Vec<Op>> {
    let some = || prop::collection::vec(0..count.max(1), 0..40);
    let op = prop_oneof![
        4 => (0..count.max(1)).prop_map(Op::Insert),
        2 => (0..count + 70).prop_map(Op::Remove),
        1 => some().prop_map(Op::Union),
        1 => some().prop_map(Op::Subtract),
        1 => some().prop_map(Op::Intersect),
        1 => Just(Op::Complement),
    ];
    prop::collection::vec(op, 0..60)
}

fn set_of(count: u32, members: impl IntoIterator<Item = u32>) -> PieceSet {
    let mut set = PieceSet::empty(count);
    members.into_iter().filter(|m| *m < count).for_each(|m| {
        set.insert(PieceIndex(m));
    });
    set
}

fn apply(set: &mut PieceSet, model: &mut BTreeSet<u32>, count: u32, op: Op) {
    let both = |members: Vec<u32>| {
        let members: BTreeSet<_> = members.into_iter().filter(|m| *m < count).collect();
        (set_of(count, members.iter().copied()), members)
    };
    match op {
        Op::Insert(i) if i < count => assert_eq!(set.insert(PieceIndex(i)), model.insert(i)),
        Op::Insert(_) => {}
        Op::Remove(i) => assert_eq!(set.remove(PieceIndex(i)), model.remove(&i)),
        Op::Union(m) => {
            let (other, members) = both(m);
            set.union_with(&other);
            model.extend(members);
        }
        Op::Subtract(m) => {
            let (other, members) = both(m);
            set.subtract(&other);
            model.retain(|i| !members.contains(i));
        }
        Op::Intersect(m) => {
            let (other, members) = both(m);
            set.intersect_with(&other);
            model.retain(|i| members.contains(i));
        }
        Op::Complement => {
            *set = set.complement();
            *model = (0..count).filter(|i| !model.contains(i)).collect();
        }
    }
}

fn check(set: &PieceSet, model: &BTreeSet<u32>, count: u32) {
    assert_eq!(set.count(), count);
    assert_eq!(set.len() as usize, model.len());
    assert_eq!(set.is_empty(), model.is_empty());
    assert_eq!(set.is_full(), model.len() == count as usize);
    assert!(set.iter().map(|p| p.0).eq(model.iter().copied()));
    for i in 0..count + 65 {
        assert_eq!(set.contains(PieceIndex(i)), model.contains(&i));
        assert_eq!(set.next_in(PieceIndex(i)).map(|p| p.0), model.range(i..).next().copied());
        assert_eq!(set.next_out(PieceIndex(i)).map(|p| p.0), (i..count).find(|n| !model.contains(n)));
    }
    assert_eq!(PieceSet::from_runs(count, set.runs()).as_ref(), Some(set));
    let runs: Vec<_> = set.runs().collect();
    assert!(runs.windows(2).all(|w| w[0].end < w[1].start), "runs are as long as can be: {runs:?}");
}

proptest! {
    #[test]
    fn behaves_as_an_ordered_set((count, ops) in (0u32..200).prop_flat_map(|c| (Just(c), ops(c)))) {
        let (mut set, mut model) = (PieceSet::empty(count), BTreeSet::new());
        for op in ops {
            apply(&mut set, &mut model, count, op);
            check(&set, &model, count);
        }
    }

    #[test]
    fn a_run_is_its_pieces(start in 0u32..300, len in 1u32..300, next in 1u32..10) {
        let mut one_by_one = PieceSet::empty(700);
        for i in (start..start + len).chain(start + len + next..start + len + next + 64) {
            one_by_one.insert(PieceIndex(i));
        }
        let end = start + len;
        prop_assert_eq!(PieceSet::from_runs(700, [start..end, end + next..end + next + 64]), Some(one_by_one));
    }

    #[test]
    fn the_pieces_of_a_layout_are_its_bytes(size in 0u64..5_000, exponent in 7u32..12, start in 0u64..6_000, len in 0u64..6_000) {
        let layout = PieceLayout::new(size, 1 << exponent).unwrap();
        let mut at = 0;
        for piece in layout.pieces() {
            let range = layout.range(piece);
            prop_assert_eq!(range.start(), at);
            prop_assert!(!range.is_empty() && range.len() <= u64::from(layout.piece_len()));
            prop_assert_eq!(u64::from(layout.len_of(piece)), range.len());
            prop_assert!(layout.is_last(piece) || range.len() == u64::from(layout.piece_len()));
            for offset in [range.start(), range.end() - 1] {
                prop_assert_eq!(layout.piece_at(offset), Some(piece));
            }
            at = range.end();
        }
        prop_assert_eq!(at, size);
        prop_assert_eq!(layout.piece_at(size), None);
        let asked = ByteRange::new(start, start + len).unwrap();
        let pieces = layout.pieces_of(asked);
        for piece in layout.pieces() {
            let shares = layout.range(piece).intersect(asked).is_some();
            prop_assert_eq!(pieces.contains(&piece.0), shares);
        }
    }
}

#[test]
fn full_and_empty_sets_at_the_words_edges() {
    for count in [0, 1, 63, 64, 65, 127, 128, 129] {
        check(&PieceSet::full(count), &(0..count).collect(), count);
        check(&PieceSet::empty(count), &BTreeSet::new(), count);
        assert_eq!(PieceSet::full(count).complement(), PieceSet::empty(count));
    }
}

#[test]
#[allow(
    clippy::single_range_in_vec_init,
    clippy::reversed_empty_ranges,
    reason = "runs that must be refused"
)]
fn runs_that_make_no_set_are_refused() {
    for runs in [
        vec![0..0],
        vec![3..2],
        vec![2..4, 3..5],
        vec![4..5, 0..1],
        vec![9..11],
        vec![u32::MAX - 1..u32::MAX],
    ] {
        assert_eq!(PieceSet::from_runs(10, runs.clone()), None, "{runs:?}");
    }
    // Runs that touch are no error: they are the same set.
    assert_eq!(PieceSet::from_runs(10, [0..2, 2..4]), PieceSet::from_runs(10, [0..4]));
}

#[test]
fn layouts_that_are_refused() {
    let cases = [
        (1, 0),
        (1, 64),
        (1, 127),
        (1, 129),
        (1, 192),
        (PieceLayout::SIZE_MAX + 1, 1 << 24),
        (PieceLayout::SIZE_MAX, 128),
    ];
    for (size, piece_len) in cases {
        assert_eq!(PieceLayout::new(size, piece_len), None, "{size} {piece_len}");
    }
    assert!(PieceLayout::for_size(PieceLayout::SIZE_MAX).is_some());
    assert!(PieceLayout::for_size(PieceLayout::SIZE_MAX + 1).is_none());
}

#[test]
fn piece_lengths_grow_with_the_size() {
    const MIB: u64 = 1 << 20;
    let table = [
        (0, 512 << 10),
        (32 * MIB - 1, 512 << 10),
        (32 * MIB, 1 << 20),
        (4096 * MIB - 1, 1 << 20),
        (4096 * MIB, 4 << 20),
        (65_536 * MIB - 1, 4 << 20),
        (65_536 * MIB, 16 << 20),
        (PieceLayout::SIZE_MAX, 16 << 20),
    ];
    for (size, len) in table {
        assert_eq!(piece_len_for(size), len, "{size}");
    }
}
