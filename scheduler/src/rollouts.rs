//! Rollouts: a blob that several hosts want at the same time, from the first want to the last host that has all of it,
//! and how near each came to the least time that the hosts' links allow.
//!
//! The driver shows what hosts say as it passes by; nothing here decides anything.
//!
//! No host has a blob before it could have received the bytes that it lacked at its own rate, whoever sent them. The
//! latest such moment of all hosts, counted from the rollout's beginning, is a lower bound that holds whenever they came:
//! the term `F / min d` of Kumar & Ross 2006, "Peer-assisted file distribution". What the origin is slower than the hosts'
//! links makes a rollout longer and the bound not.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry as Metrics, Unit};
use proto::{ROLLOUTS_MAX, RolloutProgress, RolloutStatus, StatusKey};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;
use types::{Digest, HostBody, HostId, HostMessage, PieceSet, Registry};

/// Downloads that are followed at the same time, of all hosts and of each; further ones count in no rollout.
const DOWNLOADS_MAX: usize = 1 << 17;
const DOWNLOADS_PER_HOST_MAX: usize = 256;

/// A host that wants a blob for longer holds no rollout open.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// A lower rate, in bytes per second, is none: daemons take no lower limit.
const RATE_MIN: u64 = 1024;

/// A ratio to a bound that is shorter says how long messages take, and not how bytes flow.
const BOUND_MIN: Duration = Duration::from_millis(100);

/// The figures of rollouts; clones show the same.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    running: Gauge,
    seconds: Histogram,
    ratio: Histogram,
}

impl Figures {
    pub(crate) fn new() -> Self {
        Self {
            running: Gauge::default(),
            seconds: Histogram::new([0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]),
            ratio: Histogram::new([1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0]),
        }
    }

    pub(crate) fn register(&self, metrics: &mut Metrics) {
        let help = "Blobs that several hosts want at the same time";
        metrics.register("scheduler_rollouts_running", help, self.running.clone());
        let help =
            "From the first host that wanted a blob to the last that had it, of those that several wanted";
        metrics.register_with_unit("scheduler_rollout", help, Unit::Seconds, self.seconds.clone());
        let help =
            "How many times as long rollouts took as the hosts' links allow, where their rates are known";
        metrics.register("scheduler_rollout_bound_ratio", help, self.ratio.clone());
    }
}

/// What is followed.
#[derive(Debug)]
pub(crate) struct Rollouts {
    running: BTreeMap<Key, Running>,
    /// What each host wants of these.
    wanted: BTreeMap<HostId, BTreeSet<Key>>,
    /// Downloads of all that run.
    downloads: usize,
    /// The latest last.
    ended: VecDeque<Ended>,
    figures: Figures,
}

/// A blob: its digest and size.
type Key = (Digest, u64);

/// A blob that is wanted.
#[derive(Debug)]
struct Running {
    registry: Registry,
    began: Instant,
    /// Hosts that do not have it yet.
    waiting: BTreeMap<HostId, Wait>,
    done: u32,
    /// When the last of those had it.
    last: Instant,
    /// When they could have had it.
    due: Due,
}

#[derive(Debug)]
struct Wait {
    since: Instant,
    due: Due,
}

/// The earliest moment that links allow; nothing where a rate is not known.
type Due = Option<Instant>;

#[derive(Debug)]
struct Ended {
    key: StatusKey,
    progress: RolloutProgress,
    at: Instant,
}

impl Running {
    fn new(registry: &Registry, now: Instant) -> Self {
        let (registry, waiting) = (registry.clone(), BTreeMap::new());
        Self { registry, began: now, waiting, done: 0, last: now, due: Some(now) }
    }

    /// Several hosts have wanted it.
    fn is_rollout(&self) -> bool {
        self.done as usize + self.waiting.len() > 1
    }

    fn progress(&self, until: Instant) -> RolloutProgress {
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let bound = self.due.map(|due| due - self.began).filter(|_| self.done > 0);
        RolloutProgress { hosts: self.done.saturating_add(waiting), took: until - self.began, bound }
    }
}

impl Rollouts {
    pub(crate) fn new(figures: Figures) -> Self {
        Self {
            running: BTreeMap::new(),
            wanted: BTreeMap::new(),
            downloads: 0,
            ended: VecDeque::new(),
            figures,
        }
    }

    /// A host says something about a blob. It receives at most `rate` bytes per second; 0 if nobody knows.
    pub(crate) fn heard(&mut self, now: Instant, host: HostId, rate: u64, message: &HostMessage) {
        let key = (message.key.digest, message.key.size);
        match &message.body {
            HostBody::Want { held, .. } if !held.is_full() => {
                self.give_up_waits(now, key);
                self.begins(now, host, key, (&message.key.registry, due(now, key.1, held, rate)));
            }
            HostBody::Hold { pieces, .. } if pieces.is_full() => self.ends(now, host, key, Some(now)),
            HostBody::Leave | HostBody::Drop => self.ends(now, host, key, None),
            _ => {}
        }
    }

    /// A host is gone, or is about to say anew what it wants.
    pub(crate) fn gone(&mut self, now: Instant, host: HostId) {
        for key in self.wanted.get(&host).cloned().unwrap_or_default() {
            self.ends(now, host, key, None);
        }
    }

    fn begins(&mut self, now: Instant, host: HostId, key: Key, (registry, due): (&Registry, Due)) {
        let wanted = self.wanted.get(&host);
        // Said again, since its reader moved, it is still the same want.
        if wanted.is_some_and(|wanted| wanted.contains(&key))
            || wanted.is_some_and(|wanted| wanted.len() >= DOWNLOADS_PER_HOST_MAX)
            || self.downloads >= DOWNLOADS_MAX
        {
            return;
        }
        let running = self.running.entry(key).or_insert_with(|| Running::new(registry, now));
        let before = running.is_rollout();
        running.waiting.insert(host, Wait { since: now, due });
        self.wanted.entry(host).or_default().insert(key);
        self.downloads += 1;
        if running.is_rollout() && !before {
            self.figures.running.inc();
        }
    }

    /// Those that have waited for a blob for too long are no part of its rollout any more.
    fn give_up_waits(&mut self, now: Instant, key: Key) {
        let Some(running) = self.running.get(&key).filter(|running| now - running.began > WAIT_MAX) else {
            return;
        };
        let late = running.waiting.iter().filter(|(_, wait)| now - wait.since > WAIT_MAX);
        let late: Vec<HostId> = late.map(|(host, _)| *host).collect();
        late.into_iter().for_each(|host| self.ends(now, host, key, None));
    }

    /// A host wants a blob no more; it has it whole since `done`, if it has.
    fn ends(&mut self, now: Instant, host: HostId, key: Key, done: Option<Instant>) {
        let Some(running) = self.running.get_mut(&key) else { return };
        let before = running.is_rollout();
        let Some(Wait { due, .. }) = running.waiting.remove(&host) else { return };
        self.downloads -= 1;
        if let Some(wanted) = self.wanted.get_mut(&host) {
            wanted.remove(&key);
            if wanted.is_empty() {
                self.wanted.remove(&host);
            }
        }
        if let Some(done) = done {
            running.done += 1;
            running.last = done;
            running.due = running.due.zip(due).map(|(all, this)| all.max(this));
        }
        let ended = running.waiting.is_empty();
        if before && (ended || !running.is_rollout()) {
            self.figures.running.dec();
        }
        if ended
            && let Some(running) = self.running.remove(&key)
            && running.done > 1
        {
            self.note(key, &running, now);
        }
    }

    fn note(&mut self, (digest, size): Key, running: &Running, now: Instant) {
        let progress = running.progress(running.last);
        self.figures.seconds.observe(progress.took.as_secs_f64());
        if let Some(bound) = progress.bound.filter(|bound| *bound >= BOUND_MIN) {
            self.figures.ratio.observe(progress.took.as_secs_f64() / bound.as_secs_f64());
        }
        if self.ended.len() >= ROLLOUTS_MAX {
            self.ended.pop_front();
        }
        let key = StatusKey { digest, size, registry: running.registry.to_string() };
        self.ended.push_back(Ended { key, progress, at: now });
    }

    /// How far a blob's rollout has come, if there is one.
    pub(crate) fn progress(&self, digest: &Digest, size: u64, now: Instant) -> Option<RolloutProgress> {
        let running = self.running.get(&(*digest, size)).filter(|running| running.is_rollout())?;
        Some(running.progress(now))
    }

    /// Those that ended last, the latest first.
    pub(crate) fn ended(&self, now: Instant) -> Vec<RolloutStatus> {
        let view = |ended: &Ended| RolloutStatus {
            key: ended.key.clone(),
            progress: ended.progress,
            ended: now - ended.at,
        };
        self.ended.iter().rev().map(view).collect()
    }
}

/// When a host that begins now could have what it lacks.
fn due(now: Instant, size: u64, held: &PieceSet, rate: u64) -> Due {
    if rate < RATE_MIN {
        return None;
    }
    let lacking = u128::from(size) * u128::from(held.count() - held.len()) / u128::from(held.count().max(1));
    let nanos = u64::try_from(lacking * 1_000_000_000 / u128::from(rate)).ok()?;
    now.checked_add(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{BlobKey, Credential, PieceIndex, Priority};

    const SIZE: u64 = 4_000_000;

    fn message(body: HostBody) -> HostMessage {
        let registry = Registry::parse("registry.example").unwrap();
        HostMessage { key: BlobKey { digest: Digest::sha256(b"x"), size: SIZE, registry }, body }
    }

    fn want(held: PieceSet) -> HostMessage {
        message(HostBody::Want {
            held,
            credential: Credential::Anonymous,
            priority: Priority::Waiting,
            position: PieceIndex(0),
            lease: None,
        })
    }

    fn done() -> HostMessage {
        message(HostBody::Hold { closed: true, pieces: PieceSet::full(4) })
    }

    fn host(n: u8) -> HostId {
        HostId::of_peer_id(&[n])
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_rollout_ends_with_its_last_host_and_counts_from_when_each_came() {
        let (figures, start) = (Figures::new(), Instant::now());
        let mut rollouts = Rollouts::new(figures.clone());
        let mut heard = |at, n, message: &HostMessage| {
            rollouts.heard(start + seconds(at), host(n), 1_000_000, message);
            (rollouts.progress(&Digest::sha256(b"x"), SIZE, start + seconds(at)), rollouts.ended(start))
        };
        let nothing = PieceSet::empty(4);
        assert_eq!(heard(0, 1, &want(nothing.clone())).0, None, "one host is none");
        let (running, _) = heard(1, 2, &want(nothing.clone()));
        assert_eq!(running, Some(RolloutProgress { hosts: 2, took: seconds(1), bound: None }));
        assert_eq!(figures.running.get(), 1);
        // Said again it is not another want.
        heard(3, 2, &want(nothing.clone()));
        let (running, _) = heard(5, 1, &done());
        assert_eq!(running.and_then(|running| running.bound), Some(seconds(4)));
        // Has half of it already, and could have the rest at 7 + 2 s.
        let mut half = nothing;
        half.insert(PieceIndex(0));
        half.insert(PieceIndex(1));
        heard(7, 3, &want(half));
        heard(8, 2, &done());
        let (running, ended) = heard(18, 3, &done());
        assert_eq!(running, None);
        let progress = RolloutProgress { hosts: 3, took: seconds(18), bound: Some(seconds(9)) };
        assert_eq!(ended.iter().map(|ended| ended.progress).collect::<Vec<_>>(), [progress]);
        assert_eq!(ended[0].key.registry, "registry.example");
    }

    #[test]
    fn those_who_leave_end_it_and_do_not_count() {
        let (mut rollouts, now) = (Rollouts::new(Figures::new()), Instant::now());
        for n in 1..=4 {
            rollouts.heard(now, host(n), u64::from(n) % 2 * RATE_MIN, &want(PieceSet::empty(4)));
        }
        rollouts.heard(now, host(1), 1, &done());
        rollouts.heard(now, host(2), 0, &done());
        rollouts.heard(now, host(3), 1, &message(HostBody::Leave));
        assert!(rollouts.ended(now).is_empty());
        rollouts.gone(now, host(4));
        let ended = rollouts.ended(now);
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].progress.hosts, ended[0].progress.bound), (2, None), "one rate is not known");
        assert!(rollouts.running.is_empty() && rollouts.wanted.is_empty());
        assert_eq!((rollouts.downloads, rollouts.figures.running.get()), (0, 0));
        // What nobody wanted ends nothing, and one host alone is no rollout.
        rollouts.heard(now, host(5), 1, &done());
        rollouts.heard(now, host(5), 1, &want(PieceSet::empty(4)));
        rollouts.heard(now, host(5), 1, &done());
        assert_eq!(rollouts.ended(now).len(), 1);
    }

    #[test]
    fn only_the_last_ones_are_kept() {
        let (mut rollouts, now) = (Rollouts::new(Figures::new()), Instant::now());
        for _ in 0..=ROLLOUTS_MAX {
            for n in [1, 2] {
                rollouts.heard(now, host(n), 1, &want(PieceSet::empty(4)));
            }
            for n in [1, 2] {
                rollouts.heard(now, host(n), 1, &done());
            }
        }
        assert_eq!(rollouts.ended(now).len(), ROLLOUTS_MAX);
    }

    #[test]
    fn one_that_never_ends_holds_no_rollout_open_for_ever() {
        let (mut rollouts, start) = (Rollouts::new(Figures::new()), Instant::now());
        let nothing = || want(PieceSet::empty(4));
        for n in [1, 2] {
            rollouts.heard(start, host(n), 0, &nothing());
        }
        rollouts.heard(start + seconds(1), host(1), 0, &done());
        assert_eq!(rollouts.figures.running.get(), 1);
        let later = start + WAIT_MAX + seconds(1);
        rollouts.heard(later, host(3), 0, &nothing());
        assert_eq!(rollouts.figures.running.get(), 0, "the new one is alone");
        assert_eq!(rollouts.running[&(Digest::sha256(b"x"), SIZE)].waiting.len(), 1);
    }

    #[test]
    fn what_one_host_says_takes_bounded_room() {
        let (mut rollouts, now) = (Rollouts::new(Figures::new()), Instant::now());
        for n in 0..2 * DOWNLOADS_PER_HOST_MAX {
            let mut message = want(PieceSet::empty(4));
            message.key.digest = Digest::sha256(&n.to_be_bytes());
            rollouts.heard(now, host(1), 0, &message);
        }
        assert_eq!(rollouts.running.len(), DOWNLOADS_PER_HOST_MAX);
        rollouts.gone(now, host(1));
        assert!(rollouts.running.is_empty() && rollouts.wanted.is_empty());
    }
}
