//! Manifests: small, read whole, and checked against the digest that names them.

use crate::client::Origin;
use crate::metrics::Kind;
use crate::send::{Ask, content_length};
use crate::{Auth, OriginError, Reference, Repository};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use sha2::Digest as _;
use types::{Algorithm, Digest};

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

/// The header with a manifest's digest.
const DIGEST_HEADER: &str = "docker-content-digest";

/// The longest media type that is believed, in bytes.
const MEDIA_TYPE_LEN_MAX: usize = 255;

impl Origin {
    /// Asks for a manifest's digest, size and type. Docker Hub does not ration this.
    ///
    /// # Errors
    /// [`OriginError`].
    pub async fn head_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        accept: &[HeaderValue],
        auth: &Auth,
    ) -> Result<ManifestHead, OriginError> {
        let tail = format!("manifests/{reference}");
        let ask = Ask::new(Method::HEAD, repository, &tail, auth, Kind::ManifestHead).accept(accept);
        let response = match self.ask_whole(&ask, 0).await {
            // Not every registry has HEAD.
            Err(OriginError::Unexpected { status, .. }) if status.as_u16() == 405 => {
                let manifest = self.get_manifest(repository, reference, accept, auth).await?;
                let (digest, size) = (Some(manifest.digest), Some(manifest.bytes.len() as u64));
                return Ok(ManifestHead { digest, size, media_type: manifest.media_type });
            }
            result => result?,
        };
        let digest = stated_digest(response.headers());
        if let (Some(expected), Some(got)) = (reference.digest().copied(), digest)
            && expected.algorithm() == got.algorithm()
            && expected != got
        {
            return Err(OriginError::WrongDigest { expected: expected.into(), got: got.into() });
        }
        let size = content_length(response.headers());
        let media_type = content_type(response.headers()).unwrap_or_default();
        Ok(ManifestHead { digest: reference.digest().copied().or(digest), size, media_type })
    }

    /// Reads a manifest and checks it against the digest in `reference` or, for a tag, in the registry's header.
    ///
    /// # Errors
    /// [`OriginError`].
    pub async fn get_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        accept: &[HeaderValue],
        auth: &Auth,
    ) -> Result<Manifest, OriginError> {
        let tail = format!("manifests/{reference}");
        let ask = Ask::new(Method::GET, repository, &tail, auth, Kind::Manifest).accept(accept);
        let response = self.ask_whole(&ask, self.options().manifest_len_max).await?;
        let (parts, bytes) = response.into_parts();
        let stated = reference.digest().copied().or_else(|| stated_digest(&parts.headers));
        let digest = match stated {
            Some(expected) if expected.matches(&bytes) => expected,
            Some(expected) => {
                let got = digest_of(expected.algorithm(), &bytes);
                return Err(OriginError::WrongDigest { expected: expected.into(), got: got.into() });
            }
            None => Digest::sha256(&bytes),
        };
        let media_type = content_type(&parts.headers).unwrap_or_else(|| inner_type(&bytes));
        Ok(Manifest { digest, media_type, bytes })
    }
}

fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::sha256(bytes),
        Algorithm::Sha512 => Digest::new(algorithm, &sha2::Sha512::digest(bytes))
            .unwrap_or_else(|_| unreachable!("a SHA-512 has the length of a SHA-512 digest")),
    }
}

/// The digest in the registry's header, if it is one that is understood.
pub(crate) fn stated_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(DIGEST_HEADER)?.to_str().ok()?.trim().parse().ok()
}

/// The `Content-Type` without its parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = text.split(';').next()?.trim();
    (!essence.is_empty() && essence.len() <= MEDIA_TYPE_LEN_MAX).then(|| essence.to_ascii_lowercase())
}

/// The media type that a manifest says of itself, or that its form shows where it says nothing.
pub(crate) fn inner_type(bytes: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Inner {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let inner: Inner = serde_json::from_slice(bytes).unwrap_or_default();
    // It becomes a header of ours, so it must be good for one.
    let printable = |text: &String| text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    let stated = inner
        .media_type
        .filter(|text| !text.is_empty() && text.len() <= MEDIA_TYPE_LEN_MAX && printable(text));
    stated.unwrap_or_else(|| MANIFEST_TYPES[usize::from(inner.manifests.is_none())].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_says_its_own_type_if_a_header_can_carry_it() {
        let [index, manifest, ..] = MANIFEST_TYPES;
        for (content, expected) in [
            (r#"{"mediaType":"text/plain"}"#, "text/plain"),
            (r#"{"manifests":[]}"#, index),
            (r#"{"layers":[]}"#, manifest),
            (r#"{"mediaType":""}"#, manifest),
            (r#"{"mediaType":"text/\u007fplain"}"#, manifest),
            (r#"{"mediaType":"text/plain\r\nx: y","manifests":[]}"#, index),
            ("no JSON", manifest),
        ] {
            assert_eq!(inner_type(content.as_bytes()), expected, "{content}");
        }
    }
}
