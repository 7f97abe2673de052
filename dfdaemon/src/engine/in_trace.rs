//! In whose trace a download is: in that of the first reader whose request is recorded, and when that one has left, of the
//! next.
//!
//! A download is for many, and may go on for longer than the request in whose trace it began: what is done then is not to
//! be told as that one's.

use download_core::ReaderId;
use process::traces::{Kind, Span};
use std::collections::BTreeMap;
use std::fmt::Display;
use types::{BlobKey, TraceContext};

/// A download's span, if there is one now.
#[derive(Debug)]
pub(super) struct InTrace {
    key: BlobKey,
    /// The readers that are here and whose requests are recorded, as they came: clients, whose number the proxy bounds.
    readers: BTreeMap<ReaderId, TraceContext>,
    /// In whose trace it is.
    owner: Option<ReaderId>,
    span: Span,
}

impl InTrace {
    pub(super) fn new(key: &BlobKey) -> Self {
        Self { key: key.clone(), readers: BTreeMap::new(), owner: None, span: Span::none() }
    }

    /// A reader has come, for this span if that is recorded.
    pub(super) fn joins(&mut self, reader: ReaderId, trace: Option<TraceContext>) {
        let Some(trace) = trace else { return };
        self.readers.insert(reader, trace);
        if self.owner.is_some() {
            self.link(trace);
        } else {
            self.begin(reader, trace);
        }
    }

    /// A reader has left.
    pub(super) fn leaves(&mut self, reader: ReaderId) {
        self.readers.remove(&reader);
        if self.owner != Some(reader) {
            return;
        }
        let before = std::mem::take(&mut self.span).context();
        self.owner = None;
        let readers: Vec<_> = self.readers.iter().map(|(reader, trace)| (*reader, *trace)).collect();
        let Some(((next, trace), others)) = readers.split_first().map(|(next, others)| (*next, others))
        else {
            return;
        };
        self.begin(next, trace);
        for other in others.iter().map(|(_, trace)| *trace).chain(before) {
            self.link(other);
        }
    }

    /// What is done for the download now is done for this span.
    pub(super) fn context(&self) -> Option<TraceContext> {
        self.span.context()
    }

    /// Says that what was to be done was not.
    pub(super) fn fail(&mut self, why: impl Display) {
        self.span.fail(why);
    }

    fn begin(&mut self, reader: ReaderId, trace: TraceContext) {
        self.owner = Some(reader);
        self.span = Span::child(Kind::Internal, "download", Some(trace));
        self.span.note("damselfly.digest", self.key.digest);
        self.span.count("damselfly.size", self.key.size);
    }

    /// It is for this other span too, if that is of another trace.
    fn link(&mut self, other: TraceContext) {
        if self.span.context().is_some_and(|own| own.trace() != other.trace()) {
            self.span.link(Some(other));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Digest, Registry};

    #[test]
    fn a_download_is_in_the_trace_of_a_reader_that_is_here() {
        let registry = Registry::parse("registry.example").unwrap();
        let mut in_trace = InTrace::new(&BlobKey { digest: Digest::sha256(b""), size: 0, registry });
        let trace = |number: u8| TraceContext::new([number; 16], [number; 8]);
        in_trace.joins(ReaderId(0), None);
        assert_eq!(in_trace.owner, None, "a preheat, or a client that is not recorded");
        for number in 1..=3u8 {
            in_trace.joins(ReaderId(number.into()), trace(number));
            assert_eq!(in_trace.owner, Some(ReaderId(1)), "the first");
        }
        in_trace.leaves(ReaderId(2));
        in_trace.leaves(ReaderId(0));
        assert_eq!(in_trace.owner, Some(ReaderId(1)), "others leave, and it goes on");
        in_trace.leaves(ReaderId(1));
        assert_eq!(in_trace.owner, Some(ReaderId(3)), "the next that is still here");
        in_trace.leaves(ReaderId(3));
        assert_eq!(in_trace.owner, None, "what is done for nobody is in nobody's trace");
        in_trace.joins(ReaderId(4), trace(4));
        assert_eq!(in_trace.owner, Some(ReaderId(4)));
    }
}
