//! As the source: stripes, window, limit, hashing in order, giving the lease back.

use crate::bed::{Bed, failures, held, reads, said, set};
use download_core::{Effect, Event, Failure, LinkState, ReadId, StoreFailed};
use std::time::Duration;
use types::{Credential, Epoch, HostBody, LeaseFailure, PieceFrom, PieceIndex, SchedulerBody};

fn up(pieces: u32) -> Bed {
    let mut bed = Bed::new(pieces, LinkState::Up, Credential::Anonymous);
    bed.read_whole();
    bed
}

#[test]
fn reads_in_stripes_within_the_streams() {
    let mut bed = up(16);
    let effects = bed.lease(1, 0..16, 0, 16);
    assert_eq!(reads(&effects), [(ReadId(0), 0..2), (ReadId(1), 2..4), (ReadId(2), 4..6)]);
}

/// The window has eight pieces: a blob of more than sixteen is begun with short requests.
#[test]
fn the_first_requests_for_a_large_blob_are_short() {
    let mut bed = up(17);
    let effects = bed.lease(1, 0..17, 0, 17);
    assert_eq!(reads(&effects), [(ReadId(0), 0..1), (ReadId(1), 1..2), (ReadId(2), 2..3)]);
    for (id, pieces) in reads(&effects) {
        bed.piece(id, pieces.start);
    }
    let next: Vec<_> = (0..3).flat_map(|read| reads(&bed.ended(ReadId(read), Ok(())))).collect();
    assert_eq!(next, [(ReadId(3), 3..4), (ReadId(4), 4..6), (ReadId(5), 6..8)]);
}

#[test]
fn never_asks_for_more_than_the_window() {
    let mut bed = up(16);
    let effects = bed.lease(1, 0..16, 0, 16);
    let (first, ..) = reads(&effects)[0];
    // The later stripes come first: nothing can be hashed, and the window fills up.
    let mut read = reads(&effects)[1..].to_vec();
    let mut asked = 6;
    while let Some((id, pieces)) = read.pop() {
        for piece in pieces {
            bed.piece(id, piece);
        }
        for (id, pieces) in reads(&bed.ended(id, Ok(()))) {
            asked += pieces.len();
            read.push((id, pieces));
        }
    }
    assert_eq!(asked, 8);
    let effects = bed.piece(first, 0);
    assert!(matches!(effects[..], [Effect::Hash { piece: PieceIndex(0), expect: None, .. }]));
}

#[test]
fn hashes_in_order_and_tells_each_state_before_its_piece() {
    let mut bed = up(16);
    let effects = bed.lease(4, 0..16, 0, 16);
    let (first, second) = (reads(&effects)[0].0, reads(&effects)[1].0);
    assert!(bed.piece(second, 2).is_empty(), "the state before it is not known");
    bed.piece(first, 0);
    let effects = bed.hashed(0);
    let states = vec![bed.states[1]];
    let chain = HostBody::Chain { epoch: Epoch(4), boundary: 1, states: states.clone(), closed: false };
    let verified = HostBody::Verified { piece: PieceIndex(0), from: PieceFrom::Origin };
    assert_eq!(said(&effects), [&chain, &verified]);
    assert!(effects.contains(&Effect::LearnStates { boundary: 1, states }));
    assert_eq!(held(&effects), [0]);
    bed.piece(first, 1);
    let effects = bed.hashed(1);
    assert!(matches!(effects.last(), Some(Effect::Hash { piece: PieceIndex(2), .. })), "{effects:?}");
}

#[test]
fn a_whole_lease_ends_in_a_closed_chain() {
    let mut bed = up(16);
    let effects = bed.lease(1, 0..16, 0, 16);
    let effects = bed.settle(effects);
    assert_eq!(held(&effects), (0..16).collect::<Vec<_>>());
    let last = vec![bed.states[16]];
    let closed = HostBody::Chain { epoch: Epoch(1), boundary: 16, states: last, closed: true };
    let hold = HostBody::Hold { closed: true, pieces: set(16, 0..16) };
    assert_eq!(effects[effects.len() - 3..], [Effect::Closed, Effect::Send(closed), Effect::Send(hold)]);
    assert_eq!(bed.download.lease(), None);
    assert_eq!(reads(&effects).iter().map(|(_, pieces)| pieces.len()).sum::<usize>(), 16, "each piece once");
}

#[test]
fn the_limit_holds_and_rises() {
    let mut bed = up(16);
    let effects = bed.lease(1, 0..16, 0, 3);
    assert_eq!(reads(&effects), [(ReadId(0), 0..2), (ReadId(1), 2..3)]);
    let effects = bed.settle(effects);
    assert_eq!(held(&effects), [0, 1, 2]);
    let effects = bed.hear(SchedulerBody::LeaseLimit { epoch: Epoch(7), limit: 16 });
    assert!(reads(&effects).is_empty(), "another lease's limit");
    let effects = bed.hear(SchedulerBody::LeaseLimit { epoch: Epoch(1), limit: 5 });
    assert_eq!(reads(&effects), [(ReadId(2), 3..5)]);
    let effects = bed.hear(SchedulerBody::LeaseLimit { epoch: Epoch(1), limit: 4 });
    assert!(reads(&effects).is_empty(), "what was asked for before comes");
    let effects = bed.hear(SchedulerBody::LeaseLimit { epoch: Epoch(1), limit: 5 });
    assert!(reads(&effects).is_empty(), "and is not asked for again");
}

#[test]
fn a_source_whose_origin_is_slow_says_that_bytes_come() {
    let mut bed = up(16);
    let effects = bed.lease(3, 0..16, 0, 16);
    let (read, ..) = reads(&effects)[0];
    let alive = HostBody::LeaseAlive { epoch: Epoch(3) };
    assert_eq!(said(&bed.event(Event::OriginMoved { read })), [&alive]);
    bed.pass(Duration::from_millis(999));
    assert!(said(&bed.event(Event::OriginMoved { read })).is_empty(), "once a second is enough");
    bed.pass(Duration::from_millis(1));
    assert_eq!(said(&bed.event(Event::OriginMoved { read })), [&alive]);
    assert!(said(&bed.event(Event::OriginMoved { read: ReadId(99) })).is_empty());
    // Its own reader has patience as long as they come.
    for _ in 0..16 {
        assert!(reads(&bed.pass(Duration::from_millis(500))).is_empty());
        bed.event(Event::OriginMoved { read });
    }
}

#[test]
fn a_successor_reads_only_what_nobody_holds() {
    let mut bed = Bed::with(10, LinkState::Up, Credential::Anonymous, [6], super::bed::options());
    bed.read_whole();
    let missing = set(10, [4, 5, 6, 8]);
    let prefix = bed.states[..=4].to_vec();
    let effects =
        bed.hear(SchedulerBody::Lease { epoch: Epoch(2), ttl: super::bed::TTL, missing, prefix, limit: 10 });
    assert_eq!(reads(&effects), [(ReadId(0), 4..6), (ReadId(1), 8..9)]);
    let effects = bed.settle(effects);
    // Piece 8 waits for the state that comes with piece 7.
    assert_eq!(held(&effects), [4, 5]);
    let effects = bed.assign(7, 9, 2);
    assert_eq!(super::bed::fetches(&effects).len(), 1);
    let effects = bed.settle(effects);
    assert_eq!(held(&effects), [8]);
}

#[test]
fn a_source_from_before_goes_on_and_tells_what_the_scheduler_lost() {
    let mut bed = up(16);
    let effects = bed.lease(1, 0..16, 0, 6);
    bed.settle(effects);
    bed.event(Event::Link(LinkState::Down));
    let effects = bed.event(Event::Link(LinkState::Up));
    assert!(matches!(said(&effects)[..], [HostBody::Want { lease: Some(Epoch(1)), .. }]), "{effects:?}");
    // A restarted scheduler counts anew, and knows nothing of the chain.
    let effects = bed.lease(1, 6..16, 0, 16);
    let states = bed.states[1..=6].to_vec();
    assert_eq!(said(&effects), [&HostBody::Chain { epoch: Epoch(1), boundary: 1, states, closed: false }]);
    assert_eq!(reads(&effects)[0].1, 6..8);
}

#[test]
fn a_lease_that_nobody_confirms_after_a_reconnect_lapses() {
    let mut bed = up(16);
    bed.lease(1, 0..16, 0, 6);
    bed.event(Event::Link(LinkState::Up));
    assert_eq!(bed.download.lease(), Some(Epoch(1)));
    let effects = bed.pass(Duration::from_millis(3001));
    assert_eq!(effects.iter().filter(|e| matches!(e, Effect::CancelRead { .. })).count(), 3, "{effects:?}");
    assert_eq!(bed.download.lease(), None);
}

#[test]
fn a_revoked_lease_reads_no_more_and_keeps_what_is_verified() {
    let mut bed = up(16);
    let effects = bed.lease(1, 0..16, 0, 16);
    let read = reads(&effects);
    bed.piece(read[0].0, 0);
    bed.piece(read[1].0, 2);
    let effects = bed.hear(SchedulerBody::Revoke { epoch: Epoch(1) });
    assert_eq!(effects.iter().filter(|e| matches!(e, Effect::CancelRead { .. })).count(), 3);
    assert!(effects.contains(&Effect::DropBytes { piece: PieceIndex(2) }));
    let effects = bed.hashed(0);
    let verified = HostBody::Verified { piece: PieceIndex(0), from: PieceFrom::Origin };
    assert_eq!(said(&effects), [&verified], "news of a piece, but no right to say more");
    assert_eq!(bed.piece(read[2].0, 4), [Effect::DropBytes { piece: PieceIndex(4) }]);
}

#[test]
fn an_older_lease_changes_nothing() {
    let mut bed = up(16);
    bed.lease(5, 0..16, 0, 2);
    assert!(bed.lease(4, 0..16, 0, 16).is_empty());
    assert!(bed.hear(SchedulerBody::Revoke { epoch: Epoch(4) }).is_empty());
    assert_eq!(bed.download.lease(), Some(Epoch(5)));
}

#[test]
fn the_origins_refusals_give_the_lease_back() {
    let table = [
        (LeaseFailure::Refused, LeaseFailure::Refused, None),
        (LeaseFailure::CredentialEnds, LeaseFailure::CredentialEnds, None),
        (LeaseFailure::NotFound, LeaseFailure::NotFound, None),
        (LeaseFailure::Throttled, LeaseFailure::Throttled, None),
        (LeaseFailure::Unreachable, LeaseFailure::Unreachable, None),
        (LeaseFailure::Wrong, LeaseFailure::Wrong, Some(Failure::OriginWrong)),
        (LeaseFailure::Local, LeaseFailure::Local, Some(Failure::Store)),
    ];
    for (origin, why, failure) in table {
        let mut bed = up(16);
        let effects = bed.lease(3, 0..16, 0, 16);
        let (read, ..) = reads(&effects)[0];
        let effects = bed.ended(read, Err(origin));
        assert_eq!(said(&effects)[0], &HostBody::LeaseReturned { epoch: Epoch(3), why });
        assert_eq!(failures(&effects), failure.clone().into_iter().collect::<Vec<_>>());
        assert_eq!(bed.download.is_stopped(), failure.is_some());
    }
    let mut bed = up(16);
    let effects = bed.lease(3, 0..16, 0, 16);
    let effects = bed.ended(reads(&effects)[0].0, Ok(()));
    let why = LeaseFailure::Unreachable;
    assert_eq!(said(&effects)[0], &HostBody::LeaseReturned { epoch: Epoch(3), why }, "it ended early");
}

#[test]
fn without_a_right_there_is_no_lease() {
    let mut bed = Bed::new(4, LinkState::Up, Credential::None);
    bed.read_whole();
    let effects = bed.lease(3, 0..4, 0, 4);
    assert_eq!(said(&effects), [&HostBody::LeaseReturned { epoch: Epoch(3), why: LeaseFailure::Refused }]);
    let mut bed = up(4);
    bed.lease(3, 0..4, 0, 4);
    let effects = bed.event(Event::Credential(Credential::None));
    let why = LeaseFailure::CredentialEnds;
    assert_eq!(said(&effects)[0], &HostBody::LeaseReturned { epoch: Epoch(3), why });
}

#[test]
fn a_full_disk_gives_the_lease_back_and_fails_the_readers() {
    let mut bed = up(16);
    let effects = bed.lease(3, 0..16, 0, 16);
    bed.piece(reads(&effects)[0].0, 0);
    let after = bed.states[1];
    let event = Event::Hashed { piece: PieceIndex(0), after, stored: Err(StoreFailed), matched: true };
    let effects = bed.event(event);
    assert_eq!(said(&effects)[0], &HostBody::LeaseReturned { epoch: Epoch(3), why: LeaseFailure::Local });
    assert_eq!(failures(&effects), [Failure::Store]);
    assert_eq!(effects.last(), Some(&Effect::Stop));
}

#[test]
fn a_source_without_readers_lingers_then_returns_the_lease() {
    let mut bed = up(16);
    bed.lease(3, 0..16, 0, 2);
    bed.leave(1);
    let effects = bed.pass(Duration::from_secs(31));
    let returned = HostBody::LeaseReturned { epoch: Epoch(3), why: LeaseFailure::NoReader };
    assert_eq!(said(&effects), [&returned, &HostBody::Leave]);
    assert_eq!(effects.last(), Some(&Effect::Stop));
}

#[test]
fn what_a_peer_brought_is_not_read_or_hashed() {
    let mut bed = up(16);
    let effects = bed.lease(1, 0..16, 0, 16);
    let read = reads(&effects);
    bed.piece(read[1].0, 2);
    let effects = bed.assign(2, 9, 1);
    assert!(matches!(effects.last(), Some(Effect::Hash { piece: PieceIndex(2), .. })), "{effects:?}");
    assert!(super::bed::fetches(&effects).is_empty(), "its bytes are here");
    let (fetch, ..) = super::bed::fetches(&bed.assign(3, 9, 1))[0];
    let effects = bed.stored(fetch);
    assert!(effects.contains(&Effect::CancelRead { read: read[1].0 }), "{effects:?}");
    let (fetch, ..) = super::bed::fetches(&bed.assign(4, 9, 1))[0];
    bed.stored(fetch);
    assert_eq!(bed.piece(read[2].0, 4), [Effect::DropBytes { piece: PieceIndex(4) }]);
}
