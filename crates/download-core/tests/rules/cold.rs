//! Readers that begin far from where the chain is.

use crate::bed::{Bed, reads};
use download_core::{Effect, Event, LinkState, ReaderId};
use std::time::Duration;
use types::{ByteRange, Credential};

fn through(effects: &[Effect]) -> Vec<(u64, ByteRange)> {
    let one = |effect: &Effect| match effect {
        Effect::ReadThrough { reader, range } => Some((reader.0, *range)),
        _ => None,
    };
    effects.iter().filter_map(one).collect()
}

fn bytes(pieces: std::ops::Range<u64>) -> ByteRange {
    ByteRange::new(pieces.start * 128, pieces.end * 128).expect("in order")
}

#[test]
fn a_reader_far_ahead_is_read_through_after_a_second() {
    let mut bed = Bed::new(100, LinkState::Up, Credential::Anonymous);
    bed.join(1, 50 * 128..52 * 128);
    assert!(through(&bed.pass(Duration::from_millis(999))).is_empty());
    assert_eq!(through(&bed.pass(Duration::from_millis(2))), [(1, bytes(50..52))]);
    assert!(bed.pass(Duration::from_secs(60)).is_empty(), "it is served");
}

#[test]
fn alone_it_is_read_through_at_once_and_in_bounded_parts() {
    let mut bed = Bed::new(100, LinkState::Down, Credential::Anonymous);
    let effects = bed.join(1, 50 * 128..60 * 128);
    assert_eq!(through(&effects), [(1, bytes(50..54))]);
    assert!(reads(&effects).is_empty());
    let moved = |offset| Event::ReaderMoved { reader: ReaderId(1), offset };
    assert!(bed.event(moved(53 * 128)).is_empty());
    assert_eq!(through(&bed.event(moved(54 * 128))), [(1, bytes(54..58))]);
    assert_eq!(through(&bed.event(moved(58 * 128))), [(1, bytes(58..60))]);
    assert!(bed.event(moved(60 * 128)).is_empty());
}

#[test]
fn only_so_many_at_once() {
    let mut bed = Bed::new(100, LinkState::Down, Credential::Anonymous);
    for reader in 0..2 {
        assert_eq!(through(&bed.join(reader, 50 * 128..52 * 128)).len(), 1);
    }
    assert!(through(&bed.join(2, 50 * 128..52 * 128)).is_empty());
    assert_eq!(through(&bed.leave(0)), [(2, bytes(50..52))]);
}

#[test]
fn a_reader_near_the_chain_is_served_by_it() {
    let mut bed = Bed::new(100, LinkState::Down, Credential::Anonymous);
    let effects = bed.join(1, 4 * 128..5 * 128);
    assert_eq!(reads(&effects)[0].1, 0..2);
    let effects = bed.settle(effects);
    assert!(through(&effects).is_empty());
    assert_eq!(super::bed::held(&effects), [0, 1, 2, 3, 4, 5], "to the end of its stripe, and no further");
}

#[test]
fn readers_that_follow_each_other_are_not_cold() {
    // As a runtime that fetches one layer in parallel, each from a read-ahead further on.
    let mut bed = Bed::new(100, LinkState::Down, Credential::Anonymous);
    let end = bed.layout.size();
    let mut effects = Vec::new();
    for reader in 0..6 {
        effects.extend(bed.join(reader, reader * 4 * 128..end));
    }
    assert!(through(&effects).is_empty());
    assert!(through(&bed.join(9, 40 * 128..end)).len() == 1, "this one is");
    let effects = bed.settle(effects);
    assert!(through(&effects).is_empty());
    assert!(bed.download.is_complete());
}

#[test]
fn a_reader_from_the_start_is_never_read_past_the_proof() {
    let mut bed = Bed::new(100, LinkState::Up, Credential::Anonymous);
    bed.read_whole();
    for piece in 0..20 {
        let (fetch, ..) = super::bed::fetches(&bed.assign(piece, 7, 1))[0];
        bed.stored(fetch);
    }
    bed.event(Event::ReaderMoved { reader: ReaderId(1), offset: 20 * 128 });
    bed.hear(types::SchedulerBody::ChainReset { epoch: types::Epoch(1) });
    let effects = bed.event(Event::Link(LinkState::Silent));
    assert!(through(&effects).is_empty());
    assert_eq!(reads(&effects)[0].1, 0..2);
}

#[test]
fn a_short_tail_is_read_through_rather_than_waiting_for_the_proof() {
    let mut bed = Bed::with(100, LinkState::Up, Credential::Anonymous, [99], super::bed::options());
    let end = bed.layout.size();
    bed.join(1, end - 10..end);
    let effects = bed.pass(Duration::from_millis(1_001));
    assert_eq!(through(&effects), [(1, ByteRange::new(end - 10, end).unwrap())]);
}

#[test]
fn a_chain_that_comes_soon_is_waited_for() {
    let mut bed = Bed::new(100, LinkState::Up, Credential::Anonymous);
    bed.read_whole();
    bed.join(2, 17 * 128..18 * 128);
    for piece in 0..12 {
        let (fetch, ..) = super::bed::fetches(&bed.assign(piece, 7, 1))[0];
        let effects = bed.pass(Duration::from_millis(100));
        assert!(through(&effects).is_empty());
        assert!(through(&bed.stored(fetch)).is_empty(), "at ten pieces a second, after {piece}");
    }
    assert_eq!(through(&bed.pass(Duration::from_secs(3))).len(), 1, "the pace did not last");
}
