//! A world of scripted hosts around one scheduler: they fetch, read and fail as told, with seeded delays.
//!
//! After every step the scheduler's own invariants are checked, and from outside: nobody is asked for what it did not
//! report, no host gets more than its slots, two sources never read the same blob by right, nothing is sent to oneself.

mod hosts;

use super::{Blob, host, spec_in};
use scheduler_core::{Effect, Event, Options, Scheduler, Summary};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use types::{
    BlobKey, Credential, Epoch, HostBody, HostId, HostMessage, PieceIndex, PieceSet, Priority, SchedulerBody,
    SchedulerMessage, Timestamp,
};

/// What may go wrong, each in thousandths of the occasions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub fetch_fails: u32,
    pub origin_fails: u32,
    pub deaths: usize,
    pub restarts: usize,
    pub corruptors: usize,
    /// Hosts without a credential.
    pub guests: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub hosts: usize,
    pub zones: usize,
    pub blobs: usize,
    /// Hosts ask for the blobs of one or another registry.
    pub registries: usize,
    pub pieces: u32,
    pub faults: Faults,
}

#[derive(Debug)]
enum Action {
    ToScheduler { from: usize, life: u32, message: HostMessage },
    ToHost { to: usize, life: u32, message: SchedulerMessage },
    Fetched { by: usize, life: u32, blob: usize, piece: u32 },
    Read { by: usize, life: u32, blob: usize, round: u32 },
    Die { who: usize },
    Noticed { who: usize, life: u32 },
    Return { who: usize },
    Restart,
}

#[derive(Debug)]
struct Lease {
    epoch: Epoch,
    missing: PieceSet,
    limit: u32,
}

/// One blob on one host. States that it knows are the true ones.
#[derive(Debug)]
struct Copy {
    held: PieceSet,
    known: PieceSet,
    wanted: bool,
    closed: bool,
    alone: bool,
    lease: Option<Lease>,
    round: u32,
    /// The fetches under way: from whom, under which epoch.
    fetches: BTreeMap<u32, (HostId, Epoch)>,
}

#[derive(Debug)]
struct FakeHost {
    id: HostId,
    life: u32,
    alive: bool,
    corrupts: bool,
    guest: bool,
    copies: Vec<Copy>,
    last_in: Timestamp,
    last_out: Timestamp,
}

pub struct World {
    pub setup: Setup,
    pub now: Timestamp,
    pub origin_pieces: Vec<u64>,
    pub fallback_pieces: u64,
    pub corrupt_seen: u64,
    /// A hash of everything that the scheduler ever said.
    pub trace: u64,
    options: Options,
    seed: u64,
    rng: fastrand::Rng,
    scheduler: Scheduler,
    blobs: Vec<Blob>,
    hosts: Vec<FakeHost>,
    actions: BTreeMap<(Timestamp, u64), Action>,
    number: u64,
    /// What each host has reported to this scheduler, as the scheduler heard it.
    reported: BTreeSet<(usize, usize, u32)>,
    /// The live leases, as the scheduler gave them.
    sources: BTreeMap<(usize, usize), (usize, Epoch)>,
    healed: bool,
    generations: u64,
}

impl World {
    pub fn new(seed: u64, setup: Setup, options: Options) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let blobs: Vec<Blob> = (0..setup.blobs as u64).map(|n| Blob::new(setup.pieces, n + 1)).collect();
        let copy = |blob: &Blob| Copy {
            held: blob.none(),
            known: super::set(blob.count() + 1, [0, blob.count()]),
            wanted: true,
            closed: false,
            alone: false,
            lease: None,
            round: 0,
            fetches: BTreeMap::new(),
        };
        let hosts = (0..setup.hosts).map(|n| FakeHost {
            id: host(n as u64),
            life: 0,
            alive: false,
            corrupts: n >= setup.hosts - setup.faults.corruptors,
            guest: n < setup.faults.guests,
            copies: blobs.iter().map(copy).collect(),
            last_in: Timestamp::ZERO,
            last_out: Timestamp::ZERO,
        });
        let hosts = hosts.collect();
        let mut world = Self {
            setup,
            now: Timestamp::ZERO,
            origin_pieces: vec![0; setup.blobs],
            fallback_pieces: 0,
            corrupt_seen: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            scheduler: Scheduler::new(options.clone(), seed),
            options,
            seed,
            blobs,
            hosts,
            actions: BTreeMap::new(),
            number: 0,
            reported: BTreeSet::new(),
            sources: BTreeMap::new(),
            healed: false,
            generations: 0,
            rng: fastrand::Rng::with_seed(rng.u64(..)),
        };
        for who in 0..setup.hosts {
            let at = world.within(200);
            world.at(at, Action::Return { who });
        }
        for _ in 0..setup.faults.deaths {
            let (who, at) = (world.rng.usize(..setup.hosts), world.within(5_000));
            world.at(at, Action::Die { who });
        }
        for _ in 0..setup.faults.restarts {
            let at = world.within(5_000);
            world.at(at, Action::Restart);
        }
        world
    }

    /// Some time within the next milliseconds.
    fn within(&mut self, millis: u64) -> Timestamp {
        self.now + Duration::from_micros(self.rng.u64(1..=millis * 1000))
    }

    fn at(&mut self, at: Timestamp, action: Action) {
        self.number += 1;
        self.actions.insert((at, self.number), action);
    }

    /// Runs until everybody has everything, or the time is over.
    pub fn run(&mut self, limit: Duration) {
        let heal_at = Timestamp::ZERO + Duration::from_secs(15);
        let end = Timestamp::ZERO + limit;
        while !(self.is_done() && self.is_calm()) {
            let action_at = self.actions.first_key_value().map(|((at, _), _)| *at);
            let tick_at = self.scheduler.next_deadline();
            let next = action_at.into_iter().chain(tick_at).min();
            let next = next.unwrap_or(end).max(self.now);
            assert!(next < end, "seed {}: not done in time\n{}", self.seed, self.stuck());
            if !self.healed && next >= heal_at {
                self.healed = true;
            }
            self.now = next;
            if action_at.is_some_and(|at| at <= next) {
                let (_, action) = self.actions.pop_first().unwrap();
                self.act(action);
            } else {
                self.event(Event::Tick);
            }
        }
    }

    /// Nothing that was to go wrong is still to come.
    fn is_calm(&self) -> bool {
        let bad = |a: &Action| {
            matches!(a, Action::Die { .. } | Action::Noticed { .. } | Action::Return { .. } | Action::Restart)
        };
        !self.actions.values().any(bad)
    }

    fn is_done(&self) -> bool {
        self.hosts.iter().all(|h| h.alive && h.copies.iter().all(|c| c.held.is_full()))
    }

    pub fn summary(&self) -> Summary {
        self.scheduler.summary()
    }

    fn stuck(&self) -> String {
        let copies = |h: &FakeHost| h.copies.iter().map(|c| format!("{c:?}\n  ")).collect::<String>();
        let hosts = self.hosts.iter().map(|h| format!("{:?} alive {}: {}\n", h.id, h.alive, copies(h)));
        format!("{}{:#?}", hosts.collect::<String>(), self.scheduler.summary())
    }

    fn occurs(&mut self, thousandths: u32) -> bool {
        !self.healed && self.rng.u32(..1000) < thousandths
    }

    fn event(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.scheduler.handle(self.now, event, &mut effects);
        self.scheduler.check_invariants();
        // Now and then more events are at hand before it may match.
        if self.rng.u8(..4) > 0 {
            self.scheduler.handle(self.now, Event::Tick, &mut effects);
            self.scheduler.check_invariants();
        }
        for effect in effects {
            for byte in format!("{effect:?}").bytes() {
                self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
            let Effect::Send { host, message } = effect;
            let to = self.index(host);
            self.check(to, &message);
            let delay = self.within(2);
            let at = delay.max(self.hosts[to].last_in + Duration::from_nanos(1));
            self.hosts[to].last_in = at;
            self.at(at, Action::ToHost { to, life: self.hosts[to].life, message });
        }
    }

    fn index(&self, id: HostId) -> usize {
        self.hosts.iter().position(|h| h.id == id).expect("a host of this world")
    }

    fn blob_of(&self, key: &BlobKey) -> usize {
        self.blobs.iter().position(|b| b.digest == key.digest).expect("a blob of this world")
    }

    fn registry_of(&self, who: usize) -> usize {
        who % self.setup.registries
    }

    /// What must hold of everything that the scheduler says.
    fn check(&mut self, to: usize, message: &SchedulerMessage) {
        let blob = self.blob_of(&message.key);
        match &message.body {
            SchedulerBody::Assign { piece, parent, before, after, .. } => {
                let from = self.index(*parent);
                assert_ne!(from, to, "a host sends to itself");
                assert!(self.reported.contains(&(from, blob, piece.0)), "asked for what was not reported");
                let closed = || {
                    let summary = self.scheduler.summary();
                    summary.blobs.iter().any(|b| b.closed && b.digest == message.key.digest)
                };
                let same = self.registry_of(from) == self.registry_of(to);
                assert!(same || closed(), "an open chain leaves its registry");
                let states = &self.blobs[blob].states;
                assert_eq!((before, after), (&states[piece.as_usize()], &states[piece.as_usize() + 1]));
            }
            SchedulerBody::Lease { epoch, missing, .. } => {
                let place = (blob, self.registry_of(to));
                let other = self.sources.insert(place, (to, *epoch));
                let reads_on = other.is_some_and(|(who, epoch)| who != to && self.reads_on(who, blob, epoch));
                assert!(!reads_on, "seed {}: two sources of blob {blob}", self.seed);
                assert!(!missing.is_empty(), "a lease to read nothing");
            }
            SchedulerBody::Revoke { epoch } => {
                let place = (blob, self.registry_of(to));
                self.sources.retain(|at, source| *at != place || *source != (to, *epoch));
            }
            SchedulerBody::ChainReset { .. } => {
                assert!(self.setup.faults.corruptors > 0, "seed {}: a true chain is discarded", self.seed);
                self.reported.retain(|(from, of, _)| (*from, *of) != (to, blob));
            }
            _ => {}
        }
    }

    /// Whether a source has something to read that it was asked for.
    fn reads_on(&self, who: usize, blob: usize, epoch: Epoch) -> bool {
        let copy = &self.hosts[who].copies[blob];
        let lease = copy.lease.as_ref().filter(|lease| lease.epoch == epoch);
        lease.is_some_and(|lease| lease.missing.iter().any(|piece| !copy.held.contains(piece)))
    }

    fn say(&mut self, from: usize, blob: usize, body: HostBody) {
        let key = self.blobs[blob].key_at(&format!("registry{}.test", self.registry_of(from)));
        let message = HostMessage { key, body };
        let delay = self.within(2);
        let at = delay.max(self.hosts[from].last_out + Duration::from_nanos(1));
        self.hosts[from].last_out = at;
        self.at(at, Action::ToScheduler { from, life: self.hosts[from].life, message });
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::ToScheduler { from, life, message } if self.hosts[from].life == life => {
                self.note(from, &message);
                self.event(Event::Message { host: self.hosts[from].id, message });
            }
            Action::ToHost { to, life, message } if self.is(to, life) => self.hear(to, message),
            Action::Fetched { by, life, blob, piece } if self.is(by, life) => self.fetched(by, blob, piece),
            Action::Read { by, life, blob, round } if self.is(by, life) => self.read(by, blob, round),
            Action::Die { who } if self.hosts[who].alive => {
                self.hosts[who].alive = false;
                self.hosts[who].life += 1;
                let (life, noticed, back) = (self.hosts[who].life, self.within(3_000), self.within(8_000));
                self.at(noticed, Action::Noticed { who, life });
                self.at(back.max(noticed) + Duration::from_nanos(1), Action::Return { who });
            }
            Action::Noticed { who, life } if self.hosts[who].life == life => {
                self.forget(who);
                self.event(Event::HostLeft { host: self.hosts[who].id });
            }
            Action::Return { who } => self.come_back(who),
            Action::Restart => self.restart(),
            _ => {}
        }
    }

    fn is(&self, who: usize, life: u32) -> bool {
        self.hosts[who].alive && self.hosts[who].life == life
    }

    fn forget(&mut self, who: usize) {
        self.reported.retain(|(from, ..)| *from != who);
        self.sources.retain(|_, (source, _)| *source != who);
    }

    /// What the scheduler learns from a message, for the checks; and which leases end by it.
    fn note(&mut self, from: usize, message: &HostMessage) {
        let blob = self.blob_of(&message.key);
        let place = (blob, self.registry_of(from));
        match &message.body {
            HostBody::Want { held, lease, .. } => {
                self.reported.extend(held.iter().map(|p| (from, blob, p.0)));
                if let Some(epoch) = lease {
                    self.sources.entry(place).or_insert((from, *epoch));
                }
            }
            HostBody::Hold { pieces, .. } => self.reported.extend(pieces.iter().map(|p| (from, blob, p.0))),
            HostBody::Verified { piece, .. } => {
                self.reported.insert((from, blob, piece.0));
            }
            HostBody::LeaseReturned { epoch, .. } => {
                self.sources.retain(|at, source| *at != place || *source != (from, *epoch));
            }
            HostBody::Chain { closed: true, .. } => drop(self.sources.remove(&place)),
            _ => {}
        }
    }

    /// A host connects, new or again, and says what it has.
    fn come_back(&mut self, who: usize) {
        if self.hosts[who].alive {
            return;
        }
        self.hosts[who].alive = true;
        self.hosts[who].life += 1;
        self.forget(who);
        for blob in 0..self.blobs.len() {
            let copy = &mut self.hosts[who].copies[blob];
            copy.lease = None;
            copy.alone = false;
            copy.round += 1;
            copy.fetches.clear();
        }
        self.connect(who);
    }

    fn connect(&mut self, who: usize) {
        let zone = format!("zone{}", who % self.setup.zones);
        let rack = format!("rack{}", who / self.setup.zones % 2);
        self.event(Event::HostJoined { host: self.hosts[who].id, spec: spec_in(&zone, &rack) });
        for blob in 0..self.blobs.len() {
            self.tell_all(who, blob);
        }
    }

    /// A host says what it has of a blob, and that it wants the rest.
    fn tell_all(&mut self, who: usize, blob: usize) {
        let copy = &self.hosts[who].copies[blob];
        let (held, closed) = (copy.held.clone(), copy.closed);
        let lease = copy.lease.as_ref().map(|lease| lease.epoch);
        let credential = if self.hosts[who].guest { Credential::None } else { Credential::Anonymous };
        let body = if copy.wanted && !held.is_full() {
            let priority = if self.rng.bool() { Priority::Waiting } else { Priority::Preheat };
            HostBody::Want { held, credential, priority, position: PieceIndex(0), lease }
        } else {
            HostBody::Hold { closed, pieces: held }
        };
        self.say(who, blob, body);
    }

    /// The scheduler dies and another one takes its place; running transfers and readings go on.
    fn restart(&mut self) {
        self.generations += 1;
        let first_epoch = 1 + self.generations * 1_000_000;
        self.scheduler = Scheduler::new(Options { first_epoch, ..self.options.clone() }, self.seed);
        self.reported.clear();
        self.sources.clear();
        self.event(Event::Tick);
        for who in 0..self.hosts.len() {
            // What was under way in either direction is lost with the stream.
            self.actions.retain(|_, action| match action {
                Action::ToHost { to, .. } => *to != who,
                Action::ToScheduler { from, .. } => *from != who,
                _ => true,
            });
            if self.hosts[who].alive {
                self.connect(who);
            }
        }
    }
}
