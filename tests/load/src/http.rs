//! The HTTP client of the load test: plain HTTP/1.1 over loopback, a pool of its own for each that is made.
//!
//! It costs little and knows no TLS, since hundreds of them run on the machine that is measured.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// The longest answer that is read whole, in bytes: `/metrics` and the status of 2000 hosts.
const ANSWER_MAX: usize = 64 << 20;

/// How long a whole answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A client with a pool of its own.
#[derive(Clone, Debug)]
pub struct Http(Client<HttpConnector, Empty<Bytes>>);

impl Http {
    /// A client without connections.
    #[must_use]
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// Asks, with an `Accept` if it is not empty; the answer is 200, its body yet to come.
    ///
    /// # Errors
    /// If there is no answer, or another than 200; then its body is in the message.
    pub async fn ask(&self, method: Method, url: &str, accept: &str) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(url);
        if !accept.is_empty() {
            request = request.header(header::ACCEPT, accept);
        }
        let answer = self.0.request(request.body(Empty::new())?).await.with_context(|| url.to_owned())?;
        if answer.status() == StatusCode::OK {
            return Ok(answer);
        }
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        anyhow::bail!("{url}: {status}: {}", String::from_utf8_lossy(&body));
    }

    /// Gets a whole answer.
    ///
    /// # Errors
    /// As [`Self::ask`]; if it is too long or takes too long.
    pub async fn get(&self, url: &str) -> Result<Bytes> {
        self.whole(Method::GET, url).await
    }

    /// Gets a value.
    ///
    /// # Errors
    /// As [`Self::get`]; if it is no such value.
    pub async fn get_json<T: DeserializeOwned>(&self, url: &str) -> Result<T> {
        serde_json::from_slice(&self.get(url).await?).with_context(|| url.to_owned())
    }

    /// Has something done.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(&self, url: &str) -> Result<()> {
        self.whole(Method::POST, url).await.map(drop)
    }

    async fn whole(&self, method: Method, url: &str) -> Result<Bytes> {
        let asking = async {
            let answer = self.ask(method, url, "").await?;
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("{url}: {error}"))?.to_bytes();
            ensure!(body.len() <= ANSWER_MAX, "{url}: too long");
            Ok(body)
        };
        tokio::time::timeout(ANSWER_LIMIT, asking).await.with_context(|| format!("{url}: no answer"))?
    }
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}
