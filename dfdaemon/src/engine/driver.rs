//! The driver of one download: gives its core events, and carries out its effects.
//!
//! It never waits for the network itself: transfers and reads run as tasks and report back through the mailbox. What
//! the core decides is in `download-core`; here is only how it is done.

use super::download::{Input, Join, Standing, Told};
use super::in_trace::InTrace;
use super::origin_read::{OriginReads, What};
use super::rights::Rights;
use super::{Engine, OpenBlob, transfer};
use crate::traffic::{CameFrom, ReadUnder};
use bytes::Bytes;
use download_core::{Download, Effect, Event, FetchId, Options, ReadId, ReaderId, Spec, StoreFailed};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use store::Blob;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use types::{
    BlobKey, ByteRange, Epoch, HostBody, PieceIndex, SchedulerBody, SchedulerMessage, State, Timestamp,
    hash_piece,
};

/// Inputs that the core is told of before it plans.
const BATCH: usize = 64;

/// How often the core hears, at most, that pieces that clients wait for come to this host: several times in one reader's
/// patience.
const MOVED_INTERVAL: Duration = Duration::from_millis(250);

pub(crate) struct Driver {
    engine: Engine,
    key: BlobKey,
    blob: Blob,
    core: Download,
    rights: Rights,
    /// For the tasks that report back.
    mailbox: mpsc::Sender<Input>,
    inbox: mpsc::Receiver<Input>,
    told: Told,
    readers: BTreeMap<ReaderId, watch::Sender<Option<ByteRange>>>,
    fetches: BTreeMap<FetchId, CancellationToken>,
    reads: BTreeMap<ReadId, CancellationToken>,
    origin: OriginReads,
    /// Whole pieces from the origin that have not been hashed; the core bounds how many.
    kept: BTreeMap<PieceIndex, Bytes>,
    /// Whether this host is the source: reads from the origin count as such then.
    leased: Option<Epoch>,
    /// Until when the core knows of what came to this host.
    moved_at: Timestamp,
    in_trace: InTrace,
    stopped: bool,
    /// Ends all tasks of this download when the driver goes.
    cancel: CancellationToken,
}

impl Driver {
    pub(crate) fn new(
        engine: Engine,
        open: &OpenBlob,
        blob: &Blob,
        mailbox: mpsc::Sender<Input>,
        inbox: mpsc::Receiver<Input>,
        told: Told,
    ) -> Self {
        let mut rights = Rights::default();
        rights.add(open.right.clone());
        let spec = Spec {
            key: open.key.clone(),
            layout: blob.layout(),
            held: blob.pieces(),
            chain: blob.chain(),
            credential: rights.credential(Instant::now()),
            link: *engine.link_state().borrow(),
        };
        let seed = fastrand::u64(..);
        let cancel = engine.0.cancel.child_token();
        let members = u32::try_from(engine.parts().p2p.members()).unwrap_or(u32::MAX);
        let options = Options { crowd: members.saturating_add(1), ..engine.parts().options.clone() };
        Self {
            core: Download::new(options, seed, spec),
            origin: OriginReads::new(&open.key),
            in_trace: InTrace::new(&open.key),
            key: open.key.clone(),
            blob: blob.clone(),
            engine,
            rights,
            mailbox,
            inbox,
            told,
            readers: BTreeMap::new(),
            fetches: BTreeMap::new(),
            reads: BTreeMap::new(),
            kept: BTreeMap::new(),
            leased: None,
            moved_at: Timestamp::ZERO,
            stopped: false,
            cancel,
        }
    }

    #[tracing::instrument(name = "download", skip_all, fields(digest = %self.key.digest, registry = %self.key.registry))]
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let (mut effects, mut unheard) = (Vec::new(), Vec::new());
        while !self.stopped {
            let next = self.core.next_deadline().map(|at| self.engine.look_at(at));
            tokio::select! {
                () = self.cancel.cancelled() => break,
                _ = self.inbox.recv_many(&mut batch, BATCH) => {}
                () = sleep_until(next) => {}
            }
            while batch.len() < BATCH
                && let Ok(input) = self.inbox.try_recv()
            {
                batch.push(input);
            }
            let now = self.engine.now();
            self.tell_of_moves(now, &mut effects);
            for input in batch.drain(..) {
                match input {
                    Input::Core(Event::Message(body)) if self.core.is_stopped() => unheard.push(body),
                    input => {
                        self.take(now, input, &mut effects);
                        self.execute(&mut effects).await;
                    }
                }
            }
            self.core.plan(now, &mut effects);
            self.execute(&mut effects).await;
        }
        self.inbox.close();
        self.cancel.cancel();
        self.engine.ended(&self.key.digest);
        self.told.standing.send_if_modified(|standing| {
            let running = *standing == Standing::Running;
            if running {
                *standing = Standing::Stopped;
            }
            running
        });
        self.pass_on(unheard).await;
    }

    /// What the scheduler said and nobody has heard: the next download hears it, or a lease is given back. Left unsaid,
    /// the scheduler would wait for its time to run out.
    async fn pass_on(&mut self, mut unheard: Vec<SchedulerBody>) {
        while let Some(input) = self.inbox.recv().await {
            if let Input::Core(Event::Message(body)) = input {
                unheard.push(body);
            }
        }
        for body in unheard {
            self.engine.deliver(SchedulerMessage { key: self.key.clone(), body }).await;
        }
    }

    fn tell_of_moves(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let moved = self.engine.moved_for_clients();
        if moved.since(self.moved_at) >= MOVED_INTERVAL {
            self.moved_at = moved;
            self.core.tell(now, Event::HostMoved { at: moved.min(now) }, effects);
        }
    }

    fn take(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        let event = match input {
            Input::Join(join) => self.joins(now, join, effects),
            // A read that was cancelled is forgotten, and another may bring the same piece.
            Input::OriginPiece { read, .. } if !self.reads.contains_key(&read) => return,
            Input::OriginPiece { read, piece, bytes } => {
                self.kept.insert(piece, bytes);
                Event::OriginPiece { read, piece }
            }
            Input::Lost => Event::Lost { pieces: self.blob.pieces().complement() },
            Input::Core(event) => event,
        };
        match &event {
            Event::ReaderLeft { reader } => {
                self.readers.remove(reader);
                self.in_trace.leaves(*reader);
            }
            Event::Fetched { fetch, outcome } if *outcome != download_core::Fetched::NearlyDone => {
                self.fetches.remove(fetch);
                if *outcome == download_core::Fetched::Stored {
                    self.engine.has_moved(now, self.core.priority());
                }
            }
            // What a reader without patience got tells nothing of how the others work together.
            Event::Hashed { matched: true, stored: Ok(()), .. } if self.leased.is_some() => {
                self.engine.has_moved(now, self.core.priority());
            }
            Event::OriginMoved { .. } if self.leased.is_some() => {
                self.engine.has_moved(now, self.core.priority());
            }
            Event::OriginEnded { read, result } => {
                self.reads.remove(read);
                if *result == Err(types::LeaseFailure::Refused) {
                    self.rights.refused();
                }
            }
            Event::Message(SchedulerBody::Lease { epoch, .. }) => self.leased = Some(*epoch),
            Event::Message(SchedulerBody::Revoke { epoch }) if self.leased == Some(*epoch) => {
                self.leased = None;
            }
            Event::Message(SchedulerBody::Failed { why }) => {
                tracing::debug!(?why, "the scheduler cannot help");
            }
            _ => {}
        }
        self.core.tell(now, event, effects);
    }

    fn joins(&mut self, now: Timestamp, join: Join, effects: &mut Vec<Effect>) -> Event {
        let before = self.rights.credential(Instant::now());
        self.rights.add(join.right);
        let after = self.rights.credential(Instant::now());
        if before != after {
            self.core.tell(now, Event::Credential(after), effects);
        }
        self.in_trace.joins(join.reader, join.trace);
        self.readers.insert(join.reader, join.direct);
        Event::ReaderJoined { reader: join.reader, range: join.range, priority: join.priority }
    }

    async fn execute(&mut self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Send(body) => self.send(body),
                Effect::Fetch { fetch, parent, piece, before, after } => {
                    let cancel = self.cancel.child_token();
                    self.fetches.insert(fetch, cancel.clone());
                    let trace = self.in_trace.context();
                    let want = transfer::Want { fetch, parent, piece, before, after, trace };
                    self.engine.0.tasks.spawn(transfer::run(
                        self.engine.parts().clone(),
                        self.blob.clone(),
                        want,
                        self.told.arrivals.clone(),
                        self.mailbox.clone(),
                        cancel,
                    ));
                }
                Effect::CancelFetch { fetch } => {
                    if let Some(cancel) = self.fetches.remove(&fetch) {
                        cancel.cancel();
                    }
                }
                Effect::ReadOrigin { read, pieces } => self.read_origin(read, pieces),
                Effect::CancelRead { read } => {
                    if let Some(cancel) = self.reads.remove(&read) {
                        cancel.cancel();
                    }
                }
                Effect::Hash { piece, before, expect } => self.hash(piece, before, expect),
                Effect::DropBytes { piece } => drop(self.kept.remove(&piece)),
                Effect::LearnStates { boundary, states } => {
                    if let Err(error) = self.blob.learn_states(boundary, &states) {
                        tracing::warn!(%error, boundary, "states of the chain could not be kept");
                    }
                }
                // The store tells its readers of what it holds.
                Effect::Held { .. } => {}
                Effect::Closed => self.close().await,
                Effect::ReadThrough { reader, range } => {
                    if let Some(direct) = self.readers.get(&reader) {
                        direct.send_replace(Some(range));
                    }
                }
                Effect::Discard { pieces } => {
                    if let Err(error) = self.blob.discard(&pieces).await {
                        tracing::error!(%error, pieces = pieces.len(), "void pieces could not be discarded");
                        self.stopped = true;
                    }
                }
                Effect::ForgetStates => {
                    if let Err(error) = self.blob.forget_states().await {
                        tracing::error!(%error, "a false chain could not be forgotten");
                        self.stopped = true;
                    }
                }
                Effect::FailReaders { reason } => {
                    tracing::info!(%reason, "the download failed");
                    self.in_trace.fail("the readers were told to give up");
                    self.told.standing.send_replace(Standing::Failed(reason));
                }
                Effect::Stop => self.stopped = true,
            }
        }
    }

    fn send(&mut self, body: HostBody) {
        if let HostBody::LeaseReturned { epoch, .. } = &body
            && self.leased == Some(*epoch)
        {
            self.leased = None;
        }
        self.engine.send(self.key.clone(), body);
    }

    fn read_origin(&mut self, read: ReadId, pieces: std::ops::Range<u32>) {
        let Some(right) = self.rights.best().cloned() else {
            let ended = Event::OriginEnded { read, result: Err(types::LeaseFailure::Refused) };
            let mailbox = self.mailbox.clone();
            self.engine.0.tasks.spawn(async move { drop(mailbox.send(Input::Core(ended)).await) });
            return;
        };
        let cancel = self.cancel.child_token();
        self.reads.insert(read, cancel.clone());
        let under = if self.leased.is_some() { ReadUnder::Lease } else { ReadUnder::Nothing };
        if under == ReadUnder::Nothing {
            let link = *self.engine.link_state().borrow();
            tracing::info!(?pieces, ?link, "reading from the origin without a lease");
        }
        let what = What { read, pieces, under, trace: self.in_trace.context() };
        let job = self.origin.job(what, right, &self.blob);
        self.engine.0.tasks.spawn(job.run(self.engine.parts().clone(), self.mailbox.clone(), cancel));
    }

    /// Hashes the kept bytes of a piece on the blocking pool, and stores them if they are right.
    fn hash(&mut self, piece: PieceIndex, before: State, expect: Option<State>) {
        let Some(bytes) = self.kept.remove(&piece) else {
            tracing::error!(%piece, "the core asked for bytes that are not kept");
            return;
        };
        let (blob, mailbox) = (self.blob.clone(), self.mailbox.clone());
        let arrivals = self.told.arrivals.clone();
        self.engine.0.tasks.spawn(async move {
            let layout = blob.layout();
            let hashed = tokio::task::spawn_blocking(move || {
                let after = hash_piece(layout, piece, &before, &bytes);
                after.map(|after| (after, bytes))
            });
            let Ok(Ok((after, bytes))) = hashed.await else {
                tracing::error!(%piece, "a piece of the wrong length was kept");
                return;
            };
            let matched = expect.is_none_or(|expect| expect == after);
            let mut stored = Ok(());
            if matched {
                arrivals.came(piece, CameFrom::Origin);
                let kept = match blob.learn_states(piece.0, &[before, after]) {
                    Ok(()) => blob.write_verified(piece, bytes, (before, after)).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = kept {
                    tracing::warn!(%error, %piece, "a piece could not be stored");
                    stored = Err(StoreFailed);
                }
            }
            let event = Event::Hashed { piece, after, matched, stored };
            drop(mailbox.send(Input::Core(event)).await);
        });
    }

    async fn close(&self) {
        if let Err(error) = self.blob.close().await {
            tracing::error!(%error, "a proven blob could not be marked so");
        }
        if let Some(right) = self.rights.best() {
            let possession = match right.auth {
                origin::Auth::Anonymous => store::Possession::Anonymous,
                origin::Auth::Configured | origin::Auth::Client(_) => store::Possession::Client,
            };
            // Clients of several registries may share a download: the right says from where its bytes may be had.
            let from = &right.repository;
            self.blob.allow(&from.registry, from.name.as_str(), possession);
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
