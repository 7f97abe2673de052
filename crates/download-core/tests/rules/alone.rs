//! Without a scheduler, or without patience: stripes straight from the origin.

use crate::bed::{Bed, failures, fetches, held, options, reads, said};
use download_core::{Effect, Event, Failure, Fetched, LinkState, Options, ReadId, ReaderId};
use std::time::Duration;
use types::{BlobFailure, Credential, Epoch, HostBody, LeaseFailure, PieceFrom, SchedulerBody};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn a_download_that_begins_without_a_link_does_not_wait() {
    for link in [LinkState::Down, LinkState::Silent] {
        let mut bed = Bed::new(20, link, Credential::Anonymous);
        let effects = bed.read_whole();
        assert_eq!(reads(&effects), [(ReadId(0), 0..2), (ReadId(1), 2..4), (ReadId(2), 4..6)]);
        let effects = bed.settle(effects);
        assert_eq!(held(&effects), (0..20).collect::<Vec<_>>());
        assert!(said(&effects).is_empty());
        assert!(effects.contains(&Effect::Closed));
    }
}

#[test]
fn a_lost_link_is_given_one_patience_and_a_silent_one_none() {
    let mut bed = Bed::new(20, LinkState::Up, Credential::Anonymous);
    bed.read_whole();
    bed.event(Event::Link(LinkState::Down));
    assert!(reads(&bed.pass(Duration::from_millis(2_300))).is_empty());
    assert!(!reads(&bed.pass(Duration::from_millis(1_400))).is_empty());
    let mut bed = Bed::new(20, LinkState::Up, Credential::Anonymous);
    bed.read_whole();
    assert!(!reads(&bed.event(Event::Link(LinkState::Silent))).is_empty());
}

#[test]
fn without_a_right_alone_readers_are_denied() {
    let mut bed = Bed::new(20, LinkState::Down, Credential::None);
    let effects = bed.read_whole();
    assert_eq!(failures(&effects), [Failure::Denied]);
    assert_eq!(effects.last(), Some(&Effect::Stop));
    // While a transfer runs, there is hope.
    let mut bed = Bed::new(20, LinkState::Up, Credential::None);
    bed.read_whole();
    let (fetch, ..) = fetches(&bed.assign(0, 7, 1))[0];
    assert!(failures(&bed.event(Event::Link(LinkState::Silent))).is_empty());
    assert!(failures(&bed.stored(fetch)).is_empty(), "it has a piece to read");
    let effects = bed.event(Event::ReaderMoved { reader: ReaderId(1), offset: 128 });
    assert_eq!(failures(&effects), [Failure::Denied]);
}

#[test]
fn a_reader_that_hears_that_the_source_gets_on_has_more_patience_but_not_without_end() {
    let mut bed = Bed::new(20, LinkState::Up, Credential::Anonymous);
    bed.read_whole();
    let mut waited = Duration::ZERO;
    while reads(&bed.pass(secs(1))).is_empty() {
        waited += secs(1);
        bed.hear(SchedulerBody::SourceReads);
        assert!(waited < secs(60));
    }
    assert!(waited > secs(8), "four times the patience: {waited:?}");
}

#[test]
fn a_reader_loses_patience_and_gets_one_stripe_after_the_other() {
    let mut bed = Bed::new(20, LinkState::Up, Credential::Anonymous);
    bed.read_whole();
    assert!(reads(&bed.pass(Duration::from_millis(2_399))).is_empty());
    let effects = bed.pass(Duration::from_millis(1_202));
    assert_eq!(reads(&effects), [(ReadId(0), 0..2)]);
    bed.piece(ReadId(0), 0);
    let effects = bed.hashed(0);
    let fallback = HostBody::Verified { piece: types::PieceIndex(0), from: PieceFrom::Fallback };
    assert_eq!(said(&effects)[0], &fallback, "without a lease the chain is not told");
    bed.piece(ReadId(0), 1);
    bed.ended(ReadId(0), Ok(()));
    let effects = bed.hashed(1);
    assert!(reads(&effects).is_empty(), "the reader has something to read");
    let effects = bed.event(Event::ReaderMoved { reader: ReaderId(1), offset: 256 });
    assert_eq!(reads(&effects), [(ReadId(1), 2..4)], "it need not wait again");
    bed.piece(ReadId(1), 2);
    bed.piece(ReadId(1), 3);
    bed.ended(ReadId(1), Ok(()));
    bed.hashed(2);
    bed.hashed(3);
    // A peer delivers: patience begins anew.
    let (fetch, ..) = fetches(&bed.assign(10, 7, 1))[0];
    bed.stored(fetch);
    let effects = bed.event(Event::ReaderMoved { reader: ReaderId(1), offset: 512 });
    assert!(reads(&effects).is_empty());
    assert!(reads(&bed.pass(Duration::from_millis(2_399))).is_empty());
    assert_eq!(reads(&bed.pass(Duration::from_millis(1_202))), [(ReadId(2), 4..6)]);
}

#[test]
fn a_reader_that_is_stuck_while_others_move_is_helped_in_the_end() {
    let mut bed = Bed::new(20, LinkState::Up, Credential::Anonymous);
    bed.read_whole();
    let mut effects = Vec::new();
    for piece in 1..16 {
        let (fetch, ..) = fetches(&bed.assign(piece, 7, 1))[0];
        effects.extend(bed.pass(secs(1)));
        effects.extend(bed.stored(fetch));
        if piece < 9 {
            assert!(reads(&effects).is_empty(), "others move, after {piece} s");
        }
    }
    assert_eq!(reads(&effects), [(ReadId(0), 0..1)]);
}

#[test]
fn a_reader_that_is_stuck_where_pieces_come_slowly_has_more_patience_but_not_without_end() {
    let mut bed = Bed::new(40, LinkState::Up, Credential::Anonymous);
    bed.read_whole();
    let mut effects = Vec::new();
    // A piece in ten seconds, over a link that is never idle.
    for piece in 1..7 {
        let (fetch, ..) = fetches(&bed.assign(piece, 7, 1))[0];
        for _ in 0..10 {
            effects.extend(bed.pass(secs(1)));
            effects.extend(bed.event(Event::HostMoved { at: bed.now }));
        }
        effects.extend(bed.stored(fetch));
        assert!(piece > 3 || reads(&effects).is_empty(), "it was not passed over, after {piece} pieces");
    }
    assert_eq!(reads(&effects)[0].1, 0..1);
}

#[test]
fn a_blob_whose_turn_has_not_come_is_waited_for_while_others_move() {
    let mut bed = Bed::new(20, LinkState::Up, Credential::Anonymous);
    bed.read_whole();
    for second in 1..9 {
        let mut effects = bed.pass(secs(1));
        effects.extend(bed.event(Event::HostMoved { at: bed.now }));
        assert!(reads(&effects).is_empty(), "others move, after {second} s");
    }
    assert!(reads(&bed.pass(Duration::from_millis(1_500))).is_empty());
    assert_eq!(reads(&bed.pass(Duration::from_millis(2_200))), [(ReadId(0), 0..2)], "all have stopped");
    // However much the others move, in the end it is helped.
    let mut bed = Bed::new(20, LinkState::Up, Credential::Anonymous);
    bed.read_whole();
    let mut effects = Vec::new();
    for second in 1..60 {
        effects.extend(bed.pass(secs(1)));
        effects.extend(bed.event(Event::HostMoved { at: bed.now }));
        assert!(second > 30 || reads(&effects).is_empty(), "its turn has not come, after {second} s");
    }
    assert_eq!(reads(&effects), [(ReadId(0), 0..2)]);
}

#[test]
fn no_eligible_host_means_alone_or_denied() {
    let mut bed = Bed::new(20, LinkState::Up, Credential::Configured);
    bed.read_whole();
    let effects = bed.hear(SchedulerBody::Failed { why: BlobFailure::NoEligibleHost });
    assert_eq!(reads(&effects).len(), 3);
    let mut bed = Bed::new(20, LinkState::Up, Credential::None);
    bed.read_whole();
    let effects = bed.hear(SchedulerBody::Failed { why: BlobFailure::NoEligibleHost });
    assert_eq!(failures(&effects), [Failure::Denied]);
}

#[test]
fn the_schedulers_verdicts_reach_the_readers() {
    let client = Credential::Client { remaining: secs(60) };
    let table = [
        (BlobFailure::NotFound, Credential::Anonymous, Some(Failure::NotFound)),
        (BlobFailure::NotFound, client, None),
        (BlobFailure::OriginWrong, client, Some(Failure::OriginWrong)),
        (BlobFailure::BadKey, client, Some(Failure::BadKey)),
    ];
    for (why, credential, failure) in table {
        let mut bed = Bed::new(20, LinkState::Up, credential);
        bed.read_whole();
        let effects = bed.hear(SchedulerBody::Failed { why });
        assert_eq!(failures(&effects), failure.clone().into_iter().collect::<Vec<_>>());
        assert_eq!(reads(&effects).is_empty(), failure.is_some(), "a client may see more than others");
    }
}

#[test]
fn a_failing_origin_is_tried_again_for_a_bounded_time() {
    let mut bed = Bed::new(4, LinkState::Down, Credential::Anonymous);
    let mut effects = bed.read_whole();
    let mut tries = 0;
    let began = bed.now;
    while failures(&effects).is_empty() {
        for (read, _) in reads(&effects) {
            tries += 1;
            bed.ended(read, Err(LeaseFailure::Throttled));
        }
        let deadline = bed.download.next_deadline().expect("it goes on or gives up");
        effects = bed.pass(deadline.since(bed.now));
    }
    assert_eq!(failures(&effects), [Failure::Origin(LeaseFailure::Throttled)]);
    assert!(bed.now.since(began) >= secs(20) && bed.now.since(began) < secs(21));
    assert!((7..30).contains(&tries), "{tries} tries");
}

#[test]
fn a_failing_origin_that_recovers_is_forgiven() {
    let mut bed = Bed::new(4, LinkState::Down, Credential::Anonymous);
    let effects = bed.read_whole();
    for (read, _) in reads(&effects) {
        bed.ended(read, Err(LeaseFailure::Unreachable));
    }
    let effects = bed.pass(secs(1));
    let effects = bed.settle(effects);
    assert_eq!(held(&effects), [0, 1, 2, 3]);
    assert!(effects.contains(&Effect::Closed));
}

#[test]
fn alone_the_origins_refusal_is_the_readers() {
    let table = [
        (LeaseFailure::Refused, Failure::Denied),
        (LeaseFailure::NotFound, Failure::NotFound),
        (LeaseFailure::Wrong, Failure::OriginWrong),
        (LeaseFailure::Local, Failure::Store),
    ];
    for (why, failure) in table {
        let mut bed = Bed::new(2, LinkState::Down, Credential::Anonymous);
        let effects = bed.read_whole();
        let effects = bed.ended(reads(&effects)[0].0, Err(why));
        assert_eq!(failures(&effects), [failure]);
        assert_eq!(effects.last(), Some(&Effect::Stop));
    }
}

#[test]
fn with_a_scheduler_but_no_right_hope_ends_after_a_while() {
    let mut bed = Bed::new(20, LinkState::Up, Credential::None);
    bed.read_whole();
    assert!(failures(&bed.pass(secs(19))).is_empty());
    assert_eq!(failures(&bed.pass(secs(2))), [Failure::Denied]);
}

#[test]
fn nobody_reads_alone_for_nobody() {
    let mut bed = Bed::new(20, LinkState::Down, Credential::Anonymous);
    let effects = bed.read_whole();
    bed.leave(1);
    for (read, pieces) in reads(&effects) {
        for piece in pieces {
            bed.piece(read, piece);
        }
        assert!(reads(&bed.ended(read, Ok(()))).is_empty());
    }
    for piece in 0..6 {
        assert!(reads(&bed.hashed(piece)).is_empty());
    }
    assert_eq!(bed.pass(secs(31)), [Effect::Stop]);
}

/// When the reader of a download of this seed turns to the origin, in a crowd in which nothing comes.
fn patience_in_a_crowd(crowd: u32, seed: u64) -> Duration {
    let mut bed =
        Bed::seeded(20, LinkState::Up, Credential::Anonymous, [], Options { crowd, ..options() }, seed);
    bed.read_whole();
    let start = bed.now;
    for _ in 0..100 {
        if !reads(&bed.pass(Duration::from_millis(100))).is_empty() {
            return bed.now.since(start);
        }
    }
    panic!("nothing is read");
}

#[test]
fn of_a_crowd_few_lose_their_patience_first_and_all_in_the_end() {
    for crowd in [1, 10, 100, 1000] {
        let mut times: Vec<_> = (0..u64::from(crowd)).map(|seed| patience_in_a_crowd(crowd, seed)).collect();
        times.sort_unstable();
        // A patience is 3 s, give or take a fifth.
        let (first, last) = (times[0], times[times.len() - 1]);
        assert!(
            first >= Duration::from_millis(2_400) && last <= Duration::from_millis(6_700),
            "{first:?}, {last:?}"
        );
        let soon = times.iter().filter(|time| **time < first + Duration::from_millis(500)).count();
        assert!(soon <= 16, "{soon} of {crowd} turn to the origin at once");
    }
}

#[test]
fn what_came_counts_before_the_time_that_ran_out() {
    // Denied for good, if the clock spoke first.
    let mut bed = Bed::new(20, LinkState::Up, Credential::None);
    bed.read_whole();
    let fetch = fetches(&bed.assign(5, 7, 1))[0].0;
    bed.now += secs(60);
    let effects = bed.events([
        Event::ReaderMoved { reader: ReaderId(1), offset: 0 },
        Event::Fetched { fetch, outcome: Fetched::Stored },
    ]);
    assert_eq!((failures(&effects), held(&effects)), (vec![], vec![5]));
    // And a lease is its holder's if the scheduler says so again.
    for confirmed in [true, false] {
        let mut bed = Bed::new(20, LinkState::Up, Credential::Anonymous);
        bed.read_whole();
        bed.lease(1, 0..20, 0, 20);
        bed.event(Event::Link(LinkState::Up));
        bed.now += secs(60);
        let limit = SchedulerBody::LeaseLimit { epoch: Epoch(1), limit: 20 };
        let told = if confirmed { Event::Message(limit) } else { Event::HostMoved { at: bed.now } };
        bed.events([Event::HostMoved { at: bed.now }, told]);
        assert_eq!(bed.download.lease().is_some(), confirmed);
    }
}

/// A client that reads part by part leaves and comes again; that there is no source is not to be found out each time.
#[test]
fn a_client_that_comes_again_does_not_wait_once_more_for_a_source_that_is_not_there() {
    let piece = u64::from(crate::bed::PIECE);
    let mut bed = Bed::new(8, LinkState::Up, Credential::Anonymous);
    bed.join(1, 0..piece);
    let effects = bed.hear(SchedulerBody::Failed { why: BlobFailure::NoEligibleHost });
    for (read, pieces) in reads(&effects) {
        for piece in pieces {
            bed.piece(read, piece);
            bed.hashed(piece);
        }
        bed.ended(read, Ok(()));
    }
    bed.leave(1);
    let end = bed.layout.size();
    assert!(!reads(&bed.join(2, 4 * piece..end)).is_empty(), "it knows already");
}
