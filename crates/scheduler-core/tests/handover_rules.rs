//! When a slow source hands its lease over, and when it keeps it.

mod common;

use common::{Blob, Script, assigns_in, host, lease_in, options, revoked, spec};
use std::time::Duration;
use types::{Credential, HostId, HostSpec, PieceFrom};

fn spec_at(rate: u64) -> HostSpec {
    HostSpec { upload_rate: rate, download_rate: rate, ..spec() }
}

/// Hosts that want a blob one after the other, at these rates. Who has the lease then, and whether one was revoked.
fn source_of(rates: &[u64]) -> (Script, Blob, HostId, bool) {
    let (mut s, blob) = (Script::new(options()), Blob::new(40, 1));
    (0..).zip(rates).for_each(|(n, rate)| drop(s.join_as(host(n), spec_at(*rate))));
    let mut told = Vec::new();
    (0..rates.len() as u64).for_each(|n| told.extend(s.want(host(n), &blob.key(), blob.none())));
    let source = told.iter().rev().find_map(|said| Some(lease_in(&vec![said.clone()])?.0));
    let was_revoked = !revoked(&told).is_empty();
    (s, blob, source.expect("somebody reads"), was_revoked)
}

#[test]
fn a_host_that_says_it_is_much_faster_reads_on() {
    const MB: u64 = 1_000_000;
    for (rates, source, is_revoked) in [
        (&[MB, 100 * MB][..], 1, true),
        // Without a limit.
        (&[MB, 0], 1, true),
        (&[0, 100 * MB], 0, false),
        (&[MB, 3 * MB], 0, false),
        (&[0, 0], 0, false),
        (&[100 * MB, MB], 0, false),
        // Twice at most.
        (&[MB, 10 * MB, 100 * MB, 1_000 * MB], 2, true),
    ] {
        let (_, _, chosen, was_revoked) = source_of(rates);
        assert_eq!((chosen, was_revoked), (host(source), is_revoked), "{rates:?}");
    }
}

#[test]
fn a_host_without_a_right_does_not_get_the_lease() {
    let (mut s, blob) = (Script::new(options()), Blob::new(40, 1));
    s.join_as(host(0), spec_at(1_000_000));
    s.join_as(host(1), spec_at(0));
    assert!(lease_in(&s.want(host(0), &blob.key(), blob.none())).is_some());
    let told = s.want_with(host(1), &blob.key(), blob.none(), Credential::None);
    assert!(revoked(&told).is_empty());
}

/// All say the same of themselves, but what the first one sends takes twenty times as long.
#[test]
fn a_source_whose_transfers_all_take_long_hands_over_with_what_it_has_read() {
    const HOSTS: u64 = 20;
    let step = Duration::from_millis(20);
    let (mut s, blob) = (Script::new(options()), Blob::new(100, 1));
    (0..HOSTS).for_each(|n| drop(s.join(host(n))));
    let epoch = lease_in(&s.want(host(0), &blob.key(), blob.none())).unwrap().1;
    let mut told: Vec<_> = (1..HOSTS).flat_map(|n| s.want(host(n), &blob.key(), blob.none())).collect();
    // What is on its way, and in which round it comes.
    let mut coming = Vec::new();
    let (mut read, mut lease) = (0, None);
    for round in 0..400 {
        if round % 10 == 0 {
            told.extend(s.read(host(0), &blob, epoch, read));
            read += 1;
        }
        told.extend(s.wait(step));
        let assigned = assigns_in(&told).into_iter();
        coming.extend(assigned.map(|a| (round + if a.1 == host(0) { 20 } else { 0 }, a)));
        told.clear();
        let (due, later): (Vec<_>, _) = coming.into_iter().partition(|(at, _)| *at <= round);
        coming = later;
        for (_, (piece, parent, child)) in due {
            told.extend(s.verified(child, &blob.key(), piece, PieceFrom::Peer(parent)));
        }
        lease = lease_in(&told);
        if lease.is_some() {
            break;
        }
    }
    let (successor, _, missing, prefix, _) = lease.expect("it is handed over");
    assert_ne!(successor, host(0));
    assert_eq!(missing.len(), 100 - read, "what anybody holds is not read again");
    assert_eq!(prefix, read as usize + 1, "the states go along");
    assert_eq!(s.scheduler.summary().counters.leases_handed_over, 1);
}
