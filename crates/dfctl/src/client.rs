//! Talks HTTP to the daemon of this node: answers of bounded size, errors in plain words.

use crate::Error;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// The longest answer that is kept in memory, in bytes: the status of 10,000 hosts is about 4 MiB.
const ANSWER_LEN_MAX: usize = 32 << 20;

/// The longest error message that is shown, in characters.
const MESSAGE_LEN_MAX: usize = 400;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Without a byte for this long the daemon is given up: longer than it lets a client wait itself.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// One of the daemon's addresses, or the scheduler's operator socket.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    base: Url,
    flag: &'static str,
    /// Where it is, if not at the address.
    socket: Option<PathBuf>,
    http: reqwest::Client,
}

/// What we ask is on this machine: a proxy of the environment has no business between.
fn builder() -> reqwest::ClientBuilder {
    process::tls::install_provider();
    reqwest::Client::builder()
        .user_agent(concat!("dfctl/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
}

impl Client {
    /// The daemon's admin port.
    pub(crate) fn admin(base: Url) -> Result<Self, Error> {
        Self::new(base, "--daemon")
    }

    /// Where the daemon serves container runtimes.
    pub(crate) fn proxy(base: Url) -> Result<Self, Error> {
        Self::new(base, "--proxy")
    }

    /// The scheduler's operator socket.
    pub(crate) fn operator(socket: &Path) -> Result<Self, Error> {
        let base = "http://scheduler/".parse().map_err(|_| Error::Unexpected("no URL".to_owned()))?;
        let client = Self { socket: Some(socket.to_owned()), ..Self::new(base, "--socket")? };
        let http = builder().unix_socket(socket).build();
        Ok(Self { http: http.map_err(|error| Error::Unexpected(error.to_string()))?, ..client })
    }

    fn new(base: Url, flag: &'static str) -> Result<Self, Error> {
        let http = builder().build().map_err(|error| Error::Unexpected(error.to_string()))?;
        Ok(Self { base, flag, socket: None, http })
    }

    /// A GET's JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.json(self.request(Method::GET, path, &[])).await
    }

    /// A GET's JSON that has to be there in time.
    pub(crate) async fn get_within<T: DeserializeOwned>(
        &self,
        path: &str,
        time: Duration,
    ) -> Result<T, Error> {
        self.json(self.request(Method::GET, path, &[]).timeout(time)).await
    }

    /// A POST's JSON; the question is in the query.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, Error> {
        self.json(self.request(Method::POST, path, query)).await
    }

    /// A POST's JSON, for a question in JSON.
    pub(crate) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        question: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(question).map_err(|error| Error::Unexpected(error.to_string()))?;
        let request = self.request(Method::POST, path, &[]);
        self.json(request.header(CONTENT_TYPE, "application/json").body(body)).await
    }

    /// A PUT's JSON, without a question.
    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.json(self.request(Method::PUT, path, &[])).await
    }

    /// A DELETE's JSON.
    pub(crate) async fn delete_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.json(self.request(Method::DELETE, path, &[])).await
    }

    /// A DELETE without an answer.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Error> {
        self.send(self.request(Method::DELETE, path, &[])).await.map(drop)
    }

    /// A request yet to be sent.
    pub(crate) fn request(&self, method: Method, path: &str, query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.http.request(method, url)
    }

    /// Sends a request; an answer that is no success is an error.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.read(response).await.unwrap_or_default();
        let message =
            message(&body).unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason").to_owned());
        Err(match status {
            StatusCode::UNAUTHORIZED => Error::Unauthorized { message },
            _ => Error::Refused { status: status.as_u16(), message },
        })
    }

    /// An answer's whole body.
    pub(crate) async fn read(&self, response: Response) -> Result<Bytes, Error> {
        let mut body = BytesMut::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.broken(&error))?;
            if body.len() + chunk.len() > ANSWER_LEN_MAX {
                return Err(Error::Unexpected(format!("it is larger than {ANSWER_LEN_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let body = self.read(self.send(request).await?).await?;
        serde_json::from_slice(&body).map_err(|error| Error::Unexpected(error.to_string()))
    }

    fn broken(&self, error: &reqwest::Error) -> Error {
        if let Some(socket) = &self.socket {
            return Error::NoScheduler { socket: socket.clone(), why: cause(error) };
        }
        let address = self.base.as_str().trim_end_matches('/').to_owned();
        if error.is_connect() {
            return Error::NotRunning { address, flag: self.flag };
        }
        Error::Broken { address, why: cause(error) }
    }
}

/// The innermost cause: the outer ones only say that something failed.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// What an error's body says: the distribution API's form, or the admin port's.
fn message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(default)]
        errors: Vec<Item>,
        error: Option<String>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let document: Document = serde_json::from_slice(body).ok()?;
    let listed = document.errors.into_iter().map(|item| match (item.code, item.message) {
        (code, message) if message.is_empty() => code,
        (_, message) => message,
    });
    let text = document.error.into_iter().chain(listed).collect::<Vec<_>>().join("; ");
    let text: String = text.chars().filter(|c| !c.is_control()).take(MESSAGE_LEN_MAX).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_errors() {
        let table = [
            (r#"{"errors":[{"code":"X","message":"one"},{"code":"Y"}]}"#, Some("one; Y")),
            (r#"{"error":"no such image"}"#, Some("no such image")),
            (r#"{"errors":[]}"#, None),
            ("<html>", None),
            ("", None),
        ];
        for (body, expected) in table {
            assert_eq!(message(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }

    #[tokio::test]
    async fn nobody_there() {
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = Client::admin(format!("http://127.0.0.1:{port}").parse().unwrap()).unwrap();
        let error = client.get::<serde_json::Value>("/v1/status").await.unwrap_err().to_string();
        let expected = format!("no daemon answers at http://127.0.0.1:{port}: start it with `dfdaemon`");
        assert!(error.starts_with(&expected) && error.contains("--daemon"), "{error}");
    }
}
