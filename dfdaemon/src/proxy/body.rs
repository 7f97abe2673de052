//! The body of an answer: streams what the engine gives, as fast as the client reads, and never pretends to be whole.
//!
//! hyper polls it only when the socket takes more, so the engine is held back by a slow client. A body that ends early or
//! with an error breaks the connection: with Content-Length set, every client sees that something is missing. The
//! last byte of a blob comes only when the engine has proven the whole (see [`super::BlobHandle::read`]).

use super::access::Record;
use super::connections::Busy;
use super::error::BodyError;
use bytes::Bytes;
use futures::stream::BoxStream;
use http_body::{Body, Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// After this long without a byte from the engine the connection is closed: the engine's own patience is a few seconds,
/// so this catches its faults, well before a client's five minutes.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A body of known length.
pub(super) struct ProxyBody {
    source: Source,
    expected: u64,
    sent: u64,
    /// Writes the request's log line when it is dropped with the body.
    record: Option<Record>,
    /// The connection is asking for something as long as the body is there.
    busy: Option<Busy>,
}

enum Source {
    Full(Bytes),
    Stream {
        stream: BoxStream<'static, Result<Bytes, BodyError>>,
        stall: Pin<Box<Sleep>>,
        stall_after: Duration,
        waiting: bool,
    },
}

impl ProxyBody {
    /// Nothing: the answer to a HEAD, or a status without content.
    pub(super) fn empty() -> Self {
        Self::full(Bytes::new())
    }

    /// These bytes.
    pub(super) fn full(bytes: Bytes) -> Self {
        Self { expected: bytes.len() as u64, source: Source::Full(bytes), sent: 0, record: None, busy: None }
    }

    /// `len` bytes from `stream`.
    pub(super) fn stream(stream: BoxStream<'static, Result<Bytes, BodyError>>, len: u64) -> Self {
        Self::stream_within(stream, len, STALL_TIMEOUT)
    }

    fn stream_within(
        stream: BoxStream<'static, Result<Bytes, BodyError>>,
        len: u64,
        stall_after: Duration,
    ) -> Self {
        let stall = Box::pin(tokio::time::sleep(stall_after));
        let source = Source::Stream { stream, stall, stall_after, waiting: false };
        Self { source, expected: len, sent: 0, record: None, busy: None }
    }

    /// Has `record` follow the body to its end.
    pub(super) fn follow(&mut self, record: Record) {
        self.record = Some(record);
    }

    /// Has the connection count as busy to the body's end.
    pub(super) fn keeps_busy(&mut self, busy: Busy) {
        self.busy = Some(busy);
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match &mut self.source {
            Source::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Full(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Source::Stream { stream, stall, stall_after, waiting } => loop {
                match stream.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(bytes))) if bytes.is_empty() => {}
                    Poll::Ready(next) => {
                        *waiting = false;
                        return Poll::Ready(next);
                    }
                    Poll::Pending => {
                        // The time counts from when the client has to wait, not while the client lets us wait.
                        if !*waiting {
                            stall.as_mut().reset(Instant::now() + *stall_after);
                            *waiting = true;
                        }
                        ready!(stall.as_mut().poll(cx));
                        return Poll::Ready(Some(Err(BodyError::Stalled(*stall_after))));
                    }
                }
            },
        }
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.sent == this.expected {
            return Poll::Ready(None);
        }
        let (expected, sent) = (this.expected, this.sent);
        let checked = match ready!(this.poll_source(cx)) {
            Some(Ok(bytes)) if bytes.len() as u64 > expected - sent => {
                Err(BodyError::Length { expected, got: sent + bytes.len() as u64 })
            }
            Some(next) => next,
            None => Err(BodyError::Length { expected, got: sent }),
        };
        match &checked {
            Ok(bytes) => {
                this.sent += bytes.len() as u64;
                this.record.iter_mut().for_each(|record| record.sent(bytes.len() as u64));
            }
            Err(error) => this.record.iter_mut().for_each(|record| record.broke(error)),
        }
        Poll::Ready(Some(checked.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.expected
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.expected - self.sent)
    }
}

impl Drop for ProxyBody {
    fn drop(&mut self) {
        if let Some(record) = self.record.as_mut().filter(|_| self.sent == self.expected) {
            record.completed();
        }
    }
}

impl fmt::Debug for ProxyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyBody({}/{})", self.sent, self.expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, stream};
    use http_body_util::BodyExt;

    fn chunks(chunks: &[&'static str]) -> BoxStream<'static, Result<Bytes, BodyError>> {
        stream::iter(chunks.iter().map(|c| Ok(Bytes::from_static(c.as_bytes()))).collect::<Vec<_>>()).boxed()
    }

    #[tokio::test]
    async fn exactly_as_many_bytes_as_announced() {
        let whole = ProxyBody::stream(chunks(&["ab", "", "cde"]), 5).collect().await.unwrap().to_bytes();
        assert_eq!(whole, "abcde");
        let short = ProxyBody::stream(chunks(&["ab"]), 5).collect().await;
        assert!(matches!(short, Err(BodyError::Length { expected: 5, got: 2 })), "{short:?}");
        let long = ProxyBody::stream(chunks(&["abc", "def"]), 5).collect().await;
        assert!(matches!(long, Err(BodyError::Length { expected: 5, got: 6 })), "{long:?}");
    }

    #[tokio::test]
    async fn an_error_ends_it() {
        let stream = chunks(&["ab"]).chain(stream::once(async { Err(BodyError::WrongDigest) })).boxed();
        let mut body = ProxyBody::stream(stream, 5);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(matches!(body.frame().await, Some(Err(BodyError::WrongDigest))));
        assert!(!body.is_end_stream());
    }

    #[tokio::test]
    async fn an_engine_that_gives_nothing_is_given_up() {
        let after = Duration::from_millis(10);
        let mut body = ProxyBody::stream_within(chunks(&["ab"]).chain(stream::pending()).boxed(), 5, after);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(matches!(body.frame().await, Some(Err(BodyError::Stalled(_)))));
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_costs_no_time() {
        let after = Duration::from_millis(10);
        let mut body = ProxyBody::stream_within(chunks(&["ab", "cde"]), 5, after);
        assert!(body.frame().await.unwrap().is_ok());
        tokio::time::sleep(after * 2).await;
        assert!(body.frame().await.unwrap().is_ok());
    }
}
