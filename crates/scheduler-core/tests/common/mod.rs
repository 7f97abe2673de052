//! What the tests share: blobs with real chains, host specs, and a script that speaks to the scheduler.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "each test program includes this file as its own")]
#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod world;

use scheduler_core::{Effect, Event, Options, Scheduler};
use std::time::Duration;
use types::{
    BlobKey, Chain, Credential, Digest, Epoch, FetchFailure, HostBody, HostId, HostMessage, HostSpec, Label,
    PieceFrom, PieceIndex, PieceLayout, PieceSet, Priority, Registry, SchedulerBody, State, Timestamp,
    hash_piece,
};

/// Tiny pieces, so that real chains cost nothing.
pub const PIECE_LEN: u32 = 128;

/// A blob whose bytes and chain are known.
#[derive(Clone, Debug)]
pub struct Blob {
    pub layout: PieceLayout,
    pub digest: Digest,
    pub states: Vec<State>,
}

impl Blob {
    /// `pieces` pieces; different numbers make different blobs.
    pub fn new(pieces: u32, number: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(number);
        let bytes: Vec<u8> = (0..pieces * PIECE_LEN - 5).map(|_| rng.u8(..)).collect();
        let layout = PieceLayout::new(bytes.len() as u64, PIECE_LEN).unwrap();
        let digest = Digest::sha256(&bytes);
        let mut states = vec![State::initial(digest.algorithm())];
        for piece in layout.pieces() {
            let range = layout.range(piece);
            let part = &bytes[usize::try_from(range.start()).unwrap()..usize::try_from(range.end()).unwrap()];
            states.push(hash_piece(layout, piece, states.last().unwrap(), part).unwrap());
        }
        let mut chain = Chain::new(digest, layout).unwrap();
        assert!(chain.learn(0, &states).is_ok(), "the true chain leads to the digest");
        Self { layout, digest, states }
    }

    pub fn count(&self) -> u32 {
        self.layout.count()
    }

    pub fn key(&self) -> BlobKey {
        self.key_at("registry.test")
    }

    pub fn key_at(&self, registry: &str) -> BlobKey {
        BlobKey {
            digest: self.digest,
            size: self.layout.size(),
            registry: Registry::parse(registry).unwrap(),
        }
    }

    pub fn none(&self) -> PieceSet {
        PieceSet::empty(self.count())
    }

    pub fn all(&self) -> PieceSet {
        PieceSet::full(self.count())
    }
}

pub fn host(n: u64) -> HostId {
    HostId::of_peer_id(&n.to_be_bytes())
}

pub fn spec() -> HostSpec {
    spec_in("zone", "rack")
}

pub fn spec_in(zone: &str, rack: &str) -> HostSpec {
    HostSpec {
        zone: Label::new(zone),
        rack: Label::new(rack),
        upload_slots: 2,
        download_slots: 2,
        upload_rate: 0,
        download_rate: 0,
    }
}

/// Defaults for tiny pieces: no quiet period, and a source at most eight pieces ahead.
pub fn options() -> Options {
    Options {
        quiet_period: Duration::ZERO,
        piece_len: Some(PIECE_LEN),
        source_ahead_bytes: 8 * u64::from(PIECE_LEN),
        source_ahead_min_bytes: 4 * u64::from(PIECE_LEN),
        ..Options::default()
    }
}

pub fn set(count: u32, pieces: impl IntoIterator<Item = u32>) -> PieceSet {
    let mut set = PieceSet::empty(count);
    for piece in pieces {
        set.insert(PieceIndex(piece));
    }
    set
}

/// Speaks to a scheduler as several hosts, one message at a time.
pub struct Script {
    pub scheduler: Scheduler,
    pub now: Timestamp,
    /// Of which blob each assignment was, in order.
    pub assigned: Vec<Digest>,
}

/// What a host was told.
pub type Told = Vec<(HostId, SchedulerBody)>;

impl Script {
    pub fn new(options: Options) -> Self {
        Self { scheduler: Scheduler::new(options, 1), now: Timestamp::from_nanos(1), assigned: Vec::new() }
    }

    pub fn event(&mut self, event: Event) -> Told {
        let mut effects = Vec::new();
        self.scheduler.handle(self.now, event, &mut effects);
        self.scheduler.check_invariants();
        self.scheduler.handle(self.now, Event::Tick, &mut effects);
        self.scheduler.check_invariants();
        let assigned = effects.iter().filter_map(|Effect::Send { message, .. }| {
            matches!(message.body, SchedulerBody::Assign { .. }).then_some(message.key.digest)
        });
        self.assigned.extend(assigned);
        effects.into_iter().map(|Effect::Send { host, message }| (host, message.body)).collect()
    }

    pub fn join(&mut self, id: HostId) -> Told {
        self.join_as(id, spec())
    }

    pub fn join_as(&mut self, id: HostId, spec: HostSpec) -> Told {
        self.event(Event::HostJoined { host: id, spec })
    }

    pub fn leave(&mut self, id: HostId) -> Told {
        self.event(Event::HostLeft { host: id })
    }

    pub fn say(&mut self, id: HostId, key: &BlobKey, body: HostBody) -> Told {
        self.event(Event::Message { host: id, message: HostMessage { key: key.clone(), body } })
    }

    pub fn want(&mut self, id: HostId, key: &BlobKey, held: PieceSet) -> Told {
        self.want_with(id, key, held, Credential::Anonymous)
    }

    pub fn want_with(&mut self, id: HostId, key: &BlobKey, held: PieceSet, credential: Credential) -> Told {
        let body = HostBody::Want {
            held,
            credential,
            priority: Priority::Waiting,
            position: PieceIndex(0),
            lease: None,
        };
        self.say(id, key, body)
    }

    pub fn hold(&mut self, id: HostId, key: &BlobKey, pieces: PieceSet, closed: bool) -> Told {
        self.say(id, key, HostBody::Hold { closed, pieces })
    }

    pub fn verified(&mut self, id: HostId, key: &BlobKey, piece: u32, from: PieceFrom) -> Told {
        self.say(id, key, HostBody::Verified { piece: PieceIndex(piece), from })
    }

    /// The source read one piece: its state after it, and the piece.
    pub fn read(&mut self, id: HostId, blob: &Blob, epoch: Epoch, piece: u32) -> Told {
        let after = blob.states[piece as usize + 1];
        let body = HostBody::Chain { epoch, boundary: piece + 1, states: vec![after], closed: false };
        let mut told = self.say(id, &blob.key(), body);
        told.extend(self.verified(id, &blob.key(), piece, PieceFrom::Origin));
        told
    }

    /// Lets time pass, with every tick that is due on the way.
    pub fn wait(&mut self, duration: Duration) -> Told {
        let end = self.now + duration;
        let mut told = Vec::new();
        while let Some(at) = self.scheduler.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            told.extend(self.event(Event::Tick));
        }
        self.now = end;
        told.extend(self.event(Event::Tick));
        told
    }
}

/// Whose leases were revoked.
pub fn revoked(told: &Told) -> Vec<(HostId, Epoch)> {
    told.iter()
        .filter_map(|(host, body)| match body {
            SchedulerBody::Revoke { epoch } => Some((*host, *epoch)),
            _ => None,
        })
        .collect()
}

/// The new limits of leases.
pub fn limits(told: &Told) -> Vec<u32> {
    told.iter()
        .filter_map(|(_, body)| match body {
            SchedulerBody::LeaseLimit { limit, .. } => Some(*limit),
            _ => None,
        })
        .collect()
}

/// The lease in what was told: who, its epoch, what is missing, how long the prefix, the limit.
pub fn lease_in(told: &Told) -> Option<(HostId, Epoch, PieceSet, usize, u32)> {
    told.iter().find_map(|(host, body)| match body {
        SchedulerBody::Lease { epoch, missing, prefix, limit, .. } => {
            Some((*host, *epoch, missing.clone(), prefix.len(), *limit))
        }
        _ => None,
    })
}

/// The assignments in what was told: piece, parent, child.
pub fn assigns_in(told: &Told) -> Vec<(u32, HostId, HostId)> {
    told.iter()
        .filter_map(|(child, body)| match body {
            SchedulerBody::Assign { piece, parent, .. } => Some((piece.0, *parent, *child)),
            _ => None,
        })
        .collect()
}

/// A closed blob that hosts `0..holders` hold whole; `all` hosts have joined.
pub fn closed_blob(options: Options, pieces: u32, holders: u64, specs: &[HostSpec]) -> (Script, Blob) {
    let (mut s, blob) = (Script::new(options), Blob::new(pieces, 1));
    for (n, spec) in (0..).zip(specs) {
        s.join_as(host(n), spec.clone());
    }
    for n in 0..holders {
        s.hold(host(n), &blob.key(), blob.all(), true);
    }
    (s, blob)
}

/// A host wants a closed blob: its chain is asked for and told.
pub fn want_closed(s: &mut Script, blob: &Blob, child: HostId) -> Told {
    let mut told = s.want(child, &blob.key(), blob.none());
    let asked = told.iter().find_map(|(host, body)| match body {
        SchedulerBody::WantChain { epoch, .. } => Some((*host, *epoch)),
        _ => None,
    });
    if let Some((asked, epoch)) = asked {
        let body = HostBody::Chain { epoch, boundary: 0, states: blob.states.clone(), closed: true };
        told.extend(s.say(asked, &blob.key(), body));
    }
    told
}

pub fn fail(
    s: &mut Script,
    blob: &Blob,
    (piece, parent, child): (u32, HostId, HostId),
    why: FetchFailure,
) -> Told {
    let epoch = s.scheduler.summary().blobs[0].epoch;
    s.say(child, &blob.key(), HostBody::Failed { piece: PieceIndex(piece), parent, epoch, why })
}

pub fn resets(told: &Told) -> Vec<HostId> {
    let reset = |body: &SchedulerBody| matches!(body, SchedulerBody::ChainReset { .. });
    let mut hosts: Vec<_> = told.iter().filter(|(_, body)| reset(body)).map(|(host, _)| *host).collect();
    hosts.sort();
    hosts
}
