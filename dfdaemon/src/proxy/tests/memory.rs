//! A backend whose registries are maps, whose blobs come as slowly as a test wants, and who counts who reads.

use crate::proxy::{
    Backend, BlobHandle, BlobRequest, BodyError, ClientAuth, ForwardRequest, Manifest, ManifestRequest,
    ProxyError, Unknown, Want,
};
use crate::traffic::Tally;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use http::{HeaderValue, Response};
use origin::{Reference, Repository};
use process::audit::{Permit, PermittedBy};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;
use types::{ByteRange, Digest, Registry};

pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Bytes of one chunk of a blob's stream.
pub(super) const CHUNK: u64 = 1000;

/// What the origin says to who has no token.
pub(super) const CHALLENGE: &str =
    r#"Bearer realm="https://auth.example/token",service="example",scope="repository:private/app:pull""#;

/// Everybody may have what is not private.
const PERMIT: Permit = Permit { permitted_by: PermittedBy::Anonymous, remembered: false, vouched_by: None };

pub(super) struct Memory {
    /// `registry/name:tag` or `registry/name@digest`.
    manifests: BTreeMap<String, (&'static str, Bytes)>,
    /// `registry/name@digest`.
    blobs: BTreeMap<String, Blob>,
    /// What the backend answers instead, if a test wants it to fail.
    pub(super) failure: Mutex<Option<ProxyError>>,
    /// Whether manifests are never answered.
    silent: bool,
    /// How many streams of blobs are alive, and how many questions that are never answered.
    pub(super) reading: Arc<AtomicUsize>,
    /// Every request as the backend sees it.
    pub(super) seen: Mutex<Vec<String>>,
}

#[derive(Clone)]
struct Blob {
    bytes: Bytes,
    /// A permit for each chunk that may be given; a stream fails when it is closed.
    gate: Option<Arc<Semaphore>>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            manifests: BTreeMap::new(),
            blobs: BTreeMap::new(),
            failure: Mutex::new(None),
            silent: false,
            reading: Arc::default(),
            seen: Mutex::default(),
        }
    }

    /// One that never answers for a manifest.
    pub(super) fn silent() -> Self {
        Self { silent: true, ..Self::new() }
    }

    /// Adds a manifest under its digest, and under `tag` if it is not empty.
    pub(super) fn manifest(
        &mut self,
        repository: &str,
        tag: &str,
        media_type: &'static str,
        text: &str,
    ) -> Digest {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let digest = Digest::sha256(&bytes);
        self.manifests.insert(format!("{repository}@{digest}"), (media_type, bytes.clone()));
        if !tag.is_empty() {
            self.manifests.insert(format!("{repository}:{tag}"), (media_type, bytes));
        }
        digest
    }

    pub(super) fn blob(&mut self, repository: &str, bytes: &[u8]) -> Digest {
        self.add(repository, bytes, None)
    }

    /// A blob that comes only as the test adds permits to the gate.
    pub(super) fn gated(&mut self, repository: &str, bytes: &[u8]) -> (Digest, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        (self.add(repository, bytes, Some(gate.clone())), gate)
    }

    fn add(&mut self, repository: &str, bytes: &[u8], gate: Option<Arc<Semaphore>>) -> Digest {
        let digest = Digest::sha256(bytes);
        let blob = Blob { bytes: Bytes::copy_from_slice(bytes), gate };
        self.blobs.insert(format!("{repository}@{digest}"), blob);
        digest
    }

    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn reading(&self) -> usize {
        self.reading.load(Ordering::SeqCst)
    }

    fn admit(&self, what: String, repository: &Repository, auth: &ClientAuth) -> Result<(), ProxyError> {
        self.seen.lock().unwrap().push(what);
        if let Some(failure) = self.failure.lock().unwrap().clone() {
            return Err(failure);
        }
        let allowed = match auth {
            ClientAuth::Header(secret) => secret.expose() == "Bearer good",
            ClientAuth::None => !repository.name.as_str().starts_with("private/"),
        };
        if allowed {
            return Ok(());
        }
        let body =
            Bytes::from_static(br#"{"errors":[{"code":"UNAUTHORIZED","message":"the origin's own words"}]}"#);
        Err(ProxyError::Unauthorized { challenges: vec![HeaderValue::from_static(CHALLENGE)], body })
    }
}

impl Backend for Memory {
    fn manifest(&self, request: ManifestRequest) -> BoxFuture<'_, Result<Manifest, ProxyError>> {
        async move {
            let key = match &request.reference {
                Reference::Tag(tag) => format!("{}:{tag}", request.repository),
                Reference::Digest(digest) => format!("{}@{digest}", request.repository),
            };
            let what = format!("manifest {key} accept {}", request.accept.len());
            self.admit(what, &request.repository, &request.auth)?;
            if self.silent {
                self.reading.fetch_add(1, Ordering::SeqCst);
                let _reading = Reading(self.reading.clone());
                std::future::pending::<()>().await;
            }
            let (media_type, bytes) =
                self.manifests.get(&key).ok_or(ProxyError::NotFound(Unknown::Manifest))?;
            Ok(Manifest {
                digest: Digest::sha256(bytes),
                media_type: HeaderValue::from_static(media_type),
                size: bytes.len() as u64,
                bytes: (request.want == Want::Body).then(|| bytes.clone()),
                permit: PERMIT,
            })
        }
        .boxed()
    }

    fn blob(&self, request: BlobRequest) -> BoxFuture<'_, Result<Box<dyn BlobHandle>, ProxyError>> {
        async move {
            let key = format!("{}@{}", request.repository, request.digest);
            self.admit(format!("blob {key}"), &request.repository, &request.auth)?;
            let blob = self.blobs.get(&key).cloned().ok_or(ProxyError::NotFound(Unknown::Blob))?;
            let handle: Box<dyn BlobHandle> = Box::new(Handle { blob, reading: self.reading.clone() });
            Ok(handle)
        }
        .boxed()
    }

    fn forward(&self, request: ForwardRequest) -> BoxFuture<'_, Result<Response<Bytes>, ProxyError>> {
        async move {
            let what = format!("forward {} {:?}", request.repository, request.query);
            self.admit(what, &request.repository, &request.auth)?;
            let answer = Response::builder()
                .header("content-type", "application/json")
                .header("link", "</v2/team/app/tags/list?last=b&n=2>; rel=\"next\"")
                .header("set-cookie", "must=not-pass");
            Ok(answer.body(Bytes::from_static(br#"{"name":"team/app","tags":["a","b"]}"#)).unwrap())
        }
        .boxed()
    }

    fn ping(&self, registry: Option<Registry>, _: ClientAuth) -> BoxFuture<'_, Result<(), ProxyError>> {
        self.seen.lock().unwrap().push(format!("ping {registry:?}"));
        let failure = self.failure.lock().unwrap().clone();
        async move { failure.map_or(Ok(()), Err) }.boxed()
    }
}

struct Handle {
    blob: Blob,
    reading: Arc<AtomicUsize>,
}

/// Counts a stream for as long as it lives.
struct Reading(Arc<AtomicUsize>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl BlobHandle for Handle {
    fn size(&self) -> u64 {
        self.blob.bytes.len() as u64
    }

    fn permit(&self) -> Permit {
        PERMIT
    }

    fn tally(&self) -> Arc<Tally> {
        Arc::default()
    }

    fn read(&self, range: ByteRange) -> BoxStream<'static, Result<Bytes, BodyError>> {
        self.reading.fetch_add(1, Ordering::SeqCst);
        let reading = Reading(self.reading.clone());
        let blob = self.blob.clone();
        stream::unfold((range.start(), reading, blob), move |(at, reading, blob)| async move {
            if at == range.end() {
                return None;
            }
            let end = range.end().min(at + CHUNK);
            if let Some(gate) = blob.gate.clone() {
                match gate.acquire_owned().await {
                    Ok(permit) => permit.forget(),
                    Err(_) => return Some((Err(BodyError::WrongDigest), (range.end(), reading, blob))),
                }
            }
            let chunk = blob.bytes.slice(at as usize..end as usize);
            Some((Ok(chunk), (end, reading, blob)))
        })
        .boxed()
    }
}
