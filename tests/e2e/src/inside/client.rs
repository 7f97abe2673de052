//! A client that sees what runtimes see: a status, headers, and a body that is whole or broken off.

use super::{BOUND, Node};
use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use reqwest::Method;
use reqwest::header::HeaderMap;
use std::time::Duration;
use support::images::MANIFEST;
use support::origin::FaultyOrigin;
use support::poll;
use types::Digest;

/// What an endless body is cut off at, in bytes: more than any test serves.
const BODY_MAX: usize = 256 << 20;

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status; 0 if the connection broke before there was one.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// What came of its body.
    pub body: Bytes,
    /// Whether the connection broke before the body's end.
    pub broken: bool,
}

impl Reply {
    /// A header, if it is there and text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The first code in the body, if it is an error of the distribution API.
    #[must_use]
    pub fn code(&self) -> String {
        let json: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let code = json.as_ref().and_then(|json| json["errors"][0]["code"].as_str());
        code.unwrap_or_default().to_owned()
    }

    /// Whether it is a whole success with exactly this body.
    #[must_use]
    pub fn is_right(&self, content: &[u8]) -> bool {
        matches!(self.status, 200 | 206) && !self.broken && self.body == content
    }

    /// Status, code and length, for messages.
    #[must_use]
    pub fn summary(&self) -> String {
        let end = if self.broken { "broken off" } else { "whole" };
        format!("{} {:?}, {} bytes, {end}", self.status, self.code(), self.body.len())
    }
}

/// The path and query of a blob, as containerd asks for it.
#[must_use]
pub fn blob_target(origin: &FaultyOrigin, repository: &str, digest: &Digest) -> String {
    format!("/v2/{repository}/blobs/{digest}?ns={}", origin.registry())
}

/// The path and query of a manifest, as containerd asks for it.
#[must_use]
pub fn manifest_target(origin: &FaultyOrigin, repository: &str, reference: impl std::fmt::Display) -> String {
    format!("/v2/{repository}/manifests/{reference}?ns={}", origin.registry())
}

impl Node {
    /// One GET through this node.
    ///
    /// # Errors
    /// If there is no answer at all, or the body never ends.
    pub async fn get(&self, target: &str) -> Result<Reply> {
        self.ask(Method::GET, target, &[]).await
    }

    /// One GET with a client's own `Authorization`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_with(&self, target: &str, authorization: &str) -> Result<Reply> {
        self.ask(Method::GET, target, &[("authorization", authorization)]).await
    }

    /// One GET of a part.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_range(&self, target: &str, range: &str) -> Result<Reply> {
        self.ask(Method::GET, target, &[("range", range)]).await
    }

    /// One request through this node.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn ask(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> Result<Reply> {
        let mut request = self.client.request(method, format!("{}{target}", self.proxy()));
        if target.contains("/manifests/") {
            request = request.header("accept", MANIFEST);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let read = async {
            let mut answer = match request.send().await {
                Ok(answer) => answer,
                Err(error) if error.is_request() && !error.is_connect() => {
                    return Ok(Reply {
                        status: 0,
                        headers: HeaderMap::new(),
                        body: Bytes::new(),
                        broken: true,
                    });
                }
                Err(error) => return Err(error.into()),
            };
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let (mut body, mut broken) = (BytesMut::new(), false);
            loop {
                match answer.chunk().await {
                    Ok(Some(chunk)) if body.len() + chunk.len() <= BODY_MAX => body.extend_from_slice(&chunk),
                    Ok(Some(_)) => anyhow::bail!("{target}: a body without an end"),
                    Ok(None) => break,
                    Err(_) => {
                        broken = true;
                        break;
                    }
                }
            }
            Ok(Reply { status, headers, body: body.freeze(), broken })
        };
        tokio::time::timeout(BOUND, read).await.with_context(|| format!("{target}: no end in {BOUND:?}"))?
    }

    /// Begins a GET and gives its answer's body up after `bytes` of it, as a client that leaves.
    ///
    /// # Errors
    /// If so much does not come.
    pub async fn leave_after(&self, target: &str, bytes: usize) -> Result<()> {
        let read = async {
            // A client of its own: what is dropped then is the connection.
            let client = reqwest::Client::builder().no_proxy().build()?;
            let mut answer = client.get(format!("{}{target}", self.proxy())).send().await?;
            let mut got = 0;
            while got < bytes {
                got += answer.chunk().await?.context("more of the body")?.len();
            }
            Ok(())
        };
        tokio::time::timeout(BOUND, read).await.context("a part of a body")?
    }
}

/// Asks until the answer is right, within `limit`; how often it took. An answer that is whole and wrong ends it: that must
/// never be.
///
/// # Errors
/// If the answer does not become right, or a wrong one looks right.
pub async fn until_right(node: &Node, target: &str, content: &[u8], limit: Duration) -> Result<u32> {
    let attempts = std::sync::atomic::AtomicU32::new(0);
    let last = std::sync::Mutex::new(String::new());
    let found = poll::until_async(target, limit, || async {
        attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let reply = node.get(target).await?;
        ensure!(
            reply.status != 200 || reply.broken || reply.body == content,
            "{target}: a whole answer is wrong: {}",
            reply.summary()
        );
        *last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = reply.summary();
        Ok(reply.is_right(content).then_some(()))
    });
    found.await.with_context(|| {
        let last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        format!("the last answer was {last}")
    })?;
    Ok(attempts.into_inner())
}

/// A small JSON document.
pub(super) async fn json(url: &str) -> Result<serde_json::Value> {
    let client = reqwest::Client::builder().no_proxy().timeout(BOUND).build()?;
    Ok(client.get(url).send().await?.error_for_status()?.json().await?)
}
