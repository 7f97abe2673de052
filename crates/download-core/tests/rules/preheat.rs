//! Readers that are no client's: they take what comes, and never turn to the origin by themselves.

use crate::bed::{Bed, failures, fetches, held, options, reads, said};
use download_core::{Effect, Event, LinkState, Options};
use std::time::Duration;
use types::{BlobFailure, Credential, HostBody, LeaseFailure, Priority, SchedulerBody};

/// Longer than any reader waits.
const LONG: Duration = Duration::from_secs(3600);

fn preheating(link: LinkState, credential: Credential) -> (Bed, Vec<Effect>) {
    let mut bed = Bed::new(4, link, credential);
    let effects = bed.join_as(1, 0..bed.layout.size(), Priority::Preheat);
    (bed, effects)
}

fn priorities(effects: &[Effect]) -> Vec<Priority> {
    let want = |body: &&HostBody| match body {
        HostBody::Want { priority, .. } => Some(*priority),
        _ => None,
    };
    said(effects).iter().filter_map(want).collect()
}

#[test]
fn it_is_wanted_as_a_preheat_until_a_client_comes() {
    let (mut bed, effects) = preheating(LinkState::Up, Credential::Anonymous);
    assert_eq!(priorities(&effects), [Priority::Preheat]);
    let effects = bed.join(2, 0..bed.layout.size());
    assert_eq!(priorities(&effects), [Priority::Waiting], "somebody waits now");
    assert!(priorities(&bed.leave(2)).is_empty(), "a client that reads part by part comes again at once");
    assert!(priorities(&bed.join(3, 0..bed.layout.size())).is_empty());
    bed.leave(3);
    assert_eq!(priorities(&bed.pass(options().linger)), [Priority::Preheat], "and nobody any more");
}

#[test]
fn it_does_not_linger_when_it_is_called_off() {
    let (mut bed, _) = preheating(LinkState::Up, Credential::Anonymous);
    assert_eq!(bed.leave(1), [Effect::Send(HostBody::Leave), Effect::Stop]);
    // A client that leaves may come back, also to what was preheated before.
    let (mut bed, _) = preheating(LinkState::Up, Credential::Anonymous);
    bed.join(2, 0..bed.layout.size());
    bed.leave(1);
    assert!(!bed.leave(2).contains(&Effect::Stop));
    assert!(bed.pass(options().linger).contains(&Effect::Stop));
}

#[test]
fn without_a_scheduler_it_waits_for_one() {
    for link in [LinkState::Down, LinkState::Silent] {
        let (mut bed, mut effects) = preheating(link, Credential::Anonymous);
        effects.extend(bed.pass(LONG));
        assert!(effects.is_empty(), "{link:?}: {effects:?}");
        let effects = bed.event(Event::Link(LinkState::Up));
        assert_eq!(priorities(&effects), [Priority::Preheat]);
    }
}

#[test]
fn it_never_loses_patience_and_is_never_called_blocked() {
    let (mut bed, _) = preheating(LinkState::Up, Credential::Anonymous);
    let effects = bed.pass(LONG);
    assert!(reads(&effects).is_empty(), "{effects:?}");
    assert!(!said(&effects).iter().any(|body| matches!(body, HostBody::Position { blocked: true, .. })));
    // A client beside it does.
    bed.join(2, 0..bed.layout.size());
    assert!(!reads(&bed.pass(Options::default().patience * 4)).is_empty());
}

#[test]
fn a_scheduler_that_has_no_source_is_waited_for() {
    let (mut bed, _) = preheating(LinkState::Up, Credential::Anonymous);
    let mut effects = bed.hear(SchedulerBody::Failed { why: BlobFailure::NoEligibleHost });
    effects.extend(bed.pass(LONG));
    assert!(reads(&effects).is_empty() && !effects.contains(&Effect::Stop), "{effects:?}");
    // Where there is no right, and nobody else has one, there is nothing to wait for.
    let (mut bed, _) = preheating(LinkState::Up, Credential::None);
    let effects = bed.hear(SchedulerBody::Failed { why: BlobFailure::NoEligibleHost });
    assert!(effects.contains(&Effect::Stop), "{effects:?}");
}

/// The origin failed an hour ago, when nobody waited: a client finds out anew, for as long as a client does.
#[test]
fn a_client_does_not_inherit_what_failed_before_it_came() {
    let (mut bed, _) = preheating(LinkState::Up, Credential::Anonymous);
    let (read, ..) = reads(&bed.lease(1, 0..4, 0, 4))[0];
    bed.ended(read, Err(LeaseFailure::Throttled));
    bed.event(Event::Link(LinkState::Silent));
    bed.pass(LONG);
    let mut effects = bed.join(2, 0..bed.layout.size());
    effects.extend(bed.pass(options().origin_patience / 2));
    assert!(!reads(&effects).is_empty() && failures(&effects).is_empty(), "{effects:?}");
}

#[test]
fn it_reads_under_a_lease_and_from_peers_to_the_end() {
    let mut bed = Bed::with(2, LinkState::Up, Credential::Anonymous, [], options());
    bed.join_as(1, 0..bed.layout.size(), Priority::Preheat);
    let (fetch, ..) = fetches(&bed.assign(1, 7, 1))[0];
    assert_eq!(held(&bed.stored(fetch)), [1]);
    assert!(!reads(&bed.lease(2, 0..1, 0, 2)).is_empty(), "the source reads for all");
}
