//! Keeping the stream: connect, say who we are, announce, carry messages both ways, notice silence, come back.

use super::silence::{Silence, Verdict};
use super::{OUTBOX, Outbox};
use crate::answers::Answers;
use crate::engine::Engine;
use crate::joining::Joined;
use crate::preheat::Preheats;
use crate::traffic::Traffic;
use download_core::LinkState;
use origin::Repository;
use p2p::Members;
use process::audit::{Event, Log, Operation};
use proto::{
    Forget, FromHost, FromScheduler, Hello, PREHEAT_PROTOCOL, PREHEAT_REPORTS_MAX, SCHEDULER_FRAME_BYTES_MAX,
    Welcome, wire,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;
use types::HostId;

/// How long the scheduler may take for its first words.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a stream waits for this host to join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(3);

/// The first pause before connecting again; doubled each time, with up to half taken off at random.
const BACKOFF: Duration = Duration::from_millis(100);

/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How often the scheduler is told how many bytes went where, and how preheats get on.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// Frames on their way into the stream.
const FRAMES: usize = 64;

/// Messages put into one batch of frames.
const BATCH: usize = 1024;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamEnd {
    #[error("the scheduler refused the stream: {}: {}", .0.code(), .0.message())]
    Refused(#[from] Box<tonic::Status>),
    #[error("the scheduler did not say welcome in {0:?}")]
    NoWelcome(Duration),
    #[error("this host has not joined the cluster")]
    NotJoined,
    #[error("the scheduler speaks protocol {0}")]
    Protocol(u32),
    #[error("the scheduler ended the stream")]
    Ended,
    #[error("the scheduler sent a value that makes no sense: {0}")]
    Malformed(#[from] proto::ConvertError),
    #[error("the scheduler was silent for {0:?}")]
    Silent(Duration),
    #[error("the scheduler reads slower than this host has news")]
    Behind,
}

/// Whom the stream's task serves.
pub(crate) struct Served {
    pub(crate) engine: Engine,
    pub(crate) answers: Arc<Answers>,
    pub(crate) audit: Option<Log>,
    pub(crate) members: Members,
    pub(crate) traffic: Traffic,
    pub(crate) preheats: Preheats,
    pub(crate) hello: Hello,
}

/// The task that keeps the stream.
pub(crate) struct LinkTask {
    channel: Channel,
    /// Nothing where nobody joins.
    joined: Option<Joined>,
    state: watch::Sender<LinkState>,
    tried: watch::Sender<bool>,
    outbox: Outbox,
    /// Whom the scheduler has named, over all streams: a new stream names everybody anew.
    named: Mutex<BTreeSet<HostId>>,
}

impl LinkTask {
    pub(super) fn new(
        channel: Channel,
        joined: Option<Joined>,
        state: watch::Sender<LinkState>,
        tried: watch::Sender<bool>,
        outbox: Outbox,
    ) -> Self {
        Self { channel, joined, state, tried, outbox, named: Mutex::default() }
    }

    /// Keeps a stream until cancelled.
    pub(crate) async fn run(self, served: Served, cancel: CancellationToken) {
        let mut pause = BACKOFF;
        while !cancel.is_cancelled() {
            let started = Instant::now();
            let ended = cancel.run_until_cancelled(self.stream(&served)).await;
            self.outbox.replace(None);
            self.tried.send_replace(true);
            self.set_state(&served.engine, LinkState::Down).await;
            let Some(Err(end)) = ended else { return };
            if started.elapsed() > BACKOFF_MAX {
                pause = BACKOFF;
            }
            tracing::warn!(reason = %end, again_in = ?pause, "no link to the scheduler");
            let jittered = pause.mul_f64(1.0 - fastrand::f64() / 2.0);
            if cancel.run_until_cancelled(tokio::time::sleep(jittered)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    async fn set_state(&self, engine: &Engine, state: LinkState) {
        let changed = self.state.send_if_modified(|current| std::mem::replace(current, state) != state);
        if changed {
            tracing::info!(?state, "the link to the scheduler changed");
            engine.link_changed(state).await;
        }
    }

    /// One stream from its first word to its end.
    async fn stream(&self, served: &Served) -> Result<(), StreamEnd> {
        if let Some(mut joined) = self.joined.clone()
            && !joined.within(JOIN_TIMEOUT).await
        {
            return Err(StreamEnd::NotJoined);
        }
        let (frames, outgoing) = mpsc::channel::<wire::HostFrame>(FRAMES);
        let hello = Hello { flushed: served.answers.flushed(), ..served.hello.clone() };
        for frame in FromHost::Hello(hello).into_frames() {
            drop(frames.try_send(frame));
        }
        let mut client = proto::client::SchedulerClient::new(self.channel.clone())
            .max_decoding_message_size(SCHEDULER_FRAME_BYTES_MAX);
        let opening = async {
            let mut incoming =
                client.connect(ReceiverStream::new(outgoing)).await.map_err(Box::new)?.into_inner();
            let welcome = next(&mut incoming).await?;
            Ok::<_, StreamEnd>((welcome, incoming))
        };
        let opened = tokio::time::timeout(WELCOME_TIMEOUT, opening).await;
        let (first, incoming) = opened.map_err(|_| StreamEnd::NoWelcome(WELCOME_TIMEOUT))??;
        let FromScheduler::Welcome(welcome) = first else { return Err(StreamEnd::Ended) };
        if proto::negotiate(welcome.protocol, welcome.protocol).is_none() {
            return Err(StreamEnd::Protocol(welcome.protocol));
        }
        tracing::info!(cluster = %welcome.cluster, instance = welcome.instance, "joined the scheduler");
        let (sender, outbox) = mpsc::channel(OUTBOX);
        self.outbox.replace(Some(sender));
        let writing = tokio::spawn(write(outbox, frames.clone()));
        let result = self.carry(served, &welcome, incoming, &frames).await;
        writing.abort();
        result
    }

    /// Carries messages until the stream ends.
    async fn carry(
        &self,
        served: &Served,
        welcome: &Welcome,
        mut incoming: Streaming<wire::SchedulerFrame>,
        frames: &mpsc::Sender<wire::HostFrame>,
    ) -> Result<(), StreamEnd> {
        self.set_state(&served.engine, LinkState::Up).await;
        self.tried.send_replace(true);
        served.preheats.serve(welcome.instance);
        let mut beat = interval(welcome.heartbeat.max(Duration::from_millis(50)));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut report = interval(REPORT_INTERVAL);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut silence = Silence::default();
        let mut number = 0;
        loop {
            tokio::select! {
                frame = next(&mut incoming) => {
                    heard = Instant::now();
                    silence.heard();
                    self.set_state(&served.engine, LinkState::Up).await;
                    self.take(served, frame?).await;
                }
                _ = beat.tick() => {
                    match silence.beat() {
                        Verdict::Speaks => {}
                        Verdict::Silent => self.set_state(&served.engine, LinkState::Silent).await,
                        Verdict::Broken => return Err(StreamEnd::Silent(heard.elapsed())),
                    }
                    number += 1;
                    offer(frames, FromHost::Ping(number));
                    if self.outbox.0.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                        return Err(StreamEnd::Behind);
                    }
                }
                _ = report.tick() => {
                    offer(frames, FromHost::Traffic(served.traffic.snapshot()));
                    report_preheats(served, welcome, frames);
                }
                () = served.preheats.one_ended() => report_preheats(served, welcome, frames),
            }
        }
    }

    fn change_members(
        &self,
        served: &Served,
        reset: bool,
        joined: Vec<proto::Member>,
        mut left: Vec<HostId>,
    ) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if reset {
            let present: BTreeSet<HostId> = joined.iter().map(proto::Member::host).collect();
            left.extend(named.difference(&present));
        }
        for host in left {
            named.remove(&host);
            served.members.remove(host);
            served.traffic.displace(host);
        }
        for member in joined {
            let host = member.host();
            if host != served.hello.host() && (named.len() < Members::MAX || named.contains(&host)) {
                named.insert(host);
                admit(served, host, member);
            }
        }
    }

    async fn take(&self, served: &Served, frame: FromScheduler) {
        match frame {
            FromScheduler::Messages(messages) => {
                for message in messages {
                    served.engine.deliver(message).await;
                }
            }
            FromScheduler::Members { reset, joined, left } => {
                self.change_members(served, reset, joined, left);
            }
            FromScheduler::Forget(flush) => forget(served, flush),
            FromScheduler::Preheat(order) => served.preheats.order(order),
            FromScheduler::PreheatOver(number) => served.preheats.over(number),
            FromScheduler::Welcome(_) | FromScheduler::Pong(_) => {}
        }
    }
}

/// A name that makes no sense stands for all: better to ask too much.
fn forget(served: &Served, Forget { number, of }: Forget) {
    let of = of.and_then(|(registry, name)| Some(Repository::new(&registry, name.parse().ok()?)));
    served.answers.forget(of.as_ref());
    served.answers.heard_of_flush(number);
    let detail = of.map_or_else(|| "all repositories".to_owned(), |of| of.to_string());
    tracing::info!(of = detail, "the answers of origins are forgotten");
    if let Some(audit) = &served.audit {
        let operation = Operation { name: "flush".into(), by: "scheduler".into(), detail };
        audit.tell(None, Event::Operation(operation));
    }
}

fn admit(served: &Served, host: HostId, member: proto::Member) {
    served.traffic.place(host, &member.zone, &member.rack);
    let member = p2p::Member { host, peer_id: member.peer_id, control: member.control, bulk: member.bulk };
    if let Err(error) = served.members.insert(member) {
        tracing::warn!(%error, peer = %host, "a member cannot be taken in");
    }
}

/// Tells how preheats get on, where the scheduler knows of them.
fn report_preheats(served: &Served, welcome: &Welcome, frames: &mpsc::Sender<wire::HostFrame>) {
    if welcome.protocol >= PREHEAT_PROTOCOL {
        for reports in served.preheats.reports().chunks(PREHEAT_REPORTS_MAX) {
            offer(frames, FromHost::Preheats(reports.to_vec()));
        }
    }
}

/// What can be said again later is left out when there is no room.
fn offer(frames: &mpsc::Sender<wire::HostFrame>, said: FromHost) {
    for frame in said.into_frames() {
        drop(frames.try_send(frame));
    }
}

/// Puts waiting messages into frames. Ends with the stream, or when the outbox is replaced.
async fn write(mut outbox: mpsc::Receiver<types::HostMessage>, frames: mpsc::Sender<wire::HostFrame>) {
    let mut batch = Vec::with_capacity(BATCH);
    while outbox.recv_many(&mut batch, BATCH).await > 0 {
        for frame in FromHost::Messages(std::mem::take(&mut batch)).into_frames() {
            if frames.send(frame).await.is_err() {
                return;
            }
        }
    }
}

async fn next(incoming: &mut Streaming<wire::SchedulerFrame>) -> Result<FromScheduler, StreamEnd> {
    match incoming.next().await {
        Some(Ok(frame)) => Ok(frame.try_into()?),
        Some(Err(status)) => Err(StreamEnd::Refused(Box::new(status))),
        None => Err(StreamEnd::Ended),
    }
}
