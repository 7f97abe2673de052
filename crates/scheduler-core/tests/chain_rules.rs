//! Chains, rule by rule: how their states are asked for, closed for all registries, doubted and discarded.

mod common;

use common::{Blob, Script, assigns_in, fail, host, lease_in, options, resets, set};
use std::time::Duration;
use types::{Credential, FetchFailure, HostBody, LeaseFailure, PieceFrom, SchedulerBody, State};

#[test]
fn nobody_is_asked_for_a_piece_whose_states_are_unknown() {
    let (mut s, blob) = (Script::new(options()), Blob::new(20, 1));
    (0..2).for_each(|n| drop(s.join(host(n))));
    let epoch = lease_in(&s.want(host(0), &blob.key(), blob.none())).unwrap().1;
    s.want(host(1), &blob.key(), blob.none());
    assert!(assigns_in(&s.verified(host(0), &blob.key(), 0, PieceFrom::Origin)).is_empty());
    let states = vec![blob.states[1]];
    let told = s.say(host(0), &blob.key(), HostBody::Chain { epoch, boundary: 1, states, closed: false });
    assert_eq!(assigns_in(&told), [(0, host(0), host(1))]);
}

#[test]
fn an_open_chain_stays_with_its_registry_and_a_closed_one_serves_all() {
    let (mut s, blob) = (Script::new(options()), Blob::new(3, 1));
    (0..3).for_each(|n| drop(s.join(host(n))));
    let (one, two) = (blob.key_at("one.test"), blob.key_at("two.test"));
    let epoch = lease_in(&s.want(host(0), &one, blob.none())).unwrap().1;
    let other = lease_in(&s.want(host(1), &two, blob.none())).unwrap();
    assert_eq!(other.0, host(1), "another registry, another source");
    let mut told = Vec::new();
    for piece in 0..3 {
        let states = vec![blob.states[piece as usize + 1]];
        told.extend(s.say(
            host(0),
            &one,
            HostBody::Chain { epoch, boundary: piece + 1, states, closed: false },
        ));
        assert!(assigns_in(&told).is_empty(), "nothing crosses over");
        told = s.verified(host(0), &one, piece, PieceFrom::Origin);
    }
    // Closed by the last piece: the other source is called back and served under its own key.
    assert!(told.contains(&(host(1), SchedulerBody::Revoke { epoch: other.1 })), "{told:?}");
    assert_eq!(assigns_in(&told).len(), 2);
    assert_eq!(s.scheduler.summary().blobs.len(), 1);
    assert!(s.scheduler.summary().blobs[0].closed);
    let told = s.want(host(2), &blob.key_at("three.test"), blob.none());
    assert!(lease_in(&told).is_none());
}

#[test]
fn a_holder_of_a_closed_chain_is_found_whatever_registry_it_has_it_from() {
    let (mut s, blob) = (Script::new(options()), Blob::new(3, 1));
    (0..2).for_each(|n| drop(s.join(host(n))));
    s.hold(host(0), &blob.key_at("one.test"), blob.all(), true);
    let told = s.want(host(1), &blob.key_at("two.test"), blob.none());
    let [(asked, SchedulerBody::WantChain { epoch, .. })] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(*asked, host(0));
    let states = blob.states.clone();
    let body = HostBody::Chain { epoch: *epoch, boundary: 0, states, closed: true };
    let told = s.say(host(0), &blob.key_at("one.test"), body);
    assert_eq!(assigns_in(&told).len(), 2, "{told:?}");
}

#[test]
fn a_source_that_finds_the_chain_false_starts_it_over() {
    let (mut s, blob) = (Script::new(options()), Blob::new(10, 1));
    (0..3).for_each(|n| drop(s.join(host(n))));
    let epoch = lease_in(&s.want(host(0), &blob.key(), blob.none())).unwrap().1;
    s.want(host(1), &blob.key(), blob.none());
    (0..3).for_each(|piece| drop(s.read(host(0), &blob, epoch, piece)));
    let told = s.leave(host(0));
    let (who, epoch, _, prefix, _) = lease_in(&told).unwrap();
    assert_eq!((who, prefix), (host(1), 4));
    s.want(host(2), &blob.key(), blob.none());
    let told = s.say(host(1), &blob.key(), HostBody::ChainFalse { epoch });
    assert_eq!(resets(&told).len(), 2, "{told:?}");
    let (_, _, missing, prefix, _) = lease_in(&told).unwrap();
    assert_eq!((missing, prefix), (blob.all(), 1));
    assert_eq!(s.scheduler.summary().blobs[0].pieces_held, 0);
}

#[test]
fn a_chain_that_several_doubt_is_discarded_and_its_source_replaced() {
    let (mut s, blob) = (Script::new(options()), Blob::new(10, 1));
    (0..4).for_each(|n| drop(s.join(host(n))));
    let epoch = lease_in(&s.want(host(0), &blob.key(), blob.none())).unwrap().1;
    (1..4).for_each(|n| drop(s.want(host(n), &blob.key(), blob.none())));
    // The source tells a state that no bytes lead to.
    let states = vec![State::initial(blob.digest.algorithm())];
    s.say(host(0), &blob.key(), HostBody::Chain { epoch, boundary: 1, states, closed: false });
    let mut told = s.verified(host(0), &blob.key(), 0, PieceFrom::Origin);
    let mut accusers = 0;
    while resets(&told).is_empty() {
        let assigns = assigns_in(&told);
        told = match assigns.first() {
            Some(assign) => {
                accusers += 1;
                fail(&mut s, &blob, *assign, FetchFailure::Corrupt)
            }
            None => s.wait(Duration::from_millis(100)),
        };
        assert!(accusers <= 2, "two are enough");
    }
    assert_eq!(accusers, 2);
    assert_eq!(resets(&told).len(), 4);
    let (who, later, _, prefix, _) = lease_in(&told).unwrap();
    assert_ne!(who, host(0));
    assert_eq!(prefix, 1);
    assert!(later > epoch);
}

#[test]
fn attack_one_accuser_does_not_discard_a_chain() {
    let (mut s, blob) = (Script::new(options()), Blob::new(10, 1));
    (0..4).for_each(|n| drop(s.join(host(n))));
    let epoch = lease_in(&s.want(host(0), &blob.key(), blob.none())).unwrap().1;
    (1..4).for_each(|n| drop(s.want(host(n), &blob.key(), blob.none())));
    for piece in 0..4 {
        let told = s.read(host(0), &blob, epoch, piece);
        for assign in assigns_in(&told) {
            let told = match assign.2 == host(3) {
                true => fail(&mut s, &blob, assign, FetchFailure::Corrupt),
                false => s.verified(assign.2, &blob.key(), assign.0, PieceFrom::Peer(assign.1)),
            };
            assert!(resets(&told).is_empty());
        }
    }
    let bodies = [HostBody::ChainFalse { epoch }, HostBody::ChainFalse { epoch }];
    assert!(bodies.into_iter().all(|body| resets(&s.say(host(3), &blob.key(), body)).is_empty()));
    assert_eq!(s.scheduler.summary().counters.chain_resets, 0);
}

#[test]
fn a_closed_chain_that_was_false_is_discarded_once_a_source_compared() {
    let (mut s, blob) = (Script::new(options()), Blob::new(3, 1));
    (0..4).for_each(|n| drop(s.join(host(n))));
    s.hold(host(0), &blob.key(), blob.all(), true);
    let told = s.want(host(1), &blob.key(), blob.none());
    s.want(host(2), &blob.key(), blob.none());
    let (_, SchedulerBody::WantChain { epoch, .. }) = told[0] else { panic!("{told:?}") };
    let mut states = blob.states.clone();
    states[1] = blob.states[2];
    let body = HostBody::Chain { epoch, boundary: 0, states, closed: true };
    let mut told = s.say(host(0), &blob.key(), body);
    assert!(s.scheduler.summary().blobs[0].closed);
    let mut rounds = 0;
    let lease = loop {
        rounds += 1;
        assert!(rounds < 200, "{told:?}");
        if let Some(lease) = lease_in(&told) {
            break lease;
        }
        let assigns = assigns_in(&told);
        told = s.wait(Duration::from_millis(50));
        for assign in assigns {
            told.extend(fail(&mut s, &blob, assign, FetchFailure::Corrupt));
        }
    };
    let told = s.say(lease.0, &blob.key(), HostBody::ChainFalse { epoch: lease.1 });
    assert_eq!(resets(&told).len(), 3, "{told:?}");
    let (_, _, missing, prefix, _) = lease_in(&told).unwrap();
    assert_eq!((missing, prefix), (blob.all(), 1));
    // Who vouched for it is not believed again so soon.
    s.hold(host(0), &blob.key(), blob.all(), true);
    assert!(
        !s.wait(Duration::from_secs(1))
            .iter()
            .any(|(to, body)| { *to == host(0) && matches!(body, SchedulerBody::WantChain { .. }) })
    );
}

#[test]
fn news_of_pieces_from_before_a_reset_are_not_believed() {
    let (mut s, blob) = (Script::new(options()), Blob::new(10, 1));
    (0..2).for_each(|n| drop(s.join(host(n))));
    let epoch = lease_in(&s.want(host(0), &blob.key(), blob.none())).unwrap().1;
    s.want(host(1), &blob.key(), blob.none());
    s.read(host(0), &blob, epoch, 0);
    let told = s.say(host(0), &blob.key(), HostBody::ChainFalse { epoch });
    assert_eq!(resets(&told), {
        let mut both = vec![host(0), host(1)];
        both.sort();
        both
    });
    s.verified(host(1), &blob.key(), 0, PieceFrom::Peer(host(0)));
    assert_eq!(s.scheduler.summary().blobs[0].pieces_held, 0);
    // Nor when the new chain says how to verify them.
    let (source, epoch, ..) = lease_in(&told).unwrap();
    let states = vec![blob.states[1]];
    s.say(source, &blob.key(), HostBody::Chain { epoch, boundary: 1, states, closed: false });
    let other = host(u64::from(source == host(0)));
    s.verified(other, &blob.key(), 0, PieceFrom::Origin);
    assert_eq!(s.scheduler.summary().blobs[0].pieces_held, 0);
    s.want(other, &blob.key(), blob.none());
    s.verified(other, &blob.key(), 0, PieceFrom::Origin);
    assert_eq!(s.scheduler.summary().blobs[0].pieces_held, 1);
}

/// A source told false states and left; then a host shows up that has the blob proven, and nobody else can read it.
#[test]
fn the_proof_prevails_over_a_chain_that_nobody_proved() {
    for claims_early in [true, false] {
        let (mut s, blob) = (Script::new(options()), Blob::new(6, 1));
        (0..3).for_each(|n| drop(s.join(host(n))));
        let mut told = s.want(host(0), &blob.key(), blob.none());
        let epoch = lease_in(&told).unwrap().1;
        s.want_with(host(1), &blob.key(), blob.none(), Credential::None);
        let states = vec![blob.states[5], blob.states[4]];
        s.say(host(0), &blob.key(), HostBody::Chain { epoch, boundary: 1, states, closed: false });
        let why = LeaseFailure::Refused;
        if !claims_early {
            s.say(host(0), &blob.key(), HostBody::LeaseReturned { epoch, why: why.clone() });
        }
        told = s.hold(host(2), &blob.key(), blob.all(), true);
        let mut closed = false;
        for _ in 0..20 {
            for (to, body) in std::mem::take(&mut told) {
                told.extend(match body {
                    SchedulerBody::WantChain { epoch, .. } => {
                        let states = blob.states.clone();
                        s.say(to, &blob.key(), HostBody::Chain { epoch, boundary: 0, states, closed: true })
                    }
                    SchedulerBody::ChainReset { .. } if to == host(2) => {
                        s.hold(host(2), &blob.key(), blob.all(), true)
                    }
                    _ => continue,
                });
            }
            if claims_early && !closed {
                let why = why.clone();
                told.extend(s.say(host(0), &blob.key(), HostBody::LeaseReturned { epoch, why }));
            }
            told.extend(s.wait(Duration::from_millis(100)));
            closed = s.scheduler.summary().blobs[0].closed;
        }
        assert!(closed, "claims early: {claims_early}");
    }
}

#[test]
fn a_source_whose_blob_another_has_proven_reads_no_further() {
    let (mut s, blob) = (Script::new(options()), Blob::new(10, 1));
    (0..3).for_each(|n| drop(s.join(host(n))));
    let (_, epoch, ..) = lease_in(&s.want(host(0), &blob.key(), blob.none())).unwrap();
    s.read(host(0), &blob, epoch, 0);
    let told = s.hold(host(1), &blob.key(), blob.all(), true);
    let [(_, SchedulerBody::WantChain { epoch: asked, .. })] = told.as_slice() else { panic!("{told:?}") };
    let body = HostBody::Chain { epoch: *asked, boundary: 0, states: blob.states.clone(), closed: true };
    let told = s.say(host(1), &blob.key(), body);
    assert!(told.contains(&(host(0), SchedulerBody::Revoke { epoch })), "{told:?}");
    // If the prover dies, there is one source again, not two.
    let told = s.leave(host(1));
    assert_eq!(lease_in(&told).unwrap().0, host(0), "{told:?}");
}

#[test]
fn who_told_states_of_a_false_chain_is_not_asked_for_them_again_while_a_source_can_read() {
    let (mut s, blob) = (Script::new(options()), Blob::new(10, 1));
    (0..2).for_each(|n| drop(s.join(host(n))));
    // Host 1 holds pieces that an origin changed on their way to it, and states that go with them.
    let wrong = [vec![blob.states[0]], Blob::new(10, 2).states[1..4].to_vec()].concat();
    let none = Credential::None;
    let told = s.want_with(host(1), &blob.key(), set(10, 0..3), none);
    assert!(matches!(told[..], [(_, SchedulerBody::WantChain { .. })]), "{told:?}");
    let SchedulerBody::WantChain { epoch, .. } = told[0].1.clone() else { panic!("{told:?}") };
    let body = HostBody::Chain { epoch, boundary: 1, states: wrong[1..].to_vec(), closed: false };
    s.say(host(1), &blob.key(), body);
    let (_, epoch, missing, prefix, _) = lease_in(&s.want(host(0), &blob.key(), blob.none())).unwrap();
    assert_eq!((missing, prefix), (set(10, 3..10), 4));
    // The source comes to the end, and the digest is another; it starts over.
    let mut told = s.say(host(0), &blob.key(), HostBody::ChainFalse { epoch });
    told.extend(s.want_with(host(1), &blob.key(), set(10, 0..3), none));
    assert!(!told.iter().any(|(_, body)| matches!(body, SchedulerBody::WantChain { .. })), "{told:?}");
    let (who, _, missing, prefix, _) = lease_in(&told).unwrap();
    assert_eq!((who, missing, prefix), (host(0), blob.all(), 1), "all is read anew");
    // If nobody can read, its word is better than nothing.
    let told = s.leave(host(0));
    assert!(matches!(told[..], [(_, SchedulerBody::WantChain { .. })]), "{told:?}");
}
