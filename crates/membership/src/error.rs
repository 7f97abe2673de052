//! What can go wrong with keys and tokens.

use std::io;
use std::path::PathBuf;

/// The authority's key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A key file cannot be read or written.
    #[error("key file {}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A key file holds something else.
    #[error("key file {} holds no {what}", path.display())]
    Form {
        /// Where.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be set up with what was made.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// A text that does not name an authority. It is not quoted: somebody may have put a secret there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an authority, which has the form dfauth1.HASH, with 43 characters of base64url as its hash")]
pub struct AuthorityHashError;

/// Bytes that are no service account's token. They are never quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a service account's token: {0}")]
pub struct ServiceAccountTokenError(pub(crate) &'static str);

/// A text that is no join token. It is never quoted: most of it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a join token, which has the form dfjoin1.HASH.SECRET: {0}")]
pub struct TokenError(pub(crate) &'static str);
