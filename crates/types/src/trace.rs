//! Where in a trace something happens: what one process carries to the next, so that all that is done for one request
//! can be shown as one.
//!
//! A request for a piece and a question to the scheduler carry it; `process::traces` makes spans of it.

use std::fmt;

/// A span of a trace that is recorded (W3C Trace Context, "traceparent": trace-id and parent-id). Of a trace that is not
/// recorded nothing is carried.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: [u8; 16],
    span: [u8; 8],
}

impl TraceContext {
    /// How many bytes [`Self::to_bytes`] gives.
    pub const LEN: usize = 24;

    /// The span of this trace; nothing if one of them is all zeros, which stands for none.
    #[must_use]
    pub fn new(trace: [u8; 16], span: [u8; 8]) -> Option<Self> {
        (trace != [0; 16] && span != [0; 8]).then_some(Self { trace, span })
    }

    /// The trace's id.
    #[must_use]
    pub const fn trace(self) -> [u8; 16] {
        self.trace
    }

    /// The span's id.
    #[must_use]
    pub const fn span(self) -> [u8; 8] {
        self.span
    }

    /// The trace's id, and then the span's.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..16].copy_from_slice(&self.trace);
        bytes[16..].copy_from_slice(&self.span);
        bytes
    }

    /// What [`Self::to_bytes`] gave; nothing if that cannot be.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (trace, span) = bytes.split_first_chunk()?;
        Self::new(*trace, span.try_into().ok()?)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({}-{})", hex::encode(self.trace), hex::encode(self.span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_were() {
        let context = TraceContext::new([7; 16], [9; 8]).unwrap();
        assert_eq!(TraceContext::from_bytes(&context.to_bytes()), Some(context));
        assert_eq!((context.trace(), context.span()), ([7; 16], [9; 8]));
        assert_eq!(format!("{context:?}"), "TraceContext(07070707070707070707070707070707-0909090909090909)");
    }

    #[test]
    fn zeros_and_other_lengths_are_none() {
        assert_eq!(TraceContext::new([0; 16], [9; 8]), None);
        assert_eq!(TraceContext::new([7; 16], [0; 8]), None);
        for len in (0..40).filter(|len| *len != TraceContext::LEN) {
            assert_eq!(TraceContext::from_bytes(&vec![1; len]), None, "{len} bytes");
        }
    }
}
