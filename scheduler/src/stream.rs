//! One host's stream: hello, then two ends.
//!
//! The reading end is a task: it hears frames, checks them and hands them to the driver; silence, nonsense or the
//! stream's end make the host leave. The writing end is the response: it takes from the host's outbox when HTTP/2 has
//! room, and turns values into frames there, outside the driver's task.

use crate::cluster::Removed;
use crate::connection::ConnectionHandle;
use crate::driver::{Input, Inputs};
use crate::options::HostOptions;
use crate::outbox::{End, Out, Outbox};
use crate::roster::StreamId;
use futures::Stream;
use proto::{ConvertError, FromHost, FromScheduler, Hello, Welcome, wire};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};
use types::{HostId, Label};

/// A host whose stream was ended gets this long to take note, before its connection is broken.
const FAREWELL: Duration = Duration::from_secs(2);

/// What all streams share.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) inputs: Inputs,
    pub(crate) options: HostOptions,
    pub(crate) cluster: Label,
    pub(crate) instance: u64,
    /// Whom an operator has removed; nothing where gRPC is plain.
    pub(crate) removed: Option<Removed>,
    pub(crate) tasks: TaskTracker,
    pub(crate) next: AtomicU64,
}

impl Streams {
    /// Takes a host in: hears its hello, and gives what it is to be sent.
    pub(crate) async fn open(
        &self,
        mut incoming: Streaming<wire::HostFrame>,
        connection: ConnectionHandle,
    ) -> Result<impl Stream<Item = Result<wire::SchedulerFrame, Status>> + use<>, Status> {
        let hello = tokio::time::timeout(self.options.hello_timeout, hear(&mut incoming)).await;
        let hello = match hello.map_err(|_| Status::deadline_exceeded("no hello in time"))?? {
            Some(FromHost::Hello(hello)) => resolve(hello, connection.remote.ip()),
            _ => return Err(Status::invalid_argument("a stream starts with a hello")),
        };
        if connection.host.is_some_and(|key| key.peer_id() != hello.peer_id) {
            return Err(Status::permission_denied("a hello with another peer id than the certificate's"));
        }
        let protocol = proto::negotiate(hello.protocol_min, hello.protocol_max).ok_or_else(|| {
            Status::failed_precondition(format!(
                "the host speaks protocol versions {} to {}, this scheduler {} to {}",
                hello.protocol_min,
                hello.protocol_max,
                proto::PROTOCOL_MIN,
                proto::PROTOCOL
            ))
        })?;
        let outbox = Outbox::default();
        let welcome = Welcome {
            protocol,
            heartbeat: self.options.heartbeat,
            cluster: self.cluster.clone(),
            instance: self.instance,
        };
        // An empty outbox takes it.
        drop(outbox.push(Out::Welcome(welcome)));
        let (host, stream) = (hello.host(), StreamId(self.next.fetch_add(1, Ordering::Relaxed)));
        let join = Input::Join { host, hello, protocol, stream, outbox: outbox.clone() };
        self.inputs.send(join).await.map_err(|_| Status::unavailable("the scheduler stops"))?;
        let reader = Reader {
            host,
            stream,
            inputs: self.inputs.clone(),
            outbox: outbox.clone(),
            silence: self.options.silence_timeout,
            connection,
            removed: self.removed.clone(),
        };
        self.tasks.spawn(reader.run(incoming));
        Ok(outgoing(outbox))
    }
}

/// An address that the host does not know itself is the one that it is seen under.
fn resolve(mut hello: Hello, seen: IpAddr) -> Hello {
    let put = |address: &mut SocketAddr| {
        if address.ip().is_unspecified() {
            address.set_ip(seen);
        }
    };
    put(&mut hello.bulk);
    hello.control.as_mut().map(put);
    hello
}

fn malformed(error: &ConvertError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The next frame, checked. Cancel safe.
async fn hear(incoming: &mut Streaming<wire::HostFrame>) -> Result<Option<FromHost>, Status> {
    let frame = incoming.message().await?;
    frame.map(FromHost::try_from).transpose().map_err(|error| malformed(&error))
}

/// The reading end.
struct Reader {
    host: HostId,
    stream: StreamId,
    inputs: Inputs,
    outbox: Outbox,
    silence: Duration,
    connection: ConnectionHandle,
    removed: Option<Removed>,
}

impl Reader {
    async fn run(self, mut incoming: Streaming<wire::HostFrame>) {
        let end = tokio::select! {
            () = self.outbox.closed() => None,
            end = self.read(&mut incoming) => Some(end),
            end = self.removal() => Some(end),
        };
        if let Some(end) = end {
            if let End::Because(status) = &end {
                tracing::warn!(host = %self.host, reason = status.message(), code = ?status.code(), "a stream ends");
            }
            self.outbox.close(end);
        }
        // Only a stopped driver does not take it.
        drop(self.inputs.send(Input::Leave { host: self.host, stream: self.stream }).await);
        let ended = tokio::time::timeout(FAREWELL, self.outbox.finished()).await;
        if self.right_is_over() {
            self.connection.part();
        }
        if ended.is_err() {
            tracing::debug!(host = %self.host, "a host does not take its stream's end and is cut off");
            self.connection.hang_up.cancel();
        }
    }

    /// Whether the host has to show a new certificate, or none will help.
    fn right_is_over(&self) -> bool {
        self.connection.is_over() || self.removed.as_ref().is_some_and(|removed| removed.contains(self.host))
    }

    /// Waits until an operator removes the host.
    async fn removal(&self) -> End {
        match &self.removed {
            Some(removed) => removed.removes(self.host).await,
            None => std::future::pending().await,
        }
        End::Because(Status::permission_denied(format!("an operator has removed host {}", self.host)))
    }

    /// Hands on what the host says, until it says no more.
    async fn read(&self, incoming: &mut Streaming<wire::HostFrame>) -> End {
        loop {
            let heard = tokio::time::timeout(self.silence, hear(incoming)).await;
            let said = match heard {
                Err(_) => return End::Because(Status::deadline_exceeded("the host was silent for too long")),
                Ok(Err(status)) => return End::Because(status),
                Ok(Ok(None)) => return End::Done,
                Ok(Ok(Some(said))) => said,
            };
            if self.connection.is_over() {
                return End::Because(Status::unauthenticated("the host's certificate has expired"));
            }
            let (host, stream) = (self.host, self.stream);
            let input = match said {
                FromHost::Hello(_) => return End::Because(Status::invalid_argument("a second hello")),
                FromHost::Messages(messages) => Input::Messages { host, stream, messages },
                FromHost::Traffic(traffic) => Input::Traffic { host, stream, traffic },
                FromHost::Ping(number) => Input::Ping { host, stream, number },
                FromHost::Preheats(reports) => Input::PreheatReports { host, stream, reports },
            };
            if self.inputs.send(input).await.is_err() {
                return End::Because(Status::unavailable("the scheduler stops"));
            }
        }
    }
}

/// The writing end.
struct Writer {
    outbox: Outbox,
    frames: VecDeque<wire::SchedulerFrame>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.outbox.finish();
    }
}

fn outgoing(outbox: Outbox) -> impl Stream<Item = Result<wire::SchedulerFrame, Status>> {
    let writer = Writer { outbox, frames: VecDeque::new() };
    futures::stream::unfold(writer, |mut writer| async {
        loop {
            if let Some(frame) = writer.frames.pop_front() {
                return Some((Ok(frame), writer));
            }
            match writer.outbox.next().await? {
                Ok(out) => writer.frames = frames(out).into(),
                Err(status) => return Some((Err(status), writer)),
            }
        }
    })
}

fn frames(out: Out) -> Vec<wire::SchedulerFrame> {
    let said = match out {
        Out::Welcome(welcome) => FromScheduler::Welcome(welcome),
        Out::Members { reset, joined, left } => {
            FromScheduler::Members { reset, joined: joined.to_vec(), left: left.to_vec() }
        }
        Out::Messages(messages) => FromScheduler::Messages(messages),
        Out::Pong(number) => FromScheduler::Pong(number),
        Out::Forget(forget) => FromScheduler::Forget(forget),
        Out::Preheat(order) => FromScheduler::Preheat(Arc::unwrap_or_clone(order)),
        Out::PreheatOver(number) => FromScheduler::PreheatOver(number),
    };
    said.into_frames()
}
