//! What a peer sends: proposal, certificate, and hello before it is known; request, answer, question and answer about
//! holdings then.

use crate::input::Input;
use membership::PeerKey;
use p2p::{PieceRequest, fuzz};
use types::PieceSet;

/// The key of the peer whose certificates are in the corpus.
const PEER: [u8; 32] = [
    110, 122, 28, 221, 41, 176, 183, 143, 209, 58, 244, 197, 89, 143, 239, 244, 239, 42, 151, 22, 110, 60,
    166, 242, 228, 251, 252, 205, 128, 80, 91, 241,
];

/// The first byte says which frame the others are.
pub fn peer_frames(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.u8() % 7 {
        0 => hello(input.rest()),
        1 => request(input.rest()),
        2 => answer(input),
        3 => question(input.rest()),
        4 => holdings(input.rest()),
        5 => proposal(input.rest()),
        _ => certificate(input.rest()),
    }
}

fn hello(bytes: &[u8]) {
    let Some((ticket, used)) = fuzz::read_hello(bytes) else { return };
    assert!(ticket.len() <= fuzz::TICKET_MAX, "a ticket's length is bounded");
    let ours = fuzz::write_hello(&ticket);
    assert_eq!(ours[2..], bytes[2..used], "all but the version comes back");
    assert_eq!(fuzz::read_hello(&ours), Some((ticket, ours.len())));
}

fn request(bytes: &[u8]) {
    let Some((Ok(request), used)) = fuzz::read_request(bytes) else { return };
    let layout = request.layout().expect("a request is for a blob that can be");
    assert!(request.piece.0 < layout.count() && layout.range(request.piece).end() <= layout.size());
    let len = request.expected_len().expect("a piece has a length");
    assert!((1..=PieceRequest::PIECE_LEN_MAX).contains(&len), "a piece of {len} bytes");
    let ours = fuzz::write_request(&request);
    assert!(ours.len() <= used, "only extras make it longer");
    assert_eq!(fuzz::read_request(&ours), Some((Ok(request), ours.len())));
}

fn answer(mut input: Input<'_>) {
    let head = input.array();
    let expected = input.u32();
    if let Some(answer) = fuzz::read_answer(head, expected) {
        assert_eq!(fuzz::write_answer(answer.map(|()| expected)), head, "an answer has one form");
    }
}

fn question(bytes: &[u8]) {
    let Some(((ticket, digest), used)) = fuzz::read_question(bytes) else { return };
    assert_eq!(fuzz::write_question(ticket, digest), bytes[..used], "a question has one form");
}

fn holdings(bytes: &[u8]) {
    let Some(((ticket, holdings), _)) = fuzz::read_holdings(bytes) else { return };
    if let Some(holdings) = &holdings {
        assert_eq!(holdings.pieces.count(), holdings.layout.count(), "a set of the blob's pieces");
        assert!(holdings.pieces.iter().all(|piece| piece.0 < holdings.layout.count()));
        let again = PieceSet::from_runs(holdings.layout.count(), holdings.pieces.runs());
        assert_eq!(again.as_ref(), Some(&holdings.pieces), "a set is its runs");
    }
    let ours = fuzz::write_holdings(ticket.clone(), holdings.clone());
    assert_eq!(fuzz::read_holdings(&ours), Some(((ticket, holdings), ours.len())));
}

fn proposal(bytes: &[u8]) {
    let (agreed, used, said) = fuzz::listen(bytes, "/a/1");
    assert!(used <= 5 * 128 && said.len() <= 5 * 128, "{used} bytes read, {} written", said.len());
    assert_eq!(agreed, bytes[..used].ends_with(b"\x05/a/1\n") && said.ends_with(b"\x05/a/1\n"));
}

/// The certificates of the corpus are of one peer: nothing that was made of them is another's.
fn certificate(bytes: &[u8]) {
    if let Some(peer) = fuzz::peer_of_certificate(bytes) {
        assert!(peer == PeerKey::from_bytes(PEER).peer_id(), "a certificate of {peer:?}");
    }
}
