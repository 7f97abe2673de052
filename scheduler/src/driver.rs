//! The one task that owns the scheduler's core.
//!
//! Streams put what they hear into a bounded queue and wait when it is full, so that a flood slows its senders down.
//! The driver takes a few inputs at a time, lets the core handle them, sorts the effects by host and puts one batch
//! into each host's outbox. It decides nothing.

mod preheats;

use crate::cluster::{Cluster, Flushes, Removed};
use crate::metrics::{self, Published};
use crate::outbox::{End, Out, Outbox};
use crate::preheat::{self, Book, Candidate};
use crate::rollouts::Rollouts;
use crate::roster::{Roster, StreamId};
use crate::{Options, status};
use proto::{Forget, Hello, PreheatReport, Traffic};
use scheduler_core::{Effect, Event, Scheduler, Summary};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use types::{HostId, HostMessage, Label, Registry, SchedulerMessage, Timestamp};

/// Inputs that may wait for the driver. A frame from a host is one.
const QUEUE: usize = 256;

/// Inputs taken in one turn.
const TURN_INPUTS: usize = 32;

/// Messages after which a turn's effects go out, though more inputs wait.
const TURN_MESSAGES: usize = 4096;

/// How often the figures for the metrics are renewed at the most.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(2);

/// A summary is not made again before this many times the time that it took has passed.
const SUMMARY_SHARE: u32 = 50;

/// What the driver is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// A host says hello; its addresses are resolved, and a protocol version is agreed on.
    Join { host: HostId, hello: Hello, protocol: u32, stream: StreamId, outbox: Outbox },
    /// A stream has ended.
    Leave { host: HostId, stream: StreamId },
    /// What a host says about blobs.
    Messages { host: HostId, stream: StreamId, messages: Vec<HostMessage> },
    /// A host's counters.
    Traffic { host: HostId, stream: StreamId, traffic: Traffic },
    /// How a host gets on with preheats.
    PreheatReports { host: HostId, stream: StreamId, reports: Vec<PreheatReport> },
    /// To be answered, so that a silent driver is noticed.
    Ping { host: HostId, stream: StreamId, number: u64 },
    /// All hosts are to ask anew what origins permit, of this repository or of all; how many were told.
    Forget { of: Option<(Registry, String)>, told: oneshot::Sender<usize> },
    /// Whether a host of this id, as people see it, is connected.
    IsConnected { id: String, answer: oneshot::Sender<bool> },
    /// An operator has to do with preheats.
    Preheat(preheat::Ask),
    /// Somebody wants to know.
    Status { answer: oneshot::Sender<proto::Status> },
}

/// The way to the driver.
pub(crate) type Inputs = mpsc::Sender<Input>;

pub(crate) struct Driver {
    core: Scheduler,
    roster: Roster,
    rollouts: Rollouts,
    hosts_max: usize,
    started: Instant,
    effects: Vec<Effect>,
    published: Published,
    summary: Option<Recent>,
    /// What hosts may have missed.
    flushes: Option<Flushes>,
    /// Who does not come back by itself.
    removed: Option<Removed>,
    preheats: Book,
}

/// The last summary, and what it cost.
struct Recent {
    made: Instant,
    took: Duration,
    summary: Summary,
}

impl Driver {
    /// Without a `cluster` there are no operators.
    pub(crate) fn new(
        options: &Options,
        seed: u64,
        first_epoch: u64,
        published: Published,
        cluster: Option<&Cluster>,
    ) -> Self {
        Self {
            core: Scheduler::new(options.core(first_epoch), seed),
            roster: Roster::default(),
            rollouts: Rollouts::new(published.rollouts.clone()),
            // In milliseconds: fewer begin than leases are given, and people type their numbers.
            preheats: Book::new((first_epoch / 1000).max(1), published.preheats.clone()),
            hosts_max: options.hosts.max as usize,
            started: Instant::now(),
            effects: Vec::new(),
            published,
            summary: None,
            flushes: cluster.map(|cluster| cluster.flushes.clone()),
            removed: cluster.map(|cluster| cluster.removed.clone()),
        }
    }

    /// The queue into [`Self::run`].
    pub(crate) fn queue() -> (Inputs, mpsc::Receiver<Input>) {
        mpsc::channel(QUEUE)
    }

    /// Runs until `cancel`, or until nobody can tell it anything any more; then ends all streams.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>, cancel: CancellationToken) {
        let mut turn = Vec::with_capacity(TURN_INPUTS);
        let mut publish = tokio::time::interval(PUBLISH_INTERVAL);
        publish.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.tick();
        loop {
            let deadline =
                self.core.next_deadline().map(|at| self.started + Duration::from_nanos(at.as_nanos()));
            tokio::select! {
                () = cancel.cancelled() => break,
                () = until(deadline) => self.tick(),
                () = until(self.preheats.next_telling()) => {
                    self.tell_preheats();
                    self.flush();
                }
                _ = publish.tick() => {
                    self.lapse_preheats();
                    self.publish(inputs.len());
                }
                count = inputs.recv_many(&mut turn, TURN_INPUTS) => {
                    if count == 0 {
                        break;
                    }
                    self.turn(&mut turn);
                }
            }
        }
        let stopping = Status::unavailable("the scheduler stops");
        self.roster.close(&stopping);
        inputs.close();
        while let Some(input) = inputs.recv().await {
            if let Input::Join { outbox, .. } = input {
                outbox.close(End::Because(stopping.clone()));
            }
        }
    }

    fn now(&self) -> Timestamp {
        let nanos = self.started.elapsed().as_nanos();
        Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn tick(&mut self) {
        self.handle(Event::Tick);
        self.flush();
    }

    fn turn(&mut self, inputs: &mut Vec<Input>) {
        let mut messages = 0;
        for input in inputs.drain(..) {
            messages += self.take(input);
            if messages >= TURN_MESSAGES {
                messages = 0;
                self.tick();
            }
        }
        self.tick();
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        self.core.handle(now, event, &mut self.effects);
    }

    /// Takes one input; gives how many messages it had.
    fn take(&mut self, input: Input) -> usize {
        match input {
            Input::Join { host, hello, protocol, stream, outbox } => {
                self.join(host, hello, protocol, stream, outbox);
            }
            Input::Leave { host, stream } => {
                if self.roster.leave(host, stream) {
                    tracing::info!(%host, hosts = self.roster.len(), "a host has left");
                    self.leave(host);
                }
            }
            Input::Messages { host, stream, messages } => {
                if let Some(rate) = self.roster.rate(host, stream) {
                    let (count, now) = (messages.len(), Instant::now());
                    self.published.received.inc_by(count as u64);
                    for message in messages {
                        self.rollouts.heard(now, host, rate, &message);
                        self.handle(Event::Message { host, message });
                    }
                    return count;
                }
            }
            Input::Traffic { host, stream, traffic } => {
                if self.roster.is_current(host, stream)
                    && let Some(entry) = self.roster.get_mut(host)
                {
                    metrics::count(&self.published.traffic, host, &entry.traffic, &traffic);
                    entry.traffic = traffic;
                }
            }
            Input::PreheatReports { host, stream, reports } => {
                if self.roster.is_current(host, stream) {
                    self.hear_preheats(host, &reports);
                    return reports.len();
                }
            }
            Input::Preheat(ask) => self.preheat(ask),
            Input::Ping { host, stream, number } => {
                if self.roster.is_current(host, stream) {
                    self.send(host, Out::Pong(number));
                }
            }
            Input::Forget { of, told } => {
                // Where there are no operators, nobody asks for it.
                let forget = self.flushes.as_ref().map_or(Forget { number: 0, of: None }, |all| all.add(of));
                let hosts: Vec<HostId> = self.roster.iter().map(|(id, _)| id).collect();
                for host in &hosts {
                    self.send(*host, Out::Forget(forget.clone()));
                }
                // Who asked may have given up, here and below.
                let _ = told.send(hosts.len());
            }
            Input::IsConnected { id, answer } => {
                let _ = answer.send(self.roster.iter().any(|(host, _)| host.to_string() == id));
            }
            Input::Status { answer } => {
                self.flush();
                let recent = self.summary();
                drop(answer.send(status::of(&recent.summary, &self.roster, &self.rollouts)));
                self.keep(recent);
            }
        }
        1
    }

    fn join(&mut self, host: HostId, hello: Hello, protocol: u32, stream: StreamId, outbox: Outbox) {
        if self.roster.len() >= self.hosts_max && !self.roster.contains(host) {
            tracing::warn!(%host, hosts = self.roster.len(), "one host too many");
            outbox
                .close(End::Because(Status::resource_exhausted("the scheduler has as many hosts as it may")));
            return;
        }
        tracing::info!(%host, bulk = %hello.bulk, zone = %hello.spec.zone, rack = %hello.spec.rack,
            version = %hello.version, "a host has joined");
        let spec = hello.spec.clone();
        self.rollouts.gone(Instant::now(), host);
        let missed = self.flushes.as_ref().map(|flushes| flushes.since(hello.flushed)).unwrap_or_default();
        let (zone, platform) = (spec.zone.clone(), Label::new(&hello.platform));
        let joined = Candidate { host, zone, platform, protocol };
        self.roster.join(host, hello, protocol, stream, outbox, Instant::now());
        for forget in missed {
            self.send(host, Out::Forget(forget));
        }
        self.join_preheats(joined);
        self.handle(Event::HostJoined { host, spec });
    }

    fn send(&mut self, host: HostId, out: Out) {
        if self.roster.send(host, out).is_err() {
            self.expel(host);
        }
    }

    fn expel(&mut self, host: HostId) {
        tracing::warn!(%host, "a host does not read what it is sent and is disconnected");
        self.published.expelled.inc();
        self.roster.expel(host, Status::resource_exhausted("the host does not read what it is sent"));
        self.leave(host);
    }

    fn leave(&mut self, host: HostId) {
        self.leave_preheats(host);
        self.rollouts.gone(Instant::now(), host);
        self.handle(Event::HostLeft { host });
    }

    /// Sends what has come of the events. A host that cannot take it is expelled, from which more may come; that ends,
    /// since each host is expelled once.
    fn flush(&mut self) {
        loop {
            for host in self.roster.introduce() {
                self.expel(host);
            }
            if self.effects.is_empty() {
                break;
            }
            let mut batches: BTreeMap<HostId, Vec<SchedulerMessage>> = BTreeMap::new();
            for effect in self.effects.drain(..) {
                let Effect::Send { host, message } = effect;
                batches.entry(host).or_default().push(message);
            }
            for (host, messages) in batches {
                self.published.sent.inc_by(messages.len() as u64);
                self.send(host, Out::Messages(messages));
            }
        }
    }

    /// A summary that is as new as its cost allows. Given back with [`Self::keep`].
    fn summary(&mut self) -> Recent {
        if let Some(recent) = self.summary.take()
            && recent.made.elapsed() < recent.took * SUMMARY_SHARE
        {
            return recent;
        }
        let begun = Instant::now();
        let summary = self.core.summary();
        Recent { made: begun, took: begun.elapsed(), summary }
    }

    fn keep(&mut self, recent: Recent) {
        self.summary = Some(recent);
    }

    fn publish(&mut self, queued: usize) {
        let recent = self.summary();
        self.published.renew(&recent.summary, self.roster.len(), queued);
        self.keep(recent);
    }
}

/// Waits for a moment; for ever, if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
