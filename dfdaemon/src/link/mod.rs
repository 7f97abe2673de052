//! The link to the scheduler: one stream for everything about blobs, and a few questions beside it.
//!
//! It is allowed to fail: whoever uses it gets an answer or, soon, none. The stream comes back with back-off, and what
//! this host holds and wants is announced anew each time. [`stream`] keeps it, [`questions`] asks beside it.

mod questions;
mod silence;
mod stream;

pub(crate) use questions::NoAnswer;
pub(crate) use stream::{LinkTask, Served};

use crate::joining::Joined;
use download_core::LinkState;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tonic::transport::{Channel, Endpoint};
use types::HostMessage;

/// Messages waiting for the stream. A stream that takes them slower than they come for this long is broken off, and
/// everything is announced anew.
const OUTBOX: usize = 16 * 1024;

/// How long to wait for a connection to the scheduler.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// The link; a clone is the same one.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    channel: Channel,
    state: watch::Receiver<LinkState>,
    /// Whether the first attempt to connect has been decided.
    tried: watch::Receiver<bool>,
    outbox: Outbox,
}

/// Where messages wait for the current stream, if there is one.
#[derive(Clone, Debug, Default)]
struct Outbox(Arc<Mutex<Option<mpsc::Sender<HostMessage>>>>);

impl Outbox {
    fn replace(&self, sender: Option<mpsc::Sender<HostMessage>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sender;
    }
}

/// How the scheduler at this address, `http://HOST:PORT`, is reached.
pub(crate) fn endpoint(address: http::Uri) -> Endpoint {
    Endpoint::from(address)
        .connect_timeout(DIAL_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
}

impl Link {
    /// A link over this channel, and the task that keeps it, once this host has joined. Nothing is dialled before the task
    /// runs.
    pub(crate) fn new(channel: Channel, joined: Option<Joined>) -> (Self, LinkTask) {
        let (state_tx, state) = watch::channel(LinkState::Down);
        let (tried_tx, tried) = watch::channel(false);
        let outbox = Outbox::default();
        let link = Self { channel, state, tried, outbox: outbox.clone() };
        let task = LinkTask::new(link.channel.clone(), joined, state_tx, tried_tx, outbox);
        (link, task)
    }

    /// How the link stands.
    pub(crate) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// Waits until the first attempt to connect has been decided, at most `limit`: a pull that comes with the daemon's
    /// first breath is not to go alone for that reason.
    pub(crate) async fn settled(&self, limit: Duration) {
        let mut tried = self.tried.clone();
        drop(tokio::time::timeout(limit, tried.wait_for(|tried| *tried)).await);
    }

    /// Sends a message with the current stream; without one it is lost, and said anew when there is one.
    pub(crate) fn send(&self, message: HostMessage) {
        let mut outbox = self.outbox.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*outbox
            && sender.try_send(message).is_err()
        {
            // The stream is broken or too slow: its task sees the closed channel and starts anew.
            *outbox = None;
        }
    }
}
