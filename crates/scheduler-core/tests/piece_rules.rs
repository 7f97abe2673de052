//! Who gets which piece from whom, rule by rule: order, slots, zones, failures, blame.

mod common;

use common::{
    Blob, Script, assigns_in, closed_blob, fail, host, lease_in, options, set, spec, spec_in, want_closed,
};
use scheduler_core::Options;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use types::{
    BlobFailure, Credential, Epoch, FetchFailure, HostBody, HostId, HostSpec, LeaseFailure, PieceFrom,
    PieceIndex, Priority, SchedulerBody,
};

#[test]
fn first_copies_go_out_in_order_to_different_children() {
    let (mut s, blob) = (Script::new(options()), Blob::new(20, 1));
    (0..4).for_each(|n| drop(s.join(host(n))));
    let epoch = lease_in(&s.want(host(0), &blob.key(), blob.none())).unwrap().1;
    for n in 1..4 {
        s.want(host(n), &blob.key(), blob.none());
    }
    let mut told = Vec::new();
    (0..4).for_each(|piece| told.extend(s.read(host(0), &blob, epoch, piece)));
    let assigns = assigns_in(&told);
    assert_eq!(
        assigns.iter().map(|a| a.0).collect::<Vec<_>>(),
        [0, 1],
        "two slots, the lowest pieces: {assigns:?}"
    );
    assert_ne!(assigns[0].2, assigns[1].2);
}

#[test]
fn a_source_sends_each_piece_about_once() {
    let (mut s, blob) = (Script::new(options()), Blob::new(20, 1));
    (0..3).for_each(|n| drop(s.join(host(n))));
    let epoch = lease_in(&s.want(host(0), &blob.key(), blob.none())).unwrap().1;
    s.want(host(1), &blob.key(), blob.none());
    s.want(host(2), &blob.key(), blob.none());
    let first = assigns_in(&s.read(host(0), &blob, epoch, 0));
    assert_eq!(first.len(), 1, "the second upload slot waits for the next first copy: {first:?}");
    let (_, _, child) = first[0];
    let told = s.verified(child, &blob.key(), 0, PieceFrom::Peer(host(0)));
    assert_eq!(assigns_in(&told).iter().map(|a| a.1).collect::<Vec<_>>(), [child], "the child passes it on");
}

#[test]
fn a_source_sends_its_own_zone_what_it_sent_to_another_zone_first() {
    let (mut s, blob) = (Script::new(options()), Blob::new(20, 1));
    s.join_as(host(0), spec_in("near", ""));
    s.join_as(host(1), spec_in("far", ""));
    let epoch = lease_in(&s.want(host(0), &blob.key(), blob.none())).unwrap().1;
    s.want(host(1), &blob.key(), blob.none());
    assert_eq!(assigns_in(&s.read(host(0), &blob, epoch, 0)), [(0, host(0), host(1))]);
    s.verified(host(1), &blob.key(), 0, PieceFrom::Peer(host(0)));
    (2..4).for_each(|n| drop(s.join_as(host(n), spec_in("near", ""))));
    let told = s.want(host(2), &blob.key(), blob.none());
    assert_eq!(assigns_in(&told), [(0, host(0), host(2))], "the gate is shut for what the source holds");
    let told = s.want(host(3), &blob.key(), blob.none());
    assert_eq!(assigns_in(&told), [], "once is enough: the other passes it on");
    let told = s.verified(host(2), &blob.key(), 0, PieceFrom::Peer(host(0)));
    assert_eq!(assigns_in(&told), [(0, host(2), host(3))]);
}

#[test]
fn a_source_helps_out_when_nothing_moves() {
    let (mut s, blob) = (Script::new(options()), Blob::new(20, 1));
    (0..3).for_each(|n| drop(s.join(host(n))));
    let epoch = lease_in(&s.want(host(0), &blob.key(), blob.none())).unwrap().1;
    s.want(host(1), &blob.key(), blob.none());
    s.want(host(2), &blob.key(), blob.none());
    let first = assigns_in(&s.read(host(0), &blob, epoch, 0))[0];
    let told = s.wait(Duration::from_millis(1500));
    let other = if first.2 == host(1) { host(2) } else { host(1) };
    assert_eq!(assigns_in(&told), [(0, host(0), other)]);
}

#[test]
fn what_a_source_sends_again_is_bounded() {
    let options = Options { lease_ttl: Duration::from_secs(60), ..options() };
    let (mut s, blob) = (Script::new(options), Blob::new(8, 1));
    s.join_as(host(0), HostSpec { upload_slots: 16, ..spec() });
    // It has everything and passes nothing on, so the other would get all from the source.
    s.join_as(host(1), HostSpec { upload_slots: 0, download_slots: 16, ..spec() });
    s.join_as(host(2), HostSpec { download_slots: 16, ..spec() });
    let epoch = lease_in(&s.want(host(0), &blob.key(), blob.none())).unwrap().1;
    s.want(host(1), &blob.key(), blob.none());
    for piece in 0..8 {
        for (piece, parent, child) in assigns_in(&s.read(host(0), &blob, epoch, piece)) {
            s.verified(child, &blob.key(), piece, PieceFrom::Peer(parent));
        }
    }
    s.want(host(2), &blob.key(), blob.none());
    let sent = assigns_in(&s.wait(Duration::from_millis(2_500))).len();
    assert_eq!(sent, 2, "a quarter, one after the other");
    assert!(assigns_in(&s.wait(Duration::from_secs(3))).is_empty());
    assert_eq!(assigns_in(&s.wait(Duration::from_secs(2))).len(), 1, "nobody starves");
}

#[test]
fn rare_pieces_first_and_the_lowest_of_equals() {
    let specs = vec![spec(); 4];
    let (mut s, blob) = closed_blob(options(), 6, 1, &specs);
    s.hold(host(1), &blob.key(), set(6, [0, 1, 2, 4]), false);
    s.hold(host(2), &blob.key(), set(6, [0, 1, 2, 4]), false);
    let told = want_closed(&mut s, &blob, host(3));
    let mut pieces: Vec<u32> = assigns_in(&told).iter().map(|a| a.0).collect();
    pieces.sort_unstable();
    assert_eq!(pieces, [3, 5]);
    let rack_only = assigns_in(&s.verified(host(3), &blob.key(), 3, PieceFrom::Peer(host(0))));
    assert_eq!(rack_only[0].0, 0, "then in reading order");
}

#[test]
fn a_blocked_reader_is_helped_for_a_part_of_the_picks() {
    let specs = vec![spec(); 2];
    let (mut s, blob) = closed_blob(options(), 40, 1, &specs);
    let mut assigns = assigns_in(&want_closed(&mut s, &blob, host(1)));
    s.say(host(1), &blob.key(), HostBody::Position { piece: PieceIndex(30), blocked: true });
    let mut got = Vec::new();
    while got.len() < 12 {
        let (piece, parent, child) = assigns.remove(0);
        got.push(piece);
        assigns.extend(assigns_in(&s.verified(child, &blob.key(), piece, PieceFrom::Peer(parent))));
    }
    assert!(got.contains(&30) && got.contains(&31), "{got:?}");
    assert!(got.iter().filter(|p| **p >= 30).count() <= 4, "{got:?}");
}

#[test]
fn slots_bound_what_is_assigned_and_a_free_one_is_used_at_once() {
    let specs = vec![HostSpec { upload_slots: 1, ..spec() }, spec(), spec()];
    let (mut s, blob) = closed_blob(options(), 10, 1, &specs);
    let first = assigns_in(&want_closed(&mut s, &blob, host(1)));
    assert_eq!(first.len(), 1);
    assert!(assigns_in(&want_closed(&mut s, &blob, host(2))).is_empty());
    let told = s.verified(host(1), &blob.key(), first[0].0, PieceFrom::Peer(host(0)));
    assert_eq!(assigns_in(&told).len(), 2, "one by each that holds something: {told:?}");
}

#[test]
fn nearly_done_promises_the_slot_once() {
    let specs = vec![HostSpec { upload_slots: 1, ..spec() }, HostSpec { download_slots: 1, ..spec() }];
    let (mut s, blob) = closed_blob(options(), 10, 1, &specs);
    let first = assigns_in(&want_closed(&mut s, &blob, host(1)));
    let nearly = HostBody::NearlyDone { piece: PieceIndex(first[0].0) };
    let second = assigns_in(&s.say(host(1), &blob.key(), nearly.clone()));
    assert_eq!(second.len(), 1);
    assert!(assigns_in(&s.say(host(1), &blob.key(), nearly)).is_empty());
    let nearly = HostBody::NearlyDone { piece: PieceIndex(second[0].0) };
    assert!(assigns_in(&s.say(host(1), &blob.key(), nearly)).is_empty(), "no promises upon promises");
    assert!(assigns_in(&s.verified(host(1), &blob.key(), first[0].0, PieceFrom::Peer(host(0)))).is_empty());
}

#[test]
fn clients_that_wait_come_before_guesses() {
    let specs = vec![HostSpec { upload_slots: 1, ..spec() }, spec(), spec(), spec()];
    let (mut s, blob) = closed_blob(options(), 10, 1, &specs);
    let first = assigns_in(&want_closed(&mut s, &blob, host(1)))[0];
    let want = |priority| HostBody::Want {
        held: blob.none(),
        credential: Credential::None,
        priority,
        position: PieceIndex(0),
        lease: None,
    };
    s.say(host(2), &blob.key(), want(Priority::Prefetch));
    s.say(host(3), &blob.key(), want(Priority::Waiting));
    let told = s.say(host(1), &blob.key(), HostBody::Leave);
    assert_eq!(assigns_in(&told).iter().map(|a| (a.1, a.2)).collect::<Vec<_>>(), [(first.1, host(3))]);
}

/// All transfers of a crowd that gets a blob of 60 pieces from one holder, as (parent, child).
fn crowd_of_forty(rack: impl Fn(u64) -> String) -> Vec<(HostId, HostId)> {
    let specs: Vec<_> = (0..41).map(|n| spec_in("", &rack(n))).collect();
    let (mut s, blob) = closed_blob(options(), 60, 1, &specs);
    let mut assigns: VecDeque<_> =
        (1..41).flat_map(|n| assigns_in(&want_closed(&mut s, &blob, host(n)))).collect();
    let mut all = Vec::new();
    while let Some((piece, parent, child)) = assigns.pop_front() {
        all.push((parent, child));
        assigns.extend(assigns_in(&s.verified(child, &blob.key(), piece, PieceFrom::Peer(parent))));
    }
    assert_eq!(all.len(), 40 * 60);
    all
}

#[test]
fn hosts_send_to_those_that_they_have_a_connection_to() {
    let all = crowd_of_forty(|_| String::new());
    let pairs: BTreeSet<_> = all.iter().collect();
    assert!(pairs.len() < 40 * 20, "{} connections for {} transfers", pairs.len(), all.len());
}

#[test]
fn a_crowd_sends_most_within_its_racks() {
    let rack = |n: u64| format!("rack {}", n % 4);
    let all = crowd_of_forty(rack);
    let rack_of = |id: &HostId| (0..41).find(|n| host(*n) == *id).expect("one of them") % 4;
    let inside = all.iter().filter(|(parent, child)| rack_of(parent) == rack_of(child)).count();
    assert!(inside * 5 > all.len() * 2, "{inside} of {} within a rack", all.len());
}

#[test]
fn the_same_rack_is_preferred() {
    let specs = [spec_in("z", "a"), spec_in("z", "b"), spec_in("z", "b")];
    let (mut s, blob) = closed_blob(options(), 10, 2, &specs);
    let assigns = assigns_in(&want_closed(&mut s, &blob, host(2)));
    assert_eq!(assigns.iter().map(|a| a.1).collect::<Vec<_>>(), [host(1); 2]);
}

#[test]
fn a_piece_enters_a_zone_once() {
    let specs = [spec_in("a", ""), spec_in("b", ""), spec_in("b", "")];
    let (mut s, blob) = closed_blob(options(), 1, 1, &specs);
    let told = s.want(host(1), &blob.key(), blob.none());
    assert_eq!(assigns_in(&told), [(0, host(0), host(1))]);
    assert!(assigns_in(&s.want(host(2), &blob.key(), blob.none())).is_empty(), "one is on its way");
    let told = s.verified(host(1), &blob.key(), 0, PieceFrom::Peer(host(0)));
    assert_eq!(assigns_in(&told), [(0, host(1), host(2))]);
    assert_eq!(s.scheduler.summary().counters.crossings, 1);
}

#[test]
fn a_piece_enters_a_zone_again_when_its_holder_there_does_not_serve() {
    let specs = [spec_in("a", ""), spec_in("b", ""), spec_in("b", "")];
    let (mut s, blob) = closed_blob(options(), 1, 2, &specs);
    let told = s.want(host(2), &blob.key(), blob.none());
    assert_eq!(assigns_in(&told), [(0, host(1), host(2))]);
    let told = fail(&mut s, &blob, (0, host(1), host(2)), FetchFailure::Corrupt);
    assert!(assigns_in(&told).is_empty());
    let told = s.wait(Duration::from_secs(1));
    assert_eq!(assigns_in(&told), [(0, host(0), host(2))]);
    assert_eq!(s.scheduler.summary().counters.crossings_again, 1);
}

#[test]
fn failures_of_a_transfer() {
    // Why, whether the same parent is asked again, and after how long at least and at most (milliseconds).
    let cases = [
        (FetchFailure::Busy, 100, 100),
        (FetchFailure::Unreachable, 200, 200),
        (FetchFailure::NotAllowed, 200, 200),
        (FetchFailure::Stalled, 200, 200),
        (FetchFailure::Local, 100, 100),
    ];
    for (why, least, most) in cases {
        let (mut s, blob) = closed_blob(options(), 1, 1, &[spec(), spec()]);
        let first = assigns_in(&want_closed(&mut s, &blob, host(1)))[0];
        assert!(assigns_in(&fail(&mut s, &blob, first, why)).is_empty(), "{why:?}");
        assert!(assigns_in(&s.wait(Duration::from_millis(least - 1))).is_empty(), "{why:?}");
        assert_eq!(assigns_in(&s.wait(Duration::from_millis(most - least + 1))), [first], "{why:?}");
    }
}

#[test]
fn a_parent_that_does_not_hold_it_is_not_asked_for_it() {
    let (mut s, blob) = closed_blob(options(), 1, 2, &[spec(), spec(), spec()]);
    let first = assigns_in(&want_closed(&mut s, &blob, host(2)))[0];
    let second = assigns_in(&fail(&mut s, &blob, first, FetchFailure::NotHeld))[0];
    assert_ne!(first.1, second.1);
    // With no holder left the piece is read anew.
    let told = fail(&mut s, &blob, second, FetchFailure::NotHeld);
    assert_eq!(lease_in(&told).unwrap().0, host(2));
}

#[test]
fn a_transfer_without_an_answer_is_given_to_another() {
    let (mut s, blob) = closed_blob(options(), 1, 2, &[spec(), spec(), spec()]);
    let first = assigns_in(&want_closed(&mut s, &blob, host(2)))[0];
    let told = s.wait(Duration::from_secs(10));
    let cancelled = SchedulerBody::Cancel { piece: PieceIndex(0), parent: first.1 };
    assert!(told.contains(&(host(2), cancelled)), "{told:?}");
    let second = assigns_in(&told)[0];
    assert_ne!(first.1, second.1);
}

#[test]
fn transfers_from_a_parent_that_left_are_given_to_another() {
    let (mut s, blob) = closed_blob(options(), 1, 2, &[spec(), spec(), spec()]);
    let first = assigns_in(&want_closed(&mut s, &blob, host(2)))[0];
    let told = s.leave(first.1);
    assert_eq!(assigns_in(&told).len(), 1, "{told:?}");
}

#[test]
fn a_child_that_got_wrong_bytes_never_asks_that_parent_again() {
    let (mut s, blob) = closed_blob(options(), 4, 2, &[spec(), spec(), spec()]);
    let mut assigns = assigns_in(&want_closed(&mut s, &blob, host(2)));
    let (mut bad, mut rounds) = (None, 0);
    while let Some(assign) = assigns.pop() {
        rounds += 1;
        assert!(rounds < 20);
        assert!(bad.is_none_or(|bad| bad != assign.1), "asked again");
        let told = if bad.is_none() {
            bad = Some(assign.1);
            // What else is under way from there may still come.
            assigns.retain(|a| a.1 != assign.1);
            fail(&mut s, &blob, assign, FetchFailure::Corrupt)
        } else {
            s.verified(assign.2, &blob.key(), assign.0, PieceFrom::Peer(assign.1))
        };
        assigns.extend(assigns_in(&told));
    }
}

#[test]
fn three_accusers_are_not_enough_and_quarantine_ends() {
    let specs = vec![spec(); 7];
    let (mut s, blob) = closed_blob(options(), 10, 2, &specs);
    s.leave(host(1));
    let bad = host(0);
    for n in 2..6 {
        let quarantined = s.scheduler.summary().hosts.iter().any(|h| h.quarantined);
        assert!(!quarantined, "before the fourth accuser");
        let assigns = assigns_in(&want_closed(&mut s, &blob, host(n)));
        assert!(!assigns.is_empty(), "child {n}");
        fail(&mut s, &blob, assigns[0], FetchFailure::Corrupt);
        s.leave(host(n));
    }
    let summary = s.scheduler.summary();
    assert!(summary.hosts.iter().find(|h| h.host == bad).unwrap().quarantined);
    // It does not escape by connecting again; after its time it is used again.
    s.leave(bad);
    s.join(bad);
    assert!(s.scheduler.summary().hosts.iter().find(|h| h.host == bad).unwrap().quarantined);
    s.wait(Duration::from_secs(31));
    assert!(!s.scheduler.summary().hosts.iter().find(|h| h.host == bad).unwrap().quarantined);
}

/// Four reports take a host out, if four hosts make them.
#[test]
fn attack_a_host_that_accuses_all_others_takes_none_of_them_out() {
    let (mut s, blob) = closed_blob(options(), 4, 4, &vec![spec(); 6]);
    let (liar, mut accused) = (host(4), BTreeSet::new());
    let mut assigns = assigns_in(&want_closed(&mut s, &blob, liar));
    for round in 0.. {
        assert!(round < 100, "bounded by what there is to ask for");
        let Some(assign) = assigns.pop() else { break };
        accused.insert(assign.1);
        assigns.retain(|other| other.1 != assign.1);
        assigns.extend(assigns_in(&fail(&mut s, &blob, assign, FetchFailure::Corrupt)));
    }
    assert_eq!(accused, (0..4).map(host).collect(), "it has accused every holder");
    // Coming again does not make it another.
    for _ in 0..10 {
        s.leave(liar);
        s.join(liar);
        for assign in assigns_in(&want_closed(&mut s, &blob, liar)) {
            fail(&mut s, &blob, assign, FetchFailure::Corrupt);
        }
    }
    assert!(s.scheduler.summary().hosts.iter().all(|h| !h.quarantined));
    let mut assigns = assigns_in(&want_closed(&mut s, &blob, host(5)));
    assert!(!assigns.is_empty());
    let mut verified = 0;
    while let Some((piece, parent, child)) = assigns.pop() {
        assigns.extend(assigns_in(&s.verified(child, &blob.key(), piece, PieceFrom::Peer(parent))));
        verified += 1;
    }
    assert_eq!(verified, 4, "another gets all from those that it accused");
}

#[test]
fn a_host_that_several_cannot_reach_is_not_used_for_a_while() {
    let specs = vec![spec(); 5];
    let (mut s, blob) = closed_blob(options(), 10, 1, &specs);
    for n in 1..4 {
        let assigns = assigns_in(&want_closed(&mut s, &blob, host(n)));
        fail(&mut s, &blob, assigns[0], FetchFailure::Unreachable);
        s.say(host(n), &blob.key(), HostBody::Leave);
    }
    let told = s.want(host(4), &blob.key(), blob.none());
    assert!(assigns_in(&told).is_empty());
    assert_eq!(lease_in(&told).unwrap().0, host(4), "its pieces do not count: {told:?}");
}

#[test]
fn what_only_a_distrusted_parent_holds_is_read_anew() {
    let (mut s, blob) = closed_blob(options(), 1, 1, &[spec(), spec()]);
    let first = assigns_in(&want_closed(&mut s, &blob, host(1)))[0];
    fail(&mut s, &blob, first, FetchFailure::Corrupt);
    let told = s.wait(Duration::from_secs(2));
    assert_eq!(lease_in(&told).unwrap().0, host(1));
}

#[test]
fn whom_all_distrusted_somebody_else_may_try() {
    let (mut s, blob) = closed_blob(options(), 1, 1, &[spec(), spec(), spec()]);
    let first = assigns_in(&want_closed(&mut s, &blob, host(1)))[0];
    fail(&mut s, &blob, first, FetchFailure::Corrupt);
    s.wait(Duration::from_secs(2));
    let told = s.want(host(2), &blob.key(), blob.none());
    assert_eq!(assigns_in(&told), [(0, host(0), host(2))]);
}

#[test]
fn a_child_with_nobody_left_decides_for_itself() {
    let (mut s, blob) = closed_blob(options(), 1, 1, &[spec(), spec()]);
    want_closed(&mut s, &blob, host(1));
    s.want_with(host(1), &blob.key(), blob.none(), Credential::None);
    fail(&mut s, &blob, (0, host(0), host(1)), FetchFailure::Corrupt);
    let told = s.wait(Duration::from_secs(2));
    assert_eq!(told, [(host(1), SchedulerBody::Failed { why: BlobFailure::NoEligibleHost })]);
}

#[test]
fn what_is_dropped_or_left_is_not_asked_for() {
    let (mut s, blob) = closed_blob(options(), 10, 1, &[spec(), spec(), spec()]);
    let first = assigns_in(&want_closed(&mut s, &blob, host(1)));
    s.verified(host(1), &blob.key(), first[0].0, PieceFrom::Peer(host(0)));
    s.say(host(1), &blob.key(), HostBody::Leave);
    assert_eq!(s.scheduler.summary().blobs[0].holders, 2, "what it holds it still offers");
    s.say(host(1), &blob.key(), HostBody::Drop);
    assert_eq!(s.scheduler.summary().blobs[0].holders, 1);
    s.say(host(0), &blob.key(), HostBody::Drop);
    assert!(s.scheduler.summary().blobs.is_empty(), "a blob that nobody holds or wants is forgotten");
}

#[test]
fn blobs_take_turns_on_a_host() {
    let (mut s, blobs) = (Script::new(options()), [Blob::new(30, 1), Blob::new(30, 2)]);
    s.join_as(host(0), HostSpec { upload_slots: 1, ..spec() });
    s.join_as(host(1), HostSpec { download_slots: 1, ..spec() });
    let mut queue = Vec::new();
    for blob in &blobs {
        s.hold(host(0), &blob.key(), blob.all(), true);
        queue.extend(want_closed(&mut s, blob, host(1)));
    }
    for turn in 0..20 {
        let (piece, parent, child) = assigns_in(&queue)[0];
        let digest = s.assigned[turn];
        let blob = blobs.iter().find(|blob| blob.digest == digest).unwrap();
        queue = s.verified(child, &blob.key(), piece, PieceFrom::Peer(parent));
    }
    let first = s.assigned.iter().filter(|digest| **digest == blobs[0].digest).count();
    assert!((9..=12).contains(&first), "{first} of {}", s.assigned.len());
}

#[test]
fn late_and_foolish_messages_change_nothing() {
    let (mut s, blob) = closed_blob(options(), 4, 1, &[spec(), spec()]);
    let first = assigns_in(&want_closed(&mut s, &blob, host(1)))[0];
    let before = s.scheduler.summary();
    let foolish = [
        HostBody::Verified { piece: PieceIndex(99), from: PieceFrom::Origin },
        HostBody::NearlyDone { piece: PieceIndex(99) },
        HostBody::Failed {
            piece: PieceIndex(first.0),
            parent: host(9),
            epoch: Epoch(0),
            why: FetchFailure::Corrupt,
        },
        HostBody::Chain { epoch: Epoch(0), boundary: 9, states: vec![], closed: true },
        HostBody::LeaseReturned { epoch: Epoch(0), why: LeaseFailure::Wrong },
        HostBody::ChainFalse { epoch: Epoch(u64::MAX) },
    ];
    for body in foolish {
        assert!(s.say(host(1), &blob.key(), body.clone()).is_empty(), "{body:?}");
    }
    assert!(s.say(host(7), &blob.key(), HostBody::Drop).is_empty(), "a stranger");
    let mut after = s.scheduler.summary();
    assert!(after.counters.ignored >= 6);
    after.counters = before.counters;
    assert_eq!(after, before);
}
