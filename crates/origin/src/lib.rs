//! A client for OCI registries as origins.
//!
//! The daemon reads manifests and blobs through it, the scheduler asks it for tags and permissions. It knows what real
//! registries do: bearer and basic challenges, redirects to object stores, Range and its absence, connections that
//! break. It has no cache of contents and no opinion on who may have what: [`Resolver`] has, for what can be shared
//! by a whole cluster.
//!
//! [`Origin`] is the way in. The way of a request: `origin` (what to ask) → `send` (retries) → `authorize` (challenges,
//! `token`) → `redirect` (hops, `address`) → reqwest.

mod blob;
mod client;
mod error;
mod manifest;
mod names;
mod options;
mod resolver;
mod secret;

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
