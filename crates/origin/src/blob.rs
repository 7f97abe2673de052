//! Blobs: read in ranges, as streams that go on after a broken connection.
//!
//! A request always begins at the registry, also the one that takes up a broken body: the URL of an object store is good
//! for a while only.

use crate::body::Reader;
use crate::client::Origin;
use crate::metrics::Kind;
use crate::send::{Ask, content_length};
use crate::{Auth, OriginError, Repository};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::fmt;
use types::{ByteRange, Digest};

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
    /// Whether the registry sent just the range that was asked for. If it sent everything, the rest was thrown away.
    /// False where no range was asked for.
    pub ranged: bool,
    /// The bytes of the range that was asked for, and no others. Not verified. Dropping it ends the request.
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

impl Origin {
    /// Asks whether a blob is there for `auth`, and how large it is. Where HEAD is refused its first byte is asked for.
    ///
    /// # Errors
    /// [`OriginError`].
    pub async fn head_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        auth: &Auth,
    ) -> Result<BlobHead, OriginError> {
        let tail = format!("blobs/{digest}");
        let ask = Ask::new(Method::HEAD, repository, &tail, auth, Kind::BlobHead);
        match self.ask_whole(&ask, 0).await {
            Ok(response) => Ok(BlobHead { size: content_length(response.headers()) }),
            // Amazon's public registry answers 401 where GET is allowed; an object store may have signed for GET alone.
            Err(OriginError::Unauthorized { .. } | OriginError::Denied { .. }) => self.first_byte(ask).await,
            Err(OriginError::Unexpected { status, .. }) if status.as_u16() == 405 => {
                self.first_byte(ask).await
            }
            Err(error) => Err(error),
        }
    }

    async fn first_byte(&self, head: Ask<'_>) -> Result<BlobHead, OriginError> {
        let mut ask = Ask { method: Method::GET, ..head };
        ask.headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-0"));
        let response = self.ask(&ask).await?;
        let size = match response.status() {
            StatusCode::PARTIAL_CONTENT => ContentRange::of(response.headers())?.total,
            // Nothing has no first byte.
            StatusCode::RANGE_NOT_SATISFIABLE => Some(0),
            _ => content_length(response.headers()),
        };
        Ok(BlobHead { size })
    }

    /// Reads the bytes of `range`, or all; `size` is the blob's size as the caller knows it.
    ///
    /// Returns when the registry begins to answer. A connection that breaks or stalls on the way is followed by another
    /// that goes on from there, within [`Options::retries`](crate::Options::retries).
    ///
    /// # Errors
    /// [`OriginError`], also as the body's last item.
    pub async fn read_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<ByteRange>,
        size: Option<u64>,
        auth: &Auth,
    ) -> Result<BlobRead, OriginError> {
        if range.is_some_and(ByteRange::is_empty) {
            return Ok(BlobRead { size, ranged: true, body: stream::empty().boxed() });
        }
        let mut reader = Reader::new(self.clone(), repository.clone(), *digest, range, size, auth.clone());
        let ranged = reader.open().await?;
        let size = reader.size();
        let body = stream::try_unfold(reader, |mut reader| async move {
            let chunk = reader.next().await?;
            Ok(chunk.map(|chunk| (chunk, reader)))
        });
        Ok(BlobRead { size, ranged, body: body.boxed() })
    }
}

/// `Content-Range: bytes first-last/total` (RFC 9110, section 14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    pub(crate) range: ByteRange,
    pub(crate) total: Option<u64>,
}

impl ContentRange {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, OriginError> {
        let text = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
        text.and_then(Self::parse)
            .ok_or(OriginError::Malformed("a 206 without a Content-Range that makes sense"))
    }

    fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.trim().split_once('-')?;
        let range = ByteRange::new(first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?)?;
        let total = if total == "*" { None } else { Some(total.parse().ok()?) };
        let fits = !range.is_empty() && total.is_none_or(|total| range.end() <= total);
        fits.then_some(Self { range, total })
    }

    /// The total in the answer to a range that cannot be satisfied: `bytes */total`.
    pub(crate) fn total_of_unsatisfiable(headers: &HeaderMap) -> Option<u64> {
        let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
        text.trim().strip_prefix("bytes */")?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let good =
            |first, end, total| Some(ContentRange { range: ByteRange::new(first, end).unwrap(), total });
        for (text, expected) in [
            ("bytes 0-0/10", good(0, 1, Some(10))),
            ("bytes 5-9/10", good(5, 10, Some(10))),
            ("bytes 5-9/*", good(5, 10, None)),
            ("bytes 5-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("bytes 0-18446744073709551615/*", None),
            ("items 0-0/10", None),
            ("", None),
        ] {
            assert_eq!(ContentRange::parse(text), expected, "{text}");
        }
    }
}
