//! The span of one read from the origin: what comes is counted, and told with its end.

use super::rights::Right;
use crate::traffic::ReadUnder;
use process::traces::{Kind, Span};
use types::{BlobKey, LeaseFailure, PieceIndex, TraceContext};

/// A read of some bytes of a blob. Dropped before all of them have come, it is cancelled.
pub(super) struct Reading {
    span: Span,
    /// How many bytes have come.
    bytes: u64,
    end: End,
}

/// With what it would end now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Cancelled,
    Whole,
    Failed,
}

impl Reading {
    /// A read that begins with `piece`, for the span `trace`. The origin does not hear of it.
    pub(super) fn new(
        trace: Option<TraceContext>,
        right: &Right,
        key: &BlobKey,
        piece: Option<PieceIndex>,
        under: ReadUnder,
    ) -> Self {
        let mut span = Span::child(Kind::Client, "read origin", trace);
        span.note("damselfly.repository", &right.repository);
        span.note("damselfly.digest", key.digest);
        if let Some(piece) = piece {
            span.count("damselfly.piece", piece.0.into());
        }
        let lease = match under {
            ReadUnder::Lease => "held",
            ReadUnder::Nothing => "none",
        };
        span.note("damselfly.lease", lease);
        Self { span, bytes: 0, end: End::Cancelled }
    }

    /// So many bytes more have come.
    pub(super) fn came(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// All that were to come have.
    pub(super) fn whole(&mut self) {
        self.end = End::Whole;
    }

    /// They do not come, or are wrong.
    pub(super) fn failed(&mut self, failure: &LeaseFailure) {
        self.end = End::Failed;
        self.span.fail(format_args!("{failure:?}"));
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.span.count("damselfly.bytes", self.bytes);
        match self.end {
            End::Cancelled => self.span.note("damselfly.result", "cancelled"),
            End::Whole => self.span.note("damselfly.result", "read"),
            End::Failed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use origin::{Auth, Repository};
    use std::time::Instant;
    use types::{Digest, Registry};

    #[test]
    fn a_read_ends_as_it_went() {
        let registry = Registry::parse("registry.example").unwrap();
        let repository = Repository::new(&registry, "app".parse().unwrap());
        let right = Right { repository, auth: Auth::Anonymous, since: Instant::now() };
        let key = BlobKey { digest: Digest::sha256(b""), size: 7, registry };
        let mut reading = Reading::new(None, &right, &key, None, ReadUnder::Nothing);
        reading.came(3);
        assert_eq!((reading.bytes, reading.end), (3, End::Cancelled), "as long as something is missing");
        reading.came(4);
        reading.whole();
        assert_eq!((reading.bytes, reading.end), (7, End::Whole));
        reading.failed(&LeaseFailure::Wrong);
        assert_eq!(reading.end, End::Failed, "it was not what it should have been");
    }
}
