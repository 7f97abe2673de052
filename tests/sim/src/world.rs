//! The run itself: one clock, one queue, the two cores, and between them the network.
//!
//! Each thing that happens is handed to its part: `wire` carries messages, `driver` does what downloads ask for, `clients`
//! read, `trouble` breaks and mends. After each, the invariants of the core that was touched are checked.

use crate::blob::Blob;
use crate::check::Watch;
use crate::host::{Client, Host, Spot};
use crate::network::Network;
use crate::outcome::{Outcome, Sample, Trace};
use crate::queue::Queue;
use crate::settings::{Fault, Settings};
use download_core::{FetchId, ReadId, ReaderId};
use scheduler_core::Scheduler;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;
use types::{
    ByteRange, HostId, HostMessage, LeaseFailure, PieceIndex, Priority, SchedulerMessage, State, Timestamp,
};

/// Things that happen in one run at most: a run that takes more goes round in circles.
const HAPPENINGS_MAX: u64 = 20_000_000;
/// As many for each piece on each host, if that is more.
const HAPPENINGS_PER_PIECE: u64 = 64;

#[derive(Clone, Debug)]
pub(crate) enum Happening {
    ToScheduler { host: usize, session: u64, message: HostMessage },
    ToHost { host: usize, session: u64, message: SchedulerMessage },
    SchedulerTick,
    SchedulerBack,
    Connects { host: usize },
    HostGone { host: usize, session: u64 },
    Silent,
    Thaw,
    Tick { spot: Spot },
    Asked { spot: Spot, fetch: FetchId },
    NoSlot { spot: Spot, fetch: FetchId },
    Nearly { spot: Spot, fetch: FetchId },
    Comes { spot: Spot, fetch: FetchId, from: (usize, u64), bytes: Option<Vec<u8>> },
    Unreachable { spot: Spot, fetch: FetchId },
    Origin { spot: Spot, read: ReadId },
    OriginAsked { spot: Spot, read: ReadId },
    OriginMoves { spot: Spot, read: ReadId, piece: u32 },
    HostMoves { host: usize },
    Flows,
    Hashes { spot: Spot, piece: PieceIndex, before: State, expect: Option<State>, bytes: Vec<u8> },
    Consumes { spot: Spot },
    ReadThrough { spot: Spot, reader: ReaderId },
    Leaves { spot: Spot, reader: ReaderId },
    ClientComes { host: usize, blob: usize, client: usize },
    Fault(Fault),
    Sample,
    Mended,
}

/// The scheduler and its machine.
#[derive(Debug)]
pub(crate) struct SchedulerSide {
    pub(crate) core: Scheduler,
    pub(crate) is_up: bool,
    pub(crate) frozen_until: Timestamp,
    pub(crate) starts: u64,
    pub(crate) tick_at: Option<Timestamp>,
    pub(crate) watch: Watch,
}

/// The origin, and what was read from it.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    pub(crate) failing: Option<(LeaseFailure, Timestamp)>,
    pub(crate) bytes: u64,
    pub(crate) through_bytes: u64,
}

/// A run.
#[derive(Debug)]
pub struct World {
    pub(crate) settings: Settings,
    pub(crate) rng: fastrand::Rng,
    pub(crate) now: Timestamp,
    pub(crate) queue: Queue<Happening>,
    pub(crate) blobs: Vec<Blob>,
    pub(crate) hosts: Vec<Host>,
    /// Each host's number.
    pub(crate) numbers: BTreeMap<HostId, usize>,
    /// Links with rates, if the run has them.
    pub(crate) network: Option<Network>,
    /// Steps of the scheduler so far.
    pub(crate) steps: u64,
    pub(crate) scheduler: SchedulerSide,
    pub(crate) origin: Origin,
    /// Until when each zone is cut off.
    pub(crate) parted: Vec<Timestamp>,
    pub(crate) trace: Trace,
    pub(crate) outcome: Outcome,
    pub(crate) next_serial: u64,
    /// Clients that have not got what they want.
    pub(crate) unserved: usize,
    mended: bool,
}

impl World {
    /// Sets everything up; nothing has happened yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut rng = fastrand::Rng::with_seed(settings.seed);
        let blob = |pieces: &u32| Blob::new(*pieces, settings.last_piece, rng.u64(..));
        let blobs: Vec<_> = settings.blobs.iter().map(blob).collect();
        let right =
            |host: usize| settings.without_right == 0 || host.is_multiple_of(settings.without_right.max(2));
        let hosts: Vec<_> = (0..settings.hosts).map(|host| Host::new(host, right(host), &blobs)).collect();
        let scheduler = SchedulerSide {
            core: Scheduler::new(settings.scheduler.clone(), rng.u64(..)),
            is_up: true,
            frozen_until: Timestamp::ZERO,
            starts: 1,
            tick_at: None,
            watch: Watch::default(),
        };
        let completed = vec![Duration::ZERO; settings.hosts];
        let served = vec![Duration::ZERO; settings.blobs.len()];
        let came = vec![Duration::MAX; settings.hosts];
        let mut world = Self {
            trace: Trace::new(settings.verbose, settings.thorough),
            numbers: hosts.iter().map(|host| host.id).zip(0..).collect(),
            network: settings.links.as_ref().map(|links| Network::new(links, settings.hosts, settings.zones)),
            steps: 0,
            parted: vec![Timestamp::ZERO; settings.zones],
            settings,
            rng,
            now: Timestamp::ZERO,
            queue: Queue::default(),
            blobs,
            hosts,
            scheduler,
            origin: Origin::default(),
            outcome: Outcome { completed, served, came, ..Outcome::default() },
            next_serial: 0,
            unserved: 0,
            mended: false,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.tick_scheduler();
        for host in 0..self.hosts.len() {
            self.queue.push(self.now, Happening::Connects { host });
            for blob in 0..self.blobs.len() {
                let visit = self.settings.visits.get(&blob);
                if visit.is_some_and(|visit| !visit.hosts.contains(&host)) {
                    continue;
                }
                let size = self.blobs[blob].layout.size();
                self.add_client(host, blob, ByteRange::whole(size));
            }
        }
        let mut end = Duration::ZERO;
        for (at, fault) in self.settings.faults.clone() {
            end = end.max(at);
            self.queue.push(Timestamp::ZERO + at, Happening::Fault(fault));
        }
        self.queue.push(Timestamp::ZERO + end, Happening::Mended);
        if !self.settings.sample_every.is_zero() {
            self.queue.push(self.now, Happening::Sample);
        }
    }

    /// Adds a client that comes at a moment within the arrival time.
    pub fn add_client(&mut self, host: usize, blob: usize, range: ByteRange) {
        let clients = &mut self.hosts[host].places[blob].clients;
        let client = clients.len();
        clients.push(Client { range, done: false, reading: false });
        self.unserved += 1;
        let at = if let Some(visit) = self.settings.visits.get(&blob) {
            self.now + visit.at
        } else if self.settings.rolling.is_zero() {
            self.now + self.between(&(Duration::ZERO..=self.settings.arrival))
        } else {
            self.now + self.settings.rolling * u32::try_from(host).unwrap_or(u32::MAX)
        };
        self.outcome.came[host] = self.outcome.came[host].min(at.since(Timestamp::ZERO));
        self.queue.push(at, Happening::ClientComes { host, blob, client });
    }

    /// Runs until every client has what it wanted.
    ///
    /// # Panics
    /// If an invariant breaks, a client gets a wrong blob, or something does not end.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        let mut happenings = 0;
        let pieces: u64 = self.settings.blobs.iter().copied().map(u64::from).sum();
        let most = HAPPENINGS_MAX.max(HAPPENINGS_PER_PIECE * pieces * self.settings.hosts as u64);
        while self.unserved > 0 || !self.mended {
            let Some((at, happening)) = self.queue.pop() else { self.give_up("nothing will ever happen") };
            self.now = at;
            happenings += 1;
            if happenings > most || at > self.give_up_at() {
                self.give_up("it takes too long");
            }
            self.happen(happening);
        }
        self.outcome.took = self.now.since(Timestamp::ZERO);
        if !self.settings.sample_every.is_zero() {
            self.sample();
        }
        self.outcome.origin_bytes = self.origin.bytes;
        self.outcome.through_bytes = self.origin.through_bytes;
        self.outcome.boundary_bytes = self.network.as_ref().map_or(0, |network| network.boundary_bytes);
        self.outcome.blob_bytes = self.blobs.iter().map(|blob| blob.layout.size()).sum();
        let lengths = |blob: &Blob| {
            blob.layout.pieces().map(|piece| blob.layout.range(piece).len()).collect::<Vec<_>>()
        };
        self.outcome.pieces = self.blobs.iter().flat_map(lengths).collect();
        self.outcome.takeovers = self.scheduler.watch.takeovers().clone();
        self.outcome.trace = self.trace.hash();
        self.outcome.counters = self.scheduler.core.summary().counters;
        self.outcome
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ToScheduler { host, session, message } => {
                self.reaches_scheduler(host, session, message);
            }
            Happening::ToHost { host, session, message } => self.reaches_host(host, session, message),
            Happening::SchedulerTick => self.scheduler_tick(),
            Happening::SchedulerBack => self.scheduler_back(),
            Happening::Connects { host } => self.connects(host),
            Happening::HostGone { host, session } => self.host_gone(host, session),
            Happening::Silent => self.scheduler_is_silent(),
            Happening::Thaw => self.scheduler_thaws(),
            Happening::Tick { spot } => self.download_tick(spot),
            Happening::Asked { spot, fetch } => self.parent_is_asked(spot, fetch),
            Happening::NoSlot { spot, fetch } => self.slot_did_not_come(spot, fetch),
            Happening::Nearly { spot, fetch } => self.piece_nearly_comes(spot, fetch),
            Happening::Comes { spot, fetch, from, bytes } => {
                self.piece_comes(spot, fetch, from, bytes.as_deref());
            }
            Happening::Unreachable { spot, fetch } => self.parent_is_unreachable(spot, fetch),
            Happening::Origin { spot, read } => self.origin_sends(spot, read),
            Happening::OriginAsked { spot, read } => self.origin_is_asked(spot, read),
            Happening::OriginMoves { spot, read, piece } => self.origin_moves(spot, read, piece),
            Happening::HostMoves { host } => self.host_moves(host),
            Happening::Flows => self.flows(),
            Happening::Hashes { spot, piece, before, expect, bytes } => {
                self.piece_is_hashed(spot, piece, (before, expect), &bytes);
            }
            Happening::Consumes { spot } => self.readers_consume(spot),
            Happening::ReadThrough { spot, reader } => self.read_through_ends(spot, reader),
            Happening::Leaves { spot, reader } => {
                self.download_event(spot, download_core::Event::ReaderLeft { reader });
            }
            Happening::ClientComes { host, blob, client } => self.client_comes(host, blob, client),
            Happening::Sample => self.sample(),
            Happening::Fault(fault) => self.break_something(fault),
            Happening::Mended => {
                self.mended = true;
                self.mend_everything();
            }
        }
    }

    /// How urgent a blob is.
    pub(crate) fn priority(&self, blob: usize) -> Priority {
        self.settings.visits.get(&blob).map_or(Priority::Waiting, |visit| visit.priority)
    }

    /// A client has all that it wanted.
    pub(crate) fn is_served(&mut self, host: usize, blob: usize) {
        self.unserved -= 1;
        let at = self.now.since(Timestamp::ZERO);
        (self.outcome.completed[host], self.outcome.served[blob]) = (at, at);
    }

    /// Notes how far the rollout is.
    fn sample(&mut self) {
        let done =
            |host: &&Host| host.places.iter().all(|place| place.clients.iter().all(|client| client.done));
        let source = self.source();
        let network = self.network.as_ref();
        let (origin_use, uplink_use, source_use) =
            network.map_or((0, 0, 0), |network| network.use_of(source));
        let sample = Sample {
            at: self.now.since(Timestamp::ZERO),
            complete: self.hosts.iter().filter(done).count(),
            origin_bytes: self.origin.bytes + self.origin.through_bytes,
            peer_bytes: self.outcome.uploaded_bytes.iter().sum(),
            boundary_bytes: network.map_or(0, |network| network.boundary_bytes),
            origin_use,
            uplink_use,
            source_use,
        };
        self.outcome.samples.push(sample);
        self.queue.push(self.now + self.settings.sample_every, Happening::Sample);
    }

    /// When the run must have ended: a bounded time after the last fault.
    fn give_up_at(&self) -> Timestamp {
        let last = self.settings.faults.last().map_or(Duration::ZERO, |(at, _)| *at);
        let rolling = self.settings.rolling * u32::try_from(self.settings.hosts).unwrap_or(u32::MAX);
        Timestamp::ZERO + last + self.settings.arrival + rolling + self.settings.patience
    }

    pub(crate) fn between(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        let nanos = |duration: &Duration| u64::try_from(duration.as_nanos()).expect("less than 500 years");
        Duration::from_nanos(self.rng.u64(nanos(range.start())..=nanos(range.end())))
    }

    pub(crate) fn delay(&mut self) -> Duration {
        let range = self.settings.delay.clone();
        self.between(&range)
    }
}
