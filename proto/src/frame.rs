//! Frames: what one message of the stream carries, and the cutting of many messages into frames.
//!
//! Messages of a frame share a table of keys, since a burst is mostly about a few blobs. A frame is closed when its
//! encoded size or its number of messages would pass the limit that the other side puts on decoding.

use crate::preheat::{self, PreheatOrder, PreheatReport};
use crate::requests::NAME_BYTES_MAX;
use crate::words::{Blob, bounded, host_in, host_out, key_in, key_out, required};
use crate::{
    ConvertError, FRAME_MEMBERS_MAX, FRAME_MESSAGES_MAX, Hello, Member, Traffic, Welcome, host, scheduler,
    wire,
};
use prost::Message as _;
use std::collections::BTreeMap;
use types::{BlobKey, HostId, HostMessage, Registry, SchedulerMessage};

/// A frame is closed when it would become larger than this, in bytes; a single larger message has one of its own.
/// Small enough that a heartbeat behind it is not late, and well below the limits for decoding.
const FRAME_BYTES_TARGET: usize = 512 * 1024;

/// Bytes that a field's tag and length take at most.
const FIELD_OVERHEAD: usize = 8;

/// What a host sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromHost {
    /// First, and only then.
    Hello(Hello),
    /// About blobs, in order.
    Messages(Vec<HostMessage>),
    /// Counters, every few seconds.
    Traffic(Traffic),
    /// Answered by [`FromScheduler::Pong`] with the same number.
    Ping(u64),
    /// How preheats get on; at most [`PREHEAT_REPORTS_MAX`](crate::PREHEAT_REPORTS_MAX), more are cut off on the way out.
    Preheats(Vec<PreheatReport>),
}

/// What the scheduler sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromScheduler {
    /// First, and only then.
    Welcome(Welcome),
    /// About blobs, in order.
    Messages(Vec<SchedulerMessage>),
    /// Who may be talked to. Named before any message that mentions them.
    Members {
        /// Whether to forget all that were named before.
        reset: bool,
        /// Came, or came back with other addresses.
        joined: Vec<Member>,
        /// Are gone.
        left: Vec<HostId>,
    },
    /// The answer to a ping.
    Pong(u64),
    /// What origins permitted, and what tags stood for, is to be asked again.
    Forget(Forget),
    /// To be held, though nobody here waits for it; only to hosts of [`PREHEAT_PROTOCOL`](crate::PREHEAT_PROTOCOL).
    Preheat(PreheatOrder),
    /// The order of this number is to be stopped and forgotten.
    PreheatOver(u64),
}

/// What is to be asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forget {
    /// Larger than that of all before.
    pub number: u64,
    /// What of: a repository by registry and name, or all.
    pub of: Option<(Registry, String)>,
}

impl FromHost {
    /// The frames for the wire: one, but for many messages.
    #[must_use]
    pub fn into_frames(self) -> Vec<wire::HostFrame> {
        use wire::host_frame::Content;
        let content = match self {
            Self::Hello(hello) => Content::Hello(hello.out()),
            Self::Messages(messages) => return host_frames(&messages),
            Self::Traffic(traffic) => Content::Traffic(traffic.out()),
            Self::Ping(number) => Content::Ping(number),
            Self::Preheats(reports) => Content::Preheats(preheat::reports_out(&reports)),
        };
        vec![wire::HostFrame { content: Some(content) }]
    }
}

impl TryFrom<wire::HostFrame> for FromHost {
    type Error = ConvertError;

    fn try_from(frame: wire::HostFrame) -> Result<Self, ConvertError> {
        use wire::host_frame::Content;
        Ok(match required("frame content", frame.content)? {
            Content::Hello(hello) => Self::Hello(Hello::parse(hello)?),
            Content::Messages(batch) => {
                bounded("messages", batch.messages.len(), FRAME_MESSAGES_MAX)?;
                let keys = keys_in(batch.keys)?;
                let message = |m: wire::HostMessage| {
                    let key = key_at(&keys, m.key)?;
                    let body = host::body_in(Blob::of(&key), m.body)?;
                    Ok(HostMessage { key, body })
                };
                Self::Messages(batch.messages.into_iter().map(message).collect::<Result<_, ConvertError>>()?)
            }
            Content::Traffic(traffic) => Self::Traffic(Traffic::parse(&traffic)?),
            Content::Ping(number) => Self::Ping(number),
            Content::Preheats(reports) => Self::Preheats(preheat::reports_in(reports)?),
        })
    }
}

impl FromScheduler {
    /// The frames for the wire: one, but for many messages or members.
    #[must_use]
    pub fn into_frames(self) -> Vec<wire::SchedulerFrame> {
        use wire::scheduler_frame::Content;
        let content = match self {
            Self::Welcome(welcome) => Content::Welcome(welcome.out()),
            Self::Messages(messages) => return scheduler_frames(&messages),
            Self::Members { reset, joined, left } => return member_frames(reset, &joined, &left),
            Self::Pong(number) => Content::Pong(number),
            Self::Forget(forget) => Content::Forget(forget_out(forget)),
            Self::Preheat(order) => Content::Preheat(order.out()),
            Self::PreheatOver(number) => Content::PreheatOver(number),
        };
        vec![wire::SchedulerFrame { content: Some(content) }]
    }
}

impl TryFrom<wire::SchedulerFrame> for FromScheduler {
    type Error = ConvertError;

    fn try_from(frame: wire::SchedulerFrame) -> Result<Self, ConvertError> {
        use wire::scheduler_frame::Content;
        Ok(match required("frame content", frame.content)? {
            Content::Welcome(welcome) => Self::Welcome(Welcome::parse(&welcome)?),
            Content::Messages(batch) => {
                bounded("messages", batch.messages.len(), FRAME_MESSAGES_MAX)?;
                let keys = keys_in(batch.keys)?;
                let message = |m: wire::SchedulerMessage| {
                    let key = key_at(&keys, m.key)?;
                    let body = scheduler::body_in(Blob::of(&key), m.body)?;
                    Ok(SchedulerMessage { key, body })
                };
                Self::Messages(batch.messages.into_iter().map(message).collect::<Result<_, ConvertError>>()?)
            }
            Content::Members(members) => {
                bounded("members", members.joined.len().max(members.left.len()), FRAME_MEMBERS_MAX)?;
                Self::Members {
                    reset: members.reset,
                    joined: members.joined.into_iter().map(Member::parse).collect::<Result<_, _>>()?,
                    left: members.left.iter().map(|id| host_in(id)).collect::<Result<_, _>>()?,
                }
            }
            Content::Pong(number) => Self::Pong(number),
            Content::Forget(forget) => Self::Forget(forget_in(forget)?),
            Content::Preheat(order) => Self::Preheat(PreheatOrder::parse(order)?),
            Content::PreheatOver(number) => Self::PreheatOver(number),
        })
    }
}

fn forget_out(Forget { number, of }: Forget) -> wire::Forget {
    let (registry, repository) = of.map(|(registry, name)| (registry.to_string(), name)).unwrap_or_default();
    wire::Forget { registry, repository, number }
}

fn forget_in(forget: wire::Forget) -> Result<Forget, ConvertError> {
    let number = forget.number;
    if forget.registry.is_empty() && forget.repository.is_empty() {
        return Ok(Forget { number, of: None });
    }
    bounded("repository", forget.repository.len(), NAME_BYTES_MAX)?;
    Ok(Forget { number, of: Some((Registry::parse(&forget.registry)?, forget.repository)) })
}

fn keys_in(keys: Vec<wire::BlobKey>) -> Result<Vec<BlobKey>, ConvertError> {
    bounded("keys", keys.len(), FRAME_MESSAGES_MAX)?;
    keys.into_iter().map(key_in).collect()
}

fn key_at(keys: &[BlobKey], index: u32) -> Result<BlobKey, ConvertError> {
    keys.get(index as usize).cloned().ok_or(ConvertError::Key { index, keys: keys.len() })
}

/// The frames that carry these messages, in order.
#[must_use]
pub fn host_frames(messages: &[HostMessage]) -> Vec<wire::HostFrame> {
    let parts =
        messages.iter().flat_map(|m| host::bodies_out(&m.body).into_iter().map(|body| (&m.key, body)));
    let parts = parts.map(|(key, body)| (key, wire::HostMessage { key: 0, body: Some(body) }));
    cut(parts, |m, key| m.key = key)
        .into_iter()
        .map(|(keys, messages)| wire::HostFrame {
            content: Some(wire::host_frame::Content::Messages(wire::HostMessages { keys, messages })),
        })
        .collect()
}

/// The frames that carry these messages, in order.
#[must_use]
pub fn scheduler_frames(messages: &[SchedulerMessage]) -> Vec<wire::SchedulerFrame> {
    let parts = messages.iter().map(|m| {
        let body = Some(scheduler::body_out(&m.body));
        (&m.key, wire::SchedulerMessage { key: 0, body })
    });
    cut(parts, |m, key| m.key = key)
        .into_iter()
        .map(|(keys, messages)| wire::SchedulerFrame {
            content: Some(wire::scheduler_frame::Content::Messages(wire::SchedulerMessages {
                keys,
                messages,
            })),
        })
        .collect()
}

/// Cuts messages into batches with a table of keys each.
fn cut<'a, M: prost::Message>(
    messages: impl Iterator<Item = (&'a BlobKey, M)>,
    set_key: impl Fn(&mut M, u32),
) -> Vec<(Vec<wire::BlobKey>, Vec<M>)> {
    let mut batches = Vec::new();
    let mut table: BTreeMap<&BlobKey, u32> = BTreeMap::new();
    let mut keys = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for (key, mut message) in messages {
        let size = message.encoded_len() + FIELD_OVERHEAD;
        if !batch.is_empty() && (bytes + size > FRAME_BYTES_TARGET || batch.len() == FRAME_MESSAGES_MAX) {
            batches.push((std::mem::take(&mut keys), std::mem::take(&mut batch)));
            table.clear();
            bytes = 0;
        }
        let index = *table.entry(key).or_insert_with(|| {
            let wire = key_out(key);
            bytes += wire.encoded_len() + FIELD_OVERHEAD;
            keys.push(wire);
            u32::try_from(keys.len() - 1).expect("a batch has at most 4,096 keys")
        });
        set_key(&mut message, index);
        bytes += size;
        batch.push(message);
    }
    if !batch.is_empty() {
        batches.push((keys, batch));
    }
    batches
}

fn member_frames(reset: bool, joined: &[Member], left: &[HostId]) -> Vec<wire::SchedulerFrame> {
    let count = joined.len().max(left.len()).div_ceil(FRAME_MEMBERS_MAX).max(1);
    let mut joined = joined.chunks(FRAME_MEMBERS_MAX);
    let mut left = left.chunks(FRAME_MEMBERS_MAX);
    (0..count)
        .map(|i| {
            let members = wire::Members {
                joined: joined.next().unwrap_or_default().iter().map(Member::out).collect(),
                left: left.next().unwrap_or_default().iter().map(|id| host_out(*id)).collect(),
                reset: reset && i == 0,
            };
            wire::SchedulerFrame { content: Some(wire::scheduler_frame::Content::Members(members)) }
        })
        .collect()
}
