//! What the origin would answer to a client: which manifest a reference stands for, and whether the client may have a
//! blob.
//!
//! For clients without a secret of their own the scheduler asks once for the whole cluster; without a scheduler, or
//! where only one of the two has a credential configured, this daemon asks. For a client's own token this daemon always
//! asks itself, and remembers a keyed hash of the token for a short time. While the origin is out of reach, what was
//! permitted stays permitted for the grace.

mod asking;
mod refused;

pub(crate) use asking::Asking;

use crate::lasting::Lasting;
use crate::link::{Link, NoAnswer};
use crate::proxy::{ProxyError, Unknown};
use crate::trust::Trust;
use bytes::Bytes;
use futures::TryFutureExt as _;
use http::HeaderValue;
use moka::sync::Cache;
use origin::{Auth, OriginError, Reference, Repository, Resolver, Secret};
use process::audit::PermittedBy;
use proto::{Access, CredentialKind, OriginRefusal};
use refused::Refused;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::Store;
use types::{Digest, Registry};

/// How long a client's own token is taken to be good without asking again.
const CLIENT_ANSWER_LIFETIME: Duration = Duration::from_secs(60);

/// Answers kept, of each kind.
const ANSWERS_MAX: u64 = 16_384;

/// How long the origin is waited for when there is an earlier answer to give instead: the patience of a reader.
const EARLIER_PATIENCE: Duration = Duration::from_secs(3);

/// How long an origin that was out of reach is taken to be so where there is an earlier answer: a pull asks many
/// questions, and is to wait for one of them only.
const AWAY_FOR: Duration = Duration::from_secs(10);

/// Origins that are remembered to be out of reach.
const AWAY_MAX: u64 = 1024;

/// How long a pull that comes right after the start waits for the first attempt to reach the scheduler.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// A manifest, and whose right it is to have it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) by: PermittedBy,
    /// Nobody could be asked now.
    pub(crate) remembered: bool,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

/// A permission to read a blob.
#[derive(Clone, Debug)]
pub(crate) struct Permission {
    pub(crate) auth: Auth,
    /// The blob's size in bytes, where the origin said it.
    pub(crate) size: Option<u64>,
    /// The origin itself confirmed it just now or within the answer's lifetime, not the grace.
    pub(crate) confirmed: bool,
    /// Whose right it is.
    pub(crate) by: PermittedBy,
    /// Nobody was asked now.
    pub(crate) remembered: bool,
}

impl Permission {
    /// For a client without a secret.
    fn common(Access { credential, size, lapsed }: Access) -> Self {
        let auth = auth_of(credential);
        Self { auth, size, confirmed: true, by: by(credential, lapsed), remembered: false }
    }

    /// For a client with its own token.
    const fn own(auth: Auth, size: Option<u64>) -> Self {
        Self { auth, size, confirmed: true, by: PermittedBy::Client, remembered: false }
    }

    fn remembered(self) -> Self {
        Self { remembered: true, ..self }
    }
}

/// What the origin says now, or what it said before it was out of reach.
enum Known<T, E> {
    Now(T),
    Earlier(E),
}

/// A client's token with what it asked for, hashed under a key of this process.
type TokenKey = [u8; 32];

/// Where answers come from.
#[derive(Debug)]
pub(crate) struct Answers {
    link: Link,
    resolver: Resolver,
    store: Store,
    lasting: Arc<Lasting>,
    trust: Trust,
    /// Permissions that need no client's secret.
    common: Cache<(String, Digest), Access>,
    /// Permissions of clients' own tokens, with the blob's size.
    own: Cache<TokenKey, Option<u64>>,
    /// Blobs whose bytes were not what their origin had said of them: the next one who asks has it asked anew.
    doubted: Cache<(String, Digest), ()>,
    /// Origins that were out of reach a moment ago.
    away: Cache<Registry, ()>,
    /// So that a dump of the cache tells nothing about tokens.
    token_salt: [u8; 32],
    /// How often answers were forgotten: one that was asked for before that is not kept.
    forgotten: AtomicU64,
}

impl Answers {
    pub(crate) fn new(
        link: Link,
        resolver: Resolver,
        store: Store,
        lasting: Arc<Lasting>,
        trust: Trust,
        access_lifetime: Duration,
    ) -> Self {
        Self {
            link,
            resolver,
            store,
            lasting,
            trust,
            doubted: Cache::builder().max_capacity(ANSWERS_MAX).time_to_live(access_lifetime).build(),
            common: Cache::builder().max_capacity(ANSWERS_MAX).time_to_live(access_lifetime).build(),
            own: Cache::builder().max_capacity(ANSWERS_MAX).time_to_live(CLIENT_ANSWER_LIFETIME).build(),
            away: Cache::builder().max_capacity(AWAY_MAX).time_to_live(AWAY_FOR).build(),
            token_salt: std::array::from_fn(|_| fastrand::u8(..)),
            forgotten: AtomicU64::new(0),
        }
    }

    /// The manifest that `reference` stands for, for a client without a secret.
    pub(crate) async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        accept: &[HeaderValue],
    ) -> Result<Answer, ProxyError> {
        let earlier = match self.lasting.was_open(repository) {
            true => {
                let digest = self.lasting.tag(repository, reference);
                self.stored(digest.as_ref(), PermittedBy::Grace).await
            }
            false => None,
        };
        let asked = self.forgotten.load(Ordering::SeqCst);
        let question = self.ask_manifest(repository, reference, accept);
        match Box::pin(self.bridged(repository, earlier, question)).await {
            Ok(Known::Now(answer)) => {
                self.keep(&answer).await;
                if answer.by != PermittedBy::Grace {
                    self.lasting.confirm(repository, reference, &answer.digest);
                    if self.forgot_since(asked) {
                        self.lasting.forget(Some(repository));
                    }
                }
                Ok(answer)
            }
            Ok(Known::Earlier(answer)) => Ok(Answer { remembered: true, ..answer }),
            Err(refused) => Err(self.denied(repository, refused)),
        }
    }

    /// The answer to `question`, or `earlier` where there is one and the origin is out of reach.
    async fn bridged<T, E>(
        &self,
        repository: &Repository,
        earlier: Option<E>,
        question: impl Future<Output = Result<T, Refused>>,
    ) -> Result<Known<T, E>, Refused> {
        let registry = &repository.registry;
        let earlier = match earlier {
            Some(earlier) if self.away.contains_key(registry) => return Ok(Known::Earlier(earlier)),
            earlier => earlier,
        };
        let asking = Asking::permission(repository);
        let question = asking.within(question);
        let Some(earlier) = earlier else {
            let answer = question.await;
            asking.answered(Refused::of(&answer));
            return answer.map(Known::Now);
        };
        let answer = tokio::time::timeout(EARLIER_PATIENCE, question).await;
        if let Ok(answer) = answer
            && answer.as_ref().err().is_none_or(|refused| !refused.unreachable)
        {
            asking.answered(Refused::of(&answer));
            return answer.map(Known::Now);
        }
        asking.earlier();
        tracing::info!(%registry, again_in = ?AWAY_FOR, "the origin is out of reach, going by its earlier answers");
        self.away.insert(registry.clone(), ());
        Ok(Known::Earlier(earlier))
    }

    /// Whether this host's clients without a secret get what the scheduler was answered. What it may read by a
    /// configured credential is only for hosts that share one too; where it is refused, such a host's own may be good.
    fn speaks_for_us(&self, repository: &Repository, answer: Result<CredentialKind, &OriginRefusal>) -> bool {
        let shares = || self.resolver.origin().shares_credential(repository);
        match answer {
            Ok(CredentialKind::Anonymous) => true,
            Ok(CredentialKind::Configured) => shares(),
            Err(refusal) => !matches!(refusal.status, 401 | 403 | 404) || !shares(),
        }
    }

    async fn ask_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        accept: &[HeaderValue],
    ) -> Result<Answer, Refused> {
        self.link.settled(START_PATIENCE).await;
        match self.link.resolve(repository, reference, accept).await {
            Ok(answer) if !self.speaks_for_us(repository, answer.as_ref().map(|m| m.credential)) => {}
            Ok(Ok(manifest)) => {
                let answer = Answer {
                    by: by(manifest.credential, manifest.lapsed),
                    remembered: false,
                    digest: manifest.digest,
                    media_type: manifest.media_type,
                    bytes: manifest.content,
                };
                // Nobody's word is believed for what a digest stands for.
                if answer.digest.matches(&answer.bytes) {
                    return Ok(answer);
                }
                tracing::error!(digest = %answer.digest, "the scheduler sent a manifest with another digest");
            }
            Ok(Err(refusal)) => return Err(Refused::by_origin(refusal, Unknown::Manifest)),
            Err(error) => without_scheduler(&error),
        }
        let resolved = self.resolver.resolve(repository, reference, accept).await;
        let resolved = resolved.map_err(|error| Refused::by_error(&error, Unknown::Manifest))?;
        let manifest = resolved.manifest;
        Ok(Answer {
            by: by(kind_of(resolved.access), resolved.lapsed),
            remembered: false,
            digest: manifest.digest,
            media_type: manifest.media_type.clone(),
            bytes: manifest.bytes.clone(),
        })
    }

    /// The manifest that `reference` stands for, for a client with its own token.
    pub(crate) async fn manifest_for(
        &self,
        repository: &Repository,
        reference: &Reference,
        accept: &[HeaderValue],
        token: &Secret,
    ) -> Result<Answer, ProxyError> {
        let origin = self.resolver.origin();
        let auth = Auth::Client(token.clone());
        let refused = |error: OriginError| ProxyError::from_origin(error, Unknown::Manifest);
        let question = origin.head_manifest(repository, reference, accept, &auth).map_err(refused);
        let head = Asking::permission(repository).answer(question).await?;
        // One that is not believed may claim a manifest that is another's.
        let digest = head.digest.filter(|_| self.trust.believes(&repository.registry));
        if let Some(stored) = self.stored(digest.as_ref(), PermittedBy::Client).await {
            return Ok(stored);
        }
        let question = origin.get_manifest(repository, reference, accept, &auth).map_err(refused);
        let read = Asking::origin(repository).answer(question).await?;
        let answer = Answer {
            by: PermittedBy::Client,
            remembered: false,
            digest: read.digest,
            media_type: read.media_type,
            bytes: read.bytes,
        };
        self.keep(&answer).await;
        Ok(answer)
    }

    /// Whether a client without a secret may read a blob.
    pub(crate) async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Permission, ProxyError> {
        let key = (repository.to_string(), *digest);
        let doubted = self.doubted.contains_key(&key);
        if let Some(access) = self.common.get(&key).filter(|_| !doubted) {
            return Ok(Permission::common(access).remembered());
        }
        let earlier = self.may_still(repository, digest).then_some(());
        let asked = self.forgotten.load(Ordering::SeqCst);
        let question = self.ask_blob(repository, digest, doubted);
        match Box::pin(self.bridged(repository, earlier, question)).await {
            Ok(Known::Now(access)) => {
                self.doubted.invalidate(&key);
                self.common.insert(key.clone(), access);
                if self.forgot_since(asked) {
                    self.common.invalidate(&key);
                }
                Ok(Permission::common(access))
            }
            Ok(Known::Earlier(())) => {
                let (auth, by) = (Auth::Anonymous, PermittedBy::Grace);
                Ok(Permission { auth, size: None, confirmed: false, by, remembered: true })
            }
            Err(refused) => Err(self.denied(repository, refused)),
        }
    }

    /// A blob's bytes were not what its origin had said of it: its size, or that it is there.
    pub(crate) fn doubt(&self, repository: &Repository, digest: &Digest) {
        self.doubted.insert((repository.to_string(), *digest), ());
    }

    /// What is refused to anyone is no more to be had while the origin is away.
    fn denied(&self, repository: &Repository, refused: Refused) -> ProxyError {
        if matches!(refused.error, ProxyError::Unauthorized { .. } | ProxyError::Denied { .. }) {
            self.lasting.deny(repository);
        }
        refused.error
    }

    async fn ask_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        anew: bool,
    ) -> Result<Access, Refused> {
        self.link.settled(START_PATIENCE).await;
        if anew {
            // The scheduler would say again what it has heard before.
            self.resolver.forget_access(repository, digest).await;
        } else {
            match self.link.access(repository, digest).await {
                Ok(answer) if !self.speaks_for_us(repository, answer.as_ref().map(|a| a.credential)) => {}
                Ok(Ok(access)) => return Ok(access),
                Ok(Err(refusal)) => return Err(Refused::by_origin(refusal, Unknown::Blob)),
                Err(error) => without_scheduler(&error),
            }
        }
        let access = self.resolver.access(repository, digest).await;
        let access = access.map_err(|error| Refused::by_error(&error, Unknown::Blob))?;
        Ok(Access { credential: kind_of(access.access), size: access.size, lapsed: access.lapsed })
    }

    /// Whether a client may read a blob with its own token.
    pub(crate) async fn blob_for(
        &self,
        repository: &Repository,
        digest: &Digest,
        token: &Secret,
    ) -> Result<Permission, ProxyError> {
        let key = self.token_key(repository, digest, token);
        let auth = Auth::Client(token.clone());
        let doubt = (repository.to_string(), *digest);
        if let Some(size) = self.own.get(&key).filter(|_| !self.doubted.contains_key(&doubt)) {
            return Ok(Permission::own(auth, size).remembered());
        }
        let asked = self.forgotten.load(Ordering::SeqCst);
        let question = self.resolver.origin().head_blob(repository, digest, &auth);
        let question = question.map_err(|error| ProxyError::from_origin(error, Unknown::Blob));
        let head = Asking::permission(repository).answer(question).await?;
        self.doubted.invalidate(&doubt);
        self.own.insert(key, head.size);
        if self.forgot_since(asked) {
            self.own.invalidate(&key);
        }
        Ok(Permission::own(auth, head.size))
    }

    /// Whether answers were forgotten after a question was asked. Looked at when the answer is kept already, which is undone
    /// then: looked at before, it could be kept after all were forgotten.
    fn forgot_since(&self, asked: u64) -> bool {
        self.forgotten.load(Ordering::SeqCst) != asked
    }

    /// The number of the last flush of the scheduler's that this host has heard of, in former lives too.
    pub(crate) fn flushed(&self) -> u64 {
        self.lasting.flushed()
    }

    /// A flush of this number has been carried out.
    pub(crate) fn heard_of_flush(&self, number: u64) {
        self.lasting.heard_of_flush(number);
    }

    /// Forgets what origins permitted in this repository, or in all, the grace included: every next request is asked
    /// about anew.
    pub(crate) fn forget(&self, of: Option<&Repository>) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.resolver.forget(of);
        // Whose keys are hashes.
        self.own.invalidate_all();
        self.lasting.forget(of);
        match of {
            Some(repository) => {
                let name = repository.to_string();
                for (key, _) in &self.common {
                    if key.0 == name {
                        self.common.invalidate(&*key);
                    }
                }
            }
            None => self.common.invalidate_all(),
        }
    }

    /// Asks the origin again what a tag stands for, for the whole cluster.
    pub(crate) async fn refresh(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Digest, ProxyError> {
        match self.link.refresh(repository, reference).await {
            Ok(Err(refusal)) if !self.speaks_for_us(repository, Err(&refusal)) => {}
            Ok(Ok(digest)) => return Ok(digest),
            Ok(Err(refusal)) => return Err(Refused::by_origin(refusal, Unknown::Manifest).error),
            Err(error) => without_scheduler(&error),
        }
        let resolved = self.resolver.refresh(repository, reference).await;
        resolved
            .map(|resolved| resolved.manifest.digest)
            .map_err(|error| Refused::by_error(&error, Unknown::Manifest).error)
    }

    /// While the origin is away: a blob that anyone could read from there, as far as this host knows.
    fn may_still(&self, repository: &Repository, digest: &Digest) -> bool {
        let possession = self
            .store
            .get(digest)
            .and_then(|blob| blob.possession(&repository.registry, repository.name.as_str()));
        possession == Some(store::Possession::Anonymous) && self.lasting.was_open(repository)
    }

    async fn stored(&self, digest: Option<&Digest>, by: PermittedBy) -> Option<Answer> {
        let digest = digest?;
        let manifest = self.store.get_manifest(digest).await.ok().flatten()?;
        Some(Answer {
            by,
            remembered: false,
            digest: *digest,
            media_type: manifest.media_type,
            bytes: manifest.bytes,
        })
    }

    async fn keep(&self, answer: &Answer) {
        if let Err(error) =
            self.store.put_manifest(&answer.digest, &answer.media_type, answer.bytes.clone()).await
        {
            tracing::warn!(%error, digest = %answer.digest, "a manifest could not be stored");
        }
    }

    fn token_key(&self, repository: &Repository, digest: &Digest, token: &Secret) -> TokenKey {
        let mut hash = Sha256::new();
        hash.update(self.token_salt);
        for part in [token.expose(), &repository.to_string(), &digest.to_string()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

fn auth_of(kind: CredentialKind) -> Auth {
    match kind {
        CredentialKind::Anonymous => Auth::Anonymous,
        CredentialKind::Configured => Auth::Configured,
    }
}

const fn kind_of(access: origin::Access) -> CredentialKind {
    match access {
        origin::Access::Anonymous => CredentialKind::Anonymous,
        origin::Access::Configured => CredentialKind::Configured,
    }
}

const fn by(kind: CredentialKind, lapsed: bool) -> PermittedBy {
    match kind {
        _ if lapsed => PermittedBy::Grace,
        CredentialKind::Anonymous => PermittedBy::Anonymous,
        CredentialKind::Configured => PermittedBy::Configured,
    }
}

fn without_scheduler(error: &NoAnswer) {
    tracing::debug!(%error, "asking the origin without the scheduler");
}
