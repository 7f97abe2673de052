//! Blobs: read in ranges, as streams that go on after a broken connection.

use crate::OriginError;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::fmt;

/// What HEAD says of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobHead {
    /// Its size in bytes, if the registry says it.
    pub size: Option<u64>,
}

/// A blob's bytes as they come, in chunks of no fixed size. Ends after the last byte, or with one error.
pub type BlobBody = BoxStream<'static, Result<Bytes, OriginError>>;

/// A part of a blob on its way.
pub struct BlobRead {
    /// The whole blob's size in bytes, if the registry says it or the caller knows it.
    pub size: Option<u64>,
    /// Whether the registry took the Range into account. If not, what lies before was read and thrown away.
    pub ranged: bool,
    /// The bytes of the range that was asked for, and no others. Not verified.
    pub body: BlobBody,
}

impl fmt::Debug for BlobRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobRead")
            .field("size", &self.size)
            .field("ranged", &self.ranged)
            .finish_non_exhaustive()
    }
}
