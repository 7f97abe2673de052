//! How many assignments a second the core decides when a thousand hosts want one blob. Prints; asserts no speed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use scheduler_core::{Effect, Event, Options, Scheduler};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use types::{
    Algorithm, BlobKey, Credential, Digest, Epoch, HostBody, HostId, HostMessage, HostSpec, Label, PieceFrom,
    PieceIndex, PieceSet, Priority, Registry, SchedulerBody, State, Timestamp,
};

/// A scheduler and what it said that was not acted on yet. Transfers finish in the order in which they began.
struct Crowd {
    scheduler: Scheduler,
    key: BlobKey,
    now: Timestamp,
    told: VecDeque<(HostId, SchedulerBody)>,
    effects: Vec<Effect>,
}

impl Crowd {
    fn event(&mut self, event: Event) {
        self.now += Duration::from_micros(1);
        self.scheduler.handle(self.now, event, &mut self.effects);
        self.scheduler.handle(self.now, Event::Tick, &mut self.effects);
        self.told.extend(self.effects.drain(..).map(|Effect::Send { host, message }| (host, message.body)));
    }

    fn say(&mut self, host: HostId, body: HostBody) {
        self.event(Event::Message { host, message: HostMessage { key: self.key.clone(), body } });
    }

    /// The source reads one piece.
    fn read(&mut self, source: HostId, epoch: Epoch, piece: u32) {
        let states = vec![State::initial(Algorithm::Sha256)];
        let last = u64::from(piece + 1) << 20 >= self.key.size;
        if !last {
            self.say(source, HostBody::Chain { epoch, boundary: piece + 1, states, closed: false });
        }
        self.say(source, HostBody::Verified { piece: PieceIndex(piece), from: PieceFrom::Origin });
    }
}

fn flash_crowd(hosts: u64, pieces: u32, zones: u64) {
    let options = Options { quiet_period: Duration::ZERO, piece_len: Some(1 << 20), ..Options::default() };
    let registry = Registry::parse("registry.test").unwrap();
    let mut crowd = Crowd {
        scheduler: Scheduler::new(options, 7),
        key: BlobKey { digest: Digest::sha256(b"x"), size: u64::from(pieces) << 20, registry },
        now: Timestamp::ZERO,
        told: VecDeque::new(),
        effects: Vec::new(),
    };
    for n in 0..hosts {
        let host = HostId::of_peer_id(&n.to_be_bytes());
        let spec = HostSpec {
            zone: Label::new(&format!("zone{}", n % zones)),
            rack: Label::new(&format!("rack{}", n / zones % 20)),
            upload_slots: 2,
            download_slots: 2,
            upload_rate: 0,
            download_rate: 0,
        };
        crowd.event(Event::HostJoined { host, spec });
        let body = HostBody::Want {
            held: PieceSet::empty(pieces),
            credential: Credential::Anonymous,
            priority: Priority::Waiting,
            position: PieceIndex(0),
            lease: None,
        };
        crowd.say(host, body);
    }
    let started = Instant::now();
    let (mut next, mut lease, mut limit_now) = (0, None, 0);
    let mut rounds = 0u64;
    loop {
        let Some((host, body)) = crowd.told.pop_front() else {
            let (source, epoch) = match lease {
                Some(lease) if next < pieces && next < limit_now => lease,
                _ => match crowd.scheduler.next_deadline() {
                    Some(at) if crowd.scheduler.summary().blobs[0].wanting > 0 && rounds < 100_000 => {
                        rounds += 1;
                        crowd.now = crowd.now.max(at);
                        crowd.event(Event::Tick);
                        continue;
                    }
                    _ => break,
                },
            };
            crowd.read(source, epoch, next);
            next += 1;
            continue;
        };
        match body {
            SchedulerBody::Assign { piece, parent, .. } => {
                crowd.say(host, HostBody::Verified { piece, from: PieceFrom::Peer(parent) });
            }
            SchedulerBody::Lease { epoch, limit, .. } => {
                lease = Some((host, epoch));
                limit_now = limit;
            }
            SchedulerBody::LeaseLimit { limit, .. } => limit_now = limit,
            _ => {}
        }
        // The origin is about as fast as the hosts.
        if let Some((source, epoch)) =
            lease.filter(|_| next < pieces && next < limit_now && rounds.is_multiple_of(2))
        {
            crowd.read(source, epoch, next);
            next += 1;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let summary = crowd.scheduler.summary();
    crowd.scheduler.check_invariants();
    assert_eq!(
        summary.blobs[0].complete,
        u32::try_from(hosts).unwrap(),
        "everybody has everything: {summary:?}"
    );
    let assigned = summary.counters.assigned;
    println!(
        "{hosts} hosts, {zones} zones, {pieces} pieces: {assigned} assigned, {:.0} per second, {rounds} ticks, \
         {} crossings ({} again), {:?}",
        assigned as f64 / seconds,
        summary.counters.crossings,
        summary.counters.crossings_again,
        summary.counters,
    );
}

#[test]
fn a_thousand_hosts() {
    flash_crowd(1000, 256, 1);
    flash_crowd(1000, 256, 4);
}

#[test]
fn many_pieces() {
    flash_crowd(200, 2048, 1);
}
