//! Manifests: small, read whole, and checked against the digest that names them.

use bytes::Bytes;
use types::Digest;

/// The media types that a manifest or an index can have: what is accepted where the digest decides anyway.
pub const MANIFEST_TYPES: [&str; 6] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.artifact.manifest.v1+json",
    "*/*",
];

/// What HEAD says of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// Its digest, if the registry says it.
    pub digest: Option<Digest>,
    /// Its size in bytes, if the registry says it.
    pub size: Option<u64>,
    /// Its media type.
    pub media_type: String,
}

/// A manifest or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of `bytes`, computed here.
    pub digest: Digest,
    /// Its media type, without parameters.
    pub media_type: String,
    /// The content.
    pub bytes: Bytes,
}
