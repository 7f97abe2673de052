//! What belongs to an image: asked of its origin by the scheduler's own right, for the platforms that are needed.
//!
//! All that is read comes from outside and is bounded: how many documents, how long, how deep, how much they name.

use super::document::{Document, Unfit, read};
use super::error::{Cause, PreheatError};
use super::platform::{OFFERED_MAX, Platform};
use http::HeaderValue;
use origin::{ImageName, MANIFEST_TYPES, OriginError, Reference, Repository, Resolver};
use proto::{PREHEAT_CONTENTS_MAX, PreheatBlob};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use types::Digest;

/// How long all images of a preheat together may take: as long as hosts wait for an answer of an origin.
pub(crate) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(60);

/// Preheats whose images are resolved at the same time, and how many images of each. What one waits for another is not
/// its registries' time.
pub(crate) const TURNS: usize = 4;
pub(crate) const IMAGES_AT_ONCE: usize = 2;

/// The most manifests and indexes that are read for one image.
pub(super) const DOCUMENTS_MAX: usize = 256;

/// The most bytes that these have together.
pub(super) const DOCUMENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The most blobs that the manifests of one image name together, each counted as often as it is named.
pub(super) const BLOBS_NAMED_MAX: usize = 2 * PREHEAT_CONTENTS_MAX;

/// An index may have indexes, and these have manifests alone.
const INDEX_DEPTH_MAX: usize = 2;

/// The longest name of an image, in bytes: registry, repository, tag and digest at their longest.
const NAME_BYTES_MAX: usize = 1024;

/// An image as an operator names it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    text: String,
    name: ImageName,
}

impl Asked {
    /// # Errors
    /// [`PreheatError::Senseless`] if the text names no image.
    pub(crate) fn parse(text: &str) -> Result<Self, PreheatError> {
        if text.len() > NAME_BYTES_MAX {
            let why = format!("an image's name has at most {NAME_BYTES_MAX} bytes");
            return Err(PreheatError::Senseless(why));
        }
        let senseless = |error: origin::NameError| PreheatError::Senseless(format!("{text:?}: {error}"));
        Ok(Self { text: text.to_owned(), name: text.parse().map_err(senseless)? })
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether this is another name for the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Which platforms' manifests are needed.
#[derive(Clone, Debug)]
pub(crate) enum Needed {
    /// Of all that there are.
    All,
    /// Of these.
    These(BTreeSet<Platform>),
}

impl Needed {
    /// Whether a manifest is needed that is for this platform; one that is for who knows which is.
    pub(crate) fn takes(&self, offered: Option<&Platform>) -> bool {
        match (self, offered) {
            (Self::All, _) | (_, None) => true,
            (Self::These(needed), Some(offered)) => needed.iter().any(|platform| platform.accepts(offered)),
        }
    }
}

/// An image, and what of it was needed.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// As it was asked for.
    pub(crate) asked: String,
    pub(crate) repository: Repository,
    /// Of the index or manifest that the name stands for.
    pub(crate) digest: Digest,
    pub(crate) parts: Vec<Part>,
    /// The platforms that its indexes have, needed or not; some of them, if there are very many.
    pub(crate) offered: BTreeSet<Platform>,
}

/// A manifest, with what leads to it and what it leads to.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Nothing if no index says it.
    pub(crate) platform: Option<Platform>,
    /// The indexes that lead to it, and the manifest itself, last.
    pub(crate) manifests: Vec<Digest>,
    pub(crate) blobs: Vec<PreheatBlob>,
}

/// Why it cannot be found out what belongs to an image.
#[derive(Debug, thiserror::Error)]
enum ResolveError {
    #[error("{0}{hint}", hint = what_to_do(.0))]
    Origin(#[from] OriginError),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("it has indexes in indexes, more than {INDEX_DEPTH_MAX} deep")]
    Deep,
    #[error("its index leads to more than {DOCUMENTS_MAX} manifests: name fewer platforms")]
    TooMany,
    #[error("its indexes and manifests have more than {DOCUMENT_BYTES_MAX} bytes: name fewer platforms")]
    TooLong,
    #[error(
        "its manifests name more than {BLOBS_NAMED_MAX} blobs, each counted as often as it is named: \
         name fewer platforms"
    )]
    TooOften,
}

impl ResolveError {
    fn cause(&self) -> Cause {
        match self {
            Self::Origin(error) if error.is_outage() || error.is_retryable() => Cause::Outage,
            _ => Cause::Refusal,
        }
    }
}

fn what_to_do(error: &OriginError) -> &'static str {
    match error {
        OriginError::Unauthorized { .. } | OriginError::Denied { .. } => {
            "; the scheduler has no more right than a client without a credential, unless its \
             configuration has one with `share_credential`"
        }
        _ => "",
    }
}

/// Finds out what belongs to an image, when it is its turn and until `deadline`. Cancel safe.
///
/// # Errors
/// [`PreheatError::Unresolved`].
pub(crate) async fn resolve(
    resolver: &Resolver,
    turns: &Semaphore,
    asked: Asked,
    needed: &Needed,
    deadline: Instant,
) -> Result<Image, PreheatError> {
    let image = asked.text.clone();
    let walking = async {
        // It is never closed.
        let _turn = turns.acquire().await;
        walk(resolver, asked, needed).await
    };
    let (why, cause) = match tokio::time::timeout_at(deadline, Box::pin(walking)).await {
        Ok(Ok(image)) => return Ok(image),
        Ok(Err(error)) => (error.to_string(), error.cause()),
        Err(_) => ("the registry takes too long".to_owned(), Cause::Outage),
    };
    Err(PreheatError::unresolved(image, &why, cause))
}

/// A manifest or index that is to be read, and what is known of it.
struct Lead {
    reference: Reference,
    platform: Option<Platform>,
    /// The indexes that lead to it.
    indexes: Vec<Digest>,
}

/// Follows the indexes to the manifests.
async fn walk(resolver: &Resolver, asked: Asked, needed: &Needed) -> Result<Image, ResolveError> {
    let Asked { text, name: ImageName { repository, reference } } = asked;
    let accept: Vec<HeaderValue> = MANIFEST_TYPES.into_iter().map(HeaderValue::from_static).collect();
    let (mut top, mut documents, mut bytes, mut named) = (None, 0, 0, 0);
    let (mut parts, mut offered, mut contents) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut leads = VecDeque::from([Lead { reference, platform: None, indexes: Vec::new() }]);
    while let Some(Lead { reference, platform, indexes }) = leads.pop_front() {
        let resolved = Box::pin(resolver.resolve(&repository, &reference, &accept)).await?;
        let manifest = &resolved.manifest;
        top = top.or(Some(manifest.digest));
        documents += 1;
        bytes += manifest.bytes.len();
        if bytes > DOCUMENT_BYTES_MAX {
            return Err(ResolveError::TooLong);
        }
        let manifests = [&indexes[..], &[manifest.digest]].concat();
        match read(&manifest.media_type, &manifest.bytes)? {
            Document::Index(_) if indexes.len() == INDEX_DEPTH_MAX => return Err(ResolveError::Deep),
            Document::Index(entries) => {
                for entry in entries {
                    let platform = entry.platform.or_else(|| platform.clone());
                    if offered.len() < OFFERED_MAX {
                        offered.extend(platform.clone());
                    }
                    if !needed.takes(platform.as_ref()) {
                        continue;
                    }
                    if documents + leads.len() >= DOCUMENTS_MAX {
                        return Err(ResolveError::TooMany);
                    }
                    let (reference, indexes) = (Reference::Digest(entry.digest), manifests.clone());
                    leads.push_back(Lead { reference, platform, indexes });
                }
            }
            Document::Manifest(blobs) => {
                named += blobs.len();
                if named > BLOBS_NAMED_MAX {
                    return Err(ResolveError::TooOften);
                }
                contents.extend(manifests.iter().copied().chain(blobs.iter().map(|blob| blob.digest)));
                if contents.len() > PREHEAT_CONTENTS_MAX {
                    return Err(Unfit::TooMuch.into());
                }
                parts.push(Part { platform, manifests, blobs });
            }
        }
    }
    let digest = top.ok_or(Unfit::NoImage)?;
    Ok(Image { asked: text, repository, digest, parts, offered })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn what_may_be_there_a_little_later_is_told_from_a_no() {
        let (challenges, status) = (Vec::new(), StatusCode::FORBIDDEN);
        let refusals: [ResolveError; 6] = [
            OriginError::NotFound { body: Default::default() }.into(),
            OriginError::Unauthorized { challenges, body: Default::default() }.into(),
            OriginError::Denied { status, body: Default::default() }.into(),
            OriginError::TooLarge { limit: 1 }.into(),
            Unfit::Schema1.into(),
            ResolveError::Deep,
        ];
        let outages = [
            OriginError::TimedOut,
            OriginError::Unreachable("refused".into()),
            OriginError::Throttled { retry_after: None, body: Default::default() },
            OriginError::Server { status: StatusCode::NOT_IMPLEMENTED },
            OriginError::TooShort { expected: 2, got: 1 },
        ];
        let refusals = refusals.into_iter().map(|error| (error, Cause::Refusal));
        let outages = outages.into_iter().map(|error| (ResolveError::Origin(error), Cause::Outage));
        for (error, cause) in refusals.chain(outages) {
            assert_eq!(error.cause(), cause, "{error}");
        }
    }
}
