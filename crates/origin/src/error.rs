//! What can go wrong with an origin: whose fault it is, whether to ask again, what becomes of a lease.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use types::{Digest, LeaseFailure, Registry};

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The client asked for what is not there, or what it may not have.
    Client,
    /// The origin answered, and wrongly, or that it cannot.
    Origin,
    /// There was no answer.
    Network,
    /// The configuration, or this program.
    Us,
}

/// The cause of a connection's failure, without the URL, which may carry a signature.
#[derive(Clone, Debug)]
pub struct Cause(Arc<str>);

impl Cause {
    /// The texts of `error` and of what caused it, each once.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut texts: Vec<String> = Vec::new();
        let mut next = Some(error);
        while let Some(error) = next.filter(|_| texts.len() < Self::DEPTH_MAX) {
            let text: String = error.to_string().chars().take(Self::TEXT_MAX).collect();
            if texts.last().is_none_or(|last| !last.contains(&text)) {
                texts.push(text);
            }
            next = error.source();
        }
        Self(texts.join(": ").into())
    }

    /// How many causes of causes are named.
    const DEPTH_MAX: usize = 8;
    /// How much of each is shown, in characters.
    const TEXT_MAX: usize = 200;
}

impl From<&str> for Cause {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the origin did not give what it was asked for.
///
/// Bodies are what the origin said, at most [`OriginError::BODY_LEN_MAX`] bytes of it, to be shown to the client.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OriginError {
    /// 401 from the registry, or an anonymous token did not suffice.
    #[error("the registry asks for a credential")]
    Unauthorized {
        /// The origin's `WWW-Authenticate` headers, unchanged and in order.
        challenges: Vec<HeaderValue>,
        /// What it said.
        body: Bytes,
    },
    /// [`crate::Auth::Configured`], and the configuration has none for this repository.
    #[error("no credential is configured for {0}")]
    NoCredential(Registry),
    /// A configured credential cannot be used: its file cannot be read, or its text has a character that cannot be sent.
    #[error("the credential for {registry} cannot be used: {why}")]
    BadCredential {
        /// For which registry.
        registry: Registry,
        /// What is wrong with it.
        why: Cause,
    },
    /// 403, or a refusal by an object store.
    #[error("the registry refuses with status {status}")]
    Denied {
        /// As it came.
        status: StatusCode,
        /// What it said.
        body: Bytes,
    },
    /// 404.
    #[error("the registry does not have it")]
    NotFound {
        /// What it said.
        body: Bytes,
    },
    /// 429, after the retries.
    #[error("the registry asks to slow down")]
    Throttled {
        /// For how long, if it said so.
        retry_after: Option<Duration>,
        /// What it said.
        body: Bytes,
    },
    /// 5xx, after the retries.
    #[error("the registry fails with status {status}")]
    Server {
        /// As it came.
        status: StatusCode,
    },
    /// Any other status that is no success.
    #[error("the registry answers with status {status}")]
    Unexpected {
        /// As it came.
        status: StatusCode,
        /// What it said.
        body: Bytes,
    },
    /// No connection, or it broke before the answer.
    #[error("no connection to the registry: {0}")]
    Unreachable(Cause),
    /// The connection is not secure: a certificate that is not trusted, has expired, or is another host's.
    #[error("no secure connection to {host}, for the registry {registry}: {why}")]
    Tls {
        /// Which was asked.
        registry: Registry,
        /// The registry's host, or that of a redirect or a realm.
        host: String,
        /// What is wrong.
        why: Cause,
    },
    /// No answer in time.
    #[error("the registry does not answer")]
    TimedOut,
    /// No byte for too long in the midst of a body.
    #[error("the registry stopped sending")]
    Stalled,
    /// The connection broke in the midst of a body, and so did those that were to go on from there.
    #[error("the connection broke at byte {got}: {cause}")]
    Broken {
        /// How many of the bytes came.
        got: u64,
        /// Why.
        cause: Cause,
    },
    /// The body ended in order, but before the content's end.
    #[error("the registry sent {got} of {expected} bytes")]
    TooShort {
        /// Bytes that should have come.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
    /// The body went on after the content's end.
    #[error("the registry sent more than {expected} bytes")]
    TooLong {
        /// Bytes that should have come.
        expected: u64,
    },
    /// The origin announces another size than the content should have.
    #[error("the registry announces {got} bytes instead of {expected}")]
    WrongLength {
        /// Bytes there should be.
        expected: u64,
        /// Bytes there are by its headers.
        got: u64,
    },
    /// The content does not have its digest.
    #[error("the registry sent content with digest {got} instead of {expected}")]
    WrongDigest {
        /// What was asked for, or what its header says.
        expected: Box<Digest>,
        /// What came.
        got: Box<Digest>,
    },
    /// More redirects than [`OriginError::REDIRECTS_MAX`].
    #[error("the registry redirects in a circle")]
    RedirectLoop,
    /// A redirect or a realm that leads to an address where no registry of this name has its place.
    #[error("{host} is an address that is not allowed")]
    ForbiddenAddress {
        /// The host, without the rest of the URL.
        host: String,
    },
    /// A manifest, list or token larger than allowed.
    #[error("the registry's answer has more than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// An answer that makes no sense.
    #[error("the registry's answer is malformed: {0}")]
    Malformed(&'static str),
}

impl OriginError {
    /// How much of an origin's error body is kept, in bytes.
    pub const BODY_LEN_MAX: usize = 16 * 1024;
    /// How many redirects are followed for one request.
    pub const REDIRECTS_MAX: usize = 10;

    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Unauthorized { .. } | Self::Denied { .. } | Self::NotFound { .. } => Fault::Client,
            Self::NoCredential(_) | Self::BadCredential { .. } => Fault::Us,
            Self::Unreachable(_)
            | Self::Tls { .. }
            | Self::TimedOut
            | Self::Stalled
            | Self::Broken { .. } => Fault::Network,
            Self::Throttled { .. }
            | Self::Server { .. }
            | Self::Unexpected { .. }
            | Self::TooShort { .. }
            | Self::TooLong { .. }
            | Self::WrongLength { .. }
            | Self::WrongDigest { .. }
            | Self::RedirectLoop
            | Self::ForbiddenAddress { .. }
            | Self::TooLarge { .. }
            | Self::Malformed(_) => Fault::Origin,
        }
    }

    /// Whether the same request may succeed a little later. The client has retried already when the caller sees it.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Server { status } => matches!(status.as_u16(), 500 | 502 | 503 | 504),
            Self::Throttled { .. }
            | Self::Unreachable(_)
            | Self::TimedOut
            | Self::Stalled
            | Self::Broken { .. }
            | Self::TooShort { .. } => true,
            _ => false,
        }
    }

    /// Whether the origin has said no: not that it failed, not that it was out of reach.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Unauthorized { .. } | Self::Denied { .. } | Self::NotFound { .. })
    }

    /// Whether the origin is out of reach or does not work: what was permitted before may go on for a while.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Server { .. } => true,
            _ => matches!(self.fault(), Fault::Network),
        }
    }

    /// What the holder of an origin lease says when it gives it back for this reason.
    #[must_use]
    pub const fn lease_failure(&self) -> LeaseFailure {
        match self {
            Self::Unauthorized { .. }
            | Self::NoCredential(_)
            | Self::BadCredential { .. }
            | Self::ForbiddenAddress { .. }
            | Self::Denied { .. } => LeaseFailure::Refused,
            Self::NotFound { .. } => LeaseFailure::NotFound,
            Self::Throttled { .. } | Self::Server { .. } => LeaseFailure::Throttled,
            Self::Unreachable(_)
            | Self::Tls { .. }
            | Self::TimedOut
            | Self::Stalled
            | Self::Broken { .. } => LeaseFailure::Unreachable,
            Self::Unexpected { .. }
            | Self::TooShort { .. }
            | Self::TooLong { .. }
            | Self::WrongLength { .. }
            | Self::WrongDigest { .. }
            | Self::RedirectLoop
            | Self::TooLarge { .. }
            | Self::Malformed(_) => LeaseFailure::Wrong,
        }
    }
}
