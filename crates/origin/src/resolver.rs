//! What a whole cluster asks an origin once: tags, manifests, and whether content is for anybody.
//!
//! The scheduler answers its daemons from here; a daemon without a scheduler has one of its own.

use crate::{Auth, Manifest, Origin, OriginError, Reference, Repository};
use http::HeaderValue;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use types::{Credential, Digest};

/// How long answers are good for.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResolverOptions {
    /// How long a tag's digest is answered without asking the origin again: a push is seen within this time.
    /// Default 30 s.
    #[serde(with = "humantime_serde")]
    pub tag_lifetime: Duration,
    /// How long a permission is answered without asking the origin again. Default 5 min.
    #[serde(with = "humantime_serde")]
    pub access_lifetime: Duration,
    /// How long an answer that has lapsed is still given while the origin is out of reach. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// How many bytes of manifests are kept. Default 64 MiB.
    pub manifest_bytes_max: u64,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self {
            tag_lifetime: Duration::from_secs(30),
            access_lifetime: Duration::from_secs(300),
            grace: Duration::from_secs(3600),
            manifest_bytes_max: 64 << 20,
        }
    }
}

/// With which right, other than a client's own, content can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Anybody may.
    Anonymous,
    /// The configured credential may, and it is shared with clients that have none.
    Configured,
}

impl Access {
    /// As the origin is asked with it.
    #[must_use]
    pub const fn auth(self) -> Auth {
        match self {
            Self::Anonymous => Auth::Anonymous,
            Self::Configured => Auth::Configured,
        }
    }

    /// As the scheduler is told of it.
    #[must_use]
    pub const fn credential(self) -> Credential {
        match self {
            Self::Anonymous => Credential::Anonymous,
            Self::Configured => Credential::Configured,
        }
    }
}

/// A manifest, and with which right it was read.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The content.
    pub manifest: Arc<Manifest>,
    /// The right.
    pub access: Access,
}

/// A blob that is there, and with which right it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobAccess {
    /// The right.
    pub access: Access,
    /// Its size in bytes, if the registry says it.
    pub size: Option<u64>,
}

/// Cached answers of origins, each asked for once however many ask. Clones share the cache.
#[derive(Clone, Debug)]
pub struct Resolver {
    origin: Origin,
}

const UNFINISHED: OriginError = OriginError::Malformed("unfinished");

#[allow(clippy::unused_async, unused_variables, reason = "signatures first")]
impl Resolver {
    /// Answers for the origins that `origin` reaches.
    #[must_use]
    pub fn new(origin: Origin, options: ResolverOptions) -> Self {
        Self { origin }
    }

    /// The client that asks.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The manifest of `reference`: anonymously, or else with the configured credential where that is shared.
    ///
    /// # Errors
    /// [`OriginError`]; a refusal to an anonymous request carries the origin's challenges.
    pub async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
        accept: &[HeaderValue],
    ) -> Result<Resolved, OriginError> {
        Err(UNFINISHED)
    }

    /// Whether, and with which right, the origin gives this blob from this repository.
    ///
    /// # Errors
    /// [`OriginError`]; a refusal to an anonymous request carries the origin's challenges.
    pub async fn access(&self, repository: &Repository, digest: &Digest) -> Result<BlobAccess, OriginError> {
        Err(UNFINISHED)
    }

    /// Forgets what `reference` was and asks the origin now.
    ///
    /// # Errors
    /// [`OriginError`].
    pub async fn refresh(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Resolved, OriginError> {
        Err(UNFINISHED)
    }
}
