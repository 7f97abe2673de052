//! The chain against plain SHA-2: every length around a block and a piece, both hash functions, any order, many threads,
//! and every kind of lie.

use proptest::prelude::*;
use sha2::Digest as _;
use std::sync::atomic::{AtomicU32, Ordering};
use types::{Algorithm, Chain, ChainError, Digest, PieceIndex, PieceLayout, State, hash_piece, verify_piece};

/// Lengths at which the padding of one of the hashes changes its form.
const EDGES: [usize; 14] = [0, 1, 55, 56, 63, 64, 65, 111, 112, 119, 127, 128, 129, 183];
const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| rng.u8(..)).collect()
}

fn plain(algorithm: Algorithm, content: &[u8]) -> Digest {
    let digest = match algorithm {
        Algorithm::Sha256 => Digest::new(algorithm, &sha2::Sha256::digest(content)),
        Algorithm::Sha512 => Digest::new(algorithm, &sha2::Sha512::digest(content)),
    };
    digest.expect("sha2 gives the right length")
}

fn bytes_of(layout: PieceLayout, piece: PieceIndex, content: &[u8]) -> &[u8] {
    let range = layout.range(piece);
    &content[usize::try_from(range.start()).expect("fits")..usize::try_from(range.end()).expect("fits")]
}

/// All states, from the initial one to the one after the last piece; of an empty blob only the last, its digest.
fn states(algorithm: Algorithm, layout: PieceLayout, content: &[u8]) -> Vec<State> {
    if content.is_empty() {
        return vec![State::last_of(&plain(algorithm, content))];
    }
    let mut states = vec![State::initial(algorithm)];
    for piece in layout.pieces() {
        let before = states[piece.as_usize()];
        states.push(
            hash_piece(layout, piece, &before, bytes_of(layout, piece, content))
                .expect("the length is right"),
        );
    }
    states
}

fn whole_chain(algorithm: Algorithm, layout: PieceLayout, content: &[u8]) -> Chain {
    let mut chain = Chain::new(plain(algorithm, content), layout).expect("the digest is right");
    chain.learn(0, &states(algorithm, layout, content)).expect("the chain ends in the plain digest");
    assert!(chain.is_whole());
    chain
}

#[test]
fn ends_in_the_plain_digest_at_every_edge() {
    for algorithm in ALGORITHMS {
        for piece_len in [128u32, 256, 1024] {
            let p = piece_len as usize;
            let around = [
                p - 1,
                p,
                p + 1,
                2 * p - 1,
                2 * p,
                2 * p + 1,
                7 * p + 55,
                7 * p + 56,
                7 * p + 111,
                7 * p + 112,
            ];
            for len in EDGES.into_iter().chain(around) {
                let content = content(len, len as u64);
                let layout = PieceLayout::new(len as u64, piece_len).unwrap();
                let chain = whole_chain(algorithm, layout, &content);
                assert_eq!(chain.prefix(), layout.count());
                for piece in layout.pieces() {
                    assert_eq!(chain.verify(piece, bytes_of(layout, piece, &content)), Some(Ok(())));
                }
            }
        }
    }
}

#[test]
fn every_length_up_to_five_blocks_of_the_widest_hash() {
    for algorithm in ALGORITHMS {
        for len in 0..=640 {
            let content = content(len, 7);
            whole_chain(algorithm, PieceLayout::new(len as u64, 128).unwrap(), &content);
        }
    }
}

#[test]
fn an_empty_blob_is_the_padding_alone() {
    let layout = PieceLayout::new(0, 128).unwrap();
    for algorithm in ALGORITHMS {
        let chain = Chain::new(plain(algorithm, b""), layout).unwrap();
        assert!(chain.is_whole());
        assert_eq!(chain.prefix(), 0);
        assert_eq!(Chain::new(plain(algorithm, b"x"), layout), Err(ChainError::Empty));
    }
}

#[test]
fn pieces_are_verified_on_many_threads_in_any_order() {
    let content = content(128 * 256 + 17, 3);
    let layout = PieceLayout::new(content.len() as u64, 128).unwrap();
    for algorithm in ALGORITHMS {
        let chain = whole_chain(algorithm, layout, &content);
        let mut order: Vec<_> = layout.pieces().collect();
        fastrand::Rng::with_seed(11).shuffle(&mut order);
        let good = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for part in order.chunks(order.len().div_ceil(4)) {
                let (chain, good, content) = (&chain, &good, &content);
                scope.spawn(move || {
                    for piece in part {
                        assert_eq!(chain.verify(*piece, bytes_of(layout, *piece, content)), Some(Ok(())));
                        good.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(good.into_inner(), layout.count());
    }
}

#[test]
fn learning_refuses_what_contradicts_and_then_changes_nothing() {
    let content = content(5 * 128, 1);
    let layout = PieceLayout::new(content.len() as u64, 128).unwrap();
    let states = states(Algorithm::Sha256, layout, &content);
    let other = State::Sha256([1; 8]);
    let mut chain = Chain::new(plain(Algorithm::Sha256, &content), layout).unwrap();
    assert_eq!(chain.prefix(), 0);
    assert_eq!(chain.learn(1, &states[1..3]), Ok(true));
    assert_eq!(chain.learn(1, &states[1..3]), Ok(false));
    assert_eq!(chain.prefix(), 2);
    let before = chain.clone();
    assert_eq!(chain.learn(0, &[other]), Err(ChainError::Conflict { boundary: 0 }));
    assert_eq!(chain.learn(4, &[states[4], other]), Err(ChainError::Conflict { boundary: 5 }));
    assert_eq!(chain.learn(1, &[other]), Err(ChainError::Conflict { boundary: 1 }));
    assert_eq!(chain.learn(5, &[states[5], other]), Err(ChainError::Boundary { boundary: 6 }));
    assert_eq!(chain.learn(u32::MAX, &[other, other]), Err(ChainError::Boundary { boundary: u32::MAX }));
    assert_eq!(chain.learn(3, &[State::Sha512([0; 8])]), Err(ChainError::Boundary { boundary: 3 }));
    assert_eq!(chain, before);
    assert_eq!(chain.learn(0, &[]), Ok(false));
    // A gap: the piece before it has no link, the one after it neither.
    assert_eq!(chain.learn(4, &states[4..]), Ok(true));
    assert!(!chain.is_whole());
    assert!(chain.link(PieceIndex(2)).is_none() && chain.link(PieceIndex(3)).is_none());
    assert!(chain.link(PieceIndex(4)).is_some());
    assert_eq!(chain.segment(PieceIndex(0), 2).unwrap(), states[..3]);
    assert!(chain.segment(PieceIndex(1), 2).is_none() && chain.segment(PieceIndex(1), u32::MAX).is_none());
    assert_eq!(chain.learn(3, &states[3..4]), Ok(true));
    assert!(chain.is_whole());
}

#[test]
fn states_travel_as_bytes() {
    for algorithm in ALGORITHMS {
        let state = State::last_of(&plain(algorithm, b"damselfly"));
        let bytes = state.to_bytes();
        assert_eq!(State::from_bytes(algorithm, &bytes), Some(state));
        assert_eq!(State::from_bytes(algorithm, &bytes[1..]), None);
        assert_eq!(Digest::new(algorithm, &bytes).unwrap(), plain(algorithm, b"damselfly"));
    }
}

fn blob() -> impl Strategy<Value = (Algorithm, u32, Vec<u8>)> {
    let len = prop_oneof![0usize..2_000, prop::sample::select(EDGES.to_vec())];
    (prop::sample::select(ALGORITHMS.to_vec()), 7u32..11, len, any::<u64>())
        .prop_map(|(algorithm, exponent, len, seed)| (algorithm, 1 << exponent, content(len, seed)))
}

proptest! {
    #[test]
    fn equals_the_plain_hash((algorithm, piece_len, content) in blob(), order in any::<u64>()) {
        let layout = PieceLayout::new(content.len() as u64, piece_len).unwrap();
        let chain = whole_chain(algorithm, layout, &content);
        let mut pieces: Vec<_> = layout.pieces().collect();
        fastrand::Rng::with_seed(order).shuffle(&mut pieces);
        for piece in pieces {
            prop_assert_eq!(chain.verify(piece, bytes_of(layout, piece, &content)), Some(Ok(())));
        }
    }

    #[test]
    fn states_are_learnt_in_any_order((algorithm, piece_len, content) in blob(), order in any::<u64>()) {
        let layout = PieceLayout::new(content.len() as u64, piece_len).unwrap();
        let states = states(algorithm, layout, &content);
        let mut chain = Chain::new(plain(algorithm, &content), layout).unwrap();
        let mut boundaries: Vec<_> = (0..=layout.count()).collect();
        fastrand::Rng::with_seed(order).shuffle(&mut boundaries);
        for (i, boundary) in boundaries.iter().enumerate() {
            chain.learn(*boundary, &[states[*boundary as usize]]).unwrap();
            let seen = |b: u32| b == 0 || b == layout.count() || boundaries[..=i].contains(&b);
            let model = (0..layout.count()).take_while(|b| seen(b + 1)).count();
            prop_assert_eq!(chain.prefix() as usize, model);
            prop_assert_eq!(chain.state(*boundary), Some(&states[*boundary as usize]));
        }
        prop_assert!(chain.is_whole());
    }

    #[test]
    fn a_flipped_bit_in_a_piece_is_found((algorithm, piece_len, content) in blob(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        prop_assume!(!content.is_empty());
        let layout = PieceLayout::new(content.len() as u64, piece_len).unwrap();
        let chain = whole_chain(algorithm, layout, &content);
        let at = at.index(content.len());
        let mut wrong = content;
        wrong[at] ^= 1u8 << bit;
        let hit = layout.piece_at(at as u64).unwrap();
        for piece in layout.pieces() {
            let expected = if piece == hit { Err(ChainError::Piece { piece }) } else { Ok(()) };
            prop_assert_eq!(chain.verify(piece, bytes_of(layout, piece, &wrong)), Some(expected));
        }
    }

    #[test]
    fn a_flipped_bit_in_a_state_is_found((algorithm, piece_len, content) in blob(), at in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        prop_assume!(!content.is_empty());
        let layout = PieceLayout::new(content.len() as u64, piece_len).unwrap();
        let mut states = states(algorithm, layout, &content);
        let at = at.index(states.len());
        let mut bytes = states[at].to_bytes();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        states[at] = State::from_bytes(algorithm, &bytes).unwrap();
        // The pieces on both sides of the false state find it; the ends cannot even be learnt.
        for piece in layout.pieces() {
            let i = piece.as_usize();
            let found = verify_piece(layout, piece, &states[i], &states[i + 1], bytes_of(layout, piece, &content));
            prop_assert_eq!(found.is_err(), i == at || i + 1 == at);
        }
        let learnt = Chain::new(plain(algorithm, &content), layout).unwrap().learn(0, &states);
        prop_assert_eq!(learnt.is_err(), at == 0 || at + 1 == states.len());
    }

    #[test]
    fn a_wrong_size_or_digest_is_found((algorithm, piece_len, content) in blob(), more in 1u64..300, bit in any::<prop::sample::Index>()) {
        let size = content.len() as u64;
        let right = plain(algorithm, &content);
        // A longer blob with the same bytes and zeros for the rest: the length is part of the padding.
        let longer = PieceLayout::new(size + more, piece_len).unwrap();
        let mut padded = content.clone();
        padded.resize(content.len() + usize::try_from(more).unwrap(), 0);
        let long = states(algorithm, longer, &padded);
        prop_assert!(Chain::new(right, longer).unwrap().learn(0, &long).is_err());
        // The right bytes in a layout of another size: the piece's length tells.
        for piece in longer.pieces() {
            let range = longer.range(piece);
            if range.end() > size {
                let cut = &padded[usize::try_from(range.start().min(size)).unwrap()..content.len()];
                let found = hash_piece(longer, piece, &long[piece.as_usize()], cut);
                prop_assert!(matches!(found, Err(ChainError::Length { .. })), "{found:?}");
            }
        }
        let mut bytes = right.as_bytes().to_vec();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let wrong = Digest::new(algorithm, &bytes).unwrap();
        let layout = PieceLayout::new(size, piece_len).unwrap();
        let found = Chain::new(wrong, layout).and_then(|mut chain| chain.learn(0, &states(algorithm, layout, &content)));
        prop_assert!(found.is_err());
    }

    #[test]
    fn a_false_chain_breaks_somewhere((algorithm, piece_len, content) in blob(), other in any::<u64>()) {
        // A consistent chain over other bytes of the same size ends in another digest.
        prop_assume!(!content.is_empty());
        let layout = PieceLayout::new(content.len() as u64, piece_len).unwrap();
        let mut forged = content.clone();
        let at = usize::try_from(other).unwrap() % forged.len();
        forged[at] ^= 0x55;
        let mut states = states(algorithm, layout, &forged);
        *states.last_mut().unwrap() = State::last_of(&plain(algorithm, &content));
        let mut chain = Chain::new(plain(algorithm, &content), layout).unwrap();
        chain.learn(0, &states).unwrap();
        let broken = layout.pieces().filter(|p| chain.verify(*p, bytes_of(layout, *p, &forged)) != Some(Ok(()))).count();
        prop_assert_eq!(broken, 1);
    }
}
