//! The scheduler's decisions: which host reads a blob from its origin, and which host gets which piece from whom.
//!
//! A state machine without I/O, clock or randomness of its own: a driver (the gRPC server, or a simulator) tells it
//! what happened with [`Scheduler::handle`], carries out the [`Effect`]s, and comes back at
//! [`Scheduler::next_deadline`]. The same events with the same seed give the same effects.
//!
//! Events change what is known: who holds what, which slots are free, what is in doubt. What follows for chains and
//! leases is decided at the end of each event, so never on a half-changed state. Who gets what from whom is only noted
//! ([`Work`]) until the next [`Event::Tick`], which is due at once: a driver that has more events at hand hands them in
//! first, and the choice is made among all slots that fell free together.
//!
//! Where to look: `membership` hosts and blobs, `swarm` and `demand` the counting, `lease`, `returns` and `handover` the source, `admission`
//! and `ahead` when and how far it reads, `closing` the chain, `matching` and `pick` who gets what, `transfers` the slots, `blame` what went wrong.

mod admission;
mod ahead;
mod blame;
mod boundary;
mod closing;
mod demand;
mod glance;
mod handover;
mod held;
mod hosts;
mod invariants;
mod lease;
mod matching;
mod membership;
mod neighbours;
mod options;
mod overview;
mod pace;
mod pick;
mod rarity;
mod returns;
mod roster;
mod slab;
mod sorted;
mod summary;
mod swarm;
mod timers;
mod transfers;

pub use options::Options;
pub use summary::{BlobSummary, Counters, HostSummary, Summary};

use crate::admission::Admission;
use crate::blame::Record;
use crate::glance::Glance;
use crate::hosts::Hosts;
use crate::membership::{Entry, Wish};
use crate::pace::{Allowance, Usual};
use crate::slab::{HostIx, MemberIx, Slab, SwarmIx, TransferIx};
use crate::swarm::Swarm;
use crate::timers::{Alarm, Timer, Timers};
use crate::transfers::Transfer;
use std::collections::{BTreeMap, BTreeSet};
use types::{
    BlobKey, Digest, HostBody, HostId, HostMessage, HostSpec, PieceIndex, SchedulerBody, SchedulerMessage,
    Timestamp,
};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A host connected. Everything known of it from before is forgotten.
    HostJoined {
        /// Which.
        host: HostId,
        /// What it is.
        spec: HostSpec,
    },
    /// A host's stream ended, or it went silent.
    HostLeft {
        /// Which.
        host: HostId,
    },
    /// A host said something.
    Message {
        /// Which.
        host: HostId,
        /// What.
        message: HostMessage,
    },
    /// The answer to [`Scheduler::next_deadline`]: time has passed, or no other event is at hand and what was noted can
    /// be matched.
    Tick,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell a host.
    Send {
        /// Which.
        host: HostId,
        /// What.
        message: SchedulerMessage,
    },
}

/// What is still to be looked at.
#[derive(Debug, Default)]
struct Work {
    /// Chains that were spoken against.
    doubted: BTreeSet<SwarmIx>,
    /// Blobs that may need a source, or whose source may read on.
    leases: BTreeSet<SwarmIx>,
    /// Members that hold something new.
    fresh: Vec<(SwarmIx, MemberIx)>,
    /// Hosts with an upload slot free.
    feed: Vec<HostIx>,
    /// Hosts with a download slot free.
    fill: Vec<HostIx>,
    /// Blobs of which much became available at once.
    hungry: BTreeSet<SwarmIx>,
}

impl Work {
    fn is_to_match(&self) -> bool {
        !(self.fresh.is_empty() && self.feed.is_empty() && self.fill.is_empty() && self.hungry.is_empty())
    }
}

/// The state machine.
#[derive(Debug)]
pub struct Scheduler {
    options: Options,
    rng: fastrand::Rng,
    now: Timestamp,
    started: bool,
    quiet_until: Timestamp,
    quiet_alarm: Alarm,
    next_epoch: u64,
    hosts: Hosts,
    swarms: Slab<SwarmIx, Swarm>,
    index: BTreeMap<(Digest, u64), Entry>,
    transfers: Slab<TransferIx, Transfer>,
    overdue_alarm: Alarm,
    timers: Timers,
    records: BTreeMap<HostId, Record>,
    counters: Counters,
    usual_pace: Usual,
    allowance: Allowance,
    admission: Admission,
    /// The host that is being forgotten: nothing is sent to it any more.
    leaving: Option<HostIx>,
    work: Work,
    out: Vec<Effect>,
    scratch: Vec<u64>,
    glance: Glance,
    stale: Vec<MemberIx>,
}

impl Scheduler {
    /// A scheduler that knows of nothing; `seed` decides what is left to chance.
    #[must_use]
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            now: Timestamp::ZERO,
            started: false,
            quiet_until: Timestamp::ZERO,
            quiet_alarm: Alarm::default(),
            next_epoch: options.first_epoch.max(1),
            hosts: Hosts::default(),
            swarms: Slab::default(),
            index: BTreeMap::new(),
            transfers: Slab::default(),
            overdue_alarm: Alarm::default(),
            timers: Timers::default(),
            records: BTreeMap::new(),
            counters: Counters::default(),
            usual_pace: Usual::default(),
            allowance: Allowance::default(),
            admission: Admission::default(),
            leaving: None,
            work: Work::default(),
            out: Vec::new(),
            scratch: Vec::new(),
            glance: Glance::default(),
            stale: Vec::new(),
            options,
        }
    }

    /// Takes in one event at time `now`, which never goes back, and appends what is to be done to `effects`.
    pub fn handle(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        self.out = std::mem::take(effects);
        if !self.started {
            self.started = true;
            self.quiet_until = self.now + self.options.quiet_period;
            self.timers.set(&mut self.quiet_alarm, Timer::Quiet, self.quiet_until);
        }
        self.run_timers();
        let decide = matches!(event, Event::Tick);
        match event {
            Event::HostJoined { host, spec } => self.on_joined(host, spec),
            Event::HostLeft { host } => self.on_left(&host),
            Event::Message { host, message } => match self.hosts.find(&host) {
                Some(host) => self.on_message(host, message),
                None => self.counters.ignored += 1,
            },
            Event::Tick => {}
        }
        self.settle(decide);
        *effects = std::mem::take(&mut self.out);
    }

    /// When [`Event::Tick`] is due at the latest, if no other event comes first. Before the first event it is
    /// [`Timestamp::ZERO`]: a driver ticks once at its start, which begins the quiet period. It is the time of the last
    /// event, so due at once, while something waits to be matched.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if !self.started {
            Some(Timestamp::ZERO)
        } else if self.work.is_to_match() {
            Some(self.now)
        } else {
            self.timers.next()
        }
    }

    fn run_timers(&mut self) {
        while let Some(timer) = self.timers.pop(self.now) {
            match timer {
                Timer::Quiet => {
                    self.timers.clear(&mut self.quiet_alarm, Timer::Quiet);
                    self.work.leases.extend(self.swarms.keys());
                }
                Timer::Overdue => self.on_overdue(),
                Timer::Lease(six) => self.on_lease_alarm(six),
                Timer::Query(six) => self.on_query_timeout(six),
                Timer::Consider(six) => {
                    if let Some(demand) = self.swarms.get_mut(six).and_then(|s| s.demand.as_deref_mut()) {
                        self.timers.clear(&mut demand.consider_alarm, timer);
                    }
                    self.work.leases.insert(six);
                }
                Timer::Retry(six) => self.on_retry(six),
                Timer::Host(host) => self.on_host_alarm(host),
            }
        }
    }

    fn on_message(&mut self, host: HostIx, HostMessage { key, body }: HostMessage) {
        match body {
            HostBody::Hold { closed, pieces } => return self.on_hold(host, &key, &pieces, closed),
            HostBody::Want { held, credential, priority, position, lease } => {
                let wish = Wish { credential, priority, position, lease };
                return self.on_want(host, &key, &held, &wish);
            }
            _ => {}
        }
        // The rest is about something that was said before; what comes late for that means nothing any more.
        let place = self.find_swarm(&key).and_then(|six| Some((six, self.hosts[host].memberships.get(six)?)));
        let Some((six, ix)) = place else {
            self.counters.ignored += 1;
            return;
        };
        let exists = |piece: PieceIndex| piece.0 < self.swarms[six].count();
        match body {
            HostBody::Verified { piece, from } if exists(piece) => self.on_verified(six, ix, piece, from),
            HostBody::NearlyDone { piece } => self.on_nearly_done(six, ix, piece),
            HostBody::Failed { piece, parent, epoch, why } => {
                self.on_failed(six, ix, (piece, parent), epoch, why);
            }
            HostBody::Chain { epoch, boundary, states, closed } => {
                self.on_chain(six, ix, epoch, (boundary, &states), closed);
            }
            HostBody::Position { piece, blocked } => self.on_position(six, ix, piece, blocked),
            HostBody::LeaseReturned { epoch, why } => self.on_lease_returned(six, ix, epoch, &why),
            HostBody::ChainFalse { epoch } => self.on_chain_false(six, ix, epoch),
            HostBody::LeaseAlive { epoch } => self.on_lease_alive(six, ix, epoch),
            HostBody::Leave => self.on_leave(six, ix),
            HostBody::Drop => self.on_drop(six, ix),
            HostBody::Verified { .. } | HostBody::Hold { .. } | HostBody::Want { .. } => {
                self.counters.ignored += 1;
            }
        }
    }

    /// Works off what events left to do: first what decides about chains and sources, then, if `decide`, the matching.
    fn settle(&mut self, decide: bool) {
        loop {
            if let Some(six) = self.work.doubted.pop_first() {
                self.weigh_doubts(six);
            } else if let Some(six) = self.work.leases.pop_first() {
                self.consider(six);
            } else if decide && self.work.is_to_match() {
                self.match_noted();
            } else {
                return;
            }
        }
    }

    fn send(&mut self, host: HostIx, key: BlobKey, body: SchedulerBody) {
        if self.leaving == Some(host) {
            return;
        }
        self.out.push(Effect::Send { host: self.hosts[host].id, message: SchedulerMessage { key, body } });
    }

    /// Tells a member about its blob.
    fn tell(&mut self, six: SwarmIx, ix: MemberIx, body: SchedulerBody) {
        let swarm = &self.swarms[six];
        let (host, key) = (swarm.members[ix].host, swarm.key(ix));
        self.send(host, key, body);
    }
}
