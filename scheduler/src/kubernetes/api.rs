//! The API server, and the one call that is made to it: whose a token is (`authentication.k8s.io/v1`, TokenReview).

use super::KubernetesOptions;
use crate::Invalid;
use membership::{ServiceAccountToken, file};
use reqwest::header::ACCEPT;
use reqwest::{Certificate, Client, Response};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use url::Url;

/// How long the API server may take for its whole answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The longest file of certificates, in bytes.
const CA_BYTES_MAX: u64 = 1024 * 1024;

/// How long a connection is kept for the next question.
const IDLE_TIME: Duration = Duration::from_secs(30);

const API_VERSION: &str = "authentication.k8s.io/v1";
const KIND: &str = "TokenReview";
const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// Why the API server does not say whose a token is. It says nothing of the token; another try can help.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("the scheduler's own token cannot be read: {0}")]
    OwnToken(#[source] io::Error),
    #[error("the certificates of its authority cannot be read: {0}")]
    Authority(#[source] io::Error),
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("there is no answer in {ANSWER_TIMEOUT:?}")]
    TooSlow,
    #[error("HTTP 401: it does not accept the scheduler's own token")]
    Unauthenticated,
    #[error("HTTP 403: the scheduler's service account may not create tokenreviews")]
    Forbidden,
    #[error("HTTP {0}")]
    Status(u16),
    #[error("its answer is no TokenReview: {0}")]
    Malformed(&'static str),
}

/// The API server. Its client is made anew when the certificates in the file are others.
#[derive(Debug)]
pub(super) struct ApiServer {
    url: Url,
    token_file: PathBuf,
    ca_file: PathBuf,
    client: Mutex<(Vec<u8>, Client)>,
}

/// What is asked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    api_version: &'static str,
    kind: &'static str,
    spec: Spec<'a>,
}

#[derive(Serialize)]
struct Spec<'a> {
    token: &'a str,
    audiences: [&'a str; 1],
}

/// What is answered. The token that the answer repeats is not looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    api_version: String,
    kind: String,
    status: Review,
}

/// Whose a token is, if anybody's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Review {
    pub(super) authenticated: bool,
    pub(super) audiences: Vec<String>,
    pub(super) user: User,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct User {
    pub(super) username: String,
    pub(super) extra: BTreeMap<String, Vec<String>>,
}

impl ApiServer {
    /// Reads both files once, so that a mistake is found at the start. Blocks on the disk.
    pub(super) fn new(options: &KubernetesOptions) -> Result<Self, Invalid> {
        let invalid =
            |key, path: &Path, error: io::Error| Invalid { key, why: format!("{}: {error}", path.display()) };
        let KubernetesOptions { token_file, ca_file, .. } = options;
        let url = options.api()?.join(PATH);
        let url = url.map_err(|error| Invalid { key: "kubernetes.api", why: error.to_string() })?;
        ServiceAccountToken::read(token_file)
            .map_err(|error| invalid("kubernetes.token_file", token_file, error))?;
        let client = read_client(ca_file).map_err(|error| invalid("kubernetes.ca_file", ca_file, error))?;
        Ok(Self { url, token_file: token_file.clone(), ca_file: ca_file.clone(), client: Mutex::new(client) })
    }

    /// Asks whose `token` is, if it is for `audience`. In [`ANSWER_TIMEOUT`] it is answered or not.
    pub(super) async fn review(
        self: &Arc<Self>,
        token: &ServiceAccountToken,
        audience: &str,
    ) -> Result<Review, ApiError> {
        tokio::time::timeout(ANSWER_TIMEOUT, self.ask(token, audience))
            .await
            .unwrap_or(Err(ApiError::TooSlow))
    }

    async fn ask(self: &Arc<Self>, token: &ServiceAccountToken, audience: &str) -> Result<Review, ApiError> {
        let this = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            let own = ServiceAccountToken::read(&this.token_file).map_err(ApiError::OwnToken)?;
            Ok((own, this.client().map_err(ApiError::Authority)?))
        });
        let (own, client) = read.await.map_err(|error| ApiError::OwnToken(io::Error::other(error)))??;
        let spec = Spec { token: token.expose(), audiences: [audience] };
        let request = client
            .post(self.url.clone())
            .bearer_auth(own.expose())
            .header(ACCEPT, "application/json")
            .json(&Question { api_version: API_VERSION, kind: KIND, spec });
        let response = request.send().await.map_err(|error| ApiError::Unreachable(cause(error)))?;
        match response.status().as_u16() {
            200..=299 => parse(&read_bounded(response).await?),
            401 => Err(ApiError::Unauthenticated),
            403 => Err(ApiError::Forbidden),
            status => Err(ApiError::Status(status)),
        }
    }

    /// Blocks on the disk.
    fn client(&self) -> io::Result<Client> {
        let pem = file::read_mounted(&self.ca_file, CA_BYTES_MAX)?;
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 != pem {
            let client = build(&pem)?;
            *kept = (pem, client);
        }
        Ok(kept.1.clone())
    }
}

fn read_client(ca_file: &Path) -> io::Result<(Vec<u8>, Client)> {
    let pem = file::read_mounted(ca_file, CA_BYTES_MAX)?;
    let client = build(&pem)?;
    Ok((pem, client))
}

/// A client that trusts these authorities alone, and follows nobody elsewhere: what it sends opens doors.
fn build(pem: &[u8]) -> io::Result<Client> {
    let found = Certificate::from_pem_bundle(pem).unwrap_or_default();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "there is no PEM certificate in it"));
    }
    Client::builder()
        .user_agent(concat!("damselfly-scheduler/", env!("CARGO_PKG_VERSION")))
        .https_only(true)
        .no_proxy()
        .referer(false)
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .pool_idle_timeout(IDLE_TIME)
        .tls_certs_only(found)
        .build()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, cause(error)))
}

async fn read_bounded(mut response: Response) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| ApiError::Unreachable(cause(error)))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(ApiError::Malformed("it is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn parse(body: &[u8]) -> Result<Review, ApiError> {
    // serde's error could quote the token.
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| ApiError::Malformed("its fields are others"))?;
    if answer.api_version != API_VERSION || answer.kind != KIND {
        return Err(ApiError::Malformed("it is of another kind or version"));
    }
    Ok(answer.status)
}

/// The innermost cause, without the URL.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_what_is_none_is_not_quoted() {
        let text = r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{},
            "spec":{"token":"eyJh.b.c"},"status":{"authenticated":true,"audiences":["a","b"],
            "user":{"username":"u","uid":"1","groups":["g"],"extra":{"k":["v"]}}}}"#;
        let review = parse(text.as_bytes()).unwrap();
        assert!(review.authenticated && review.audiences == ["a", "b"]);
        assert_eq!((review.user.username.as_str(), &review.user.extra["k"][0][..]), ("u", "v"));
        let unknown = text.replace("\"authenticated\":true,", "");
        assert!(!parse(unknown.as_bytes()).unwrap().authenticated);
        for bad in [
            "",
            "[]",
            "{}",
            r#""eyJh""#,
            &text.replace("status", "state"),
            &text.replace("\"status\":{", "\"status\":null,\"x\":{"),
            &text.replace("true", "\"true\""),
            &text.replace("TokenReview", "Status"),
            &text.replace("k8s.io/v1", "k8s.io/v1beta1"),
            &text.replace("[\"a\",\"b\"]", "\"a\""),
            &text[..text.len() - 1],
        ] {
            let error = parse(bad.as_bytes()).expect_err(bad);
            assert!(!error.to_string().contains("eyJh"), "{error}");
        }
    }
}
