//! How many assignments a second one core decides when ten thousand hosts want one blob, and what each host's part in it
//! costs in memory. Both are held against a limit; `cargo bench -p scheduler-core`.

#![allow(
    clippy::unwrap_used,
    clippy::missing_docs_in_private_items,
    reason = "a benchmark fails by panicking"
)]

use criterion::{BatchSize, Criterion, Throughput};
use scheduler_core::{Effect, Event, Options, Scheduler};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use types::{
    Algorithm, BlobKey, Credential, Digest, Epoch, HostBody, HostId, HostMessage, HostSpec, Label, PieceFrom,
    PieceIndex, PieceSet, Priority, Registry, SchedulerBody, State, Timestamp,
};

const HOSTS: u64 = 10_000;
/// A blob of 1 GiB.
const PIECES: u32 = 1_024;
/// Assignments that are timed together.
const CHUNK: u64 = 100_000;
/// What one core must decide at least, in a second.
const LEAST: f64 = 500_000.0;
/// What a host's part in a blob may cost, in bytes.
const MEMORY_MOST: u64 = 1_024;
/// Messages that a scheduler's loop takes in together.
const TOGETHER: usize = 64;

/// A rollout as the scheduler sees it: transfers end in the order in which they began.
struct Rollout {
    scheduler: Scheduler,
    key: BlobKey,
    now: Timestamp,
    told: VecDeque<(HostId, SchedulerBody)>,
    effects: Vec<Effect>,
    lease: Option<(HostId, Epoch)>,
    limit: u32,
    read: u32,
    assigned: u64,
}

impl Rollout {
    fn new() -> Self {
        let options = Options { quiet_period: Duration::ZERO, ..Options::default() };
        let registry = Registry::parse("registry.test").unwrap();
        let mut rollout = Self {
            scheduler: Scheduler::new(options, 7),
            key: BlobKey { digest: Digest::sha256(b"x"), size: u64::from(PIECES) << 20, registry },
            now: Timestamp::ZERO,
            told: VecDeque::new(),
            effects: Vec::new(),
            lease: None,
            limit: 0,
            read: 0,
            assigned: 0,
        };
        for n in 0..HOSTS {
            let spec = HostSpec {
                zone: Label::new("zone"),
                rack: Label::new(&format!("rack{}", n % 100)),
                upload_slots: 4,
                download_slots: 4,
                upload_rate: 0,
                download_rate: 0,
            };
            rollout.event(Event::HostJoined { host: host(n), spec });
        }
        rollout
    }

    fn all_want(&mut self) {
        for n in 0..HOSTS {
            let body = HostBody::Want {
                held: PieceSet::empty(PIECES),
                credential: Credential::Anonymous,
                priority: Priority::Waiting,
                position: PieceIndex(0),
                lease: None,
            };
            self.say(host(n), body);
        }
        self.event(Event::Tick);
    }

    fn event(&mut self, event: Event) {
        self.now += Duration::from_nanos(200);
        self.scheduler.handle(self.now, event, &mut self.effects);
        self.told.extend(self.effects.drain(..).map(|Effect::Send { host, message }| (host, message.body)));
    }

    fn say(&mut self, host: HostId, body: HostBody) {
        self.event(Event::Message { host, message: HostMessage { key: self.key.clone(), body } });
    }

    /// The source reads a piece, if it may.
    fn read(&mut self) {
        let Some((source, epoch)) = self.lease.filter(|_| self.read < self.limit.min(PIECES - 1)) else {
            return;
        };
        let (piece, states) = (self.read, vec![State::initial(Algorithm::Sha256)]);
        self.read += 1;
        self.say(source, HostBody::Chain { epoch, boundary: piece + 1, states, closed: false });
        self.say(source, HostBody::Verified { piece: PieceIndex(piece), from: PieceFrom::Origin });
    }

    /// So many assignments more, each of which comes true in turn.
    fn go_on(&mut self, assignments: u64) {
        let until = self.assigned + assignments;
        while self.assigned < until {
            for _ in 0..TOGETHER {
                match self.told.pop_front() {
                    Some((host, SchedulerBody::Assign { piece, parent, .. })) => {
                        self.assigned += 1;
                        self.say(host, HostBody::Verified { piece, from: PieceFrom::Peer(parent) });
                    }
                    Some((host, SchedulerBody::Lease { epoch, limit, .. })) => {
                        (self.lease, self.limit) = (Some((host, epoch)), limit);
                    }
                    Some((_, SchedulerBody::LeaseLimit { limit, .. })) => self.limit = limit,
                    Some(_) => {}
                    None => {
                        self.now += Duration::from_millis(1);
                        break;
                    }
                }
            }
            // The origin is as fast as a host: a piece for every piece that each host gets.
            if self.assigned >= u64::from(self.read) * HOSTS / 2 {
                self.read();
            }
            self.event(Event::Tick);
        }
    }
}

fn host(n: u64) -> HostId {
    HostId::of_peer_id(&n.to_be_bytes())
}

/// Anonymous memory of this process, in bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

fn main() {
    let mut rollout = Rollout::new();
    let before = memory();
    rollout.all_want();
    // Far enough that all hosts hold something and are busy.
    rollout.go_on(2_000_000);
    // What has been said and not been acted on is this program's.
    let queue = (rollout.told.capacity() * size_of::<(HostId, SchedulerBody)>()) as u64;
    let each = (memory() - before).saturating_sub(queue) / HOSTS;
    println!("memory per (host, blob): {each} bytes (≤ {MEMORY_MOST})");
    let started = Instant::now();
    rollout.go_on(10 * CHUNK);
    let rate = (10 * CHUNK) as f64 / started.elapsed().as_secs_f64();
    println!("assignments per second: {rate:.0} (≥ {LEAST:.0})");

    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    let mut group = criterion.benchmark_group("10,000 hosts");
    group.throughput(Throughput::Elements(CHUNK));
    group.bench_function("assignments", |bencher| {
        bencher.iter_batched(|| (), |()| rollout.go_on(CHUNK), BatchSize::PerIteration);
    });
    group.finish();
    criterion.final_summary();
    assert!(each <= MEMORY_MOST, "{each} bytes for each host");
    assert!(rate >= LEAST, "{rate:.0} assignments a second");
}
