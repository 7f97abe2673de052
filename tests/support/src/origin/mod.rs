//! An origin registry inside the test's process, with faults on demand.
//!
//! It serves what it is given over HTTP or HTTPS on a port of its own, asks for a credential if it is to, counts every
//! request and byte, and misbehaves where a rule says so. The tests of the registry client and of the daemon use it, and
//! so does `cargo demo`, which needs an origin of a known rate.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use support::origin::{Fault, FaultyOrigin, When};
//!
//! let origin = FaultyOrigin::start().await?;
//! let layer = origin.add_blob("library/app", "layer");
//! origin.fault(When::blob(&layer).get().times(1), Fault::BreakAfter(2));
//! // … pull through what is tested from origin.url() …
//! assert_eq!(origin.blob_gets(&layer), 2);
//! # Ok(())
//! # }
//! ```

mod auth;
mod body;
mod fault;
mod log;
mod serve;

pub use auth::AuthMode;
pub use fault::{Fault, When};
pub use log::Request;

pub(crate) use auth::{basic, parse};

use crate::authority::{Authority, Identity};
use auth::Guard;
use body::RateLimit;
use bytes::Bytes;
use fault::Rules;
use log::Log;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use types::{Digest, Registry};

/// The media type of an OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A test does not care whether another thread of it panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A manifest as it is served.
#[derive(Clone, Debug)]
struct StoredManifest {
    media_type: String,
    content: Bytes,
}

/// What one repository holds.
#[derive(Clone, Debug, Default)]
struct Contents {
    blobs: BTreeMap<String, Bytes>,
    manifests: BTreeMap<String, StoredManifest>,
    tags: BTreeMap<String, String>,
}

/// Where a blob's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In the registry's own answer.
    Registry,
    /// Behind a 307 to a signed URL; each signature is good for this many requests. A request that carries an
    /// Authorization header is refused there, as object stores do. `base` is `http://host:port` of this or another
    /// [`FaultyOrigin`] that holds the blob too, or nothing for a relative Location.
    Redirect {
        /// What goes before `/storage/…` in the Location.
        base: Option<String>,
        /// How many requests a signature is good for.
        uses: u64,
    },
}

struct Shared {
    contents: Mutex<BTreeMap<String, Contents>>,
    private: Mutex<BTreeSet<String>>,
    signatures: Mutex<BTreeMap<String, u64>>,
    guard: Mutex<Guard>,
    rules: Rules,
    log: Log,
    rate: Option<RateLimit>,
    storage: Storage,
    url: String,
}

/// The certificate of an origin that speaks HTTPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// For its address, 127.0.0.1 and localhost, from the authority that [`FaultyOrigin::ca_pem`] gives.
    Good,
    /// For another name.
    OfAnother,
    /// Good once.
    Expired,
    /// From nobody.
    SelfSigned,
}

/// How a [`FaultyOrigin`] is to be.
#[derive(Clone, Debug)]
pub struct Builder {
    auth: AuthMode,
    tls: Option<Certificate>,
    rate: Option<u64>,
    address: SocketAddr,
    storage: Storage,
}

impl Builder {
    /// Which credential it asks for. Default: none.
    #[must_use]
    pub fn auth(mut self, auth: AuthMode) -> Self {
        self.auth = auth;
        self
    }

    /// HTTPS with a certificate for 127.0.0.1 and localhost from an authority of its own. Default: HTTP.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = Some(Certificate::Good);
        self
    }

    /// HTTPS with such a certificate.
    #[must_use]
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.tls = Some(certificate);
        self
    }

    /// At most this many bytes of bodies per second, all connections together. Default: unlimited.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: u64) -> Self {
        self.rate = Some(bytes_per_second);
        self
    }

    /// Where to listen. Default: a free port of 127.0.0.1.
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Where blobs are. Default: in the registry's own answers.
    #[must_use]
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = storage;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start(self) -> io::Result<FaultyOrigin> {
        let listener = TcpListener::bind(self.address).await?;
        let address = listener.local_addr()?;
        let tls = self.tls.map(|kind| tls(address.ip(), kind)).transpose().map_err(io::Error::other)?;
        let url = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
        let shared = Arc::new(Shared {
            contents: Mutex::default(),
            private: Mutex::default(),
            signatures: Mutex::default(),
            guard: Mutex::new(Guard::new(self.auth, &url)),
            rules: Rules::default(),
            log: Log::default(),
            rate: self.rate.map(RateLimit::new),
            storage: self.storage,
            url,
        });
        let (reachable, watched) = watch::channel(true);
        let (acceptor, ca_pem) = tls.unzip();
        let task = tokio::spawn(serve::accept(listener, acceptor, Arc::clone(&shared), watched));
        Ok(FaultyOrigin { shared, address, ca_pem, reachable, task })
    }
}

/// What takes TLS connections at `ip`, 127.0.0.1 and localhost, and the authority's certificate.
fn tls(ip: IpAddr, kind: Certificate) -> anyhow::Result<(TlsAcceptor, String)> {
    let (authority, ip) = (Authority::new()?, ip.to_string());
    let names = [&ip, "127.0.0.1", "localhost"];
    let identity = match kind {
        Certificate::Good => authority.identity(&names)?,
        Certificate::OfAnother => authority.identity(&["another.test"])?,
        Certificate::Expired => authority.expired_identity(&names)?,
        Certificate::SelfSigned => Identity::self_signed(&names)?,
    };
    Ok((identity.acceptor()?, authority.pem().to_owned()))
}

/// A registry for tests. Ends when it is dropped.
pub struct FaultyOrigin {
    shared: Arc<Shared>,
    address: SocketAddr,
    ca_pem: Option<String>,
    reachable: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for FaultyOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyOrigin").field("url", &self.shared.url).finish_non_exhaustive()
    }
}

impl Drop for FaultyOrigin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FaultyOrigin {
    /// One that may be made otherwise.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            auth: AuthMode::None,
            tls: None,
            rate: None,
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            storage: Storage::Registry,
        }
    }

    /// One that speaks HTTP and asks for no credential.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Its name as a registry: `127.0.0.1:PORT`.
    ///
    /// # Panics
    /// Never: an address with a port is a registry's name.
    #[must_use]
    pub fn registry(&self) -> Registry {
        Registry::parse(&self.address.to_string()).expect("an address with a port is a registry's name")
    }

    /// The certificate of the authority to trust, if it speaks HTTPS.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Puts a blob into a repository.
    pub fn add_blob(&self, repository: &str, content: impl Into<Bytes>) -> Digest {
        let content = content.into();
        let digest = Digest::sha256(&content);
        self.add_blob_as(repository, &digest, content);
        digest
    }

    /// Puts a blob under a digest that need not be its own.
    pub fn add_blob_as(&self, repository: &str, digest: &Digest, content: impl Into<Bytes>) {
        let mut contents = lock(&self.shared.contents);
        contents.entry(repository.into()).or_default().blobs.insert(digest.to_string(), content.into());
    }

    /// Puts a manifest into a repository, under a tag if there is one.
    pub fn add_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        content: impl Into<Bytes>,
    ) -> Digest {
        let content = content.into();
        let digest = Digest::sha256(&content);
        let mut contents = lock(&self.shared.contents);
        let repository = contents.entry(repository.into()).or_default();
        repository
            .manifests
            .insert(digest.to_string(), StoredManifest { media_type: media_type.into(), content });
        if let Some(tag) = tag {
            repository.tags.insert(tag.into(), digest.to_string());
        }
        digest
    }

    /// Puts a manifest under a digest that need not be its own.
    pub fn add_manifest_as(
        &self,
        repository: &str,
        digest: &Digest,
        media_type: &str,
        content: impl Into<Bytes>,
    ) {
        let manifest = StoredManifest { media_type: media_type.into(), content: content.into() };
        let mut contents = lock(&self.shared.contents);
        contents.entry(repository.into()).or_default().manifests.insert(digest.to_string(), manifest);
    }

    /// Points a tag at a manifest.
    pub fn tag(&self, repository: &str, tag: &str, manifest: &Digest) {
        let mut contents = lock(&self.shared.contents);
        contents.entry(repository.into()).or_default().tags.insert(tag.into(), manifest.to_string());
    }

    /// Takes a blob or a manifest, with the tags that name it, out of a repository.
    pub fn remove(&self, repository: &str, digest: &Digest) {
        let digest = digest.to_string();
        if let Some(repository) = lock(&self.shared.contents).get_mut(repository) {
            repository.blobs.remove(&digest);
            repository.manifests.remove(&digest);
            repository.tags.retain(|_, named| *named != digest);
        }
    }

    /// From now on the repository is for users, not for anonymous tokens.
    pub fn make_private(&self, repository: &str) {
        lock(&self.shared.private).insert(repository.into());
    }

    /// Makes every token issued so far invalid.
    pub fn revoke_tokens(&self) {
        lock(&self.shared.guard).revoke();
    }

    /// Adds a rule. All rules that match a request apply to it.
    pub fn fault(&self, when: When, fault: Fault) {
        self.shared.rules.add(when, fault);
    }

    /// Takes all rules away.
    pub fn heal(&self) {
        self.shared.rules.clear();
    }

    /// Whether it can be reached. While it cannot, connections are closed as soon as they come, and those that stand are
    /// broken.
    pub fn set_reachable(&self, reachable: bool) {
        self.reachable.send_replace(reachable);
    }

    /// Every request so far, in the order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log.all()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.shared.log.clear();
    }

    /// How many requests match.
    #[must_use]
    pub fn count(&self, when: &When) -> usize {
        self.requests().iter().filter(|r| when.matches(&r.method, &r.path)).count()
    }

    /// How many GETs of this blob came, with and without Range, of the registry and its storage.
    #[must_use]
    pub fn blob_gets(&self, digest: &Digest) -> usize {
        self.count(&When::blob(digest).get()) + self.count(&When::storage(digest).get())
    }

    /// How many bytes of this blob were sent.
    #[must_use]
    pub fn blob_bytes(&self, digest: &Digest) -> u64 {
        let (blob, storage) = (When::blob(digest).get(), When::storage(digest).get());
        let requests = self.requests();
        let of_blob = requests.iter().filter(|r| {
            r.content && (blob.matches(&r.method, &r.path) || storage.matches(&r.method, &r.path))
        });
        of_blob.map(Request::sent).sum()
    }

    /// How many bytes of blobs were sent.
    #[must_use]
    pub fn blob_bytes_total(&self) -> u64 {
        let requests = self.requests();
        let of_blobs = requests
            .iter()
            .filter(|r| r.content && (r.path.contains("/blobs/") || r.path.contains("/storage/")));
        of_blobs.map(Request::sent).sum()
    }

    /// How many GETs of manifests came, by whatever reference.
    #[must_use]
    pub fn manifest_gets(&self) -> usize {
        self.requests()
            .iter()
            .filter(|r| r.method == http::Method::GET && r.path.contains("/manifests/"))
            .count()
    }
}
