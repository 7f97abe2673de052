//! The questions beside the stream: what a tag stands for, who may read a blob, what is going on.
//!
//! An origin's no is an answer here and no error of the call: it goes back to the client that asked.

use crate::words::{bounded, digest_in, digest_out, required};
use crate::{ConvertError, wire};
use bytes::Bytes;
use std::time::Duration;
use types::{Digest, Registry};

/// The longest repository name, tag or digest, in bytes (OCI distribution specification: 255 for a name).
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// The most Accept headers of a question.
const ACCEPT_MAX: usize = 32;

/// The longest Accept header, in bytes.
const ACCEPT_BYTES_MAX: usize = 1024;

/// The longest media type, in bytes.
const MEDIA_TYPE_BYTES_MAX: usize = 255;

/// The longest manifest, in bytes (OCI distribution specification: registries should allow at least 4 MiB).
pub const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The most challenges of a refusal.
const CHALLENGES_MAX: usize = 16;

/// The longest challenge, in bytes.
const CHALLENGE_BYTES_MAX: usize = 8 * 1024;

/// The longest body of a refusal, in bytes; more is cut off on the way out.
const REFUSAL_BODY_BYTES_MAX: usize = 64 * 1024;

/// The longest explanation of a refusal, in bytes; more is cut off on the way out.
const REFUSAL_MESSAGE_BYTES_MAX: usize = 1024;

/// Which of the scheduler's own rights an origin accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// None is needed.
    Anonymous,
    /// The configured one.
    Configured,
}

impl CredentialKind {
    fn out(self) -> i32 {
        match self {
            Self::Anonymous => wire::CredentialKind::Anonymous,
            Self::Configured => wire::CredentialKind::Configured,
        }
        .into()
    }

    fn parse(value: i32) -> Result<Self, ConvertError> {
        match wire::CredentialKind::try_from(value) {
            Ok(wire::CredentialKind::Anonymous) => Ok(Self::Anonymous),
            Ok(wire::CredentialKind::Configured) => Ok(Self::Configured),
            _ => Err(ConvertError::Variant { field: "credential kind", value }),
        }
    }
}

/// The origin's no, or that of the way to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginRefusal {
    /// The HTTP status that the origin gave; 502 if its answer made no sense, 503 if there was none, 504 if it took too
    /// long.
    pub status: u16,
    /// The WWW-Authenticate headers, unchanged.
    pub challenges: Vec<String>,
    /// The body, at most 64 KiB of it.
    pub body: Bytes,
    /// How long to wait before the next question, whole seconds; zero if the origin said nothing of it.
    pub retry_after: Duration,
    /// What went wrong, for people; at most 1,024 bytes of it.
    pub message: String,
}

impl OriginRefusal {
    fn out(self) -> wire::OriginRefusal {
        let mut message = self.message;
        message.truncate(message.floor_char_boundary(REFUSAL_MESSAGE_BYTES_MAX));
        let fits = |challenge: &String| challenge.len() <= CHALLENGE_BYTES_MAX;
        wire::OriginRefusal {
            status: self.status.into(),
            challenges: self.challenges.into_iter().filter(fits).take(CHALLENGES_MAX).collect(),
            body: self.body.slice(..self.body.len().min(REFUSAL_BODY_BYTES_MAX)),
            retry_after_seconds: self.retry_after.as_secs(),
            message,
        }
    }

    fn parse(refusal: wire::OriginRefusal) -> Result<Self, ConvertError> {
        bounded("challenges", refusal.challenges.len(), CHALLENGES_MAX)?;
        for challenge in &refusal.challenges {
            bounded("challenge", challenge.len(), CHALLENGE_BYTES_MAX)?;
        }
        bounded("body", refusal.body.len(), REFUSAL_BODY_BYTES_MAX)?;
        bounded("message", refusal.message.len(), REFUSAL_MESSAGE_BYTES_MAX)?;
        let value = u64::from(refusal.status);
        let status = u16::try_from(refusal.status).ok().filter(|s| (100..=999).contains(s));
        Ok(Self {
            status: status.ok_or(ConvertError::TooLarge { field: "status", value, max: 999 })?,
            challenges: refusal.challenges,
            body: refusal.body,
            retry_after: Duration::from_secs(refusal.retry_after_seconds),
            message: refusal.message,
        })
    }
}

/// What does a tag or digest stand for?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveRequest {
    /// The origin.
    pub registry: Registry,
    /// The repository's name; what makes one is for the reader to check.
    pub repository: String,
    /// A tag or a digest; likewise.
    pub reference: String,
    /// The client's Accept headers.
    pub accept: Vec<String>,
}

impl From<ResolveRequest> for wire::ResolveRequest {
    fn from(request: ResolveRequest) -> Self {
        Self {
            registry: request.registry.as_str().to_owned(),
            repository: request.repository,
            reference: request.reference,
            accept: request.accept,
        }
    }
}

impl TryFrom<wire::ResolveRequest> for ResolveRequest {
    type Error = ConvertError;

    fn try_from(request: wire::ResolveRequest) -> Result<Self, ConvertError> {
        bounded("repository", request.repository.len(), NAME_BYTES_MAX)?;
        bounded("reference", request.reference.len(), NAME_BYTES_MAX)?;
        bounded("accept", request.accept.len(), ACCEPT_MAX)?;
        for accept in &request.accept {
            bounded("accept header", accept.len(), ACCEPT_BYTES_MAX)?;
        }
        Ok(Self {
            registry: Registry::parse(&request.registry)?,
            repository: request.repository,
            reference: request.reference,
            accept: request.accept,
        })
    }
}

/// What a tag or digest stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The manifest's digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes, at most 4 MiB.
    pub content: Bytes,
    /// With which right it was read.
    pub credential: CredentialKind,
    /// Whether the answer's lifetime is over, and the origin out of reach.
    pub lapsed: bool,
}

impl From<Result<Manifest, OriginRefusal>> for wire::ResolveResponse {
    fn from(answer: Result<Manifest, OriginRefusal>) -> Self {
        use wire::resolve_response::Answer;
        let answer = match answer {
            Ok(manifest) => Answer::Manifest(wire::Manifest {
                digest: Some(digest_out(&manifest.digest)),
                media_type: manifest.media_type,
                content: manifest.content,
                credential: manifest.credential.out(),
                lapsed: manifest.lapsed,
            }),
            Err(refusal) => Answer::Refusal(refusal.out()),
        };
        Self { answer: Some(answer) }
    }
}

impl TryFrom<wire::ResolveResponse> for Result<Manifest, OriginRefusal> {
    type Error = ConvertError;

    fn try_from(response: wire::ResolveResponse) -> Result<Self, ConvertError> {
        use wire::resolve_response::Answer;
        let manifest = match required("answer", response.answer)? {
            Answer::Manifest(manifest) => manifest,
            Answer::Refusal(refusal) => return Ok(Err(OriginRefusal::parse(refusal)?)),
        };
        bounded("media type", manifest.media_type.len(), MEDIA_TYPE_BYTES_MAX)?;
        bounded("manifest", manifest.content.len(), MANIFEST_BYTES_MAX)?;
        Ok(Ok(Manifest {
            digest: digest_in(manifest.digest)?,
            media_type: manifest.media_type,
            content: manifest.content,
            credential: CredentialKind::parse(manifest.credential)?,
            lapsed: manifest.lapsed,
        }))
    }
}

/// May anyone, or the configured credential, read this blob?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRequest {
    /// The origin.
    pub registry: Registry,
    /// The repository's name; what makes one is for the reader to check.
    pub repository: String,
    /// The blob.
    pub digest: Digest,
}

impl From<AccessRequest> for wire::AccessRequest {
    fn from(request: AccessRequest) -> Self {
        Self {
            registry: request.registry.as_str().to_owned(),
            repository: request.repository,
            digest: Some(digest_out(&request.digest)),
        }
    }
}

impl TryFrom<wire::AccessRequest> for AccessRequest {
    type Error = ConvertError;

    fn try_from(request: wire::AccessRequest) -> Result<Self, ConvertError> {
        bounded("repository", request.repository.len(), NAME_BYTES_MAX)?;
        Ok(Self {
            registry: Registry::parse(&request.registry)?,
            repository: request.repository,
            digest: digest_in(request.digest)?,
        })
    }
}

/// Who may read a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// With which right.
    pub credential: CredentialKind,
    /// The blob's size in bytes, where it is known.
    pub size: Option<u64>,
    /// Whether the answer's lifetime is over, and the origin out of reach.
    pub lapsed: bool,
}

impl From<Result<Access, OriginRefusal>> for wire::AccessResponse {
    fn from(answer: Result<Access, OriginRefusal>) -> Self {
        use wire::access_response::Answer;
        let answer = match answer {
            Ok(access) => Answer::Access(wire::Access {
                credential: access.credential.out(),
                size: access.size,
                lapsed: access.lapsed,
            }),
            Err(refusal) => Answer::Refusal(refusal.out()),
        };
        Self { answer: Some(answer) }
    }
}

impl TryFrom<wire::AccessResponse> for Result<Access, OriginRefusal> {
    type Error = ConvertError;

    fn try_from(response: wire::AccessResponse) -> Result<Self, ConvertError> {
        use wire::access_response::Answer;
        Ok(match required("answer", response.answer)? {
            Answer::Access(access) => Ok(Access {
                credential: CredentialKind::parse(access.credential)?,
                size: access.size,
                lapsed: access.lapsed,
            }),
            Answer::Refusal(refusal) => Err(OriginRefusal::parse(refusal)?),
        })
    }
}

/// Ask the origin again what this tag stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshRequest {
    /// The origin.
    pub registry: Registry,
    /// The repository's name; what makes one is for the reader to check.
    pub repository: String,
    /// A tag; likewise.
    pub reference: String,
}

impl From<RefreshRequest> for wire::RefreshRequest {
    fn from(request: RefreshRequest) -> Self {
        Self {
            registry: request.registry.as_str().to_owned(),
            repository: request.repository,
            reference: request.reference,
        }
    }
}

impl TryFrom<wire::RefreshRequest> for RefreshRequest {
    type Error = ConvertError;

    fn try_from(request: wire::RefreshRequest) -> Result<Self, ConvertError> {
        bounded("repository", request.repository.len(), NAME_BYTES_MAX)?;
        bounded("reference", request.reference.len(), NAME_BYTES_MAX)?;
        Ok(Self {
            registry: Registry::parse(&request.registry)?,
            repository: request.repository,
            reference: request.reference,
        })
    }
}

impl From<Result<Digest, OriginRefusal>> for wire::RefreshResponse {
    fn from(answer: Result<Digest, OriginRefusal>) -> Self {
        use wire::refresh_response::Answer;
        let answer = match answer {
            Ok(digest) => Answer::Digest(digest_out(&digest)),
            Err(refusal) => Answer::Refusal(refusal.out()),
        };
        Self { answer: Some(answer) }
    }
}

impl TryFrom<wire::RefreshResponse> for Result<Digest, OriginRefusal> {
    type Error = ConvertError;

    fn try_from(response: wire::RefreshResponse) -> Result<Self, ConvertError> {
        use wire::refresh_response::Answer;
        Ok(match required("answer", response.answer)? {
            Answer::Digest(digest) => Ok(digest_in(Some(digest))?),
            Answer::Refusal(refusal) => Err(OriginRefusal::parse(refusal)?),
        })
    }
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
