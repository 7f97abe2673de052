//! Reads from the origin: ranged requests whose bytes are cut into pieces, unhashed.
//!
//! An origin that ignores Range sends everything from the first byte with each request. Once that has been seen, the
//! reads of a download share one body, in order, instead of starting over each time.

use super::Parts;
use super::download::Input;
use super::reading::Reading;
use super::rights::Right;
use crate::traffic::ReadUnder;
use bytes::Bytes;
use download_core::{Event, ReadId};
use futures::StreamExt;
use futures::stream::BoxStream;
use origin::OriginError;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Blob;
use tokio::sync::{Mutex as TurnMutex, OwnedMutexGuard, mpsc};
use tokio_util::sync::CancellationToken;
use types::{BlobKey, ByteRange, PieceIndex, TraceContext};

/// How often the core hears at most that bytes of a piece come.
const MOVED_INTERVAL: Duration = Duration::from_millis(500);

/// A body that is read in order by one job after another.
struct Feed {
    /// Offset in the blob of the next byte.
    at: u64,
    /// Bytes taken from the stream and not used.
    rest: Bytes,
    body: BoxStream<'static, Result<Bytes, OriginError>>,
}

/// The reads of one download.
pub(crate) struct OriginReads {
    key: BlobKey,
    /// Set while the origin is taken to honour Range.
    ranged: Arc<std::sync::atomic::AtomicBool>,
    /// The shared body of an origin that does not.
    shared: Arc<TurnMutex<Option<Feed>>>,
}

impl OriginReads {
    pub(crate) fn new(key: &BlobKey) -> Self {
        Self { key: key.clone(), ranged: Arc::new(true.into()), shared: Arc::default() }
    }

    /// One read, to be run.
    pub(crate) fn job(&self, what: What, right: Right, blob: &Blob) -> Job {
        let What { read, pieces, under, trace } = what;
        Job {
            under,
            trace,
            read,
            pieces,
            right,
            key: self.key.clone(),
            blob: blob.clone(),
            ranged: self.ranged.clone(),
            shared: self.shared.clone(),
        }
    }
}

/// What the core asked for.
pub(crate) struct What {
    pub(crate) read: ReadId,
    pub(crate) pieces: Range<u32>,
    pub(crate) under: ReadUnder,
    /// The download's span, if it is recorded. The origin does not hear of it.
    pub(crate) trace: Option<TraceContext>,
}

/// One read of some pieces.
pub(crate) struct Job {
    under: ReadUnder,
    trace: Option<TraceContext>,
    read: ReadId,
    pieces: Range<u32>,
    right: Right,
    key: BlobKey,
    blob: Blob,
    ranged: Arc<std::sync::atomic::AtomicBool>,
    shared: Arc<TurnMutex<Option<Feed>>>,
}

impl Job {
    /// Reads to the end and reports; cancelled, it reports nothing more.
    pub(crate) async fn run(self, parts: Parts, mailbox: mpsc::Sender<Input>, cancel: CancellationToken) {
        let first = PieceIndex(self.pieces.start);
        let mut reading = Reading::new(self.trace, &self.right, &self.key, Some(first), self.under);
        let read = self.read(&parts, &mailbox, &mut reading);
        let Some(result) = cancel.run_until_cancelled(read).await else { return };
        if let Err(error) = &result {
            tracing::info!(%error, pieces = ?self.pieces, "a read from the origin failed");
        }
        let result = result.map_err(|error| error.lease_failure());
        if let Err(failure) = &result {
            reading.failed(failure);
        }
        drop(reading);
        drop(mailbox.send(Input::Core(Event::OriginEnded { read: self.read, result })).await);
    }

    fn bytes(&self) -> ByteRange {
        let layout = self.blob.layout();
        let start = layout.range(PieceIndex(self.pieces.start)).start();
        let end = layout.range(PieceIndex(self.pieces.end - 1)).end();
        ByteRange::new(start, end).expect("a read has at least one piece")
    }

    async fn read(
        &self,
        parts: &Parts,
        mailbox: &mpsc::Sender<Input>,
        reading: &mut Reading,
    ) -> Result<(), OriginError> {
        if !self.ranged.load(std::sync::atomic::Ordering::Relaxed) {
            let turn = self.shared.clone().lock_owned().await;
            return self.read_shared(parts, mailbox, reading, turn).await;
        }
        let mut feed = self.open(parts, self.bytes()).await?;
        self.pieces_from(&mut feed, parts, mailbox, reading).await
    }

    /// Takes this read's bytes from the shared body, opening it anew where it is already past them.
    async fn read_shared(
        &self,
        parts: &Parts,
        mailbox: &mpsc::Sender<Input>,
        reading: &mut Reading,
        mut turn: OwnedMutexGuard<Option<Feed>>,
    ) -> Result<(), OriginError> {
        let start = self.bytes().start();
        let mut feed = match turn.take() {
            Some(feed) if feed.at <= start => feed,
            _ => self.open(parts, ByteRange::whole(self.key.size)).await?,
        };
        let mut told = Instant::now();
        while feed.at < start {
            let skipped = feed.take(start - feed.at).await?;
            reading.came(skipped.len());
            parts.traffic.origin_read(self.under, skipped.len() as u64);
            self.bytes_came(&mut told, mailbox);
        }
        self.pieces_from(&mut feed, parts, mailbox, reading).await?;
        *turn = Some(feed);
        Ok(())
    }

    /// Says now and then that bytes come.
    fn bytes_came(&self, told: &mut Instant, mailbox: &mpsc::Sender<Input>) {
        if told.elapsed() >= MOVED_INTERVAL {
            *told = Instant::now();
            // Only a sign of life: with a full mailbox it is not missed.
            drop(mailbox.try_send(Input::Core(Event::OriginMoved { read: self.read })));
        }
    }

    async fn open(&self, parts: &Parts, range: ByteRange) -> Result<Feed, OriginError> {
        let right = &self.right;
        let body = parts
            .origin
            .read_blob(&right.repository, &self.key.digest, Some(range), Some(self.key.size), &right.auth)
            .await?;
        if !body.ranged && range.len() < self.key.size {
            self.ranged.store(false, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(Feed { at: range.start(), rest: Bytes::new(), body: body.body.boxed() })
    }

    async fn pieces_from(
        &self,
        feed: &mut Feed,
        parts: &Parts,
        mailbox: &mpsc::Sender<Input>,
        reading: &mut Reading,
    ) -> Result<(), OriginError> {
        let layout = self.blob.layout();
        for piece in self.pieces.clone().map(PieceIndex) {
            let len = layout.len_of(piece) as usize;
            let mut bytes = parts.buffers.take(layout.len_of(piece));
            let mut told = Instant::now();
            while bytes.len() < len {
                let part = feed.take((len - bytes.len()) as u64).await?;
                reading.came(part.len());
                parts.p2p.admit_download(part.len()).await;
                parts.traffic.origin_read(self.under, part.len() as u64);
                bytes.extend_from_slice(&part);
                self.bytes_came(&mut told, mailbox);
            }
            let whole = Input::OriginPiece { read: self.read, piece, bytes: bytes.freeze() };
            if mailbox.send(whole).await.is_err() {
                return Ok(());
            }
        }
        reading.whole();
        Ok(())
    }
}

impl Feed {
    /// The next bytes, at least one and at most `max`.
    async fn take(&mut self, max: u64) -> Result<Bytes, OriginError> {
        while self.rest.is_empty() {
            self.rest = match self.body.next().await {
                Some(part) => part?,
                None => return Err(OriginError::TooShort { expected: self.at + max, got: self.at }),
            };
        }
        let len = usize::try_from(max).unwrap_or(usize::MAX).min(self.rest.len());
        self.at += len as u64;
        Ok(self.rest.split_to(len))
    }
}

impl std::fmt::Debug for OriginReads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OriginReads({})", self.key.digest)
    }
}
