//! What a whole cluster asks an origin once: tags, manifests, and whether content is for anybody.
//!
//! The scheduler answers its daemons from here; a daemon without a scheduler has one of its own. Nothing of a client's own
//! credential passes through: whoever needs one asks the origin with it.

use crate::manifest::MANIFEST_TYPES;
use crate::memo::{Lapses, Lifetimes, Memo};
use crate::{Auth, BlobHead, Manifest, OptionsError, Origin, OriginError, Reference, Repository, TagName};
use http::HeaderValue;
use moka::policy::EvictionPolicy;
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use types::{Credential, Digest, Registry};

/// How many tags, manifests and blobs are remembered, each.
const ANSWERS_MAX: u64 = 65_536;

/// How long a refusal is repeated without asking: what is pushed or permitted meanwhile is seen after this time.
const REFUSAL_LIFETIME: Duration = Duration::from_secs(2);

/// How long the origin is waited for when there is a lapsed answer to give instead: the patience of a reader.
const STALE_PATIENCE: Duration = Duration::from_secs(3);

/// How long answers are good for.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResolverOptions {
    /// How long a tag's digest is answered without asking the origin again: a push is seen within this time.
    /// Default 30 s, at most 30 days.
    #[serde(with = "humantime_serde")]
    pub tag_lifetime: Duration,
    /// How long a permission is answered without asking the origin again. Default 5 min, at most 30 days.
    #[serde(with = "humantime_serde")]
    pub access_lifetime: Duration,
    /// How long an answer that has lapsed is still given while the origin is out of reach. Default 1 h, at most 30 days.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// How many bytes of manifests are kept. Default 64 MiB.
    pub manifest_bytes_max: u64,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self {
            tag_lifetime: Duration::from_secs(30),
            access_lifetime: Duration::from_secs(300),
            grace: Duration::from_secs(3600),
            manifest_bytes_max: 64 << 20,
        }
    }
}

impl ResolverOptions {
    /// The longest lifetime or grace: no answer is worth more, and caches count no millennia.
    const LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

    /// Checks the times.
    ///
    /// # Errors
    /// The first that is too long.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let times = [
            ("tag_lifetime", self.tag_lifetime),
            ("access_lifetime", self.access_lifetime),
            ("grace", self.grace),
        ];
        match times.into_iter().find(|(_, time)| *time > Self::LIFETIME_MAX) {
            Some((key, _)) => Err(OptionsError::Limits { key, limits: "at most 30 days" }),
            None => Ok(()),
        }
    }
}

/// With which right, other than a client's own, content can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Anybody may.
    Anonymous,
    /// The configured credential may, and it is shared with clients that have none.
    Configured,
}

impl Access {
    /// As the origin is asked with it.
    #[must_use]
    pub const fn auth(self) -> Auth {
        match self {
            Self::Anonymous => Auth::Anonymous,
            Self::Configured => Auth::Configured,
        }
    }

    /// As the scheduler is told of it.
    #[must_use]
    pub const fn credential(self) -> Credential {
        match self {
            Self::Anonymous => Credential::Anonymous,
            Self::Configured => Credential::Configured,
        }
    }
}

/// A manifest, and with which right it was read.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The content.
    pub manifest: Arc<Manifest>,
    /// The right.
    pub access: Access,
    /// Whether its lifetime is over, and the origin out of reach.
    pub lapsed: bool,
}

/// A blob that is there, and with which right it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobAccess {
    /// The right.
    pub access: Access,
    /// Its size in bytes, if the registry says it.
    pub size: Option<u64>,
    /// Whether its lifetime is over, and the origin out of reach.
    pub lapsed: bool,
}

/// An answer of the origin, with the time that it is good for.
#[derive(Clone, Debug)]
struct Answer<T> {
    value: T,
    access: Access,
    lifetime: Duration,
    lapsed: bool,
}

impl<T: Clone> Lapses for Answer<T> {
    fn lifetime(&self) -> Duration {
        self.lifetime
    }

    fn lapsed(self) -> Self {
        Self { lapsed: true, ..self }
    }
}

/// A tag as it is asked for: what a client accepts decides which manifest a registry answers with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TagKey {
    repository: Repository,
    tag: TagName,
    /// The hash of the media types.
    accept: Digest,
}

impl TagKey {
    fn new(repository: &Repository, tag: &TagName, accept: &[HeaderValue]) -> Self {
        let accept = Digest::sha256(&canonical_accept(accept));
        Self { repository: repository.clone(), tag: tag.clone(), accept }
    }
}

/// Cached answers of origins, each asked for once however many ask. Clones share the cache.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    origin: Origin,
    options: ResolverOptions,
    tags: Memo<TagKey, Answer<Digest>>,
    /// Which repositories gave a manifest: the permission, and that it is theirs.
    manifests: Memo<(Repository, Digest), Answer<()>>,
    blobs: Memo<(Repository, Digest), Answer<BlobHead>>,
    /// The right that last worked.
    rights: moka::sync::Cache<Repository, Access>,
    /// The contents of manifests. What one registry gave is not another's to give: it would only have to say that it has
    /// it too.
    contents: moka::sync::Cache<(Registry, Digest), Arc<Manifest>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl Resolver {
    /// Answers for the origins that `origin` reaches.
    #[must_use]
    pub fn new(origin: Origin, options: ResolverOptions) -> Self {
        let lifetimes =
            Lifetimes { failure: REFUSAL_LIFETIME, grace: options.grace, patience: STALE_PATIENCE };
        let weigh = |_: &(Registry, Digest), manifest: &Arc<Manifest>| {
            u32::try_from(manifest.bytes.len()).unwrap_or(u32::MAX)
        };
        let contents = moka::sync::Cache::builder()
            .max_capacity(options.manifest_bytes_max)
            .weigher(weigh)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let shared = Shared {
            origin,
            tags: Memo::new(ANSWERS_MAX, lifetimes),
            manifests: Memo::new(ANSWERS_MAX, lifetimes),
            blobs: Memo::new(ANSWERS_MAX, lifetimes),
            rights: moka::sync::Cache::new(ANSWERS_MAX),
            contents,
            options,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The client that asks.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.shared.origin
    }

    /// The manifest of `reference`: anonymously, or else with the configured credential where that is shared.
    ///
    /// # Errors
    /// [`OriginError`]; a refusal to an anonymous request carries the origin's challenges.
    pub async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
        accept: &[HeaderValue],
    ) -> Result<Resolved, OriginError> {
        let tag = match reference {
            Reference::Digest(digest) => return self.manifest(repository, digest).await,
            Reference::Tag(tag) => tag,
        };
        let Answer { value: digest, lapsed, .. } = self.tag(repository, tag, accept).await?;
        match self.manifest(repository, &digest).await {
            Ok(resolved) => Ok(Resolved { lapsed: resolved.lapsed || lapsed, ..resolved }),
            Err(OriginError::NotFound { body }) => {
                // The tag has moved, and what it named is gone.
                self.shared
                    .tags
                    .forget(&TagKey::new(repository, tag, accept), |known| known.value == digest)
                    .await;
                let moved = self.tag(repository, tag, accept).await?.value;
                if moved == digest {
                    return Err(OriginError::NotFound { body });
                }
                self.manifest(repository, &moved).await
            }
            failed => failed,
        }
    }

    /// Whether, and with which right, the origin gives this blob from this repository.
    ///
    /// # Errors
    /// [`OriginError`]; a refusal to an anonymous request carries the origin's challenges.
    pub async fn access(&self, repository: &Repository, digest: &Digest) -> Result<BlobAccess, OriginError> {
        let key = (repository.clone(), *digest);
        let ask = async {
            let mut refusal = None;
            for access in self.rights(repository) {
                match self.shared.origin.head_blob(repository, digest, &access.auth()).await {
                    Ok(head) => {
                        return Ok(self.good(repository, access, head, self.shared.options.access_lifetime));
                    }
                    Err(error) => keep(&mut refusal, error)?,
                }
            }
            Err(none_works(refusal))
        };
        let Answer { value, access, lapsed, .. } = self.shared.blobs.get(&key, ask).await?;
        Ok(BlobAccess { access, size: value.size, lapsed })
    }

    /// Forgets whether the origin gives this blob, and how large it was said to be: the next question goes to the origin.
    pub async fn forget_access(&self, repository: &Repository, digest: &Digest) {
        self.shared.blobs.forget(&(repository.clone(), *digest), |_| true).await;
    }

    /// Forgets what origins said of this repository, or of all: every next question goes to the origin.
    pub fn forget(&self, of: Option<&Repository>) {
        let shared = &self.shared;
        let meant = |repository: &Repository| of.is_none_or(|of| of == repository);
        shared.tags.forget_all(|key| meant(&key.repository));
        shared.manifests.forget_all(|(repository, _)| meant(repository));
        shared.blobs.forget_all(|(repository, _)| meant(repository));
        for (repository, _) in &shared.rights {
            if meant(&repository) {
                shared.rights.invalidate(&*repository);
            }
        }
    }

    /// Forgets what `reference` was and asks the origin now.
    ///
    /// # Errors
    /// [`OriginError`].
    pub async fn refresh(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Resolved, OriginError> {
        match reference {
            Reference::Tag(tag) => {
                for key in self.shared.tags.keys() {
                    if key.repository == *repository && key.tag == *tag {
                        self.shared.tags.forget(&key, |_| true).await;
                    }
                }
            }
            Reference::Digest(digest) => {
                self.shared.manifests.forget(&(repository.clone(), *digest), |_| true).await;
            }
        }
        self.resolve(repository, reference, &all_types()).await
    }

    /// The digest that a tag names now. HEAD, which Docker Hub does not ration.
    async fn tag(
        &self,
        repository: &Repository,
        tag: &TagName,
        accept: &[HeaderValue],
    ) -> Result<Answer<Digest>, OriginError> {
        let key = TagKey::new(repository, tag, accept);
        let ask = async {
            let reference = Reference::Tag(tag.clone());
            let mut refusal = None;
            for access in self.rights(repository) {
                match self.ask_tag(repository, &reference, accept, access).await {
                    Ok(digest) => {
                        return Ok(self.good(repository, access, digest, self.shared.options.tag_lifetime));
                    }
                    Err(error) => keep(&mut refusal, error)?,
                }
            }
            Err(none_works(refusal))
        };
        self.shared.tags.get(&key, ask).await
    }

    async fn ask_tag(
        &self,
        repository: &Repository,
        reference: &Reference,
        accept: &[HeaderValue],
        access: Access,
    ) -> Result<Digest, OriginError> {
        let (origin, auth) = (&self.shared.origin, access.auth());
        if let Some(digest) = origin.head_manifest(repository, reference, accept, &auth).await?.digest {
            return Ok(digest);
        }
        let manifest = Arc::new(origin.get_manifest(repository, reference, accept, &auth).await?);
        let key = (repository.registry.clone(), manifest.digest);
        self.shared.contents.insert(key, Arc::clone(&manifest));
        Ok(manifest.digest)
    }

    /// A manifest by its digest. What is kept already is given to a repository only after the origin has confirmed that it
    /// is there.
    async fn manifest(&self, repository: &Repository, digest: &Digest) -> Result<Resolved, OriginError> {
        let key = (repository.clone(), *digest);
        let ask = async {
            let mut refusal = None;
            for access in self.rights(repository) {
                match self.ask_manifest(repository, digest, access).await {
                    Ok(_) => {
                        return Ok(self.good(repository, access, (), self.shared.options.access_lifetime));
                    }
                    Err(error) => keep(&mut refusal, error)?,
                }
            }
            Err(none_works(refusal))
        };
        let Answer { access, lapsed, .. } = self.shared.manifests.get(&key, ask).await?;
        let manifest = match self.shared.contents.get(&(repository.registry.clone(), *digest)) {
            Some(manifest) => manifest,
            // Others have pushed it out meanwhile.
            None => self.ask_manifest(repository, digest, access).await?,
        };
        Ok(Resolved { manifest, access, lapsed })
    }

    async fn ask_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        access: Access,
    ) -> Result<Arc<Manifest>, OriginError> {
        let (origin, auth, reference) = (&self.shared.origin, access.auth(), Reference::Digest(*digest));
        let key = (repository.registry.clone(), *digest);
        if let Some(kept) = self.shared.contents.get(&key) {
            origin.head_manifest(repository, &reference, &all_types(), &auth).await?;
            return Ok(kept);
        }
        let manifest = Arc::new(origin.get_manifest(repository, &reference, &all_types(), &auth).await?);
        self.shared.contents.insert(key, Arc::clone(&manifest));
        Ok(manifest)
    }

    /// The rights to try, in order: the one that worked last, or anybody's and then the configured one if it is shared.
    fn rights(&self, repository: &Repository) -> Vec<Access> {
        match (self.shared.origin.shares_credential(repository), self.shared.rights.get(repository)) {
            (false, _) => vec![Access::Anonymous],
            (true, Some(Access::Configured)) => vec![Access::Configured, Access::Anonymous],
            (true, _) => vec![Access::Anonymous, Access::Configured],
        }
    }

    fn good<T>(&self, repository: &Repository, access: Access, value: T, lifetime: Duration) -> Answer<T> {
        if self.shared.rights.get(repository) != Some(access) {
            self.shared.rights.insert(repository.clone(), access);
        }
        Answer { value, access, lifetime, lapsed: false }
    }
}

/// Keeps a refusal while the next right is tried; any other error ends the matter. A refusal with a challenge, which lets
/// the client come with a credential of its own, is worth more than one without.
fn keep(kept: &mut Option<OriginError>, error: OriginError) -> Result<(), OriginError> {
    if !error.is_refusal() {
        return Err(error);
    }
    if kept.is_none() || matches!(error, OriginError::Unauthorized { .. }) {
        *kept = Some(error);
    }
    Ok(())
}

fn none_works(refusal: Option<OriginError>) -> OriginError {
    refusal.unwrap_or(OriginError::Malformed("no right to try"))
}

/// For what has a digest: its content is what it is, whatever a client accepts.
fn all_types() -> Vec<HeaderValue> {
    MANIFEST_TYPES.into_iter().map(HeaderValue::from_static).collect()
}

/// The media types of all lines, in order and each once.
fn canonical_accept(accept: &[HeaderValue]) -> Vec<u8> {
    let mut types: Vec<&[u8]> = accept
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .collect();
    types.sort_unstable();
    types.dedup();
    types.join(&b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_in_one_line_or_many() {
        let line = |text| HeaderValue::from_static(text);
        let many = [line("b/b"), line("a/a;q=0.5"), line("b/b")];
        assert_eq!(canonical_accept(&many), canonical_accept(&[line("a/a;q=0.5, b/b")]));
        assert_ne!(canonical_accept(&many), canonical_accept(&[]));
    }
}
