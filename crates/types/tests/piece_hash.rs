//! `PieceHash` gives what `hash_piece` gives, however the piece is cut.

use types::{Algorithm, ChainError, Digest, PieceHash, PieceIndex, PieceLayout, State, hash_piece};

#[test]
fn parts_hash_like_the_whole() {
    let mut rng = fastrand::Rng::with_seed(7);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        for size in [1, 55, 64, 112, 127, 128, 129, 1023, 1024, 1025, 3000] {
            let content: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(size).collect();
            let layout = PieceLayout::new(size as u64, 1024).unwrap();
            let mut state = State::initial(algorithm);
            for piece in layout.pieces() {
                let range = layout.range(piece);
                let [start, end] = [range.start(), range.end()].map(|at| usize::try_from(at).unwrap());
                let bytes = &content[start..end];
                let mut hash = PieceHash::new(layout, piece, state);
                bytes.chunks(PieceHash::PART * rng.usize(1..5)).for_each(|part| hash.update(part));
                state = hash_piece(layout, piece, &state, bytes).unwrap();
                assert_eq!(hash.finish().unwrap(), state, "{size} {piece}");
            }
            if algorithm == Algorithm::Sha256 {
                assert_eq!(state, State::last_of(&Digest::sha256(&content)));
            }
        }
    }
}

#[test]
fn a_wrong_length_is_told() {
    let layout = PieceLayout::new(300, 128).unwrap();
    for len in [0, 40, 60] {
        let mut hash = PieceHash::new(layout, PieceIndex(2), State::initial(Algorithm::Sha256));
        hash.update(&vec![0; len]);
        assert!(matches!(hash.finish(), Err(ChainError::Length { expected: 44, got, .. }) if got == len));
    }
}
