//! Bodies: at a limited rate, and wrong where the plan says so.

use super::fault::Plan;
use super::lock;
use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// What is handed to the connection at once, in bytes.
const CHUNK: u64 = 64 * 1024;

/// How far the bytes may run ahead of the rate, so that late timers do not lower it.
const BURST: Duration = Duration::from_millis(5);

/// How many turns the other tasks get before a connection is broken.
const TURNS_BEFORE_BREAK: usize = 64;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A limit on bytes per second for all bodies together.
pub(super) struct RateLimit {
    bytes_per_second: u64,
    /// When the bytes handed out so far are due.
    due: Mutex<Option<Instant>>,
}

impl RateLimit {
    pub(super) const fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, due: Mutex::new(None) }
    }

    async fn take(&self, bytes: u64) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.max(1));
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = Instant::now();
        let until = {
            let mut due = lock(&self.due);
            let from = due.map_or(now, |due| due.max(now.checked_sub(BURST).unwrap_or(now)));
            *due.insert(from + time)
        };
        tokio::time::sleep_until(until).await;
    }
}

/// A small body, as it is.
pub(super) fn whole(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Where a body stands.
struct Progress {
    /// The bytes to send before the end, surplus included.
    left: u64,
    /// The bytes sent.
    at: u64,
    content: Bytes,
    plan: Plan,
    shared: Arc<super::Shared>,
    sent: Arc<AtomicU64>,
}

/// Flips the byte at `offset` of the blob in the part that begins at `start`.
pub(super) fn corrupt(content: Bytes, start: u64, offset: u64) -> Bytes {
    let Some(at) =
        offset.checked_sub(start).and_then(|at| usize::try_from(at).ok()).filter(|at| *at < content.len())
    else {
        return content;
    };
    let mut bytes = content.to_vec();
    bytes[at] ^= 0xff;
    bytes.into()
}

/// `content` at the limited rate, with what the plan does to it; counts what goes out in `sent`.
pub(super) fn streamed(content: Bytes, plan: Plan, shared: Arc<super::Shared>, sent: Arc<AtomicU64>) -> Body {
    let left = (content.len() as u64).saturating_sub(plan.too_few).saturating_add(plan.too_many);
    let progress = Progress { left, at: 0, content, plan, shared, sent };
    let frames = stream::try_unfold(progress, |mut progress| async move {
        let chunk = progress.next().await?;
        Ok(chunk.map(|chunk| (Frame::data(chunk), progress)))
    });
    StreamBody::new(frames).boxed_unsync()
}

impl Progress {
    async fn next(&mut self) -> Result<Option<Bytes>, io::Error> {
        if self.plan.break_after.is_some_and(|bytes| self.at >= bytes) {
            // What the connection has not written when its body fails is lost: let it write, and the client read.
            for _ in 0..TURNS_BEFORE_BREAK {
                tokio::task::yield_now().await;
            }
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "broken on demand"));
        }
        if self.plan.stall_after.is_some_and(|bytes| self.at >= bytes) {
            std::future::pending::<()>().await;
        }
        let stop = [self.plan.break_after, self.plan.stall_after].into_iter().flatten().min();
        let len = self.left.min(CHUNK).min(stop.map_or(CHUNK, |stop| stop - self.at));
        if len == 0 {
            // A body shorter than its Content-Length breaks the connection as well.
            if self.plan.content_length.is_some() {
                tokio::task::yield_now().await;
            }
            return Ok(None);
        }
        if let Some(rate) = &self.shared.rate {
            rate.take(len).await;
        }
        let chunk = self.chunk(len);
        self.at += chunk.len() as u64;
        self.left -= chunk.len() as u64;
        self.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        Ok(Some(chunk))
    }

    /// At most `len` bytes from where the body stands: of the content, then zeros.
    fn chunk(&self, len: u64) -> Bytes {
        let wanted = usize::try_from(len).unwrap_or(usize::MAX);
        match usize::try_from(self.at).ok().filter(|at| *at < self.content.len()) {
            Some(at) => self.content.slice(at..self.content.len().min(at + wanted)),
            None => Bytes::from(vec![0; wanted]),
        }
    }
}
