//! The origin lease, rule by rule: who gets it, what it says, how it ends, who comes next.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Blob, Script, assigns_in, host, lease_in, limits, options, revoked, set, spec};
use scheduler_core::Options;
use std::time::Duration;
use types::{
    BlobFailure, Credential, Epoch, FetchFailure, HostBody, HostSpec, LeaseFailure, PieceFrom, PieceIndex,
    Priority, SchedulerBody,
};

/// A blob, and hosts 0 to `hosts` - 1 that joined; the first wants it and is the source.
fn source_of(pieces: u32, hosts: u64) -> (Script, Blob, Epoch) {
    let (mut s, blob) = (Script::new(options()), Blob::new(pieces, 1));
    for n in 0..hosts {
        s.join(host(n));
    }
    let told = s.want(host(0), &blob.key(), blob.none());
    let (who, epoch, ..) = lease_in(&told).unwrap();
    assert_eq!(who, host(0));
    (s, blob, epoch)
}

fn failures(told: &common::Told) -> Vec<(types::HostId, BlobFailure)> {
    told.iter()
        .filter_map(|(host, body)| match body {
            SchedulerBody::Failed { why } => Some((*host, why.clone())),
            _ => None,
        })
        .collect()
}

#[test]
fn the_first_that_wants_a_blob_reads_it_and_the_second_does_not() {
    let (mut s, blob, _) = source_of(10, 2);
    let told = s.want(host(1), &blob.key(), blob.none());
    assert!(lease_in(&told).is_none(), "{told:?}");
    assert_eq!(s.scheduler.summary().blobs[0].source.unwrap().0, host(0));
}

#[test]
fn a_lease_says_what_nobody_holds_and_the_states_so_far() {
    let (mut s, blob) = (Script::new(options()), Blob::new(10, 1));
    s.join(host(0));
    s.join(host(1));
    s.hold(host(1), &blob.key(), set(10, [0, 1, 2]), false);
    // The holder is asked for the states that belong to its pieces before anything is read.
    let told = s.want(host(0), &blob.key(), blob.none());
    let [(asked, SchedulerBody::WantChain { epoch, boundaries })] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!((*asked, boundaries.clone()), (host(1), 1..4));
    let states = blob.states[1..4].to_vec();
    let told =
        s.say(host(1), &blob.key(), HostBody::Chain { epoch: *epoch, boundary: 1, states, closed: false });
    let (who, _, missing, prefix, _) = lease_in(&told).unwrap();
    assert_eq!((who, missing, prefix), (host(0), set(10, 3..10), 4));
    assert_eq!(assigns_in(&told).len(), 2, "and what is held goes out: {told:?}");
}

#[test]
fn states_that_nobody_can_tell_make_the_piece_missing() {
    let (mut s, blob) = (Script::new(options()), Blob::new(10, 1));
    s.join(host(0));
    s.join(host(1));
    s.hold(host(1), &blob.key(), set(10, [4, 5]), false);
    assert!(lease_in(&s.want(host(0), &blob.key(), blob.none())).is_none());
    let told = s.wait(Duration::from_secs(1));
    assert_eq!(lease_in(&told).unwrap().2, blob.all());
}

#[test]
fn no_lease_in_the_quiet_period() {
    let mut s = Script::new(Options { quiet_period: Duration::from_secs(1), ..options() });
    let blob = Blob::new(10, 1);
    assert_eq!(s.scheduler.next_deadline(), Some(types::Timestamp::ZERO));
    s.join(host(0));
    assert!(s.want(host(0), &blob.key(), blob.none()).is_empty());
    assert!(s.wait(Duration::from_millis(900)).is_empty());
    assert!(lease_in(&s.wait(Duration::from_millis(200))).is_some());
}

#[test]
fn fast_hosts_are_preferred_and_then_those_with_few_leases() {
    let mut s = Script::new(Options { quiet_period: Duration::from_secs(1), ..options() });
    let fast = HostSpec { upload_rate: 1 << 30, download_rate: 1 << 30, ..spec() };
    for n in 0..6 {
        let slow = HostSpec { upload_rate: 1 << 20, download_rate: 1 << 20, ..spec() };
        s.join_as(host(n), if n < 4 { slow } else { fast.clone() });
    }
    let blobs: Vec<Blob> = (0..4).map(|n| Blob::new(10, n)).collect();
    for blob in &blobs {
        (0..6).for_each(|n| drop(s.want(host(n), &blob.key(), blob.none())));
    }
    s.wait(Duration::from_secs(2));
    let summary = s.scheduler.summary();
    let leases = |n: u64| summary.hosts.iter().find(|h| h.host == host(n)).unwrap().leases;
    assert_eq!((leases(4), leases(5)), (2, 2), "{summary:?}");
}

#[test]
fn the_layers_of_an_image_go_to_different_hosts() {
    let (mut s, _, _) = source_of(10, 3);
    let (second, third) = (Blob::new(10, 2), Blob::new(10, 3));
    for blob in [&second, &third] {
        assert!(lease_in(&s.want(host(0), &blob.key(), blob.none())).is_none(), "it reads another");
    }
    s.wait(Duration::from_millis(100));
    let told = s.want(host(1), &second.key(), second.none());
    assert_eq!(lease_in(&told).unwrap().0, host(1), "at once");
    // Nobody else comes for the third.
    assert_eq!(lease_in(&s.wait(Duration::from_millis(100))).unwrap().0, host(0));
    // Where there is nobody else, there is nothing to wait for.
    let (mut s, _, _) = source_of(10, 1);
    assert!(lease_in(&s.want(host(0), &second.key(), second.none())).is_some());
}

#[test]
fn a_source_of_several_blobs_has_more_time_for_each() {
    let (mut s, blob, epoch) = source_of(40, 2);
    s.want(host(1), &blob.key(), blob.none());
    let other = Blob::new(40, 2);
    s.want(host(0), &other.key(), other.none());
    let told = s.wait(Duration::from_millis(200));
    assert_eq!(lease_in(&told).unwrap().0, host(0));
    assert!(revoked(&s.wait(Duration::from_millis(5_700))).is_empty());
    assert_eq!(revoked(&s.wait(Duration::from_millis(200))), [(host(0), epoch)]);
}

#[test]
fn a_source_is_bounded_while_others_want_and_goes_on_as_they_follow() {
    let (mut s, blob, epoch) = source_of(100, 2);
    s.want(host(1), &blob.key(), blob.none());
    // Alone it was given 16 pieces; with another behind it that is not withdrawn, nor more given.
    let mut given = 16;
    for piece in 0..16 {
        let told = s.read(host(0), &blob, epoch, piece);
        given = limits(&told).into_iter().max().unwrap_or(given);
    }
    assert_eq!(given, 16, "eight ahead of the other");
    for piece in 0..16 {
        let told = s.verified(host(1), &blob.key(), piece, PieceFrom::Peer(host(0)));
        given = limits(&told).into_iter().max().unwrap_or(given);
    }
    assert!((20..=24).contains(&given), "{given}");
}

#[test]
fn what_was_read_alone_does_not_hold_a_source_up() {
    let (mut s, blob, epoch) = source_of(100, 2);
    let mut given = 16;
    for piece in 0..50 {
        assert!(piece < given, "alone it can always read on");
        let told = s.read(host(0), &blob, epoch, piece);
        given = limits(&told).into_iter().max().unwrap_or(given);
    }
    s.want(host(1), &blob.key(), blob.none());
    for piece in 50..54 {
        let told = s.read(host(0), &blob, epoch, piece);
        given = limits(&told).into_iter().max().unwrap_or(given);
    }
    assert!(given > 54, "{given}");
}

#[test]
fn a_source_that_nobody_follows_reads_on_slowly() {
    let (mut s, blob, epoch) = source_of(100, 2);
    s.want(host(1), &blob.key(), blob.none());
    (0..16).for_each(|piece| drop(s.read(host(0), &blob, epoch, piece)));
    let mut next = 16;
    for _ in 0..3 {
        let told = s.wait(Duration::from_millis(1100));
        let [limit] = limits(&told)[..] else { panic!("{told:?}") };
        assert_eq!(limit, next + 2);
        assert!(revoked(&told).is_empty());
        (next..limit).for_each(|piece| drop(s.read(host(0), &blob, epoch, piece)));
        next = limit;
    }
}

#[test]
fn a_silent_source_is_replaced_and_the_successor_reads_the_rest() {
    let (mut s, blob, epoch) = source_of(40, 2);
    s.want(host(1), &blob.key(), blob.none());
    (0..4).for_each(|piece| drop(s.read(host(0), &blob, epoch, piece)));
    assert!(revoked(&s.wait(Duration::from_millis(2900))).is_empty());
    let told = s.wait(Duration::from_millis(200));
    assert_eq!(revoked(&told), [(host(0), epoch)]);
    let (who, later, missing, prefix, _) = lease_in(&told).unwrap();
    assert_eq!((who, missing, prefix), (host(1), set(40, 4..40), 5));
    assert!(later > epoch);
    // What the former source still says under its old epoch is news of pieces, never a right.
    let ignored = s.scheduler.summary().counters.ignored;
    s.read(host(0), &blob, epoch, 4);
    assert!(s.scheduler.summary().counters.ignored > ignored);
    assert_eq!(s.scheduler.summary().blobs[0].pieces_held, 5);
    assert_eq!(s.scheduler.summary().blobs[0].source.unwrap(), (host(1), later));
}

#[test]
fn a_silent_source_stays_where_nobody_else_can_read() {
    let (mut s, blob, epoch) = source_of(40, 2);
    s.want_with(host(1), &blob.key(), blob.none(), Credential::None);
    assert!(revoked(&s.wait(Duration::from_secs(20))).is_empty());
    assert_eq!(s.scheduler.summary().blobs[0].source.unwrap(), (host(0), epoch));
}

#[test]
fn a_source_that_leaves_is_replaced_at_once_by_one_that_reads_what_is_lost() {
    let (mut s, blob, epoch) = source_of(40, 2);
    s.want(host(1), &blob.key(), blob.none());
    (0..6).for_each(|piece| drop(s.read(host(0), &blob, epoch, piece)));
    (0..3).for_each(|piece| drop(s.verified(host(1), &blob.key(), piece, PieceFrom::Peer(host(0)))));
    let (who, _, missing, prefix, _) = lease_in(&s.leave(host(0))).unwrap();
    assert_eq!((who, missing), (host(1), set(40, 3..40)));
    assert_eq!(prefix, 7, "the states outlive the source");
}

#[test]
fn pieces_that_are_lost_meanwhile_are_added_to_the_lease() {
    let (mut s, blob, epoch) = source_of(40, 3);
    s.want(host(1), &blob.key(), blob.none());
    (0..4).for_each(|piece| drop(s.read(host(0), &blob, epoch, piece)));
    s.say(host(0), &blob.key(), HostBody::LeaseReturned { epoch, why: LeaseFailure::CredentialEnds });
    let source = s.scheduler.summary().blobs[0].source.unwrap();
    assert_eq!(source.0, host(1));
    let (who, later, missing, ..) = lease_in(&s.leave(host(0))).unwrap();
    assert_eq!((who, missing), (host(1), blob.all()));
    assert!(later > source.1);
}

/// A source discards what it read and gives the lease back; that others hear of the former first renews the lease, once
/// for each piece that they do not get. It has not heard of that, and its word is good all the same.
#[test]
fn a_lease_is_returned_under_any_of_its_epochs() {
    let (mut s, blob, epoch) = source_of(4, 3);
    (1..3).for_each(|n| drop(s.want(host(n), &blob.key(), blob.none())));
    let told: common::Told = (0..2).flat_map(|piece| s.read(host(0), &blob, epoch, piece)).collect();
    let assigned = assigns_in(&told);
    assert_eq!(assigned.len(), 2, "{told:?}");
    let mut renewed = 0;
    for assigned in assigned {
        renewed +=
            usize::from(lease_in(&common::fail(&mut s, &blob, assigned, FetchFailure::NotHeld)).is_some());
    }
    assert_eq!(renewed, 2);
    let told = s.say(host(0), &blob.key(), HostBody::LeaseReturned { epoch, why: LeaseFailure::Wrong });
    assert_ne!(lease_in(&told).unwrap().0, host(0));
}

/// How each failure of a source is followed up: who gets the lease at once, and what the waiters are told.
#[test]
fn failures_of_a_source() {
    let (a, b) = (host(0), host(1));
    let cases = [
        (LeaseFailure::Refused, Some(b), vec![]),
        (LeaseFailure::CredentialEnds, Some(b), vec![]),
        (LeaseFailure::NoReader, Some(b), vec![]),
        (LeaseFailure::Local, Some(b), vec![]),
        (LeaseFailure::Throttled, None, vec![]),
        (LeaseFailure::Unreachable, None, vec![]),
        (LeaseFailure::NotFound, None, vec![(a, BlobFailure::NotFound), (b, BlobFailure::NotFound)]),
        (LeaseFailure::Wrong, Some(b), vec![]),
    ];
    for (why, next, told_all) in cases {
        let (mut s, blob, epoch) = source_of(10, 2);
        s.want(b, &blob.key(), blob.none());
        let told = s.say(a, &blob.key(), HostBody::LeaseReturned { epoch, why: why.clone() });
        assert_eq!(lease_in(&told).map(|lease| lease.0), next, "{why:?}");
        assert_eq!(failures(&told), told_all, "{why:?}");
    }
}

#[test]
fn an_origin_that_throttles_is_left_alone_and_longer_each_time() {
    let (mut s, blob, mut epoch) = source_of(10, 1);
    for least in [350, 700, 1400, 2800] {
        let why = LeaseFailure::Throttled;
        s.say(host(0), &blob.key(), HostBody::LeaseReturned { epoch, why });
        assert!(lease_in(&s.wait(Duration::from_millis(least))).is_none());
        let told = s.wait(Duration::from_millis(least));
        epoch = lease_in(&told).unwrap_or_else(|| panic!("after {least} ms")).1;
    }
}

#[test]
fn what_a_client_may_not_see_others_may() {
    let (mut s, blob) = (Script::new(options()), Blob::new(10, 1));
    s.join(host(0));
    s.join(host(1));
    let client = Credential::Client { remaining: Duration::from_secs(60) };
    let epoch = lease_in(&s.want_with(host(0), &blob.key(), blob.none(), client)).unwrap().1;
    s.want(host(1), &blob.key(), blob.none());
    let told = s.say(host(0), &blob.key(), HostBody::LeaseReturned { epoch, why: LeaseFailure::NotFound });
    assert_eq!(lease_in(&told).unwrap().0, host(1));
    assert!(failures(&told).is_empty());
}

#[test]
fn waiters_hear_that_nobody_may_read_after_a_grace_and_go_on_when_somebody_may() {
    let (mut s, blob) = (Script::new(options()), Blob::new(10, 1));
    s.join(host(0));
    s.join(host(1));
    assert!(s.want_with(host(0), &blob.key(), blob.none(), Credential::None).is_empty());
    assert!(s.wait(Duration::from_millis(400)).is_empty());
    assert_eq!(failures(&s.wait(Duration::from_millis(200))), [(host(0), BlobFailure::NoEligibleHost)]);
    assert!(s.wait(Duration::from_secs(10)).is_empty(), "once is enough");
    let epoch = lease_in(&s.want(host(1), &blob.key(), blob.none())).unwrap().1;
    let told = s.read(host(1), &blob, epoch, 0);
    assert_eq!(assigns_in(&told), [(0, host(1), host(0))]);
}

#[test]
fn a_refused_host_is_asked_again_when_it_wants_again() {
    let (mut s, blob, epoch) = source_of(10, 1);
    let why = LeaseFailure::Refused;
    assert!(lease_in(&s.say(host(0), &blob.key(), HostBody::LeaseReturned { epoch, why })).is_none());
    assert!(lease_in(&s.wait(Duration::from_secs(10))).is_none());
    assert!(lease_in(&s.want(host(0), &blob.key(), blob.none())).is_some());
}

#[test]
fn two_hosts_with_wrong_content_convict_the_origin() {
    let (mut s, blob, epoch) = source_of(10, 3);
    s.want(host(1), &blob.key(), blob.none());
    s.want_with(host(2), &blob.key(), blob.none(), Credential::None);
    let told = s.say(host(0), &blob.key(), HostBody::LeaseReturned { epoch, why: LeaseFailure::Wrong });
    let (who, epoch, ..) = lease_in(&told).unwrap();
    assert_eq!(who, host(1));
    let told = s.say(host(1), &blob.key(), HostBody::LeaseReturned { epoch, why: LeaseFailure::Wrong });
    assert!(lease_in(&told).is_none());
    let all = [0, 1, 2].map(|n| (host(n), BlobFailure::OriginWrong));
    assert_eq!(failures(&told), all);
}

#[test]
fn one_host_cannot_convict_the_origin_twice() {
    let (mut s, blob, epoch) = source_of(10, 2);
    s.want(host(1), &blob.key(), blob.none());
    s.say(host(0), &blob.key(), HostBody::LeaseReturned { epoch, why: LeaseFailure::Wrong });
    s.leave(host(1));
    s.want(host(0), &blob.key(), blob.none());
    let epoch = s.scheduler.summary().blobs[0].source.unwrap().1;
    let told = s.say(host(0), &blob.key(), HostBody::LeaseReturned { epoch, why: LeaseFailure::Wrong });
    assert!(failures(&told).iter().all(|(_, why)| *why == BlobFailure::NoEligibleHost), "{told:?}");
}

fn want_with_lease(held: types::PieceSet, lease: Epoch) -> HostBody {
    let (credential, priority) = (Credential::Anonymous, Priority::Waiting);
    HostBody::Want { held, credential, priority, position: PieceIndex(0), lease: Some(lease) }
}

#[test]
fn a_running_source_is_adopted_after_a_restart() {
    let mut s = Script::new(Options { quiet_period: Duration::from_secs(1), ..options() });
    let blob = Blob::new(20, 1);
    s.join(host(0));
    let told = s.say(host(0), &blob.key(), want_with_lease(set(20, 0..5), Epoch(77)));
    assert!(lease_in(&told).is_none());
    // It reads on under its old lease, and the other comes and says what it holds.
    s.read(host(0), &blob, Epoch(77), 5);
    s.join(host(1));
    s.want(host(1), &blob.key(), set(20, 0..3));
    let mut told = s.wait(Duration::from_millis(1001));
    let mut rounds = 0;
    let (who, epoch, missing, prefix, _) = loop {
        if let Some(lease) = lease_in(&told) {
            break lease;
        }
        rounds += 1;
        assert!(rounds < 5, "{told:?}");
        // It asks for the states that it lost, from who has them.
        let asked = told.iter().find_map(|(host, body)| match body {
            SchedulerBody::WantChain { epoch, boundaries } => Some((*host, *epoch, boundaries.clone())),
            _ => None,
        });
        let (asked, epoch, boundaries) = asked.unwrap();
        let states = blob.states[boundaries.start as usize..boundaries.end as usize].to_vec();
        let body = HostBody::Chain { epoch, boundary: boundaries.start, states, closed: false };
        told = s.say(asked, &blob.key(), body);
    };
    assert_eq!((who, missing, prefix), (host(0), set(20, 6..20), 7));
    assert!(epoch > Epoch(77));
    assert_eq!(s.scheduler.summary().counters.leases_adopted, 1);
    assert_eq!(s.scheduler.summary().counters.leases_granted, 0);
}

/// What a successor reads of what the others hold has left the origin twice, and is counted.
#[test]
fn pieces_that_leave_the_origin_twice_are_counted() {
    let mut s = Script::new(options());
    let blob = Blob::new(4, 1);
    s.join(host(0));
    s.join(host(1));
    let told = s.want(host(0), &blob.key(), blob.none());
    let (_, epoch, ..) = lease_in(&told).unwrap();
    s.want(host(1), &blob.key(), blob.none());
    s.read(host(0), &blob, epoch, 0);
    s.verified(host(1), &blob.key(), 0, PieceFrom::Peer(host(0)));
    let again = |s: &Script| s.scheduler.summary().counters.origin_again;
    assert_eq!(again(&s), 0);
    s.read(host(0), &blob, epoch, 1);
    assert_eq!(again(&s), 0);
    // Without a lease it is a fallback, and counted as such.
    s.verified(host(1), &blob.key(), 1, PieceFrom::Fallback);
    assert_eq!(again(&s), 0);
    let told = s.leave(host(0));
    let (who, epoch, ..) = lease_in(&told).unwrap();
    assert_eq!(who, host(1));
    s.read(host(1), &blob, epoch, 2);
    assert_eq!(again(&s), 0);
    // Somebody comes who holds what it is about to read.
    s.join(host(2));
    s.want(host(2), &blob.key(), set(4, [3]));
    s.read(host(1), &blob, epoch, 3);
    assert_eq!(again(&s), 1);
    // Said twice, it left once.
    s.read(host(1), &blob, epoch, 3);
    assert_eq!(again(&s), 1);
}

#[test]
fn of_two_that_claim_the_lease_the_later_epoch_prevails() {
    let mut s = Script::new(Options { quiet_period: Duration::from_secs(1), ..options() });
    let blob = Blob::new(20, 1);
    s.join(host(0));
    s.join(host(1));
    s.say(host(0), &blob.key(), want_with_lease(blob.none(), Epoch(7)));
    let told = s.say(host(1), &blob.key(), want_with_lease(blob.none(), Epoch(9)));
    assert_eq!(revoked(&told), [(host(0), Epoch(7))]);
    let told = s.say(host(0), &blob.key(), want_with_lease(blob.none(), Epoch(8)));
    assert_eq!(revoked(&told), [(host(0), Epoch(8))]);
}

#[test]
fn a_source_whose_stream_broke_goes_on_if_nobody_else_began() {
    let (mut s, blob, epoch) = source_of(20, 2);
    (0..4).for_each(|piece| drop(s.read(host(0), &blob, epoch, piece)));
    s.leave(host(0));
    s.join(host(0));
    let told = s.say(host(0), &blob.key(), want_with_lease(set(20, 0..4), epoch));
    assert!(told.iter().any(|(_, body)| matches!(body, SchedulerBody::WantChain { .. })), "{told:?}");
    // With another at work it is told that its lease is void.
    s.leave(host(0));
    s.want(host(1), &blob.key(), blob.none());
    s.join(host(0));
    let told = s.say(host(0), &blob.key(), want_with_lease(set(20, 0..4), epoch));
    assert_eq!(revoked(&told), [(host(0), epoch)]);
}

#[test]
fn a_source_whose_reader_left_is_replaced_even_if_it_did_not_say_that_its_lease_ends() {
    let (mut s, blob, epoch) = source_of(20, 2);
    s.want(host(1), &blob.key(), blob.none());
    s.read(host(0), &blob, epoch, 0);
    let told = s.say(host(0), &blob.key(), HostBody::Leave);
    assert_eq!(revoked(&told), [(host(0), epoch)], "it may have been renewed on its way");
    let (who, _, missing, ..) = lease_in(&told).unwrap();
    assert_eq!((who, missing), (host(1), set(20, 1..20)));
    let told = s.say(host(1), &blob.key(), HostBody::Leave);
    assert_eq!(revoked(&told).len(), 1, "with nobody waiting it ends");
}

#[test]
fn keys_that_make_no_sense_are_refused() {
    let mut s = Script::new(options());
    s.join(host(0));
    let blob = Blob::new(3, 1);
    let mut huge = blob.key();
    huge.size = u64::MAX;
    let told = s.want(host(0), &huge, blob.none());
    assert_eq!(failures(&told), [(host(0), BlobFailure::BadKey)]);
    let mut empty = blob.key();
    empty.size = 0;
    let told = s.want(host(0), &empty, types::PieceSet::empty(0));
    assert_eq!(failures(&told), [(host(0), BlobFailure::BadKey)]);
    // A set of another length belongs to another blob.
    assert!(s.want(host(0), &blob.key(), types::PieceSet::empty(7)).is_empty());
    assert!(s.scheduler.summary().counters.ignored > 0);
}

#[test]
fn a_source_to_which_bytes_come_keeps_its_lease_and_the_others_hear_of_it() {
    let (mut s, blob, epoch) = source_of(40, 2);
    s.want(host(1), &blob.key(), blob.none());
    let mut told = Vec::new();
    for _ in 0..8 {
        // A little sooner than each second: messages do not all take the same time.
        told.extend(s.wait(Duration::from_millis(999)));
        told.extend(s.say(host(0), &blob.key(), HostBody::LeaseAlive { epoch }));
    }
    assert!(revoked(&told).is_empty(), "{told:?}");
    assert_eq!(told.iter().filter(|said| **said == (host(1), SchedulerBody::SourceReads)).count(), 8);
    assert!(!told.contains(&(host(0), SchedulerBody::SourceReads)), "the source knows");
    // What another lease's bytes do is nothing to it.
    let mut told = Vec::new();
    for _ in 0..4 {
        told.extend(s.wait(Duration::from_secs(1)));
        told.extend(s.say(host(0), &blob.key(), HostBody::LeaseAlive { epoch: Epoch(epoch.0 + 1) }));
    }
    assert_eq!(revoked(&told), [(host(0), epoch)]);
}

#[test]
fn bytes_that_never_become_a_piece_keep_a_lease_for_a_while_only() {
    let (mut s, blob, epoch) = source_of(40, 2);
    s.want(host(1), &blob.key(), blob.none());
    let mut seconds = 0;
    loop {
        s.say(host(0), &blob.key(), HostBody::LeaseAlive { epoch });
        seconds += 1;
        if lease_in(&s.wait(Duration::from_secs(1))).is_some_and(|(who, ..)| who == host(1)) {
            break;
        }
        assert!(seconds < 100);
    }
    assert!((48..55).contains(&seconds), "sixteen times its time: {seconds}");
}

/// It may hold the piece without having said so, and have nothing to read.
#[test]
fn a_silent_source_gets_from_others_what_they_hold_by_now() {
    let (mut s, blob, epoch) = source_of(1, 2);
    let told = s.hold(host(1), &blob.key(), blob.all(), false);
    assert!(assigns_in(&told).is_empty(), "what it reads is not sent to it");
    let told = s.wait(Duration::from_secs(10));
    assert_eq!(revoked(&told), [(host(0), epoch)]);
    assert_eq!(assigns_in(&told), [(0, host(1), host(0))]);
}
