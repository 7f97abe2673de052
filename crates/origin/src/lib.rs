//! A client for OCI registries as origins.
//!
//! The daemon reads manifests and blobs through it, the scheduler asks it for tags and permissions. It knows what real
//! registries do: bearer and basic challenges, redirects to object stores, Range and its absence, connections that
//! break. It has no cache of contents and no opinion on who may have what: [`Resolver`] has, for what can be shared
//! by a whole cluster.
//!
//! [`Origin`] is the way in. The way of a request: `manifest`, `blob` or `forward` (what to ask) → `send` (retries, what a
//! status means) → `authorize` (challenges and `token`s) → `redirect` (hops, each checked by `address`) → reqwest.

mod address;
mod authorize;
mod blob;
mod body;
mod challenge;
mod client;
mod credentials;
mod endpoint;
mod error;
mod forward;
#[doc(hidden)]
pub mod fuzz;
mod manifest;
mod memo;
mod metrics;
mod names;
mod options;
mod redirect;
mod resolver;
mod secret;
mod send;
mod token;

pub use blob::{BlobBody, BlobHead, BlobRead};
pub use client::Origin;
pub use error::{Cause, Fault, OriginError};
pub use manifest::{MANIFEST_TYPES, Manifest, ManifestHead};
pub use names::{
    DOCKER_HUB, ImageName, NameError, Reference, Repository, RepositoryName, TagName, canonical,
};
pub use options::{CredentialOptions, Options, OptionsError, RegistryOptions};
pub use resolver::{Access, BlobAccess, Resolved, Resolver, ResolverOptions};
pub use secret::{Auth, Secret};
