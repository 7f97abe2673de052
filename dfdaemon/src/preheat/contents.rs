//! What an order is made of, and how a host gets each part of it.
//!
//! Every part passes what a request of a client without a secret passes: the rule on registries, the permission, and for
//! a blob the question who vouches that its repository has it.

use crate::engine::ObtainError;
use crate::proxy::allow::Allowed;
use crate::proxy::{Backend as _, BlobRequest, ClientAuth, ManifestRequest, ProxyError, Want};
use crate::registry::{ClusterRegistry, Opened};
use download_core::Failure;
use futures::future::BoxFuture;
use http::HeaderValue;
use origin::{MANIFEST_TYPES, Reference, Repository};
use proto::PreheatBlob;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use types::{Digest, Priority, Registry};

/// How long a permission or a manifest may take. No client waits for it, so it is more than the proxy has.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How much of a digest is shown, in hexadecimal digits.
const DIGITS_SHOWN: usize = 12;

/// A manifest or a blob of an order.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) repository: Repository,
    pub(super) content: Content,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    Manifest(Digest),
    Blob(PreheatBlob),
}

/// `ghcr.io/org/app@sha256:0123456789ab`
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Content::Manifest(digest) | Content::Blob(PreheatBlob { digest, .. })) = &self.content;
        let (name, encoded) = (digest.algorithm().name(), digest.encoded());
        write!(f, "{}@{name}:{}", self.repository, &encoded[..DIGITS_SHOWN])
    }
}

/// What is here of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// The bytes of its verified pieces.
    pub(super) bytes: u64,
    /// All of it is here and proven.
    pub(super) whole: bool,
}

/// Why a content was not got.
#[derive(Debug, thiserror::Error)]
pub(super) enum GetError {
    /// The registry wants a right that a preheat does not have.
    #[error("{0}: a preheat has no more right than a client without a credential (share_credential)")]
    NoRight(ProxyError),
    /// As a client would be told.
    #[error(transparent)]
    Refused(ProxyError),
    /// The blob would have to be read past the store.
    #[error("this host keeps no blobs of {0}: name it under origin.registries, and not as untrusted")]
    NotBelieved(Registry),
    /// The download failed.
    #[error(transparent)]
    Obtain(#[from] ObtainError),
}

impl From<ProxyError> for GetError {
    fn from(error: ProxyError) -> Self {
        match error {
            ProxyError::Unauthorized { .. } | ProxyError::Denied { .. } => Self::NoRight(error),
            _ => Self::Refused(error),
        }
    }
}

/// How contents come to this host: from the cluster, or in tests as the test has it.
pub(super) trait Contents: Send + Sync {
    /// Has a content here, and ends once it is. Dropping the future is leaving.
    fn get<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<(), GetError>>;

    /// What is here now of every blob.
    fn held(&self) -> BTreeMap<Digest, Held>;
}

/// The cluster, as a client without a secret may use it.
pub(super) struct Cluster {
    pub(super) registry: Arc<ClusterRegistry>,
    /// Which registries clients may name.
    pub(super) allowed: Allowed,
}

impl Cluster {
    async fn obtain(&self, Wanted { repository, content }: &Wanted) -> Result<(), GetError> {
        self.allowed.check(&repository.registry)?;
        // Without a scheduler each host would ask the registry what one can ask for all.
        self.registry.engine.is_led().await;
        match content {
            Content::Manifest(digest) => self.manifest(repository, digest).await,
            Content::Blob(blob) => self.blob(repository, blob).await,
        }
    }

    /// To ask for a manifest is to keep it.
    async fn manifest(&self, repository: &Repository, digest: &Digest) -> Result<(), GetError> {
        let request = ManifestRequest {
            repository: repository.clone(),
            reference: Reference::Digest(*digest),
            accept: MANIFEST_TYPES.map(HeaderValue::from_static).to_vec(),
            auth: ClientAuth::None,
            want: Want::Head,
        };
        in_time(self.registry.manifest(request)).await?;
        Ok(())
    }

    async fn blob(&self, repository: &Repository, blob: &PreheatBlob) -> Result<(), GetError> {
        let PreheatBlob { digest, size } = *blob;
        let request = BlobRequest { repository: repository.clone(), digest, auth: ClientAuth::None };
        // Boxed: it is large.
        let opened = in_time(Box::pin(self.registry.open_blob(request, Some(size)))).await;
        let Opened { open, permit } = opened?;
        if permit.vouched_by.is_none() {
            return Err(GetError::NotBelieved(repository.registry.clone()));
        }
        let obtained = self.registry.engine.obtain(&open, Priority::Preheat).await;
        if let Err(ObtainError::Download(failure)) = &obtained
            && *failure != Failure::Store
        {
            // It is the origin's: the next one who asks has it asked anew.
            self.registry.answers.doubt(repository, &digest);
        }
        obtained?;
        Ok(())
    }
}

impl Contents for Cluster {
    fn get<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<(), GetError>> {
        Box::pin(self.obtain(wanted))
    }

    /// From the store's list: to open each blob would cost more, and count as its use.
    fn held(&self) -> BTreeMap<Digest, Held> {
        let held = |blob: store::Summary| {
            (blob.digest, Held { bytes: blob.bytes, whole: blob.closed && blob.pieces.is_full() })
        };
        self.registry.store.list().into_iter().map(held).collect()
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, ProxyError>>) -> Result<T, ProxyError> {
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.unwrap_or(Err(ProxyError::GatewayTimeout))
}
