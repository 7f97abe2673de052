//! What waits to be sent to one host: bounded, and merged while it waits.
//!
//! The driver puts in and never waits; the host's stream takes out when the host can take more. What a host does not
//! read grows here up to a bound, and beyond it the host is disconnected: it comes back and announces, which costs less
//! than remembering for it.

use proto::{Forget, Member, PreheatOrder, Welcome};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use types::{HostId, SchedulerBody, SchedulerMessage};

/// What may wait for one host, in bytes as [`cost_of`] estimates them. The largest single message, a lease with the
/// states of 65,536 pieces, is 4 MiB; beside it there is room for about 50,000 assignments.
const COST_MAX: usize = 12 * 1024 * 1024;

/// A message's cost beside its states and sets, in bytes.
const MESSAGE_COST: usize = 160;

/// A member's cost, in bytes.
const MEMBER_COST: usize = 256;

/// Something to be sent.
#[derive(Clone, Debug)]
pub(crate) enum Out {
    Welcome(Welcome),
    /// Who is there: all hosts share the same lists.
    Members {
        reset: bool,
        joined: Arc<[Member]>,
        left: Arc<[HostId]>,
    },
    Messages(Vec<SchedulerMessage>),
    Pong(u64),
    /// Ask origins anew.
    Forget(Forget),
    /// What to hold: hosts share it, and the driver's book has it too.
    Preheat(Arc<PreheatOrder>),
    /// An order's number.
    PreheatOver(u64),
}

impl Out {
    fn cost(&self) -> usize {
        match self {
            Self::Welcome(_) | Self::Pong(_) | Self::Forget(_) | Self::Preheat(_) | Self::PreheatOver(_) => {
                MESSAGE_COST
            }
            Self::Members { joined, left, .. } => joined.len() * MEMBER_COST + left.len() * MESSAGE_COST,
            Self::Messages(messages) => messages.iter().map(cost_of).sum(),
        }
    }
}

fn cost_of(message: &SchedulerMessage) -> usize {
    let extra = match &message.body {
        SchedulerBody::Lease { missing, prefix, .. } => {
            prefix.len() * message.key.digest.as_bytes().len() + missing.count() as usize / 8
        }
        _ => 0,
    };
    MESSAGE_COST + extra
}

/// The host does not read what it is sent.
#[derive(Debug)]
pub(crate) struct Full;

/// How a stream ends.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// In good order: the host said that it has no more to say.
    Done,
    /// For a reason.
    Because(Status),
}

/// One host's queue; clones share it. One takes out, others put in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
    closed: CancellationToken,
    finished: CancellationToken,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Out>,
    cost: usize,
    end: Option<End>,
}

impl Outbox {
    /// Puts something in. After the end it is dropped.
    pub(crate) fn push(&self, out: Out) -> Result<(), Full> {
        let mut queue = self.lock();
        if queue.end.is_some() || self.0.closed.is_cancelled() {
            return Ok(());
        }
        let cost = out.cost();
        if queue.cost + cost > COST_MAX {
            return Err(Full);
        }
        queue.cost += cost;
        match (queue.waiting.back_mut(), out) {
            (Some(Out::Messages(before)), Out::Messages(more)) => before.extend(more),
            (_, out) => queue.waiting.push_back(out),
        }
        drop(queue);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Ends the stream; what waits is not sent. The first reason counts.
    pub(crate) fn close(&self, end: End) {
        let mut queue = self.lock();
        if !self.0.closed.is_cancelled() {
            queue.end = Some(end);
            queue.waiting = VecDeque::new();
            queue.cost = 0;
            self.0.closed.cancel();
        }
        drop(queue);
        self.0.changed.notify_one();
    }

    /// What is to be sent next; nothing after the end. Cancel safe.
    pub(crate) async fn next(&self) -> Option<Result<Out, Status>> {
        loop {
            {
                let mut queue = self.lock();
                if let Some(out) = queue.waiting.pop_front() {
                    queue.cost -= out.cost();
                    return Some(Ok(out));
                }
                if self.0.closed.is_cancelled() {
                    return match queue.end.take() {
                        Some(End::Because(status)) => Some(Err(status)),
                        Some(End::Done) | None => None,
                    };
                }
            }
            self.0.changed.notified().await;
        }
    }

    /// Waits until the stream is to end. Cancel safe.
    pub(crate) async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    /// Waits until nobody takes out any more. Cancel safe.
    pub(crate) async fn finished(&self) {
        self.0.finished.cancelled().await;
    }

    /// Says that nobody takes out any more.
    pub(crate) fn finish(&self) {
        self.close(End::Done);
        self.0.finished.cancel();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{BlobKey, Digest, Epoch};

    fn message(epoch: u64) -> SchedulerMessage {
        let registry = types::Registry::parse("docker.io").unwrap();
        let key = BlobKey { digest: Digest::sha256(b"x"), size: 1, registry };
        SchedulerMessage { key, body: SchedulerBody::Revoke { epoch: Epoch(epoch) } }
    }

    #[tokio::test]
    async fn messages_that_wait_are_merged_but_keep_their_place() {
        let outbox = Outbox::default();
        outbox.push(Out::Messages(vec![message(1)])).unwrap();
        outbox.push(Out::Messages(vec![message(2)])).unwrap();
        outbox.push(Out::Pong(7)).unwrap();
        outbox.push(Out::Messages(vec![message(3)])).unwrap();
        assert!(matches!(outbox.next().await, Some(Ok(Out::Messages(m))) if m == [message(1), message(2)]));
        assert!(matches!(outbox.next().await, Some(Ok(Out::Pong(7)))));
        assert!(matches!(outbox.next().await, Some(Ok(Out::Messages(m))) if m == [message(3)]));
        assert_eq!(outbox.lock().cost, 0);
    }

    #[tokio::test]
    async fn it_is_bounded_and_ends_with_the_first_reason() {
        let outbox = Outbox::default();
        let mut taken = 0;
        while outbox.push(Out::Messages(vec![message(1); 1000])).is_ok() {
            taken += 1000;
        }
        assert!((50_000..100_000).contains(&taken), "{taken}");
        outbox.close(End::Because(Status::resource_exhausted("full")));
        outbox.close(End::Done);
        assert!(outbox.push(Out::Pong(1)).is_ok(), "dropped");
        let status = outbox.next().await.unwrap().expect_err("the end");
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert!(outbox.next().await.is_none());
        outbox.closed().await;
    }
}
