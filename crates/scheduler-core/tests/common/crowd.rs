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
    pub(crate) hosts: u32,
    /// Of 1 MiB.
    pub(crate) pieces: u32,
    pub(crate) zones: u32,
    pub(crate) slots: u16,
    /// Messages that the scheduler takes in before it decides.
    pub(crate) together: usize,
}

/// An assignment that was not acted on yet, in few bytes: the scheduler shall have the caches for itself.
#[derive(Clone, Copy, Debug)]
struct Told {
    child: u32,
    parent: u32,
    piece: PieceIndex,
}

/// A scheduler, and what it said that was not acted on yet.
pub(crate) struct Crowd {
    pub(crate) scheduler: Scheduler,
    /// Assignments that came true.
    pub(crate) assigned: u64,
    shape: Shape,
    key: BlobKey,
    now: Timestamp,
    told: VecDeque<Told>,
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
        self.told.capacity() * size_of::<Told>()
    }

    fn event(&mut self, event: Event) {
        self.now += Duration::from_nanos(200);
        self.scheduler.handle(self.now, event, &mut self.effects);
        for Effect::Send { host, message } in self.effects.drain(..) {
            match message.body {
                SchedulerBody::Assign { piece, parent, .. } => {
                    self.told.push_back(Told { child: number(host), parent: number(parent), piece });
                }
                SchedulerBody::Lease { epoch, limit, .. } => {
                    (self.lease, self.limit) = (Some((host, epoch)), limit);
                }
                SchedulerBody::LeaseLimit { limit, .. } => self.limit = limit,
                _ => {}
            }
        }
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
                let Some(Told { child, parent, piece }) = self.told.pop_front() else { break };
                self.assigned += 1;
                idle = 0;
                self.say(host(child), HostBody::Verified { piece, from: PieceFrom::Peer(host(parent)) });
            }
            // The origin is as fast as a host, or somewhat faster: a piece for every second that each host gets.
            let is_due = self.assigned * 2 >= u64::from(self.read) * u64::from(self.shape.hosts);
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

/// A host whose number can be told from its id, which is otherwise as any other.
fn host(n: u32) -> HostId {
    let mut bytes = [0; 32];
    for (i, chunk) in (1u32..).zip(bytes.chunks_exact_mut(4)) {
        chunk.copy_from_slice(&n.wrapping_mul(0x9E37_79B1u32.wrapping_mul(i) | 1).to_be_bytes());
    }
    bytes[28..].copy_from_slice(&n.to_be_bytes());
    HostId::from_bytes(bytes)
}

fn number(host: HostId) -> u32 {
    let [.., a, b, c, d] = *host.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}
