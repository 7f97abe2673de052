//! What the proxy says when it cannot give what was asked: the distribution API's error codes and their statuses.
//!
//! Clients of a mirror read meaning into a status: after 429 or 408 containerd tries six times at once and podman waits
//! ten seconds, after a 404 or 503 both go to the origin. So this program never answers 429 or 408.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use origin::OriginError;
use std::time::Duration;

/// Why a request gets no content.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProxyError {
    /// The origin does not have it.
    #[error("{0} unknown to registry")]
    NotFound(Unknown),
    /// The origin wants another credential, or one at all. Its words are relayed unchanged, so that the client can
    /// get a real token.
    #[error("authentication required")]
    Unauthorized {
        /// The origin's `WWW-Authenticate` lines.
        challenges: Vec<HeaderValue>,
        /// The origin's body, or nothing.
        body: Bytes,
    },
    /// The origin refuses this client.
    #[error("the registry denies access")]
    Denied {
        /// The origin's body, or nothing.
        body: Bytes,
    },
    /// This daemon does not go to that registry: an address, a private name, or not on the allow-list.
    #[error("this mirror does not go to {registry}: {why}")]
    RegistryRefused {
        /// As the client wrote it.
        registry: String,
        /// Which rule.
        why: &'static str,
    },
    /// The origin answered with something that makes no sense, or an error of its own (502).
    #[error("the registry gave a bad answer: {0}")]
    BadGateway(String),
    /// The origin cannot be reached or asks to slow down, or this daemon is full or stopping (503).
    #[error("the registry is unavailable: {why}")]
    Unavailable {
        /// What happened.
        why: String,
        /// When to come again.
        retry_after: Option<Duration>,
    },
    /// The origin did not answer in time (504).
    #[error("the registry did not answer in time")]
    GatewayTimeout,
    /// The request itself is wrong.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// None of the ranges asked for lies in the content.
    #[error("the range lies outside the {size} bytes of the content")]
    Unsatisfiable {
        /// The content's size in bytes.
        size: u64,
    },
    /// Something in this daemon failed: its disk, its own fault.
    #[error("the mirror failed: {0}")]
    Internal(String),
}

/// What the origin does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// A blob.
    #[error("blob")]
    Blob,
    /// A manifest, by tag or digest.
    #[error("manifest")]
    Manifest,
    /// A repository.
    #[error("repository name")]
    Name,
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The path is none of the pull API's.
    #[error("no such endpoint")]
    Endpoint,
    /// Only GET and HEAD are served.
    #[error("this mirror serves pulls only: GET and HEAD")]
    Method,
    /// A digest of the wrong form.
    #[error("malformed digest: {0}")]
    Digest(String),
    /// A tag of the wrong form.
    #[error("malformed tag")]
    Tag,
    /// A repository's name of the wrong form.
    #[error("malformed repository name")]
    Name,
    /// A registry's name of the wrong form, in `ns` or in the path.
    #[error("malformed registry name: {0}")]
    Registry(String),
    /// A `Range` header of the wrong form, or one that asks too much.
    #[error("{0}")]
    Range(String),
    /// A header that must be one line and visible ASCII.
    #[error("malformed {0} header")]
    Header(&'static str),
    /// The path or the query is longer than allowed.
    #[error("the request's address is too long")]
    TooLong,
}

/// Why a body ends before its end. The connection is broken then: a body cut short is never taken for a whole one.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The origin failed, and no peer holds what is missing.
    #[error("the origin failed in mid-blob: {0}")]
    Origin(Box<OriginError>),
    /// The bytes do not have the digest.
    #[error("the blob's bytes do not have its digest")]
    WrongDigest,
    /// The store failed.
    #[error("the store failed in mid-blob: {0}")]
    Store(Box<dyn std::error::Error + Send + Sync>),
    /// Nothing arrived for longer than a client should wait.
    #[error("no progress for {0:?}")]
    Stalled(Duration),
    /// The engine ended the stream before its end, or gave more than asked.
    #[error("the stream gave {got} bytes of {expected}")]
    Length {
        /// Bytes asked for.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

impl From<OriginError> for BodyError {
    fn from(error: OriginError) -> Self {
        Self::Origin(Box::new(error))
    }
}

impl ProxyError {
    /// The status that the client sees.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::Denied { .. } | Self::RegistryRefused { .. } => StatusCode::FORBIDDEN,
            Self::BadGateway(_) => StatusCode::BAD_GATEWAY,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Malformed(malformed) => malformed.status(),
            Self::Unsatisfiable { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The distribution API's code (OCI distribution specification, "Error Codes").
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound(Unknown::Blob) => "BLOB_UNKNOWN",
            Self::NotFound(Unknown::Manifest) => "MANIFEST_UNKNOWN",
            Self::NotFound(Unknown::Name) => "NAME_UNKNOWN",
            Self::Unauthorized { .. } => "UNAUTHORIZED",
            Self::Denied { .. } | Self::RegistryRefused { .. } => "DENIED",
            Self::BadGateway(_) | Self::Unavailable { .. } | Self::GatewayTimeout => "UNAVAILABLE",
            Self::Malformed(malformed) => malformed.code(),
            Self::Unsatisfiable { .. } => "RANGE_INVALID",
            Self::Internal(_) => "UNKNOWN",
        }
    }
}

impl ProxyError {
    /// What a client is told when the origin failed while `what` was asked for.
    #[must_use]
    pub fn from_origin(error: OriginError, what: Unknown) -> Self {
        match error {
            OriginError::Unauthorized { challenges, body } => Self::Unauthorized { challenges, body },
            OriginError::Denied { body, .. } => Self::Denied { body },
            OriginError::NoCredential(_) => Self::Denied { body: Bytes::new() },
            OriginError::NotFound { .. } => Self::NotFound(what),
            // A 429 from here would make clients wait; a 503 sends them to the origin, which speaks for itself.
            OriginError::Throttled { retry_after, .. } => {
                Self::Unavailable { why: "it asks to slow down".to_owned(), retry_after }
            }
            OriginError::Unreachable(_) | OriginError::Tls { .. } | OriginError::Broken { .. } => {
                Self::Unavailable { why: error.to_string(), retry_after: None }
            }
            OriginError::TimedOut | OriginError::Stalled => Self::GatewayTimeout,
            OriginError::ForbiddenAddress { host } => {
                Self::RegistryRefused { registry: host, why: "its address is not public" }
            }
            OriginError::BadCredential { .. } => Self::Internal(error.to_string()),
            OriginError::Server { .. }
            | OriginError::Unexpected { .. }
            | OriginError::TooShort { .. }
            | OriginError::TooLong { .. }
            | OriginError::WrongLength { .. }
            | OriginError::WrongDigest { .. }
            | OriginError::RedirectLoop
            | OriginError::TooLarge { .. }
            | OriginError::Malformed(_) => Self::BadGateway(error.to_string()),
        }
    }
}

impl Malformed {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Endpoint => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Digest(_)
            | Self::Tag
            | Self::Name
            | Self::Registry(_)
            | Self::Range(_)
            | Self::Header(_) => StatusCode::BAD_REQUEST,
            Self::TooLong => StatusCode::URI_TOO_LONG,
        }
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::Endpoint => "NAME_UNKNOWN",
            Self::Method => "UNSUPPORTED",
            Self::Digest(_) => "DIGEST_INVALID",
            Self::Tag => "TAG_INVALID",
            Self::Name | Self::Registry(_) | Self::TooLong => "NAME_INVALID",
            // Not one of the specification's codes, but the one that its reference implementation gives.
            Self::Range(_) => "RANGE_INVALID",
            Self::Header(_) => "UNSUPPORTED",
        }
    }
}
