//! The registry that clients see: the [`Backend`] behind the proxy.
//!
//! A blob request passes three questions here: may this client have it ([`Answers`]), may it come out of the cluster
//! ([`Trust`], possession), and then the engine reads it. Manifests pass only the first. What is preheated passes the same
//! questions, as a request without a secret.

use crate::answers::{Answer, Answers, Asking, Permission};
use crate::engine::{Engine, EngineError, OpenBlob, ReadError, Right};
use crate::proxy::{
    Backend, BlobHandle, BlobRequest, BodyError, ClientAuth, ForwardKind, ForwardRequest, Manifest,
    ManifestRequest, ProxyError, Unknown, Want,
};
use crate::traffic::Tally;
use crate::trust::Trust;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt as _};
use http::{HeaderMap, HeaderValue, Method, Response, header};
use moka::sync::Cache;
use origin::{Auth, Origin, Repository};
use process::audit::{Permit, VouchedBy};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Instant;
use store::Store;
use types::{ByteRange, Digest, Registry};

/// Sizes of blobs kept from manifests that passed.
const SIZES_MAX: u64 = 65_536;

/// Where the proxy gets its content.
pub(crate) struct ClusterRegistry {
    pub(crate) answers: Arc<Answers>,
    pub(crate) engine: Engine,
    pub(crate) origin: Origin,
    pub(crate) store: Store,
    pub(crate) trust: Trust,
    /// A manifest counts for the blobs of its own repository only: anyone can write one that lies about another's.
    sizes: Cache<(Repository, Digest), u64>,
}

/// A blob that may be read, and why. Where nobody vouches for it, it is to be read past the store.
pub(crate) struct Opened {
    pub(crate) open: OpenBlob,
    pub(crate) permit: Permit,
}

/// What is read of a manifest or index: the descriptors' sizes.
#[derive(Deserialize)]
struct Descriptors {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    size: u64,
}

impl ClusterRegistry {
    pub(crate) fn new(
        answers: Arc<Answers>,
        engine: Engine,
        origin: Origin,
        store: Store,
        trust: Trust,
    ) -> Self {
        let sizes = Cache::builder().max_capacity(SIZES_MAX).build();
        Self { answers, engine, origin, store, trust, sizes }
    }

    async fn find_manifest(&self, request: ManifestRequest) -> Result<Manifest, ProxyError> {
        let ManifestRequest { repository, reference, accept, auth, want } = request;
        let Answer { by, remembered, digest, media_type, bytes } = match &auth {
            ClientAuth::None => self.answers.manifest(&repository, &reference, &accept).await?,
            ClientAuth::Header(token) => {
                self.answers.manifest_for(&repository, &reference, &accept, token).await?
            }
        };
        self.learn_sizes(&repository, &bytes);
        let media_type = HeaderValue::try_from(media_type)
            .map_err(|_| ProxyError::BadGateway("its media type is malformed".to_owned()))?;
        let size = bytes.len() as u64;
        let permit = Permit { permitted_by: by, remembered, vouched_by: None };
        Ok(Manifest { digest, media_type, size, bytes: (want == Want::Body).then_some(bytes), permit })
    }

    /// A manifest is a claim about sizes; a blob whose real size differs fails its download, and only that.
    fn learn_sizes(&self, repository: &Repository, manifest: &[u8]) {
        let Ok(found) = serde_json::from_slice::<Descriptors>(manifest) else { return };
        for descriptor in found.config.into_iter().chain(found.layers).chain(found.manifests) {
            if let Ok(digest) = descriptor.digest.parse() {
                self.sizes.insert((repository.clone(), digest), descriptor.size);
            }
        }
    }

    async fn find_blob(&self, request: BlobRequest) -> Result<Box<dyn BlobHandle>, ProxyError> {
        let Opened { open, permit } = self.open_blob(request, None).await?;
        Ok(Box::new(Handle { engine: self.engine.clone(), answers: self.answers.clone(), open, permit }))
    }

    /// Checks the permission for a blob, settles who vouches for it, and opens it. `told` is the size in bytes that is taken
    /// where nobody else says one.
    pub(crate) async fn open_blob(
        &self,
        request: BlobRequest,
        told: Option<u64>,
    ) -> Result<Opened, ProxyError> {
        let BlobRequest { repository, digest, auth } = request;
        let permission = match &auth {
            ClientAuth::None => self.answers.blob(&repository, &digest).await?,
            ClientAuth::Header(token) => self.answers.blob_for(&repository, &digest, token).await?,
        };
        let stored = self.store.get(&digest);
        let possession =
            stored.as_ref().and_then(|blob| blob.possession(&repository.registry, repository.name.as_str()));
        let vouched_by = match possession {
            Some(_) => Some(VouchedBy::Possession),
            None if permission.confirmed && self.trust.believes(&repository.registry) => {
                Some(VouchedBy::Registry)
            }
            None => None,
        };
        let believed = vouched_by.is_some();
        // One that is not believed is not to learn what is stored, not even by what it is refused.
        let stored = stored.filter(|blob| believed && blob.is_closed()).map(|blob| blob.layout().size());
        let size = self.size(&repository, &digest, &permission, stored, told)?;
        let permit = Permit { permitted_by: permission.by, remembered: permission.remembered, vouched_by };
        let right = Right { repository, auth: permission.auth, since: Instant::now() };
        let repository = right.repository.clone();
        let contradicted = stored.is_some_and(|stored| stored != size);
        let opened = match self.engine.open(digest, size, right) {
            Ok(_) if contradicted => Err(EngineError::Size { digest, size }),
            opened => opened,
        };
        let open = opened.map_err(|error| {
            self.answers.doubt(&repository, &digest);
            opening(&error)
        })?;
        Ok(Opened { open, permit })
    }

    fn size(
        &self,
        repository: &Repository,
        digest: &Digest,
        permission: &Permission,
        stored: Option<u64>,
        told: Option<u64>,
    ) -> Result<u64, ProxyError> {
        permission
            .size
            .or(stored)
            .or_else(|| self.sizes.get(&(repository.clone(), *digest)))
            .or(told)
            .ok_or_else(|| ProxyError::BadGateway("it does not say how large the blob is".to_owned()))
    }

    async fn pass_on(&self, request: ForwardRequest) -> Result<Response<Bytes>, ProxyError> {
        let mut tail = match &request.kind {
            ForwardKind::TagsList => "tags/list".to_owned(),
            ForwardKind::Referrers(digest) => format!("referrers/{digest}"),
        };
        if let Some(query) = &request.query {
            tail.push('?');
            tail.push_str(query);
        }
        let method = if request.want == Want::Body { Method::GET } else { Method::HEAD };
        let mut headers = HeaderMap::new();
        for line in request.accept {
            headers.append(header::ACCEPT, line);
        }
        let auth = self.auth(request.auth, &request.repository);
        let question = self.origin.forward(method, &request.repository, &tail, &headers, &auth);
        let question = question.map_err(|error| ProxyError::from_origin(error, Unknown::Name));
        Asking::origin(&request.repository).answer(question).await
    }

    /// The right for a question that only the origin answers.
    fn auth(&self, client: ClientAuth, repository: &Repository) -> Auth {
        match client {
            ClientAuth::Header(token) => Auth::Client(token),
            ClientAuth::None if self.origin.shares_credential(repository) => Auth::Configured,
            ClientAuth::None => Auth::Anonymous,
        }
    }

    async fn answer_ping(&self, registry: Option<Registry>, auth: ClientAuth) -> Result<(), ProxyError> {
        // Without a token the ping of a mirror is answered here: what may be pulled is asked with each manifest.
        let (Some(registry), ClientAuth::Header(token)) = (registry, auth) else { return Ok(()) };
        let auth = Auth::Client(token);
        let question = self.origin.ping(&registry, &auth);
        let question = question.map_err(|error| ProxyError::from_origin(error, Unknown::Name));
        match Asking::origin(&registry).answer(question).await {
            Err(error @ (ProxyError::Unauthorized { .. } | ProxyError::Denied { .. })) => Err(error),
            // Or the origin is away: what this node holds can be had all the same.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Backend for ClusterRegistry {
    fn manifest(&self, request: ManifestRequest) -> BoxFuture<'_, Result<Manifest, ProxyError>> {
        Box::pin(self.find_manifest(request))
    }

    fn blob(&self, request: BlobRequest) -> BoxFuture<'_, Result<Box<dyn BlobHandle>, ProxyError>> {
        Box::pin(self.find_blob(request))
    }

    fn forward(&self, request: ForwardRequest) -> BoxFuture<'_, Result<Response<Bytes>, ProxyError>> {
        Box::pin(self.pass_on(request))
    }

    fn ping(&self, registry: Option<Registry>, auth: ClientAuth) -> BoxFuture<'_, Result<(), ProxyError>> {
        Box::pin(self.answer_ping(registry, auth))
    }
}

/// An opened blob, for the proxy.
struct Handle {
    engine: Engine,
    answers: Arc<Answers>,
    open: OpenBlob,
    permit: Permit,
}

impl BlobHandle for Handle {
    fn size(&self) -> u64 {
        self.open.key.size
    }

    fn permit(&self) -> Permit {
        self.permit
    }

    fn tally(&self) -> Arc<Tally> {
        self.open.tally.clone()
    }

    fn read(&self, range: ByteRange) -> BoxStream<'static, Result<Bytes, BodyError>> {
        // Only where its repository is known to have it do bytes come from the store and from peers.
        let reader = if self.permit.vouched_by.is_some() {
            self.engine.read(&self.open, range)
        } else {
            self.engine.read_anew(&self.open, range)
        };
        let (answers, repository) = (self.answers.clone(), self.open.right.repository.clone());
        let digest = self.open.key.digest;
        let failed = move |error: ReadError| {
            if error.is_origins() {
                answers.doubt(&repository, &digest);
            }
            BodyError::from(error)
        };
        reader.into_stream().map(move |part| part.map_err(&failed)).boxed()
    }
}

impl From<ReadError> for BodyError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Download(download_core::Failure::OriginWrong)
            | ReadError::Chain(_)
            | ReadError::FalseChain => Self::WrongDigest,
            ReadError::Origin(error) => Self::Origin(Box::new(error)),
            ReadError::Stopping => Self::Stopping,
            error @ (ReadError::Download(_) | ReadError::Store(_) | ReadError::NoProgress { .. }) => {
                Self::Store(Box::new(error))
            }
        }
    }
}

fn opening(error: &EngineError) -> ProxyError {
    match error {
        EngineError::TooLarge { .. } | EngineError::Size { .. } => ProxyError::BadGateway(error.to_string()),
        EngineError::Stopping => ProxyError::Unavailable { why: error.to_string(), retry_after: None },
    }
}
