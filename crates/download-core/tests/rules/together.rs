//! With a scheduler: wants, assignments, positions, leaving.

use crate::bed::{Bed, fetches, held, host, said, set};
use download_core::{Effect, Event, Fetched, LinkState, ReaderId};
use std::time::Duration;
use types::{
    Credential, Epoch, FetchFailure, HostBody, PieceFrom, PieceIndex, PieceSet, Priority, SchedulerBody,
    State,
};

fn up(pieces: u32) -> Bed {
    Bed::new(pieces, LinkState::Up, Credential::Anonymous)
}

fn want(held: PieceSet, position: u32, lease: Option<u64>) -> HostBody {
    HostBody::Want {
        held,
        credential: Credential::Anonymous,
        priority: Priority::Waiting,
        position: PieceIndex(position),
        lease: lease.map(Epoch),
    }
}

#[test]
fn wants_with_what_it_holds_and_where_its_reader_stands() {
    let mut bed = Bed::with(10, LinkState::Up, Credential::Anonymous, [0, 1, 5], super::bed::options());
    let effects = bed.read_whole();
    assert_eq!(said(&effects), [&want(set(10, [0, 1, 5]), 2, None)]);
    assert!(super::bed::reads(&effects).is_empty(), "the origin is the scheduler's to give");
}

#[test]
fn an_assignment_is_fetched_stored_and_told() {
    let mut bed = up(4);
    bed.read_whole();
    let effects = bed.assign(1, 7, 1);
    let [(fetch, parent, 1)] = fetches(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(parent, host(7));
    assert!(matches!(effects[0], Effect::LearnStates { boundary: 1, .. }));
    let effects = bed.event(Event::Fetched { fetch, outcome: Fetched::NearlyDone });
    assert_eq!(said(&effects), [&HostBody::NearlyDone { piece: PieceIndex(1) }]);
    let effects = bed.stored(fetch);
    assert_eq!(held(&effects), [1]);
    assert_eq!(
        said(&effects),
        [&HostBody::Verified { piece: PieceIndex(1), from: PieceFrom::Peer(host(7)) }]
    );
    assert!(bed.download.held().contains(PieceIndex(1)));
}

#[test]
fn a_failed_fetch_is_told_with_its_epoch() {
    let mut bed = up(4);
    bed.read_whole();
    for why in [FetchFailure::Busy, FetchFailure::Corrupt, FetchFailure::Stalled, FetchFailure::Local] {
        let effects = bed.assign(1, 7, 3);
        let (fetch, ..) = fetches(&effects)[0];
        let effects = bed.event(Event::Fetched { fetch, outcome: Fetched::Failed(why) });
        let (piece, parent, epoch) = (PieceIndex(1), host(7), Epoch(3));
        assert_eq!(said(&effects), [&HostBody::Failed { piece, parent, epoch, why }]);
    }
}

#[test]
fn more_assignments_than_fetches_are_refused() {
    let mut bed = up(10);
    bed.read_whole();
    for piece in 0..4 {
        assert_eq!(fetches(&bed.assign(piece, 7, 1)).len(), 1);
    }
    let effects = bed.assign(4, 7, 1);
    assert!(matches!(said(&effects)[..], [HostBody::Failed { why: FetchFailure::Local, .. }]), "{effects:?}");
}

#[test]
fn an_assignment_of_what_is_held_or_coming_is_no_work() {
    let mut bed = Bed::with(10, LinkState::Up, Credential::Anonymous, [3], super::bed::options());
    bed.read_whole();
    let effects = bed.assign(3, 7, 1);
    assert!(matches!(said(&effects)[..], [HostBody::Verified { piece: PieceIndex(3), .. }]));
    assert!(fetches(&effects).is_empty());
    let (fetch, ..) = fetches(&bed.assign(4, 7, 1))[0];
    assert!(fetches(&bed.assign(4, 7, 2)).is_empty(), "the same parent again, after a reconnect");
    assert_eq!(fetches(&bed.assign(4, 8, 2)).len(), 1, "a second parent is a hedge");
    let effects = bed.stored(fetch);
    assert!(
        effects.iter().any(|e| matches!(e, Effect::CancelFetch { .. })),
        "the first one wins: {effects:?}"
    );
}

#[test]
fn an_assignment_against_a_computed_state_is_not_fetched() {
    let mut bed = up(10);
    bed.read_whole();
    let effects = bed.lease(1, 0..10, 0, 10);
    bed.settle(effects);
    // The blob is proven now. A new download that computed only its first half:
    let mut bed = up(10);
    bed.read_whole();
    let effects = bed.lease(1, 0..4, 0, 10);
    bed.settle(effects);
    let (after, before) = (bed.states[5], State::Sha256([1; 8]));
    let (piece, parent, epoch) = (PieceIndex(4), host(7), Epoch(2));
    let effects = bed.hear(SchedulerBody::Assign { piece, parent, epoch, before, after });
    assert_eq!(said(&effects), [&HostBody::Failed { piece, parent, epoch, why: FetchFailure::Corrupt }]);
    assert!(fetches(&effects).is_empty());
}

#[test]
fn a_cancelled_fetch_that_was_just_stored_counts() {
    let mut bed = up(4);
    bed.read_whole();
    let (fetch, ..) = fetches(&bed.assign(1, 7, 1))[0];
    let effects = bed.hear(SchedulerBody::Cancel { piece: PieceIndex(1), parent: host(7) });
    assert_eq!(effects, [Effect::CancelFetch { fetch }]);
    assert_eq!(held(&bed.stored(fetch)), [1]);
    let effects = bed.event(Event::Fetched { fetch, outcome: Fetched::Failed(FetchFailure::Local) });
    assert!(said(&effects).is_empty(), "{effects:?}");
}

#[test]
fn positions_are_told_seldom_and_when_blocked() {
    let mut bed = up(10);
    bed.read_whole();
    let effects = bed.pass(Duration::from_millis(199));
    assert!(said(&effects).is_empty());
    let effects = bed.pass(Duration::from_millis(2));
    assert_eq!(said(&effects), [&HostBody::Position { piece: PieceIndex(0), blocked: true }]);
    let (fetch, ..) = fetches(&bed.assign(0, 7, 1))[0];
    let effects = bed.stored(fetch);
    assert!(!said(&effects).iter().any(|body| matches!(body, HostBody::Position { .. })), "too soon");
    let effects = bed.pass(Duration::from_millis(50));
    assert_eq!(said(&effects), [&HostBody::Position { piece: PieceIndex(1), blocked: false }]);
    // The reader has not consumed piece 0, so it is not blocked, however long it takes.
    assert!(said(&bed.pass(Duration::from_secs(1))).is_empty());
    bed.event(Event::ReaderMoved { reader: ReaderId(1), offset: 128 });
    let effects = bed.pass(Duration::from_millis(200));
    assert_eq!(said(&effects), [&HostBody::Position { piece: PieceIndex(1), blocked: true }]);
}

#[test]
fn wants_again_when_the_link_is_back_and_when_the_right_changes() {
    let mut bed = up(10);
    bed.read_whole();
    let (fetch, ..) = fetches(&bed.assign(0, 7, 1))[0];
    assert!(bed.event(Event::Link(LinkState::Down)).is_empty());
    let effects = bed.stored(fetch);
    assert_eq!(held(&effects), [0], "running transfers go on");
    assert!(said(&effects).is_empty(), "nobody hears");
    let effects = bed.event(Event::Link(LinkState::Up));
    assert_eq!(said(&effects), [&want(set(10, [0]), 1, None)]);
    assert!(said(&bed.event(Event::Credential(Credential::Anonymous))).is_empty(), "no news");
    let effects = bed.event(Event::Credential(Credential::Configured));
    assert!(matches!(said(&effects)[..], [HostBody::Want { credential: Credential::Configured, .. }]));
    let client = |secs| Event::Credential(Credential::Client { remaining: Duration::from_secs(secs) });
    assert_eq!(said(&bed.event(client(60))).len(), 1);
    assert_eq!(said(&bed.event(client(70))).len(), 0, "hardly longer");
    assert_eq!(said(&bed.event(client(600))).len(), 1);
}

#[test]
fn closes_when_every_link_was_verified() {
    let mut bed = up(3);
    bed.read_whole();
    let mut effects = Vec::new();
    for piece in [2, 0, 1] {
        assert!(!bed.download.is_complete());
        let (fetch, ..) = fetches(&bed.assign(piece, 7, 1))[0];
        effects = bed.stored(fetch);
    }
    assert!(bed.download.is_complete());
    let hold = HostBody::Hold { closed: true, pieces: set(3, 0..3) };
    assert_eq!(effects[effects.len() - 2..], [Effect::Closed, Effect::Send(hold)]);
    let effects = bed.leave(1);
    assert_eq!(effects, [Effect::Send(HostBody::Leave), Effect::Stop]);
    assert!(bed.tick().is_empty() && bed.download.is_stopped());
}

#[test]
fn a_blob_that_the_store_holds_is_closed_at_once() {
    let mut bed = Bed::with(3, LinkState::Up, Credential::None, 0..3, super::bed::options());
    assert_eq!(bed.read_whole(), [Effect::Closed]);
    assert_eq!(bed.leave(1), [Effect::Stop]);
}

#[test]
fn a_right_that_comes_as_the_lingering_ends_keeps_the_download_for_its_reader() {
    let mut bed = Bed::new(10, LinkState::Up, Credential::None);
    bed.read_whole();
    bed.leave(1);
    bed.pass(Duration::from_millis(29_999));
    bed.now += Duration::from_millis(1);
    let effects = bed.event(Event::Credential(Credential::Anonymous));
    assert!(!effects.contains(&Effect::Stop), "{effects:?}");
    bed.join(2, 0..10);
    assert!(!bed.pass(Duration::from_secs(60)).contains(&Effect::Stop));
}

#[test]
fn lingers_without_readers_then_leaves() {
    let mut bed = up(3);
    bed.read_whole();
    bed.leave(1);
    assert!(bed.pass(Duration::from_secs(29)).is_empty());
    assert!(bed.join(2, 0..10).is_empty(), "a reader that comes back ends the lingering");
    bed.leave(2);
    assert!(bed.pass(Duration::from_secs(29)).is_empty());
    assert_eq!(bed.pass(Duration::from_secs(2)), [Effect::Send(HostBody::Leave), Effect::Stop]);
}

#[test]
fn tells_the_chain_as_far_as_it_is_known() {
    let mut bed = Bed::with(10, LinkState::Up, Credential::None, [2, 3, 7], super::bed::options());
    bed.read_whole();
    let table =
        [(0..11, 0..1), (2..11, 2..5), (1..5, 1..1), (3..4, 3..4), (10..90, 10..11), (20..30, 20..20)];
    for (asked, known) in table {
        let effects = bed.hear(SchedulerBody::WantChain { epoch: Epoch(9), boundaries: asked.clone() });
        let states = known.clone().map(|i: usize| bed.states[i]).collect();
        let boundary = asked.start;
        assert_eq!(said(&effects), [&HostBody::Chain { epoch: Epoch(9), boundary, states, closed: false }]);
    }
}

/// Pieces that have been waited for come together, in no order: one that comes after eight others was not passed over.
#[test]
fn a_reader_whose_piece_comes_with_others_after_a_long_wait_waits_for_it() {
    let mut bed = up(20);
    bed.read_whole();
    for _ in 0..13 {
        assert!(super::bed::reads(&bed.pass(Duration::from_secs(1))).is_empty());
        bed.hear(SchedulerBody::SourceReads);
    }
    for piece in 1..10 {
        let effects = bed.assign(piece, 7, 1);
        let (fetch, ..) = fetches(&effects)[0];
        assert!(super::bed::reads(&bed.stored(fetch)).is_empty(), "after piece {piece}");
    }
    assert!(super::bed::reads(&bed.pass(Duration::from_secs(2))).is_empty(), "it may come too");
    assert!(!super::bed::reads(&bed.pass(Duration::from_secs(3))).is_empty(), "it was passed over");
}
