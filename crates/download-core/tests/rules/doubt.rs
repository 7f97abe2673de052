//! False chains, wrong origins, and what is kept of them.

use crate::bed::{Bed, PIECE, content, failures, fetches, held, host, reads, said, set, states_of};
use download_core::{Effect, Event, Failure, Fetched, LinkState, ReaderId};
use std::time::Duration;
use types::{
    Credential, Epoch, FetchFailure, HostBody, LeaseFailure, PieceIndex, PieceSet, SchedulerBody, State,
};

fn up(pieces: u32) -> Bed {
    let mut bed = Bed::new(pieces, LinkState::Up, Credential::Anonymous);
    bed.read_whole();
    bed
}

fn discarded<'a>(effects: &'a [Effect]) -> Vec<&'a PieceSet> {
    let pieces = |effect: &'a Effect| match effect {
        Effect::Discard { pieces } => Some(pieces),
        _ => None,
    };
    effects.iter().filter_map(pieces).collect()
}

fn fetch(bed: &mut Bed, piece: u32, epoch: u64) -> Vec<Effect> {
    let effects = bed.assign(piece, 7, epoch);
    let (fetch, ..) = fetches(&effects)[0];
    bed.stored(fetch)
}

/// A false but consistent chain over other bytes.
fn forged(pieces: u32) -> Vec<State> {
    states_of(&content(pieces, 99))
}

#[test]
fn after_a_reset_the_same_states_restore_a_piece_and_others_void_it() {
    let mut bed = up(10);
    fetch(&mut bed, 2, 1);
    fetch(&mut bed, 5, 1);
    let effects = bed.hear(SchedulerBody::ChainReset { epoch: Epoch(1) });
    assert_eq!(effects[0], Effect::ForgetStates);
    assert!(bed.download.held().is_empty());
    assert!(matches!(said(&effects)[..], [HostBody::Want { held, .. }] if held.is_empty()));
    // A message from before the reset changes nothing.
    assert!(bed.assign(2, 7, 1).is_empty());
    let effects = bed.assign(2, 7, 2);
    assert_eq!(held(&effects), [2]);
    assert!(fetches(&effects).is_empty());
    assert!(said(&effects).iter().any(|b| matches!(b, HostBody::Verified { piece: PieceIndex(2), .. })));
    bed.states = forged(10);
    let effects = bed.assign(5, 7, 2);
    assert_eq!(discarded(&effects), [&set(10, [5])]);
    assert_eq!(fetches(&effects).len(), 1, "it is fetched again");
}

/// Readers may have been given bytes of a piece that the store lost since, and that nobody can check any more.
#[test]
fn a_piece_that_was_lost_is_void_when_its_chain_is_false() {
    let mut bed = up(10);
    for piece in [2, 5, 7] {
        fetch(&mut bed, piece, 1);
    }
    assert!(
        discarded(&bed.event(Event::Lost { pieces: set(10, [2, 5]) })).is_empty(),
        "the chain may be true"
    );
    fetch(&mut bed, 5, 1);
    let effects = bed.hear(SchedulerBody::ChainReset { epoch: Epoch(1) });
    assert_eq!(discarded(&effects), [&set(10, [2])], "5 is there again and can be checked");
    let effects = bed.event(Event::Lost { pieces: set(10, [7]) });
    assert_eq!(discarded(&effects), [&set(10, [7])], "now it cannot be checked any more");
    assert!(discarded(&bed.hear(SchedulerBody::ChainReset { epoch: Epoch(2) })).is_empty(), "told once");
}

#[test]
fn what_this_host_computed_survives_a_reset() {
    let mut bed = up(10);
    let effects = bed.lease(1, 0..10, 0, 4);
    bed.settle(effects);
    fetch(&mut bed, 7, 1);
    let effects = bed.hear(SchedulerBody::ChainReset { epoch: Epoch(1) });
    let states = bed.states[0..=4].to_vec();
    assert!(effects.contains(&Effect::LearnStates { boundary: 0, states }));
    assert_eq!(bed.download.held(), &set(10, 0..4));
    assert_eq!(bed.download.lease(), None);
}

#[test]
fn a_piece_that_was_stored_against_a_false_chain_is_void() {
    let mut bed = up(10);
    let (right, false_) = (bed.states.clone(), forged(10));
    bed.states.clone_from(&false_);
    let (late, ..) = fetches(&bed.assign(3, 7, 1))[0];
    let effects = bed.hear(SchedulerBody::ChainReset { epoch: Epoch(1) });
    assert!(effects.contains(&Effect::CancelFetch { fetch: late }));
    bed.states = right;
    assert!(held(&bed.stored(late)).is_empty());
    let effects = bed.assign(3, 8, 2);
    assert_eq!(discarded(&effects), [&set(10, [3])]);
    assert_eq!(fetches(&effects).len(), 1);
}

#[test]
fn a_later_epochs_chain_prevails_and_the_same_epochs_does_not() {
    let mut bed = up(10);
    fetch(&mut bed, 3, 1);
    bed.states = forged(10);
    let effects = bed.assign(3, 7, 1);
    assert!(
        matches!(said(&effects)[..], [HostBody::Failed { .. }]),
        "a contradiction is the parent's or the chain's"
    );
    let effects = bed.assign(3, 7, 2);
    assert_eq!(discarded(&effects), [&set(10, [3])]);
    assert_eq!(fetches(&effects).len(), 1);
}

#[test]
fn states_from_before_an_epoch_give_way_also_when_it_contradicts_them_late() {
    let mut bed = up(10);
    let right = std::mem::replace(&mut bed.states, forged(10));
    fetch(&mut bed, 3, 1);
    bed.states = right;
    // The later epoch is first heard of where it contradicts nothing.
    fetch(&mut bed, 7, 2);
    let effects = bed.assign(3, 7, 2);
    assert!(!said(&effects).iter().any(|body| matches!(body, HostBody::Failed { .. })), "no parent's fault");
    assert_eq!((discarded(&effects), fetches(&effects).len()), (vec![&set(10, [3])], 1));
    // What was verified in this epoch is found right again.
    assert_eq!(held(&bed.assign(7, 7, 2)), [7]);
    // It is not to contradict itself.
    bed.states = forged(10);
    let effects = bed.assign(4, 7, 2);
    assert!(matches!(said(&effects)[..], [HostBody::Failed { .. }]));
}

#[test]
fn a_false_prefix_is_found_by_the_source() {
    let mut bed = up(10);
    let mut prefix = bed.states[..=3].to_vec();
    prefix[2] = forged(10)[2];
    let missing = PieceSet::full(10);
    let ttl = super::bed::TTL;
    let effects = bed.hear(SchedulerBody::Lease { epoch: Epoch(6), ttl, missing, prefix, limit: 10 });
    let (read, ..) = reads(&effects)[0];
    bed.piece(read, 0);
    bed.hashed(0);
    bed.piece(read, 1);
    let after = bed.states[2];
    let effects = bed.event(Event::Hashed { piece: PieceIndex(1), after, stored: Ok(()), matched: false });
    assert!(said(&effects).contains(&&HostBody::ChainFalse { epoch: Epoch(6) }));
    assert_eq!(bed.download.lease(), None);
    assert_eq!(bed.download.held(), &set(10, [0]));
    assert_eq!(bed.download.chain().state(2), Some(&after), "what it computed it knows");
    // The next lease goes on from there.
    let effects = bed.lease(7, 1..10, 0, 10);
    bed.settle(effects);
    assert!(bed.download.is_complete());
}

#[test]
fn a_prefix_against_what_was_computed_is_refused() {
    let mut bed = up(10);
    let effects = bed.lease(1, 0..10, 0, 4);
    bed.settle(effects);
    let mut prefix = bed.states[..=3].to_vec();
    prefix[2] = forged(10)[2];
    let missing = set(10, 4..10);
    let ttl = super::bed::TTL;
    let effects = bed.hear(SchedulerBody::Lease { epoch: Epoch(6), ttl, missing, prefix, limit: 10 });
    assert_eq!(said(&effects), [&HostBody::ChainFalse { epoch: Epoch(6) }]);
    assert_eq!(bed.download.lease(), None);
}

#[test]
fn an_origin_with_other_bytes_is_found_at_the_digest() {
    for link in [LinkState::Up, LinkState::Down] {
        let mut bed = Bed::new(4, link, Credential::Anonymous);
        let mut effects = bed.read_whole();
        bed.content[PIECE as usize] ^= 1;
        if link == LinkState::Up {
            effects = bed.lease(6, 0..4, 0, 4);
        }
        let effects = bed.settle(effects);
        let why = LeaseFailure::Wrong;
        let returned = HostBody::LeaseReturned { epoch: Epoch(6), why };
        assert_eq!(said(&effects).contains(&&returned), link == LinkState::Up);
        assert_eq!(discarded(&effects), [&set(4, 0..3)]);
        assert_eq!(failures(&effects), [Failure::OriginWrong]);
        assert!(!effects.contains(&Effect::Closed));
        assert_eq!(effects.last(), Some(&Effect::Stop));
    }
}

#[test]
fn alone_a_false_chain_is_left_behind() {
    // The store has a piece and states from a chain that was false.
    let mut bed = up(6);
    let right = std::mem::replace(&mut bed.states, forged(6));
    fetch(&mut bed, 1, 1);
    fetch(&mut bed, 2, 1);
    bed.states = right;
    let effects = bed.event(Event::Link(LinkState::Silent));
    let effects = bed.settle(effects);
    assert!(effects.contains(&Effect::ForgetStates));
    let void: Vec<_> = discarded(&effects).into_iter().flat_map(PieceSet::iter).map(|p| p.0).collect();
    // Piece 3 was hashed from a false state before that was found.
    assert_eq!(void, [1, 2, 3]);
    assert!(bed.download.is_complete());
    assert!(failures(&effects).is_empty());
}

/// A liar's chain leads to the digest by its word alone: its last piece has no bytes. The origin's show that, and then the
/// scheduler hears of it; nobody reads the origin again and again against the same false chain.
#[test]
fn a_false_chain_that_a_read_without_a_lease_contradicts_is_declared_false() {
    let mut bed = up(4);
    let right = bed.states.clone();
    bed.states = forged(4);
    bed.states[4] = right[4];
    for piece in 0..3 {
        fetch(&mut bed, piece, 1);
    }
    let (last, ..) = fetches(&bed.assign(3, 7, 1))[0];
    bed.event(Event::Fetched { fetch: last, outcome: Fetched::Failed(FetchFailure::Corrupt) });
    bed.event(Event::ReaderMoved { reader: ReaderId(1), offset: 3 * u64::from(PIECE) });
    let effects = bed.pass(Duration::from_secs(5));
    assert_eq!(reads(&effects).into_iter().map(|(_, pieces)| pieces).collect::<Vec<_>>(), vec![3..4]);
    let (read, ..) = reads(&effects)[0];
    bed.piece(read, 3);
    // Hashed from the false state before it.
    let event = Event::Hashed { piece: PieceIndex(3), after: right[1], stored: Ok(()), matched: false };
    let effects = bed.event(event);
    assert!(said(&effects).contains(&&HostBody::ChainFalse { epoch: Epoch(1) }));
    for piece in 0..3 {
        assert!(bed.assign(piece, 8, 1).is_empty(), "what the same chain says is not heard any more");
    }
    let effects = bed.settle(effects);
    let read: u32 = reads(&effects).into_iter().map(|(_, pieces)| pieces.end - pieces.start).sum();
    assert_eq!(read, 4, "each piece once");
    assert!(bed.download.is_complete());
}

#[test]
fn a_proven_host_does_not_forget() {
    let mut bed = up(3);
    let effects = bed.lease(1, 0..3, 0, 3);
    bed.settle(effects);
    let effects = bed.hear(SchedulerBody::ChainReset { epoch: Epoch(4) });
    assert_eq!(said(&effects), [&HostBody::Hold { closed: true, pieces: PieceSet::full(3) }]);
    assert!(bed.download.is_complete());
    let effects = bed.hear(SchedulerBody::WantChain { epoch: Epoch(5), boundaries: 0..4 });
    let states = bed.states.clone();
    assert_eq!(said(&effects), [&HostBody::Chain { epoch: Epoch(5), boundary: 0, states, closed: true }]);
    let effects = bed.lease(6, 0..3, 0, 3);
    assert!(matches!(said(&effects)[..], [HostBody::Chain { epoch: Epoch(6), closed: true, .. }]));
}

#[test]
fn pieces_without_their_states_are_void_from_the_start() {
    let mut spec_bed = Bed::new(4, LinkState::Up, Credential::None);
    let key = types::BlobKey {
        digest: types::Digest::sha256(&spec_bed.content),
        size: spec_bed.layout.size(),
        registry: types::Registry::parse("registry.test").unwrap(),
    };
    let spec = download_core::Spec {
        layout: spec_bed.layout,
        held: set(4, [1]),
        chain: types::Chain::new(key.digest, spec_bed.layout).unwrap(),
        credential: Credential::None,
        link: LinkState::Up,
        key,
    };
    spec_bed.download = download_core::Download::new(super::bed::options(), 1, spec);
    let effects = spec_bed.read_whole();
    assert_eq!(effects[0], Effect::Discard { pieces: set(4, [1]) });
    assert!(spec_bed.download.held().is_empty());
    assert_eq!(fetches(&spec_bed.assign(1, 7, 1))[0].1, host(7));
}
