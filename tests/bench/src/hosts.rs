//! Hosts as a scheduler knows them: each a gRPC connection of its own that reports pieces at a fixed rate. What is measured
//! is the scheduler, so no bytes move: a piece that was assigned counts as verified when its turn comes.

use crate::role;
use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use proto::client::SchedulerClient;
use proto::{FromHost, FromScheduler, Hello, SCHEDULER_FRAME_BYTES_MAX, wire};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;
use types::{
    Algorithm, BlobKey, Credential, Digest, Epoch, HostBody, HostId, HostMessage, HostSpec, Label, PieceFrom,
    PieceIndex, PieceLayout, PieceSet, Priority, Registry, SchedulerBody, State,
};

/// The blob: 4,096 pieces of 1 MiB, enough for some minutes at twenty a second.
const BLOB: u64 = (4 << 30) - 1;
/// Slots up and down, as a daemon has them.
const SLOTS: u16 = 4;
/// Connections that are made at the same time.
const CONNECTING: usize = 32;
/// How long it may take until all hosts have pieces to report.
const RAMP_LIMIT: Duration = Duration::from_secs(60);
/// The rate counts as reached at this share of it.
const REACHED: f64 = 0.98;

/// What the hosts do.
#[derive(Clone, Debug, clap::Args)]
pub struct HostsRole {
    /// The scheduler's gRPC.
    #[arg(long)]
    pub scheduler: SocketAddr,
    /// How many hosts.
    #[arg(long)]
    pub hosts: u32,
    /// Pieces reported per second, by all together.
    #[arg(long)]
    pub rate: u32,
    /// How long the rate is kept once it is reached.
    #[arg(long)]
    pub seconds: u64,
}

/// What went back and forth.
#[derive(Debug, Default)]
struct Counts {
    reports: AtomicU64,
    heard: AtomicU64,
}

impl Counts {
    fn now(&self) -> (u64, u64) {
        (self.reports.load(Ordering::Relaxed), self.heard.load(Ordering::Relaxed))
    }
}

/// Connects the hosts and lets them report; says when the rate is reached, and at the end what it was.
///
/// # Errors
/// If a host is not taken in, or the rate is not reached in time.
pub async fn run(role: &HostsRole) -> Result<()> {
    let counts = Arc::new(Counts::default());
    let connecting = (0..role.hosts).map(|n| Host::connect(role.scheduler, n, Arc::clone(&counts)));
    let hosts: Vec<Host> =
        futures::stream::iter(connecting).buffer_unordered(CONNECTING).try_collect().await?;
    let each = Duration::from_secs(1) * role.hosts / role.rate.max(1);
    let mut tasks = tokio::task::JoinSet::new();
    for (n, host) in (0..).zip(hosts) {
        tasks.spawn(host.run(every(each, each * n / role.hosts)));
    }
    let measured = async {
        until_reached(&counts, f64::from(role.rate) * REACHED).await?;
        role::say("ready", "");
        let (begun, before) = (Instant::now(), counts.now());
        tokio::time::sleep(Duration::from_secs(role.seconds)).await;
        let (after, seconds) = (counts.now(), begun.elapsed().as_secs_f64());
        role::say("done", format!("{} {} {seconds}", after.0 - before.0, after.1 - before.1));
        anyhow::Ok(())
    };
    tokio::select! {
        measured = measured => measured?,
        Some(ended) = tasks.join_next() => ended??,
    }
    // The streams stay open: their end is not what is measured.
    std::future::pending().await
}

async fn until_reached(counts: &Counts, least: f64) -> Result<()> {
    let until = Instant::now() + RAMP_LIMIT;
    let mut last = counts.now().0;
    let mut rate = 0.0;
    let mut seconds = every(Duration::from_secs(1), Duration::from_secs(1));
    while Instant::now() < until {
        let since = Instant::now();
        seconds.tick().await;
        let now = counts.now().0;
        #[allow(clippy::cast_precision_loss, reason = "reports of a second")]
        {
            rate = (now - last) as f64 / since.elapsed().as_secs_f64().max(0.5);
        }
        if rate >= least {
            return Ok(());
        }
        last = now;
    }
    bail!("{rate:.0} reports a second after {RAMP_LIMIT:?}, not {least:.0}")
}

/// What is late is made up for, so that the rate is kept.
fn every(period: Duration, first: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + first, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Burst);
    interval
}

/// A connected host.
struct Host {
    key: BlobKey,
    frames: mpsc::Sender<wire::HostFrame>,
    incoming: Streaming<wire::SchedulerFrame>,
    heartbeat: Duration,
    counts: Arc<Counts>,
    /// Pieces assigned, from whom, the first first.
    coming: VecDeque<(PieceIndex, HostId)>,
    source: Option<Source>,
}

/// The part of the one host that reads the blob.
struct Source {
    epoch: Epoch,
    limit: u32,
    next: u32,
}

impl Host {
    async fn connect(scheduler: SocketAddr, n: u32, counts: Arc<Counts>) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{scheduler}"))?.connect().await?;
        let mut client = SchedulerClient::new(channel).max_decoding_message_size(SCHEDULER_FRAME_BYTES_MAX);
        let (frames, outgoing) = mpsc::channel(64);
        let hello = Hello {
            protocol_min: proto::PROTOCOL_MIN,
            protocol_max: proto::PROTOCOL,
            peer_id: n.to_be_bytes().to_vec(),
            bulk: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 4001)),
            control: None,
            spec: HostSpec {
                zone: Label::new("zone"),
                rack: Label::new(&format!("rack{}", n / 40)),
                upload_slots: SLOTS,
                download_slots: SLOTS,
                upload_rate: 0,
                download_rate: 0,
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            flushed: 0,
            platform: "linux/amd64".to_owned(),
        };
        for frame in FromHost::Hello(hello).into_frames() {
            frames.send(frame).await?;
        }
        let mut incoming = client.connect(ReceiverStream::new(outgoing)).await?.into_inner();
        let first = incoming.message().await?.context("no welcome")?;
        let FromScheduler::Welcome(welcome) = FromScheduler::try_from(first)? else { bail!("no welcome") };
        let key = BlobKey {
            digest: Digest::sha256(b"the blob"),
            size: BLOB,
            registry: Registry::parse("registry.bench")?,
        };
        let (coming, source, heartbeat) = (VecDeque::new(), None, welcome.heartbeat);
        Ok(Self { key, frames, incoming, heartbeat, counts, coming, source })
    }

    async fn run(mut self, mut turns: Interval) -> Result<()> {
        let layout = PieceLayout::for_size(BLOB).context("a layout")?;
        let want = HostBody::Want {
            held: PieceSet::empty(layout.count()),
            credential: Credential::Anonymous,
            priority: Priority::Waiting,
            position: PieceIndex(0),
            lease: None,
        };
        self.tell(vec![want]).await?;
        let mut beat = every(self.heartbeat, self.heartbeat);
        let mut pings = 0;
        loop {
            tokio::select! {
                _ = beat.tick() => {
                    pings += 1;
                    self.say(FromHost::Ping(pings)).await?;
                }
                _ = turns.tick() => self.turn(layout.count()).await?,
                frame = self.incoming.message() => {
                    let frame = frame?.context("the stream has ended")?;
                    if let FromScheduler::Messages(messages) = FromScheduler::try_from(frame)? {
                        messages.iter().for_each(|message| self.hear(&message.body));
                    }
                }
            }
        }
    }

    /// Reports the first of the pieces that were to come, and that the next one is about to.
    async fn turn(&mut self, count: u32) -> Result<()> {
        let mut bodies = self.read(count);
        if let Some((piece, parent)) = self.coming.pop_front() {
            bodies.push(HostBody::Verified { piece, from: PieceFrom::Peer(parent) });
            self.counts.reports.fetch_add(1, Ordering::Relaxed);
        }
        if let Some((piece, _)) = self.coming.front() {
            bodies.push(HostBody::NearlyDone { piece: *piece });
        }
        if bodies.is_empty() { Ok(()) } else { self.tell(bodies).await }
    }

    /// The source reads two pieces in each turn, so that it is ahead of the others.
    fn read(&mut self, count: u32) -> Vec<HostBody> {
        let Some(source) = &mut self.source else { return Vec::new() };
        let mut bodies = Vec::new();
        for piece in (source.next..source.limit.min(count)).take(2) {
            source.next = piece + 1;
            if source.next < count {
                let states = vec![State::initial(Algorithm::Sha256)];
                let (epoch, boundary) = (source.epoch, source.next);
                bodies.push(HostBody::Chain { epoch, boundary, states, closed: false });
            }
            bodies.push(HostBody::Verified { piece: PieceIndex(piece), from: PieceFrom::Origin });
        }
        bodies
    }

    fn hear(&mut self, said: &SchedulerBody) {
        self.counts.heard.fetch_add(1, Ordering::Relaxed);
        match *said {
            SchedulerBody::Assign { piece, parent, .. } => self.coming.push_back((piece, parent)),
            SchedulerBody::Cancel { piece, .. } => self.coming.retain(|(coming, _)| *coming != piece),
            SchedulerBody::Lease { epoch, limit, .. } => {
                self.source = Some(Source { epoch, limit, next: 0 });
            }
            SchedulerBody::LeaseLimit { limit, .. } => {
                if let Some(source) = &mut self.source {
                    source.limit = limit;
                }
            }
            SchedulerBody::Revoke { .. } => self.source = None,
            _ => {}
        }
    }

    async fn tell(&self, bodies: Vec<HostBody>) -> Result<()> {
        let messages = bodies.into_iter().map(|body| HostMessage { key: self.key.clone(), body }).collect();
        self.say(FromHost::Messages(messages)).await
    }

    async fn say(&self, said: FromHost) -> Result<()> {
        for frame in said.into_frames() {
            ensure!(self.frames.send(frame).await.is_ok(), "the stream has ended");
        }
        Ok(())
    }
}
