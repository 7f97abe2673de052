//! What the tables of `manifests` and `blobs` have in common: a row, and how a client saw it.

use anyhow::{Result, ensure};
use e2e::inside::{Node, Reply};
use futures::future::try_join_all;
use std::time::{Duration, Instant};
use support::origin::Fault;

/// No row keeps a client waiting for longer.
const ROW_LIMIT: Duration = Duration::from_secs(12);

/// What a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// This status, with this code of the distribution API; the origin's own errors have the code `FAULT`.
    Refused(u16, &'static str),
    /// A success whose connection breaks before the body's end, or even before its head is sent.
    Broken,
    /// All bytes, and the right ones.
    Right,
    /// One of the two: it depends on where the origin's packets end.
    BrokenOrRight,
}

impl Seen {
    /// Whether `reply` is that, if `content` is what should have come.
    pub(crate) fn is(self, reply: &Reply, content: &[u8]) -> bool {
        match self {
            Self::Refused(status, code) => (reply.status, reply.code().as_str()) == (status, code),
            Self::Broken => {
                matches!(reply.status, 0 | 200) && reply.broken && reply.body.len() < content.len()
            }
            Self::Right => reply.is_right(content),
            Self::BrokenOrRight => Self::Broken.is(reply, content) || Self::Right.is(reply, content),
        }
    }
}

/// Which requests to the origin go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// HEAD.
    Head,
    /// GET.
    Get,
    /// The first so many GETs.
    FirstGets(u64),
    /// All.
    All,
}

/// One way in which an origin goes wrong.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) of: Of,
    pub(crate) fault: Fault,
    pub(crate) seen: Seen,
}

pub(crate) fn row(of: Of, fault: Fault, seen: Seen) -> Row {
    Row { of, fault, seen }
}

/// A row, what is asked for, and what should come.
pub(crate) struct Prepared<C> {
    pub(crate) row: Row,
    pub(crate) target: String,
    pub(crate) content: C,
}

/// Asks for all at once, and compares what is seen.
pub(crate) async fn see<C>(node: &Node, prepared: &[Prepared<C>], bytes: impl Fn(&C) -> &[u8]) -> Result<()> {
    let bytes = &bytes;
    let seen = prepared.iter().map(|Prepared { row, target, content }| async move {
        let begun = Instant::now();
        let reply = node.get(target).await?;
        let good = row.seen.is(&reply, bytes(content)) && begun.elapsed() < ROW_LIMIT;
        let wrong = || format!("{row:?}: {} after {:.1?}", reply.summary(), begun.elapsed());
        Ok::<_, anyhow::Error>((!good).then(wrong))
    });
    let wrong: Vec<String> = try_join_all(seen).await?.into_iter().flatten().collect();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}
