//! A registry of manifests that a test lays down, without their blobs.

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use origin::RegistryOptions;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use types::{Digest, Registry};

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Asks for a credential.
const PRIVATE: &str = "/v2/private/";

/// Does not answer.
const SILENT: &str = "/v2/silent/";

/// What is on it, by the paths that it is asked for by.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    contents: BTreeMap<String, (&'static str, String)>,
}

/// What it sees of questions that it does not answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Silence {
    /// One was asked.
    pub(crate) asked: CancellationToken,
    /// Who asked has given up.
    pub(crate) given_up: CancellationToken,
}

impl Shelf {
    /// The name that the scheduler knows it by.
    pub(crate) fn name() -> Registry {
        Registry::parse("registry.test").unwrap()
    }

    /// Lays a document down, under its digest and a tag.
    pub(crate) fn lay(
        &mut self,
        repository: &str,
        tag: &str,
        media_type: &'static str,
        document: &Value,
    ) -> Digest {
        let text = document.to_string();
        let digest = Digest::sha256(text.as_bytes());
        for reference in [digest.to_string(), tag.to_owned()] {
            let path = format!("/v2/{repository}/manifests/{reference}");
            self.contents.insert(path, (media_type, text.clone()));
        }
        digest
    }

    /// Lays down a manifest whose configuration has 10 bytes, and whose one layer has `size`.
    pub(crate) fn lay_image(&mut self, repository: &str, tag: &str, size: u64) -> Digest {
        self.lay(repository, tag, MANIFEST, &image(size))
    }

    /// Answers from now on.
    pub(crate) async fn open(self) -> (RegistryOptions, Silence) {
        let silence = Silence::default();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state((Arc::new(self), silence.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let endpoint = Some(endpoint.parse().unwrap());
        (RegistryOptions { endpoint, ..RegistryOptions::default() }, silence)
    }
}

async fn answer(State((shelf, silence)): State<(Arc<Shelf>, Silence)>, uri: Uri) -> Response {
    let path = uri.path();
    if path.starts_with(SILENT) {
        let _given_up = silence.given_up.drop_guard();
        silence.asked.cancel();
        std::future::pending::<()>().await;
    }
    if path.starts_with(PRIVATE) {
        let challenge = [(WWW_AUTHENTICATE, "Basic realm=\"private\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "no").into_response();
    }
    match shelf.contents.get(path) {
        Some((media_type, text)) => ([(CONTENT_TYPE, *media_type)], text.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A content that is named and never read.
fn descriptor(size: u64) -> Value {
    json!({"digest": Digest::sha256(&size.to_be_bytes()).to_string(), "size": size})
}

/// A manifest whose configuration has 10 bytes, and whose one layer has `size`.
pub(crate) fn image(size: u64) -> Value {
    json!({"schemaVersion": 2, "config": descriptor(10), "layers": [descriptor(size)]})
}

/// An entry of an index.
pub(crate) fn entry(digest: &Digest, platform: Option<&str>) -> Value {
    let mut entry = json!({"digest": digest.to_string(), "size": 1});
    if let Some((os, architecture)) = platform.and_then(|platform| platform.split_once('/')) {
        entry["platform"] = json!({"os": os, "architecture": architecture});
    }
    entry
}

pub(crate) fn index(entries: &[Value]) -> Value {
    json!({"schemaVersion": 2, "manifests": entries})
}
