//! When a blob is begun that many wait with: a few of a registry at a time, and what clients wait for first.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Blob, Script, host, lease_in, limits, options, revoked, set};
use std::time::Duration;
use types::{Credential, HostBody, PieceIndex, Priority, SchedulerBody};

/// A host wants a blob with this priority.
fn want_as(s: &mut Script, n: u64, blob: &Blob, priority: Priority) -> common::Told {
    want_holding(s, n, blob, 0, priority)
}

fn want_holding(s: &mut Script, n: u64, blob: &Blob, held: u32, priority: Priority) -> common::Told {
    let body = HostBody::Want {
        held: set(blob.count(), 0..held),
        credential: Credential::Anonymous,
        priority,
        position: PieceIndex(0),
        lease: None,
    };
    s.say(host(n), &blob.key(), body)
}

#[test]
fn of_many_blobs_a_few_are_begun_and_each_that_ends_lets_the_next_begin() {
    let mut s = Script::new(options());
    let blobs: Vec<Blob> = (0..7).map(|n| Blob::new(2, n)).collect();
    (0..8).for_each(|n| drop(s.join(host(n))));
    let mut leases = Vec::new();
    for (n, blob) in (0..).zip(&blobs) {
        leases.extend(lease_in(&s.want(host(n), &blob.key(), blob.none())).map(|lease| (n, lease.1)));
    }
    assert_eq!(leases.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let elsewhere = Blob::new(2, 9);
    let told = s.want(host(7), &elsewhere.key_at("other.test"), elsewhere.none());
    assert!(lease_in(&told).is_some(), "another registry's do not wait");
    let (first, epoch) = (&blobs[0], leases[0].1);
    assert!(lease_in(&s.read(host(0), first, epoch, 0)).is_none());
    assert_eq!(lease_in(&s.read(host(0), first, epoch, 1)).unwrap().0, host(4), "the next that came");
    // They come in the end though nothing moves: nobody knows what the origin has to give.
    assert!(lease_in(&s.wait(Duration::from_millis(200))).is_none());
    let told = s.wait(Duration::from_millis(100));
    let begun: Vec<_> = told
        .iter()
        .filter(|(_, body)| matches!(body, SchedulerBody::Lease { .. }))
        .map(|(n, _)| *n)
        .collect();
    assert_eq!(begun, [host(5), host(6)]);
}

#[test]
fn what_nobody_waits_for_gives_way_to_what_a_client_waits_for() {
    let mut s = Script::new(options());
    let (preheated, later, awaited) = (Blob::new(40, 1), Blob::new(40, 2), Blob::new(4, 3));
    (0..3).for_each(|n| drop(s.join(host(n))));
    let (_, preheat, .., limit) = lease_in(&want_as(&mut s, 0, &preheated, Priority::Preheat)).unwrap();
    assert_eq!(limit, 16);
    let told = s.want(host(1), &awaited.key(), awaited.none());
    let (_, epoch, ..) = lease_in(&told).unwrap();
    assert_eq!(limits(&told), [0], "no further than what it has asked for");
    assert!(lease_in(&want_as(&mut s, 2, &later, Priority::Preheat)).is_none(), "nor is another begun");
    for piece in 0..4 {
        let told = s.read(host(0), &preheated, preheat, piece);
        assert!(limits(&told).is_empty(), "{told:?}");
    }
    s.wait(Duration::from_millis(2_500));
    (0..3).for_each(|piece| drop(s.read(host(1), &awaited, epoch, piece)));
    let told = s.read(host(1), &awaited, epoch, 3);
    assert_eq!(
        (limits(&told), lease_in(&told).unwrap().0),
        (vec![20], host(2)),
        "the client has it: {told:?}"
    );
    // One that a client joins is as urgent as the other; once the client has left it gives way again.
    let second = Blob::new(4, 4);
    assert!(lease_in(&s.want(host(1), &second.key(), second.none())).is_some());
    let told = want_holding(&mut s, 0, &preheated, 4, Priority::Waiting);
    assert_eq!(limits(&told), [20], "{told:?}");
    let told = want_holding(&mut s, 0, &preheated, 4, Priority::Preheat);
    assert_eq!(limits(&told), [4], "{told:?}");
}

#[test]
fn what_gives_way_is_not_forgotten() {
    let mut s = Script::new(options());
    let (preheated, awaited) = (Blob::new(40, 1), Blob::new(40, 3));
    (0..2).for_each(|n| drop(s.join(host(n))));
    want_as(&mut s, 0, &preheated, Priority::Preheat);
    let (_, epoch, ..) = lease_in(&s.want(host(1), &awaited.key(), awaited.none())).unwrap();
    let mut told = Vec::new();
    for piece in 0..12 {
        told.extend(s.read(host(1), &awaited, epoch, piece));
        told.extend(s.wait(Duration::from_secs(1)));
    }
    let raised =
        told.iter().filter(|(to, body)| *to == host(0) && matches!(body, SchedulerBody::LeaseLimit { .. }));
    assert_eq!(raised.count(), 1, "a little after ten seconds: {told:?}");
    assert!(revoked(&told).is_empty());
}

#[test]
fn a_blob_that_waits_for_a_host_and_then_for_its_registry_is_begun_in_time() {
    let mut s = Script::new(options());
    let blobs: Vec<Blob> = (0..5).map(|n| Blob::new(2, n)).collect();
    (0..6).for_each(|n| drop(s.join(host(n))));
    for (n, blob) in (0..4).zip(&blobs) {
        assert!(lease_in(&s.want(host(n), &blob.key(), blob.none())).is_some());
    }
    // Host 0 reads another already, and when nobody else has come, four are being read.
    let last = &blobs[4];
    assert!(lease_in(&s.want(host(0), &last.key(), last.none())).is_none());
    assert!(lease_in(&s.wait(Duration::from_millis(240))).is_none());
    assert_eq!(lease_in(&s.wait(Duration::from_millis(20))).unwrap().0, host(0));
}

#[test]
fn when_clients_are_served_as_many_preheats_begin_as_may() {
    let mut s = Script::new(options());
    let blobs: Vec<Blob> = (0..6).map(|n| Blob::new(2, n)).collect();
    (0..7).for_each(|n| drop(s.join(host(n))));
    let awaited = Blob::new(2, 9);
    let (_, epoch, ..) = lease_in(&s.want(host(6), &awaited.key(), awaited.none())).unwrap();
    for (n, blob) in (0..).zip(&blobs) {
        assert!(lease_in(&want_as(&mut s, n, blob, Priority::Preheat)).is_none());
    }
    s.read(host(6), &awaited, epoch, 0);
    let told = s.read(host(6), &awaited, epoch, 1);
    let begun = told.iter().filter(|(_, body)| matches!(body, SchedulerBody::Lease { .. }));
    assert_eq!(begun.count(), 4, "{told:?}");
}
