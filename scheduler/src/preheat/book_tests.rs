//! What hosts are told of preheats, and what becomes of these, without a driver.

use super::*;
use crate::preheat::view::{FAILURES_MAX, HostCounts, ROWS_MAX};
use proto::{PreheatBlob, PreheatImage};
use types::{Digest, Label, Registry};

const FIRST: u64 = 1_764_485_000_000;

fn host(n: u32) -> HostId {
    HostId::of_peer_id(&n.to_be_bytes())
}

fn candidate(n: u32) -> Candidate {
    let platform = Label::new("linux/amd64");
    Candidate { host: host(n), zone: Label::new("z"), platform, protocol: PREHEAT_PROTOCOL }
}

/// One order of two blobs, 30 bytes together, for these hosts.
fn plan(hosts: impl IntoIterator<Item = u32>) -> Plan {
    let blob = |size: u64| PreheatBlob { digest: Digest::sha256(&size.to_be_bytes()), size };
    let image = PreheatImage {
        registry: Registry::parse("registry.test").unwrap(),
        repository: "team/app".to_owned(),
        manifests: vec![Digest::sha256(b"m")],
        blobs: vec![blob(10), blob(20)],
    };
    let hosts = hosts.into_iter().map(|n| (candidate(n), 0)).collect();
    Plan { images: Vec::new(), orders: vec![vec![image]], hosts }
}

fn report(number: u64, held_bytes: u64, ended: bool, failure: &str) -> PreheatReport {
    PreheatReport { number, held_bytes, held_blobs: 1, ended, failure: failure.to_owned() }
}

/// A book at a moment.
struct Bed {
    book: Book,
    figures: Figures,
    now: Moment,
}

impl Bed {
    fn new() -> Self {
        let figures = Figures::new();
        let now = Moment { at: Instant::now(), unix: 1_764_485_000 };
        Self { book: Book::new(FIRST, figures.clone()), figures, now }
    }

    fn pass(&mut self, time: Duration) {
        self.now.at += time;
        self.now.unix += time.as_secs();
    }

    /// With all of its hosts connected.
    fn begin(&mut self, hosts: impl IntoIterator<Item = u32>) -> u64 {
        self.book.begin(self.now, plan(hosts), |_| Some(PREHEAT_PROTOCOL)).unwrap()
    }

    /// Who is told now of which preheat.
    fn tell(&mut self) -> Vec<(HostId, u64)> {
        let told = self.book.tell(self.now.at);
        told.into_iter().map(|(host, order)| (host, order.number)).collect()
    }

    /// When the next ones are told, counted from now.
    fn next_telling(&self) -> Option<Duration> {
        self.book.next_telling().map(|at| at - self.now.at)
    }

    /// Time passes, and no operator has removed anybody.
    fn lapse(&mut self) {
        self.book.lapse(self.now, |_| false);
    }

    fn heard(&mut self, n: u32, report: &PreheatReport) -> bool {
        self.book.heard(self.now, host(n), report)
    }

    fn join(&mut self, n: u32, protocol: u32) -> Vec<u64> {
        let orders = self.book.joined(self.now, Candidate { protocol, ..candidate(n) });
        orders.iter().map(|order| order.number).collect()
    }

    fn view(&self, number: u64) -> PreheatView {
        self.book.view(number).unwrap()
    }

    fn states(&self, number: u64) -> Vec<(String, State)> {
        let rows = self.view(number).rows.unwrap();
        let mut states: Vec<_> = rows.into_iter().map(|row| (row.host, row.state)).collect();
        states.sort_by(|a, b| a.0.cmp(&b.0));
        states
    }
}

fn counts(total: u32, done: u32, failed: u32, away: u32) -> HostCounts {
    HostCounts { total, done, failed, away }
}

#[test]
fn a_preheat_runs_until_its_last_host_has_ended() {
    let mut bed = Bed::new();
    assert_eq!(bed.begin([1, 2]), FIRST);
    assert_eq!(bed.tell(), [(host(1), FIRST), (host(2), FIRST)]);
    assert!(!bed.heard(1, &report(FIRST, 10, false, "")));
    let view = bed.view(FIRST);
    assert_eq!((view.state, view.hosts), (State::Running, counts(2, 0, 0, 0)));
    assert_eq!((view.bytes, view.held_bytes), (60, 10));
    assert_eq!(bed.figures.now(), (1, [0, 0, 0]));
    assert!(bed.heard(1, &report(FIRST, 30, true, "")), "its end is acknowledged");
    assert!(bed.heard(1, &report(FIRST, 30, true, "")), "and again, if it has not heard that");
    bed.pass(Duration::from_secs(7));
    // More than there is, it does not hold.
    assert!(bed.heard(2, &report(FIRST, 99, true, "")));
    let view = bed.view(FIRST);
    assert_eq!((view.state, view.held_bytes, view.hosts), (State::Done, 60, counts(2, 2, 0, 0)));
    assert_eq!((view.created, view.ended), (1_764_485_000, Some(1_764_485_007)));
    assert_eq!(bed.figures.now(), (0, [2, 0, 0]));
    assert!(bed.join(1, PREHEAT_PROTOCOL).is_empty(), "it is over");
}

#[test]
fn one_host_that_fails_fails_it_and_says_why() {
    let mut bed = Bed::new();
    let number = bed.begin([1, 2]);
    assert!(!bed.heard(1, &report(number, 10, false, "sha256:ab: the registry does not have it")));
    let row = &bed.view(number).rows.unwrap()[0];
    assert_eq!((row.state, row.why.is_some()), (State::Running, true), "it is seen before its end");
    assert!(bed.view(number).failures.is_empty());
    bed.heard(1, &report(number, 10, true, "sha256:ab: the registry does not have it"));
    bed.heard(2, &report(number, 30, true, ""));
    let view = bed.view(number);
    assert_eq!((view.state, view.hosts), (State::Failed, counts(2, 1, 1, 0)));
    let [failure] = &view.failures[..] else { panic!("{view:?}") };
    assert_eq!((failure.host.clone(), failure.why.contains("does not have it")), (host(1).to_string(), true));
    assert_eq!(view.rows.unwrap()[0].host, host(1).to_string(), "the failed ones are first");
}

#[test]
fn a_host_that_comes_back_is_told_again_unless_it_is_away_for_too_long() {
    let mut bed = Bed::new();
    let number = bed.begin([1, 2, 3]);
    for n in [1, 2] {
        bed.book.left(bed.now, host(n));
    }
    assert_eq!(bed.view(number).hosts, counts(3, 0, 0, 2));
    bed.pass(Duration::from_secs(200));
    assert_eq!(bed.join(2, PREHEAT_PROTOCOL), [number]);
    assert_eq!(bed.view(number).hosts, counts(3, 0, 0, 1));
    bed.pass(Duration::from_secs(99));
    bed.lapse();
    assert_eq!(bed.view(number).hosts.failed, 0);
    bed.pass(Duration::from_secs(1));
    bed.lapse();
    let view = bed.view(number);
    assert_eq!((view.hosts, &*view.failures[0].why), (counts(3, 0, 1, 0), "it has been away for 5 min"));
    assert!(bed.join(1, PREHEAT_PROTOCOL).is_empty());
    assert!(bed.heard(1, &report(number, 30, false, "")), "it is over for this host");
    assert_eq!(bed.view(number).hosts.failed, 1);
    for n in [2, 3] {
        bed.heard(n, &report(number, 30, true, ""));
    }
    assert_eq!(bed.view(number).state, State::Failed);
    assert_eq!(bed.figures.now(), (0, [2, 1, 0]));
}

#[test]
fn a_host_that_left_while_images_were_resolved_is_told_when_it_comes_back() {
    let mut bed = Bed::new();
    let connected = |id: HostId| (id != host(1)).then_some(PREHEAT_PROTOCOL);
    let number = bed.book.begin(bed.now, plan([1, 2]), connected).unwrap();
    assert_eq!(bed.tell(), [(host(2), number)]);
    assert_eq!(bed.view(number).hosts, counts(2, 0, 0, 1));
    assert_eq!(bed.join(1, PREHEAT_PROTOCOL), [number]);
}

/// All of a large cluster would ask in the same instant.
#[test]
fn hosts_are_told_a_few_at_a_time_and_each_once() {
    let mut bed = Bed::new();
    assert_eq!(bed.next_telling(), None);
    let first = bed.begin(0..70);
    let mut told = bed.tell();
    assert_eq!((told.len(), bed.next_telling()), (TOLD_AT_ONCE, Some(TELL_PAUSE)));
    let second = bed.begin(100..140);
    assert!(bed.tell().is_empty(), "there is one pace for all");
    bed.pass(TELL_PAUSE);
    let more = bed.tell();
    assert_eq!(more.iter().filter(|(_, number)| *number == first).count(), 20, "the first is told first");
    assert_eq!((more.len(), bed.next_telling()), (TOLD_AT_ONCE, Some(TELL_PAUSE)));
    told.extend(more);
    bed.pass(TELL_PAUSE);
    told.extend(bed.tell());
    assert_eq!(bed.next_telling(), None, "no timer is needed any more");
    told.sort_unstable();
    let expected = (0..70).map(|n| (host(n), first)).chain((100..140).map(|n| (host(n), second)));
    let mut expected: Vec<(HostId, u64)> = expected.collect();
    expected.sort_unstable();
    assert_eq!(told, expected);
}

#[test]
fn who_comes_back_before_its_turn_is_told_once() {
    let mut bed = Bed::new();
    let number = bed.begin(0..60);
    let told = bed.tell();
    let untold: Vec<u32> = (0..60).filter(|n| !told.contains(&(host(*n), number))).collect();
    let [again, away, waits] = [untold[0], untold[1], untold[2]];
    for n in [again, away] {
        bed.book.left(bed.now, host(n));
    }
    assert_eq!(bed.join(again, PREHEAT_PROTOCOL), [number]);
    bed.pass(TELL_PAUSE);
    let hosts: Vec<HostId> = bed.tell().into_iter().map(|(host, _)| host).collect();
    assert_eq!((hosts.len(), hosts.contains(&host(waits))), (8, true));
    assert!(!hosts.contains(&host(again)) && !hosts.contains(&host(away)));
    assert_eq!(bed.join(away, PREHEAT_PROTOCOL), [number]);
}

#[test]
fn of_a_cancelled_preheat_nobody_is_told_any_more() {
    let mut bed = Bed::new();
    let (first, second) = (bed.begin(0..60), bed.begin([100]));
    let mut told: Vec<HostId> = bed.tell().into_iter().map(|(host, _)| host).collect();
    let mut stopped = bed.book.cancel(bed.now, first).unwrap();
    told.sort_unstable();
    stopped.sort_unstable();
    assert_eq!(stopped, told, "who was not told has nothing to stop");
    bed.pass(TELL_PAUSE);
    assert_eq!(bed.tell(), [(host(100), second)]);
    assert_eq!(bed.next_telling(), None);
}

#[test]
fn a_host_that_an_operator_has_removed_fails_at_once() {
    let mut bed = Bed::new();
    let number = bed.begin([1, 2, 3]);
    bed.book.removed(bed.now, host(1));
    let view = bed.view(number);
    assert_eq!((view.hosts, &*view.failures[0].why), (counts(3, 0, 1, 0), "an operator has removed it"));
    // One that was away before, or left while images were resolved.
    bed.book.left(bed.now, host(2));
    bed.lapse();
    assert_eq!(bed.view(number).hosts, counts(3, 0, 1, 1));
    bed.book.lapse(bed.now, |id| id == host(2) || id == host(3));
    assert_eq!(bed.view(number).hosts, counts(3, 0, 2, 0), "who is still there goes on");
    bed.heard(3, &report(number, 30, true, ""));
    let view = bed.view(number);
    assert_eq!((view.state, view.failures[1].why.as_str()), (State::Failed, "an operator has removed it"));
}

#[test]
fn one_host_with_many_reasons_leaves_room_for_those_of_others() {
    let mut bed = Bed::new();
    let number = bed.begin([1, 2, 3]);
    for n in 0..100 {
        bed.heard(1, &report(number, 0, false, &format!("reason {n}")));
    }
    bed.heard(2, &report(number, 0, true, "the disk is full"));
    bed.book.removed(bed.now, host(1));
    let why = |bed: &Bed, n: u32| {
        let rows = bed.view(number).rows.unwrap();
        rows.into_iter().find(|row| row.host == host(n).to_string()).unwrap().why
    };
    assert_eq!(why(&bed, 1).as_deref(), Some("reason 0"), "what went wrong first");
    assert_eq!(why(&bed, 2).as_deref(), Some("the disk is full"));
    // A daemon that began anew had no trouble in the end.
    bed.heard(3, &report(number, 0, false, "no room"));
    bed.heard(3, &report(number, 30, true, ""));
    assert_eq!((why(&bed, 3), bed.view(number).hosts), (None, counts(3, 1, 2, 0)));
}

#[test]
fn a_blob_that_two_repositories_have_counts_once() {
    let mut bed = Bed::new();
    let mut twice = plan([1]);
    let mirror = PreheatImage { repository: "mirror/app".to_owned(), ..twice.orders[0][0].clone() };
    twice.orders[0].push(mirror);
    let number = bed.book.begin(bed.now, twice, |_| Some(PREHEAT_PROTOCOL)).unwrap();
    let row = &bed.view(number).rows.unwrap()[0];
    assert_eq!((row.bytes, row.blobs), (30, 2));
}

#[test]
fn a_host_that_comes_back_with_an_older_protocol_fails() {
    let mut bed = Bed::new();
    let number = bed.begin([1]);
    assert!(bed.join(1, PREHEAT_PROTOCOL - 1).is_empty());
    let view = bed.view(number);
    assert_eq!(view.state, State::Failed);
    assert_eq!(view.failures[0].why, "speaks an older protocol; it needs a newer dfdaemon");
    let number = bed.book.begin(bed.now, plan([1]), |_| Some(1)).unwrap();
    assert_eq!((bed.tell().len(), bed.view(number).state), (0, State::Failed));
    assert_eq!(bed.figures.now(), (0, [0, 2, 0]));
}

#[test]
fn a_cancelled_one_is_over_for_all_and_one_that_has_ended_stays_as_it_is() {
    let mut bed = Bed::new();
    let number = bed.begin([1, 2, 3]);
    bed.tell();
    bed.heard(1, &report(number, 30, true, ""));
    bed.book.left(bed.now, host(3));
    assert_eq!(bed.book.cancel(bed.now, number), Some(vec![host(2)]), "who is there, and at work");
    let expected = [(1, State::Done), (2, State::Cancelled), (3, State::Cancelled)];
    let mut expected = expected.map(|(n, state)| (host(n).to_string(), state));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(bed.states(number), expected);
    assert_eq!(bed.view(number).state, State::Cancelled);
    assert!(bed.join(3, PREHEAT_PROTOCOL).is_empty());
    assert!(bed.heard(3, &report(number, 10, false, "")));
    let before = bed.view(number);
    bed.pass(Duration::from_secs(1));
    assert_eq!(bed.book.cancel(bed.now, number), Some(Vec::new()));
    assert_eq!(bed.view(number), before);
    assert_eq!(bed.book.cancel(bed.now, number + 1), None);
    assert_eq!(bed.figures.now(), (0, [1, 0, 2]));
}

#[test]
fn what_nobody_knows_is_over() {
    let mut bed = Bed::new();
    assert!(bed.heard(1, &report(17, 0, false, "")), "a scheduler that started anew");
    let number = bed.begin([1]);
    assert!(bed.heard(2, &report(number, 0, false, "")), "another host's order");
    assert!(bed.heard(1, &report(number + 1, 0, false, "")));
    assert!(!bed.heard(1, &report(number, 0, false, "")));
}

#[test]
fn so_many_run_and_so_many_are_remembered() {
    let mut bed = Bed::new();
    let running: Vec<u64> = (0..RUNNING_MAX).map(|_| bed.begin([1, 2])).collect();
    assert!(bed.book.is_full());
    let refused = bed.book.begin(bed.now, plan([1]), |_| Some(PREHEAT_PROTOCOL)).unwrap_err();
    assert_eq!(refused.to_string(), "64 preheats run already: wait until one has ended, or cancel one");
    let (first, last) = (running[0], running[RUNNING_MAX - 1]);
    bed.book.cancel(bed.now, last).unwrap();
    for _ in 0..KEPT_MAX {
        let number = bed.begin([3]);
        bed.heard(3, &report(number, 30, true, ""));
    }
    let list = bed.book.list();
    assert_eq!(list.len(), KEPT_MAX);
    assert!(list.iter().all(|view| view.rows.is_none()));
    assert!(list[0].id > list[1].id, "the newest first");
    assert!(bed.book.view(first).is_some(), "it runs");
    assert!(bed.book.view(last).is_none(), "the oldest that has ended");
    for number in &running[..RUNNING_MAX - 1] {
        bed.book.cancel(bed.now, *number).unwrap();
    }
    for _ in 0..KEPT_MAX {
        let number = bed.begin([3]);
        bed.heard(3, &report(number, 30, true, ""));
    }
    assert_eq!(bed.book.hosts.len(), 1, "hosts that no row names are let go");
}

#[test]
fn of_many_hosts_a_view_shows_some_and_sums_all() {
    let mut bed = Bed::new();
    let count = 10_000;
    let number = bed.begin(0..count);
    for n in 0..count {
        let failure = if n % 100 == 0 { "the disk is full" } else { "" };
        assert!(bed.heard(n, &report(number, 20, true, failure)));
    }
    let view = bed.view(number);
    assert_eq!((view.state, view.hosts), (State::Failed, counts(count, count - 100, 100, 0)));
    assert_eq!((view.bytes, view.held_bytes), (u64::from(count) * 30, u64::from(count) * 20));
    assert_eq!(view.failures.len(), FAILURES_MAX);
    let rows = view.rows.unwrap();
    assert_eq!(rows.len(), ROWS_MAX);
    assert!(rows[..100].iter().all(|row| row.state == State::Failed));
    assert_eq!(bed.book.hosts.len(), ROWS_MAX, "what is not shown is let go");
}
