//! The registry proxy: what container runtimes pull through.
//!
//! `server` accepts connections, `handler` takes a request, `route` reads what is asked, the [`Backend`] finds it,
//! `respond` writes the answer with `range` and `multipart`, `body` streams it, `access` and `audit` tell of it.

mod access;
pub mod allow;
mod audit;
mod backend;
mod body;
mod connections;
mod error;
mod handler;
mod metrics;
mod multipart;
pub mod range;
mod respond;
pub mod route;
mod server;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "test contents are small")]
mod tests;

pub use audit::Audit;
pub use backend::{
    Backend, BlobHandle, BlobRequest, ClientAuth, ForwardKind, ForwardRequest, Manifest, ManifestRequest,
    Want,
};
pub use error::{BodyError, Malformed, ProxyError, Unknown};
pub use metrics::Metrics;
pub use server::{HEAD_LEN_MAX, HEADERS_MAX, Options, Server};
