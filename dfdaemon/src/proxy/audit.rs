//! What the audit log is told of requests for manifests and blobs.
//!
//! A [`Draft`] is filled in as a request goes on, and told by its [`super::access::Record`] when that ends.

use super::backend::ClientAuth;
use super::route::Route;
use http::header::RANGE;
use http::request::Parts;
use http::{Method, StatusCode};
use origin::{Reference, Repository};
use process::audit::{Event, Key, Kind, Log, Permit, Request, Sources};
use process::client::Client;
use std::sync::Arc;
use std::time::Duration;
use types::Digest;

/// How much of a `Range` header is kept, in characters: clients send up to 1,024 ranges.
const RANGE_LEN_MAX: usize = 200;

/// The log, and the key for credentials.
#[derive(Clone, Debug)]
pub struct Audit {
    log: Log,
    key: Arc<Key>,
}

impl Audit {
    /// Requests are told to `log`, with the credentials hashed under `key`.
    #[must_use]
    pub fn new(log: Log, key: Key) -> Self {
        Self { log, key: Arc::new(key) }
    }

    /// Where else than at the proxy something may have to be told.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// A request has come in.
    pub(super) fn begin(&self, client: &Client, parts: &Parts) -> Draft {
        let range = parts.headers.get(RANGE).map(|range| String::from_utf8_lossy(range.as_bytes()));
        Draft {
            audit: self.clone(),
            client: client.clone(),
            range: range.map(|range| range.chars().take(RANGE_LEN_MAX).collect()),
            asked: None,
            credential: None,
            permit: None,
            digest: None,
        }
    }
}

/// A line in the making.
#[derive(Debug)]
pub(super) struct Draft {
    audit: Audit,
    client: Client,
    range: Option<String>,
    asked: Option<Asked>,
    credential: Option<String>,
    permit: Option<Permit>,
    /// What a tag stood for.
    digest: Option<Digest>,
}

#[derive(Debug)]
struct Asked {
    kind: Kind,
    repository: Repository,
    reference: Reference,
}

/// How a request ended.
pub(super) struct End<'a> {
    pub(super) method: &'a Method,
    pub(super) status: Option<StatusCode>,
    pub(super) outcome: &'static str,
    pub(super) sent_bytes: u64,
    pub(super) sources: Option<Sources>,
    pub(super) took: Duration,
}

impl Draft {
    /// What it asks for.
    pub(super) fn routed(&mut self, route: &Route) {
        self.asked = match route {
            Route::Manifest { repository, reference } => Some(Asked {
                kind: Kind::Manifest,
                repository: repository.clone(),
                reference: reference.clone(),
            }),
            Route::Blob { repository, digest } => Some(Asked {
                kind: Kind::Blob,
                repository: repository.clone(),
                reference: Reference::Digest(*digest),
            }),
            Route::Ping { .. } | Route::Forward { .. } => None,
        };
    }

    /// With which right the client asks.
    pub(super) fn presented(&mut self, auth: &ClientAuth) {
        self.credential = match auth {
            ClientAuth::None => None,
            ClientAuth::Header(secret) => Some(self.audit.key.hash(secret.expose())),
        };
    }

    /// The client may have this manifest.
    pub(super) fn manifest(&mut self, permit: Permit, digest: Digest) {
        (self.permit, self.digest) = (Some(permit), Some(digest));
    }

    /// The client may have the blob.
    pub(super) fn blob(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// It has ended. What asks for no content is not told.
    pub(super) fn tell(&mut self, end: &End<'_>) {
        let Some(Asked { kind, repository, reference }) = self.asked.take() else { return };
        let (tag, asked) = match reference {
            Reference::Tag(tag) => (Some(tag.to_string()), None),
            Reference::Digest(digest) => (None, Some(digest)),
        };
        let request = Request {
            method: end.method.to_string().into(),
            kind,
            registry: repository.registry.to_string(),
            repository: repository.name.to_string(),
            tag,
            digest: asked.or(self.digest).map(|digest| digest.to_string()),
            range: self.range.take(),
            credential: self.credential.take(),
            status: end.status.map(|status| status.as_u16()),
            outcome: end.outcome.into(),
            permit: self.permit,
            sent_bytes: end.sent_bytes,
            sources: end.sources,
            duration_ms: u64::try_from(end.took.as_millis()).unwrap_or(u64::MAX),
        };
        self.audit.log.tell(Some(&self.client), Event::Request(Box::new(request)));
    }
}
