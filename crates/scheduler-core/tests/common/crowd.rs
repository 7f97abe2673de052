//! A flash crowd as the scheduler sees it, without links: transfers end in the order in which they began.

use scheduler_core::{Effect, Event, Options, Scheduler};
use std::collections::VecDeque;
use std::time::Duration;
use types::{
    Algorithm, BlobKey, Credential, Digest, Epoch, HostBody, HostId, HostMessage, HostSpec, Label, PieceFrom,
    PieceIndex, PieceSet, Priority, Registry, SchedulerBody, State, Timestamp,
};

/// Ticks in a row that lead to nothing before the crowd is given up.
const IDLE_MAX: u32 = 100_000;

/// What the crowd is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) hosts: u64,
    /// Of 1 MiB.
    pub(crate) pieces: u32,
    pub(crate) zones: u64,
    pub(crate) slots: u16,
    /// Messages that the scheduler takes in before it decides.
    pub(crate) together: usize,
}

/// A scheduler, and what it said that was not acted on yet.
pub(crate) struct Crowd {
    pub(crate) scheduler: Scheduler,
    /// Assignments that came true.
    pub(crate) assigned: u64,
    shape: Shape,
    key: BlobKey,
    now: Timestamp,
    told: VecDeque<(HostId, SchedulerBody)>,
    effects: Vec<Effect>,
    lease: Option<(HostId, Epoch)>,
    limit: u32,
    read: u32,
}

impl Crowd {
    /// All hosts are there, and want nothing yet.
    pub(crate) fn new(shape: Shape) -> Self {
        let options =
            Options { quiet_period: Duration::ZERO, piece_len: Some(1 << 20), ..Options::default() };
        let registry = Registry::parse("registry.test").expect("a good name");
        let mut crowd = Self {
            scheduler: Scheduler::new(options, 7),
            assigned: 0,
            shape,
            key: BlobKey { digest: Digest::sha256(b"x"), size: u64::from(shape.pieces) << 20, registry },
            now: Timestamp::ZERO,
            told: VecDeque::new(),
            effects: Vec::new(),
            lease: None,
            limit: 0,
            read: 0,
        };
        for n in 0..shape.hosts {
            let spec = HostSpec {
                zone: Label::new(&format!("zone{}", n % shape.zones)),
                rack: Label::new(&format!("rack{}", n / shape.zones % 20)),
                upload_slots: shape.slots,
                download_slots: shape.slots,
                upload_rate: 0,
                download_rate: 0,
            };
            crowd.event(Event::HostJoined { host: host(n), spec });
        }
        crowd
    }

    pub(crate) fn all_want(&mut self) {
        for n in 0..self.shape.hosts {
            let body = HostBody::Want {
                held: PieceSet::empty(self.shape.pieces),
                credential: Credential::Anonymous,
                priority: Priority::Waiting,
                position: PieceIndex(0),
                lease: None,
            };
            self.say(host(n), body);
        }
        self.event(Event::Tick);
    }

    /// What this program keeps for what has not been acted on, in bytes.
    #[allow(dead_code, reason = "each program that includes this file uses a part of it")]
    pub(crate) fn queue_bytes(&self) -> usize {
        self.told.capacity() * size_of::<(HostId, SchedulerBody)>()
    }

    fn event(&mut self, event: Event) {
        self.now += Duration::from_nanos(200);
        self.scheduler.handle(self.now, event, &mut self.effects);
        self.told.extend(self.effects.drain(..).map(|Effect::Send { host, message }| (host, message.body)));
    }

    fn say(&mut self, host: HostId, body: HostBody) {
        self.event(Event::Message { host, message: HostMessage { key: self.key.clone(), body } });
    }

    /// The source reads a piece, if it may. Whether it did.
    fn read(&mut self) -> bool {
        let may = self.read < self.limit.min(self.shape.pieces);
        let Some((source, epoch)) = self.lease.filter(|_| may) else { return false };
        let (piece, states) = (self.read, vec![State::initial(Algorithm::Sha256)]);
        self.read += 1;
        if self.read < self.shape.pieces {
            self.say(source, HostBody::Chain { epoch, boundary: piece + 1, states, closed: false });
        }
        self.say(source, HostBody::Verified { piece: PieceIndex(piece), from: PieceFrom::Origin });
        true
    }

    /// Lets what was said come true until so many assignments more have. Whether there were so many.
    pub(crate) fn go_on(&mut self, assignments: u64) -> bool {
        let until = self.assigned + assignments;
        let mut idle = 0;
        while self.assigned < until {
            for _ in 0..self.shape.together {
                let Some((host, body)) = self.told.pop_front() else { break };
                match body {
                    SchedulerBody::Assign { piece, parent, .. } => {
                        self.assigned += 1;
                        idle = 0;
                        self.say(host, HostBody::Verified { piece, from: PieceFrom::Peer(parent) });
                    }
                    SchedulerBody::Lease { epoch, limit, .. } => {
                        (self.lease, self.limit) = (Some((host, epoch)), limit);
                    }
                    SchedulerBody::LeaseLimit { limit, .. } => self.limit = limit,
                    _ => {}
                }
            }
            // The origin is as fast as a host, or somewhat faster: a piece for every second that each host gets.
            let is_due = self.assigned * 2 >= u64::from(self.read) * self.shape.hosts;
            let has_read = (is_due || self.told.is_empty()) && self.read();
            if self.told.is_empty() && !has_read {
                let Some(at) = self.scheduler.next_deadline().filter(|_| idle < IDLE_MAX) else {
                    return false;
                };
                idle += 1;
                self.now = self.now.max(at);
            }
            self.event(Event::Tick);
        }
        true
    }
}

fn host(n: u64) -> HostId {
    HostId::of_peer_id(&n.to_be_bytes())
}
