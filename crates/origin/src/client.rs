//! The way in: what can be asked of an origin.

use crate::{
    Auth, BlobHead, BlobRead, Manifest, ManifestHead, Options, OptionsError, OriginError, Reference,
    Repository,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use prometheus_client::registry::Registry as MetricsRegistry;
use types::{ByteRange, Digest, Registry};

/// A client for every origin. Clones share connections, tokens and metrics.
#[derive(Clone, Debug)]
pub struct Origin {}

const UNFINISHED: OriginError = OriginError::Malformed("unfinished");

#[allow(clippy::unused_async, unused_variables, reason = "signatures first")]
impl Origin {
    /// Reads certificates and credentials and sets up the clients. Needs a rustls provider to be installed.
    ///
    /// # Errors
    /// [`OptionsError`].
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        options.validate()?;
        Ok(Self {})
    }

    /// Adds this client's metrics to `registry`.
    pub fn register_metrics(&self, registry: &mut MetricsRegistry) {}

    /// Whether the configuration has a credential for `repository`.
    #[must_use]
    pub fn has_credential(&self, repository: &Repository) -> bool {
        false
    }

    /// Whether clients without a credential may have what the configured one reads from `registry`.
    #[must_use]
    pub fn shares_credential(&self, registry: &Registry) -> bool {
        false
    }

    /// Asks for a manifest's digest, size and type.
    ///
    /// # Errors
    /// [`OriginError`].
    pub async fn head_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        accept: &[HeaderValue],
        auth: &Auth,
    ) -> Result<ManifestHead, OriginError> {
        Err(UNFINISHED)
    }

    /// Reads a manifest and checks it against the digest in `reference` or in the registry's header.
    ///
    /// # Errors
    /// [`OriginError`].
    pub async fn get_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        accept: &[HeaderValue],
        auth: &Auth,
    ) -> Result<Manifest, OriginError> {
        Err(UNFINISHED)
    }

    /// Asks whether a blob is there for `auth`, and how large it is.
    ///
    /// # Errors
    /// [`OriginError`].
    pub async fn head_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        auth: &Auth,
    ) -> Result<BlobHead, OriginError> {
        Err(UNFINISHED)
    }

    /// Reads the bytes of `range`, or all; `size` is the blob's size as the caller knows it.
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
        Err(UNFINISHED)
    }

    /// Passes a GET or HEAD for something else of a repository on: `tail` is what follows `/v2/NAME/`
    /// (`tags/list?n=100`, `referrers/sha256:…`), `headers` are sent as they are. The answer's body is bounded.
    ///
    /// # Errors
    /// [`OriginError`].
    pub async fn forward(
        &self,
        method: Method,
        repository: &Repository,
        tail: &str,
        headers: &HeaderMap,
        auth: &Auth,
    ) -> Result<http::Response<Bytes>, OriginError> {
        Err(UNFINISHED)
    }

    /// GET `/v2/`: `Ok` if the registry lets `auth` in, [`OriginError::Unauthorized`] with its challenges if it does not.
    /// No token is fetched for [`Auth::Anonymous`], so that a client gets the challenge that it needs.
    ///
    /// # Errors
    /// [`OriginError`].
    pub async fn ping(&self, registry: &Registry, auth: &Auth) -> Result<(), OriginError> {
        Err(UNFINISHED)
    }
}
