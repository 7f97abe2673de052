//! The child's side: one piece from one parent.

use crate::pool::{Connection, Pool};
use crate::shaper::Shaper;
use crate::watchdog::{Expired, Watchdog};
use crate::wire::{self, FrameError};
use crate::{ConnectError, FetchError, Member, Metrics, Options, PieceRequest, Refusal};
use bytes::BufMut;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// What it takes to fetch.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) pool: Arc<Pool>,
    pub(crate) shaper: Shaper,
    pub(crate) metrics: Arc<Metrics>,
    /// [`Options::stall_timeout`] and [`Options::transfer_timeout`].
    limits: (Duration, Duration),
    started: Instant,
    /// When the last byte of a piece came, in milliseconds after the start; 0 before.
    received: AtomicU64,
}

/// What the scheduler takes to decide.
const DECISION: Duration = Duration::from_micros(200);

/// A failed exchange.
#[derive(Debug)]
struct Failed {
    error: FetchError,
    /// Whether the connection broke before anything of the answer came: it may have been closed while it was idle.
    unanswered: bool,
}

impl Fetcher {
    pub(crate) fn new(pool: Arc<Pool>, options: &Options, metrics: Arc<Metrics>) -> Self {
        Self {
            pool,
            shaper: Shaper::new(options.download_rate_bytes_per_second),
            metrics,
            limits: (options.stall_timeout, options.transfer_timeout),
            started: Instant::now(),
            received: AtomicU64::new(0),
        }
    }

    fn note_received(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.received.store(millis, Ordering::Relaxed);
    }

    /// How long ago the last byte of a piece came; nothing if none has.
    pub(crate) fn quiet_for(&self) -> Option<Duration> {
        let received = self.received.load(Ordering::Relaxed);
        (received > 0).then(|| self.started.elapsed().saturating_sub(Duration::from_millis(received)))
    }

    /// The piece's bytes from `parent` into `piece`. Cancel safe: when dropped, its connection closes.
    pub(crate) async fn fetch(
        &self,
        parent: &Member,
        request: &PieceRequest,
        piece: &mut Vec<u8>,
        nearly_done: impl FnOnce() + Send,
    ) -> Result<(), FetchError> {
        let expected = request.expected_len().ok_or(FetchError::Refused(Refusal::Malformed))?;
        let mut transfer =
            Transfer { request, expected, piece, nearly_done: Some(nearly_done), fetcher: self };
        let _permit = self.pool.permit(parent.host).await?;
        if let Some(mut connection) = self.pool.idle(parent.host).await {
            self.metrics.reused.inc();
            let result = transfer.exchange(&mut connection).await;
            if !matches!(result, Err(Failed { unanswered: true, .. })) {
                return self.finish(parent, connection, result);
            }
        }
        let mut connection = self.pool.connect(parent).await?;
        let result = transfer.exchange(&mut connection).await;
        self.finish(parent, connection, result)
    }

    /// Keeps the connection if the exchange was whole; a failure casts doubt on the idle ones too.
    fn finish(
        &self,
        parent: &Member,
        connection: Connection,
        result: Result<(), Failed>,
    ) -> Result<(), FetchError> {
        let result = result.map_err(|failed| failed.error);
        match result {
            Ok(()) | Err(FetchError::Refused(Refusal::NotHeld | Refusal::Busy)) => {
                self.pool.put_back(parent.host, connection);
            }
            Err(_) => self.pool.close_idle(parent.host),
        }
        result
    }
}

/// One piece on its way.
struct Transfer<'a, F> {
    request: &'a PieceRequest,
    /// The piece's length in bytes.
    expected: u32,
    /// What came of it.
    piece: &'a mut Vec<u8>,
    nearly_done: Option<F>,
    fetcher: &'a Fetcher,
}

impl<F: FnOnce() + Send> Transfer<'_, F> {
    /// One request and its whole answer.
    async fn exchange(&mut self, connection: &mut Connection) -> Result<(), Failed> {
        let (stall, total) = self.fetcher.limits;
        let mut dog = Watchdog::new(stall, total);
        let asked = dog.watch(self.ask(connection)).await;
        let answer = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(FrameError::Protocol(error))) => {
                return Err(Failed { error: error.into(), unanswered: false });
            }
            Ok(Err(FrameError::Ticket(error))) => {
                return Err(Failed { error: error.into(), unanswered: false });
            }
            Ok(Err(FrameError::Io(error))) => {
                return Err(Failed { error: ConnectError::Broken(error).into(), unanswered: true });
            }
            Err(Expired) => {
                return Err(Failed { error: FetchError::Stalled { bytes: 0 }, unanswered: false });
            }
        };
        let result = match answer {
            Ok(()) => self.receive(connection, &mut dog).await,
            Err(refusal) => Err(FetchError::Refused(refusal)),
        };
        result.map_err(|error| Failed { error, unanswered: false })
    }

    /// Sends the request and reads the answer's head: whether bytes follow.
    async fn ask(&self, connection: &mut Connection) -> Result<Result<(), Refusal>, FrameError> {
        let tickets = self.fetcher.pool.tickets();
        let mut frame = if connection.is_greeted() { Vec::new() } else { wire::hello(&tickets.own()) };
        frame.extend(wire::request(self.request));
        connection.stream.write_all(&frame).await?;
        connection.stream.flush().await?;
        if !connection.is_greeted() {
            let shown = wire::read_hello(&mut connection.stream).await?;
            connection.admitted = Some(tickets.check(&connection.peer, &shown)?);
        }
        let mut head = [0; wire::ANSWER_HEAD];
        connection.stream.read_exact(&mut head).await?;
        Ok(wire::parse_answer(head, self.expected)?)
    }

    /// Reads the piece straight into the caller's buffer.
    async fn receive(&mut self, connection: &mut Connection, dog: &mut Watchdog) -> Result<(), FetchError> {
        let Fetcher { shaper, metrics, .. } = self.fetcher;
        let whole = self.expected as usize;
        connection.stream.get_mut().0.expect_piece();
        let start = Instant::now();
        self.piece.clear();
        self.piece.reserve_exact(whole);
        while self.piece.len() < whole {
            let part = shaper.chunk().min(whole - self.piece.len());
            shaper.take(part).await;
            dog.note_progress();
            let until = self.piece.len() + part;
            while self.piece.len() < until {
                let missing = until - self.piece.len();
                let mut room = (&mut *self.piece).limit(missing);
                let read = dog.watch(connection.stream.read_buf(&mut room)).await;
                match read {
                    Ok(Ok(0)) => {
                        return Err(ConnectError::Broken(io::ErrorKind::UnexpectedEof.into()).into());
                    }
                    Ok(Ok(n)) => {
                        metrics.downloaded_bytes.inc_by(n as u64);
                        self.fetcher.note_received();
                    }
                    Ok(Err(error)) => return Err(ConnectError::Broken(error).into()),
                    Err(Expired) => {
                        return Err(FetchError::Stalled {
                            bytes: u32::try_from(self.piece.len()).unwrap_or(u32::MAX),
                        });
                    }
                }
                self.note_nearly_done(self.piece.len(), start, connection.round_trip);
            }
        }
        assert_eq!(self.piece.len(), whole, "a piece of the right length");
        metrics.downloaded_pieces.inc();
        Ok(())
    }

    /// Tells once that what is left comes while the next piece is asked for: from this host to the scheduler, back, and from
    /// here to the parent. Earlier, and the next would share the link with this one before its time.
    fn note_nearly_done(&mut self, received: usize, start: Instant, round_trip: Duration) {
        if self.nearly_done.is_none() {
            return;
        }
        let (received, whole) = (received as u128, u128::from(self.expected));
        let elapsed = start.elapsed().as_nanos().max(1);
        let comes_in = |time: Duration| received * time.as_nanos() / elapsed;
        let notice = comes_in(round_trip * 3 / 2 + DECISION).min(whole * 3 / 4);
        if whole - received <= notice
            && let Some(nearly_done) = self.nearly_done.take()
        {
            nearly_done();
        }
    }
}
