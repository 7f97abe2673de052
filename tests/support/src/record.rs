//! A forwarder that writes down what a client asks a registry for: how the fixtures of real runtimes are made.
//!
//! The digests of the image are replaced by names, so that the requests can be replayed against another image. Called by
//! the recording test and by the replaying one in tests/e2e.

use crate::images::Image;
use anyhow::{Context, Result};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// The most requests that are written down.
const REQUESTS_MAX: usize = 1_000;

/// What a real client sent, in order; or what is known to be sent by one that cannot run here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// Which client, with its version.
    pub client: String,
    /// Whether it was recorded from the real client, or written by hand from a description.
    pub origin: RecordingOrigin,
    /// The requests.
    pub requests: Vec<Recorded>,
}

/// Where a [`Recording`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordingOrigin {
    /// From the real client.
    Recorded,
    /// By hand.
    Written,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// Path and query, with `{manifest}`, `{config}` and `{layer0}`… for the digests.
    pub target: String,
    /// The header lines in order, without `Host`, which names a port of the day.
    pub headers: Vec<(String, String)>,
}

/// Replaces the digests of `image` by names.
#[must_use]
pub fn with_names(target: &str, image: &Image) -> String {
    names(image).into_iter().fold(target.to_owned(), |target, (name, digest)| target.replace(&digest, &name))
}

/// Replaces the names by the digests of `image`: the inverse of [`with_names`].
#[must_use]
pub fn with_digests(target: &str, image: &Image) -> String {
    names(image).into_iter().fold(target.to_owned(), |target, (name, digest)| target.replace(&name, &digest))
}

fn names(image: &Image) -> Vec<(String, String)> {
    let layers = image.layers.iter().enumerate();
    [("{manifest}".to_owned(), &image.manifest), ("{config}".to_owned(), &image.config)]
        .into_iter()
        .chain(layers.map(|(i, layer)| (format!("{{layer{i}}}"), &layer.blob)))
        .map(|(name, blob)| (name, blob.digest.to_string()))
        .collect()
}

/// Where a recorder forwards to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// The path as it came.
    Kept,
    /// The path without its first component after `/v2/`, if that is a registry's name: as mirrors of podman see it.
    WithoutRegistry,
}

/// What has been written down so far. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<Mutex<Vec<Recorded>>>);

impl Requests {
    /// Takes what has been written down, in the order in which the requests came.
    #[must_use]
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, request: Recorded) {
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() < REQUESTS_MAX {
            requests.push(request);
        }
    }
}

#[derive(Clone)]
struct Forwarder {
    client: reqwest::Client,
    upstream: String,
    paths: Paths,
    requests: Requests,
}

/// Serves `listener` until the future is dropped: writes each request down and answers it from `upstream`
/// (`http://host:port`).
///
/// # Errors
/// If serving fails.
pub async fn serve(listener: TcpListener, upstream: String, paths: Paths, requests: Requests) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    let forwarder = Forwarder { client, upstream, paths, requests };
    axum::serve(listener, axum::Router::new().fallback(forward).with_state(forwarder))
        .await
        .context("recorder")
}

async fn forward(State(forwarder): State<Forwarder>, request: Request) -> Response {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let lines = request.headers().iter().filter(|(name, _)| *name != http::header::HOST);
    forwarder.requests.add(Recorded {
        method: request.method().to_string(),
        target: target.clone(),
        headers: lines
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
    });
    let path = match forwarder.paths {
        Paths::Kept => target,
        Paths::WithoutRegistry => without_registry(&target),
    };
    let mut headers = request.headers().clone();
    headers.remove(http::header::HOST);
    headers.remove(http::header::CONNECTION);
    let url = format!("{}{path}", forwarder.upstream);
    match forwarder.client.request(request.method().clone(), url).headers(headers).send().await {
        Ok(answer) => {
            let (status, headers) = (answer.status(), answer.headers().clone());
            let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            response
        }
        Err(error) => {
            let mut response = Response::new(Body::from(error.to_string()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

fn without_registry(target: &str) -> String {
    match target.strip_prefix("/v2/").and_then(|rest| rest.split_once('/')) {
        Some((first, rest)) if first.contains(['.', ':']) => format!("/v2/{rest}"),
        _ => target.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_digests_are_inverse() {
        let image = Image::random(1, &[10, 20]).unwrap();
        let target = format!("/v2/a/blobs/{}?ns=b", image.layers[1].blob.digest);
        let named = with_names(&target, &image);
        assert_eq!(named, "/v2/a/blobs/{layer1}?ns=b");
        assert_eq!(with_digests(&named, &image), target);
    }

    #[test]
    fn a_registry_in_the_path_is_taken_out() {
        assert_eq!(without_registry("/v2/r.test/a/manifests/1"), "/v2/a/manifests/1");
        assert_eq!(without_registry("/v2/library/a/manifests/1"), "/v2/library/a/manifests/1");
        assert_eq!(without_registry("/v2/"), "/v2/");
    }
}
