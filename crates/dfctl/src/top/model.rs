//! What `top` shows: made from the daemon's latest answer and those before it. Neither sockets nor clocks nor a terminal
//! are known here.

use super::track::Track;
use crate::Error;
use crate::answer::{Blob, Ended, Host, Status, Traffic};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// A moment: on the clock that measures, and on the wall's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) since_start: Duration,
    pub(super) clock: SystemTime,
}

/// Which hosts come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Those that get most from others.
    Down,
    /// Those that give most to others.
    Up,
    /// Those that read most from the origin.
    Origin,
    /// By their ids.
    Id,
}

impl Order {
    /// What is compared; hosts without a rate come last, and among equals the id decides.
    fn key(self, line: &HostLine) -> Option<u64> {
        let rate = line.per_second?;
        match self {
            Self::Down => Some(rate.peers()),
            Self::Up => Some(rate.uploaded),
            Self::Origin => Some(rate.origin),
            Self::Id => None,
        }
    }
}

/// A host with what it moves.
#[derive(Debug)]
pub(super) struct HostLine {
    pub(super) host: Host,
    /// Not known of a host that the answer before did not have.
    pub(super) per_second: Option<Traffic>,
    /// Begins anew when the host was away for an answer.
    track: Track,
}

/// Since when no answer comes, and why.
#[derive(Debug)]
pub(super) struct Silence {
    pub(super) since: SystemTime,
    pub(super) why: String,
}

/// The picture.
#[derive(Debug)]
pub(super) struct Model {
    /// When the latest answer came.
    pub(super) moment: Moment,
    /// The asked host's id.
    pub(super) asked: String,
    pub(super) scheduler: String,
    /// Those that are listed, in [`Self::order`].
    pub(super) hosts: Vec<HostLine>,
    /// How many are connected, listed or not.
    pub(super) hosts_total: usize,
    /// Blobs that some host wants, those that most want first.
    pub(super) under_way: Vec<Blob>,
    pub(super) blobs_listed: usize,
    pub(super) blobs_total: usize,
    /// Rollouts that have ended, the latest first.
    pub(super) ended: Vec<Ended>,
    /// Of all hosts together; not known before the second answer.
    pub(super) per_second: Option<Traffic>,
    pub(super) order: Order,
    pub(super) silence: Option<Silence>,
    /// What the hosts moved, as far as it was seen.
    track: Track,
}

impl Model {
    /// From the first answer: no rates yet.
    pub(super) fn new(status: Status, moment: Moment) -> Self {
        let mut model = Self {
            moment,
            asked: String::new(),
            scheduler: String::new(),
            hosts: Vec::new(),
            hosts_total: 0,
            under_way: Vec::new(),
            blobs_listed: 0,
            blobs_total: 0,
            ended: Vec::new(),
            per_second: None,
            order: Order::Down,
            silence: None,
            track: Track::begin(moment.since_start),
        };
        // No time has passed since: that leaves the rates unknown.
        model.observe(status, moment);
        model
    }

    /// The next answer.
    pub(super) fn observe(&mut self, status: Status, moment: Moment) {
        let Status { host, scheduler, hosts, hosts_total, blobs, blobs_total, rollouts } = status;
        let moved = self.take_hosts(hosts, moment.since_start);
        self.track.add(moment.since_start, &moved);
        self.per_second = self.track.per_second();
        self.moment = moment;
        self.silence = None;
        self.asked = host;
        self.scheduler = scheduler;
        self.hosts_total = at_least(hosts_total, self.hosts.len());
        self.blobs_listed = blobs.len();
        self.blobs_total = at_least(blobs_total, blobs.len());
        self.under_way = blobs.into_iter().filter(|blob| blob.wanting > 0).collect();
        self.under_way.sort_by(|a, b| b.wanting.cmp(&a.wanting).then_with(|| a.digest.cmp(&b.digest)));
        self.ended = rollouts;
        self.ended.sort_by(|a, b| a.ended_seconds_ago.total_cmp(&b.ended_seconds_ago));
    }

    /// No answer came; the picture stays as it is.
    pub(super) fn failed(&mut self, error: &Error, clock: SystemTime) {
        let since = self.silence.as_ref().map_or(clock, |silence| silence.since);
        self.silence = Some(Silence { since, why: error.to_string() });
    }

    /// Another order of the hosts.
    pub(super) fn sort(&mut self, order: Order) {
        self.order = order;
        self.hosts.sort_by(|a, b| order.key(b).cmp(&order.key(a)).then_with(|| a.host.id.cmp(&b.host.id)));
    }

    /// Of a thousand bytes that came to hosts since the start, how many were read from registries; nothing if none came.
    pub(super) fn origin_permille(&self) -> Option<u64> {
        let moved = self.track.all();
        let registries = u128::from(moved.registries());
        let all = registries + u128::from(moved.peers());
        (all > 0).then(|| u64::try_from(registries * 1000 / all).unwrap_or(1000))
    }

    /// Takes the hosts over, and tells what those moved since the last answer that were in it.
    fn take_hosts(&mut self, hosts: Vec<Host>, at: Duration) -> Traffic {
        let before = std::mem::take(&mut self.hosts).into_iter();
        let mut before: BTreeMap<String, HostLine> =
            before.map(|line| (line.host.id.clone(), line)).collect();
        let mut all = Traffic::default();
        for host in hosts {
            let track = match before.remove(&host.id) {
                None => Track::begin(at),
                Some(HostLine { host: earlier, mut track, .. }) => {
                    let moved = host.traffic.since(&earlier.traffic);
                    all = all.plus(&moved);
                    track.add(at, &moved);
                    track
                }
            };
            self.hosts.push(HostLine { per_second: track.per_second(), host, track });
        }
        self.sort(self.order);
        all
    }
}

/// An older daemon does not tell how many there are: then there are those that it lists.
fn at_least(total: u32, listed: usize) -> usize {
    usize::try_from(total).unwrap_or(usize::MAX).max(listed)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{at, blob, host, status};
    use super::*;

    fn ids(model: &Model) -> Vec<&str> {
        model.hosts.iter().map(|line| line.host.id.as_str()).collect()
    }

    #[test]
    fn rates_are_differences() {
        let mut model = Model::new(status(&[host("aa", [100, 0, 0, 0, 0, 0, 7])], &[]), at(10));
        assert_eq!((model.per_second, model.hosts[0].per_second), (None, None));
        assert_eq!(model.origin_permille(), None);
        model.observe(status(&[host("aa", [300, 20, 40, 60, 80, 10, 9])], &[]), at(12));
        let rate = model.hosts[0].per_second.unwrap();
        let expected =
            Traffic { origin: 100, fallback: 10, rack: 20, zone: 30, elsewhere: 40, cache: 5, uploaded: 1 };
        assert_eq!((rate, model.per_second), (expected, Some(expected)));
        assert_eq!(model.origin_permille(), Some(1000 * 220 / 400));
        // What comes at the same moment counts as well.
        model.observe(status(&[host("aa", [400, 20, 40, 60, 80, 10, 9])], &[]), at(12));
        assert_eq!(model.hosts[0].per_second.unwrap().origin, 150);
        assert_eq!(model.origin_permille(), Some(1000 * 320 / 500));
    }

    #[test]
    fn a_host_that_began_anew_moved_nothing() {
        let mut model = Model::new(status(&[host("aa", [100, 0, 50, 0, 0, 0, 0])], &[]), at(0));
        model.observe(status(&[host("aa", [10, 0, 60, 0, 0, 0, 0])], &[]), at(1));
        let rate = model.hosts[0].per_second.unwrap();
        assert_eq!((rate.origin, rate.rack), (0, 10));
        model.observe(status(&[host("aa", [16, 0, 60, 0, 0, 0, 0])], &[]), at(2));
        let rate = model.hosts[0].per_second.unwrap();
        assert_eq!((rate.origin, rate.rack), (3, 5), "over both seconds");
    }

    #[test]
    fn a_new_host_has_no_rate_yet() {
        let mut model = Model::new(status(&[host("aa", [0; 7])], &[]), at(0));
        model.observe(status(&[host("aa", [0; 7]), host("bb", [900; 7])], &[]), at(1));
        assert_eq!(ids(&model), ["aa", "bb"], "a rate of nothing is before none");
        assert_eq!((model.hosts[1].per_second, model.per_second), (None, Some(Traffic::default())));
        assert_eq!(model.hosts_total, 2);
        // Who is away for an answer is new again.
        model.observe(status(&[host("bb", [960; 7])], &[]), at(2));
        model.observe(status(&[host("aa", [500; 7]), host("bb", [1020; 7])], &[]), at(3));
        assert_eq!(ids(&model), ["bb", "aa"]);
        assert_eq!(model.hosts[0].per_second.unwrap().origin, 60);
        assert!(model.hosts[1].per_second.is_none());
        assert_eq!(model.per_second.unwrap().origin, 40, "120 bytes in three seconds");
    }

    #[test]
    fn orders() {
        let none = [0; 7];
        let first = [host("cc", none), host("bb", none), host("aa", none), host("dd", none)];
        let mut model = Model::new(status(&first, &[]), at(0));
        let then = [
            host("cc", [5, 0, 1, 1, 1, 0, 0]),
            host("bb", [9, 0, 0, 0, 9, 0, 1]),
            host("aa", [5, 0, 9, 0, 0, 0, 2]),
            host("dd", [0, 99, 0, 0, 0, 99, 0]),
        ];
        model.observe(status(&then, &[]), at(1));
        let table = [
            (Order::Down, ["aa", "bb", "cc", "dd"]),
            (Order::Up, ["aa", "bb", "cc", "dd"]),
            (Order::Origin, ["bb", "aa", "cc", "dd"]),
            (Order::Id, ["aa", "bb", "cc", "dd"]),
        ];
        for (order, expected) in table {
            model.sort(order);
            assert_eq!(ids(&model), expected, "{order:?}");
        }
        // The order stays with the next answer.
        model.sort(Order::Origin);
        model.observe(
            status(&[host("aa", [6, 0, 9, 0, 0, 0, 2]), host("cc", [9, 0, 1, 1, 1, 0, 0])], &[]),
            at(2),
        );
        assert_eq!(ids(&model), ["cc", "aa"]);
    }

    #[test]
    fn blobs_that_are_wanted_and_rollouts_that_ended() {
        let blobs = [blob('a', 1, 2), blob('b', 7, 0), blob('c', 1, 3), blob('0', 0, 2)];
        let mut answer = status(&[], &blobs);
        answer.blobs_total = 9;
        let ended = |ago: f64| Ended {
            digest: format!("sha256:{ago}"),
            size: 1,
            registry: String::new(),
            hosts: 1,
            seconds: 1.0,
            bound_seconds: None,
            ended_seconds_ago: ago,
        };
        answer.rollouts = vec![ended(30.0), ended(2.0)];
        let model = Model::new(answer, at(0));
        let wanting: Vec<_> = model.under_way.iter().map(|blob| (&blob.digest[7..8], blob.wanting)).collect();
        assert_eq!(wanting, [("c", 3), ("0", 2), ("a", 2)]);
        assert_eq!((model.blobs_listed, model.blobs_total), (4, 9));
        let ended: Vec<_> = model.ended.iter().map(|ended| ended.digest.as_str()).collect();
        assert_eq!(ended, ["sha256:2", "sha256:30"]);
    }

    #[test]
    fn silence_is_since_its_first_moment() {
        let mut model = Model::new(status(&[host("aa", [1; 7])], &[]), at(0));
        model.failed(&Error::Unexpected("one".to_owned()), at(1).clock);
        model.failed(&Error::Unexpected("two".to_owned()), at(2).clock);
        let silence = model.silence.as_ref().unwrap();
        assert_eq!((silence.since, silence.why.as_str()), (at(1).clock, "unexpected answer: two"));
        assert_eq!(model.hosts.len(), 1, "the picture stays");
        model.observe(status(&[host("aa", [5; 7])], &[]), at(4));
        assert!(model.silence.is_none());
        assert_eq!(model.hosts[0].per_second.unwrap().origin, 1, "over the whole time");
    }
}
