//! What a peer sends before and after its ticket is known: hello, request, answer; question and answer about holdings.

use crate::input::Input;
use p2p::{PieceRequest, fuzz};
use types::PieceSet;

/// The first byte says which frame the others are.
pub fn peer_frames(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.u8() % 5 {
        0 => hello(input.rest()),
        1 => request(input.rest()),
        2 => answer(input),
        3 => question(input.rest()),
        _ => holdings(input.rest()),
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
    assert!(ours.len() <= used, "only a grant makes it longer");
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
