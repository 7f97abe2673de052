//! What the proxy asks of the rest of the daemon: the boundary between HTTP and the download engine.
//!
//! The proxy knows the distribution API, ranges and headers; whoever implements [`Backend`] knows permissions, the
//! scheduler, peers and the store. `app` implements it; the proxy's tests have one in memory.

use super::error::{BodyError, ProxyError};
use crate::traffic::Tally;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue, Response};
use origin::{Reference, Repository, Secret};
use process::audit::Permit;
use std::sync::Arc;
use types::{ByteRange, Digest, Registry};

/// With which right the client asks.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// It sent no `Authorization`.
    None,
    /// The value of its `Authorization` header, as it came.
    Header(Secret),
}

/// Whether a manifest's bytes are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Only what a HEAD answers.
    Head,
    /// The bytes too.
    Body,
}

/// A question for a manifest.
#[derive(Clone, Debug)]
pub struct ManifestRequest {
    /// Where.
    pub repository: Repository,
    /// Which: a tag or a digest.
    pub reference: Reference,
    /// Every `Accept` line of the client, in order; at most as many as the header limits allow.
    pub accept: Vec<HeaderValue>,
    /// With which right.
    pub auth: ClientAuth,
    /// Whether the bytes are needed.
    pub want: Want,
}

/// A manifest, or what is known of it.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its digest, which is also its entity tag.
    pub digest: Digest,
    /// Its `Content-Type`, as the origin said.
    pub media_type: HeaderValue,
    /// Its length in bytes.
    pub size: u64,
    /// Its bytes, verified; always there if [`Want::Body`] was asked for, and then `size` long.
    pub bytes: Option<Bytes>,
    /// Why the client may have it.
    pub permit: Permit,
}

/// A question for a blob.
#[derive(Clone, Debug)]
pub struct BlobRequest {
    /// Where.
    pub repository: Repository,
    /// Which.
    pub digest: Digest,
    /// With which right.
    pub auth: ClientAuth,
}

/// What is passed on to the origin and back, rarely asked and never large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardKind {
    /// `/v2/NAME/tags/list`.
    TagsList,
    /// `/v2/NAME/referrers/DIGEST`.
    Referrers(Digest),
}

/// A question for the origin alone.
#[derive(Clone, Debug)]
pub struct ForwardRequest {
    /// Where.
    pub repository: Repository,
    /// What.
    pub kind: ForwardKind,
    /// Whether the body is needed, or only the headers.
    pub want: Want,
    /// The query without its `ns` (`n=10&last=x`), or nothing. At most [`super::route::QUERY_LEN_MAX`] bytes.
    pub query: Option<String>,
    /// The client's `Accept` lines.
    pub accept: Vec<HeaderValue>,
    /// With which right.
    pub auth: ClientAuth,
}

/// A blob that the client may read.
///
/// The download goes on while the handle or a stream of it lives; when all are dropped the client has left.
pub trait BlobHandle: Send + Sync {
    /// The blob's size in bytes.
    fn size(&self) -> u64;

    /// Why the client may have it.
    fn permit(&self) -> Permit;

    /// Where the bytes that its streams have given came from.
    fn tally(&self) -> Arc<Tally>;

    /// The bytes of `range`, which lies within the blob, in order, as they are verified.
    ///
    /// The stream yields exactly `range.len()` bytes or ends with one error. A stream that reaches the blob's end gives
    /// its last byte only when the blob's chain is closed: this is what makes a complete body a right one.
    /// Chunks should be large (64 KiB to 1 MiB). Nothing is read ahead beyond the engine's own window while the
    /// stream is not polled.
    fn read(&self, range: ByteRange) -> BoxStream<'static, Result<Bytes, BodyError>>;
}

/// The rest of the daemon, as the proxy sees it. Every future may be dropped at any time: the client has left.
pub trait Backend: Send + Sync + 'static {
    /// Finds a manifest and checks the client's permission.
    fn manifest(&self, request: ManifestRequest) -> BoxFuture<'_, Result<Manifest, ProxyError>>;

    /// Checks the client's permission for a blob and learns its size; the download starts with the first read, so
    /// that a HEAD costs nothing.
    fn blob(&self, request: BlobRequest) -> BoxFuture<'_, Result<Box<dyn BlobHandle>, ProxyError>>;

    /// Asks the origin; the answer's status is a success, its headers are passed on as far as the proxy knows them.
    fn forward(&self, request: ForwardRequest) -> BoxFuture<'_, Result<Response<Bytes>, ProxyError>>;

    /// Whether the registry would answer this client's `GET /v2/` with 200, or what it says instead (usually
    /// [`ProxyError::Unauthorized`] with its challenges). Without a registry: whether the daemon is there.
    fn ping(&self, registry: Option<Registry>, auth: ClientAuth) -> BoxFuture<'_, Result<(), ProxyError>>;
}

/// The `Accept` lines of a request, all of them: podman sends six, and a registry that sees one answers 404.
pub(super) fn accept_lines(headers: &HeaderMap) -> Vec<HeaderValue> {
    headers.get_all(http::header::ACCEPT).iter().cloned().collect()
}
