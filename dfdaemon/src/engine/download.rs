//! The handle of a running download: how readers join it and how news reaches it.
//!
//! A download ends by itself when its core says so. A reader that comes in that moment finds the handle ended and starts
//! the next download; nothing is lost but the moment.

use super::arrivals::Arrivals;
use super::driver::Driver;
use super::{Engine, OpenBlob, Right};
use bytes::Bytes;
use download_core::{Event, Failure, LinkState, ReadId, ReaderId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::Blob;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, watch};
use types::{ByteRange, Digest, PieceIndex, Priority, SchedulerBody, TraceContext};

/// Inputs waiting for one download; a sender waits for room.
const MAILBOX: usize = 1024;

/// A download so far behind that its mailbox stays full for this long loses the message; the scheduler's time-out
/// repairs it.
const MAILBOX_PATIENCE: Duration = Duration::from_secs(1);

/// What a driver receives.
#[derive(Debug)]
pub(crate) enum Input {
    /// Something for the core.
    Core(Event),
    /// A whole piece came from the origin, unhashed.
    OriginPiece { read: ReadId, piece: PieceIndex, bytes: Bytes },
    /// A reader joins.
    Join(Join),
    /// The store holds less than before.
    Lost,
}

/// A reader that joins.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) reader: ReaderId,
    pub(crate) range: ByteRange,
    /// Whether a client waits for it.
    pub(crate) priority: Priority,
    pub(crate) right: Right,
    /// The span for which it reads, if that is recorded.
    pub(crate) trace: Option<TraceContext>,
    /// Told when the reader has to read some bytes itself, straight from the origin.
    pub(crate) direct: watch::Sender<Option<ByteRange>>,
}

/// How a download stands, for its readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Running,
    /// It ended, having done all that its readers wanted.
    Stopped,
    Failed(Failure),
}

/// What a driver tells all readers.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) arrivals: Arc<Arrivals>,
}

/// A running download.
#[derive(Clone, Debug)]
pub(crate) struct Handle(Arc<HandleInner>);

#[derive(Debug)]
struct HandleInner {
    digest: Digest,
    mailbox: mpsc::Sender<Input>,
    standing: watch::Receiver<Standing>,
    arrivals: Arc<Arrivals>,
    readers: AtomicU64,
}

impl Handle {
    pub(crate) fn digest(&self) -> &Digest {
        &self.0.digest
    }

    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.0.standing.clone()
    }

    /// How pieces came.
    pub(crate) fn arrivals(&self) -> &Arrivals {
        &self.0.arrivals
    }

    /// Brings a message from the scheduler; back if the download has ended.
    pub(crate) async fn message(&self, body: SchedulerBody) -> Option<SchedulerBody> {
        match self.input(Input::Core(Event::Message(body))).await {
            Some(Input::Core(Event::Message(body))) => Some(body),
            _ => None,
        }
    }

    /// Tells that the store holds less than before; whether the download still ran. Must arrive, or readers would wait for
    /// what the download believes to hold.
    pub(crate) async fn lost(&self) -> bool {
        self.0.mailbox.send(Input::Lost).await.is_ok()
    }

    /// Tells that the link changed.
    pub(crate) async fn link(&self, state: LinkState) {
        drop(self.input(Input::Core(Event::Link(state))).await);
    }

    /// The input back if the download has ended.
    async fn input(&self, input: Input) -> Option<Input> {
        match self.0.mailbox.send_timeout(input, MAILBOX_PATIENCE).await {
            Ok(()) => None,
            Err(SendTimeoutError::Closed(input)) => Some(input),
            Err(SendTimeoutError::Timeout(_)) => {
                tracing::debug!(digest = %self.0.digest, "an input came for a download that is far behind");
                None
            }
        }
    }

    /// A number for a new reader.
    pub(crate) fn reader_id(&self) -> ReaderId {
        ReaderId(self.0.readers.fetch_add(1, Ordering::Relaxed))
    }

    /// Joins a reader; whether the download still ran.
    pub(crate) async fn join(&self, join: Join) -> bool {
        self.0.mailbox.send(Input::Join(join)).await.is_ok()
    }

    /// Tells that a reader has moved; a position that finds no room is left out, the next one makes up for it.
    pub(crate) fn moved(&self, reader: ReaderId, offset: u64) {
        drop(self.0.mailbox.try_send(Input::Core(Event::ReaderMoved { reader, offset })));
    }

    /// Tells that a reader has left, from a place that cannot wait.
    pub(crate) fn left(&self, reader: ReaderId) {
        let input = Input::Core(Event::ReaderLeft { reader });
        if let Err(mpsc::error::TrySendError::Full(input)) = self.0.mailbox.try_send(input) {
            // Must not be lost, or the download would go on for nobody.
            let mailbox = self.0.mailbox.clone();
            tokio::spawn(async move { drop(mailbox.send(input).await) });
        }
    }
}

impl Engine {
    /// The running download of a blob, or a new one.
    pub(crate) fn download(&self, open: &OpenBlob, blob: &Blob) -> Handle {
        let mut downloads = self.downloads();
        if let Some(running) = downloads.get(&open.key.digest)
            && !running.0.mailbox.is_closed()
        {
            return running.clone();
        }
        let (mailbox, inbox) = mpsc::channel(MAILBOX);
        let (standing_tx, standing) = watch::channel(Standing::Running);
        let arrivals = Arc::new(Arrivals::new(open.layout.count()));
        let handle = Handle(Arc::new(HandleInner {
            digest: open.key.digest,
            mailbox: mailbox.clone(),
            standing,
            arrivals: arrivals.clone(),
            readers: AtomicU64::new(0),
        }));
        downloads.insert(open.key.digest, handle.clone());
        self.tick();
        self.announce(&open.key);
        let told = Told { standing: standing_tx, arrivals };
        let driver = Driver::new(self.clone(), open, blob, mailbox, inbox, told);
        self.0.tasks.spawn(driver.run());
        handle
    }

    /// Forgets a download that has ended, unless another has taken its place.
    pub(crate) fn ended(&self, digest: &Digest) {
        let mut downloads = self.downloads();
        if downloads.get(digest).is_some_and(|handle| handle.0.mailbox.is_closed()) {
            downloads.remove(digest);
            if downloads.is_empty() {
                self.parts().buffers.release();
            }
        }
    }
}
