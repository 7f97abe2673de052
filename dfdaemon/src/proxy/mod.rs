//! The registry proxy: what container runtimes pull through.
//!
//! `server` accepts connections, `route` reads what is asked, `handler` asks the [`Backend`] and writes the answer,
//! `body` streams it, `range` and `multipart` give the parts that were asked for.

mod backend;
mod error;

pub use backend::{
    Backend, BlobHandle, BlobRequest, ClientAuth, ForwardKind, ForwardRequest, Manifest, ManifestRequest,
    Want,
};
pub use error::{BodyError, Malformed, ProxyError, Unknown};
