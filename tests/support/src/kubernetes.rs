//! A stand-in for Kubernetes' API server: the one call that the scheduler makes, TokenReview, and the one of a daemon's
//! pod, for its node, over HTTPS, with faults on demand.
//!
//! It is as strict as the real one about who asks, where and how, and answers in the same form. The tests of joining by
//! a service account's token use it.

use crate::authority::Authority;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const NODES: &str = "/api/v1/nodes/";
const API_VERSION: &str = "authentication.k8s.io/v1";
const QUESTION_BYTES_MAX: usize = 1 << 20;

/// What a token stands for.
#[derive(Clone, Debug)]
pub struct Grant {
    /// As in `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
    /// What it was projected for.
    pub audiences: Vec<String>,
    /// The pod's name, and its node's.
    pub pod: Option<(String, String)>,
}

/// What the server does in place of its duty.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers with this status, and sends elsewhere with it if it is one of those.
    Status(u16),
    /// Answers with this.
    Body(String),
    /// Answers without a word on audiences, as a server that knows nothing of them.
    NoAudiences,
    /// Takes the question and says nothing.
    Hang,
}

#[derive(Debug, Default)]
struct State {
    reviewer: String,
    grants: BTreeMap<String, Grant>,
    nodes: BTreeMap<String, BTreeMap<String, String>>,
    fault: Option<Fault>,
    asked: Vec<String>,
    mistakes: Vec<String>,
    connections: usize,
}

/// The server. It ends when dropped.
#[derive(Debug)]
pub struct ApiServer {
    url: String,
    files: TempDir,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ApiServer {
    /// Starts one that takes questions from whoever has this token, and lays the token and the certificate of its
    /// authority into files, as kubelet does for a pod.
    ///
    /// # Errors
    /// If no port is free, or no file can be written.
    pub async fn start(reviewer: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let authority = Authority::new().map_err(io::Error::other)?;
        let identity = authority.identity(&["127.0.0.1"]).map_err(io::Error::other)?;
        let acceptor = identity.acceptor().map_err(io::Error::other)?;
        let files = TempDir::new()?;
        let state = Arc::new(Mutex::new(State::default()));
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&state)));
        let server = Self { url: format!("https://{address}"), files, state, task };
        std::fs::write(server.ca_file(), authority.pem())?;
        server.rotate(reviewer)?;
        Ok(server)
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token of those who may ask.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.files.path().join("token")
    }

    /// The certificate of its authority.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.files.path().join("ca.crt")
    }

    /// From now on this is the token of those who may ask, in the file too.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn rotate(&self, reviewer: &str) -> io::Result<()> {
        reviewer.clone_into(&mut lock(&self.state).reviewer);
        std::fs::write(self.token_file(), reviewer)
    }

    /// From now on nobody listens. The files stay.
    pub fn stop(&self) {
        self.task.abort();
    }

    /// From now on the token is good for this.
    pub fn grant(&self, token: &str, grant: Grant) {
        lock(&self.state).grants.insert(token.to_owned(), grant);
    }

    /// From now on there is a node of this name, with these labels.
    pub fn node(&self, name: &str, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        lock(&self.state).nodes.insert(name.to_owned(), labels);
    }

    /// From now on it does this, or its duty.
    pub fn fault(&self, fault: Option<Fault>) {
        lock(&self.state).fault = fault;
    }

    /// The tokens that it was asked about.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        lock(&self.state).asked.clone()
    }

    /// What was wrong with questions.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        lock(&self.state).mistakes.clone()
    }

    /// How many connections came as far as a request.
    #[must_use]
    pub fn connections(&self) -> usize {
        lock(&self.state).connections
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let Ok(socket) = acceptor.accept(socket).await else { return };
            lock(&state).connections += 1;
            let service = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(answer(&state, request).await) }
            });
            // A client that leaves is not worth a word.
            let serving = hyper::server::conn::http1::Builder::new();
            drop(serving.serve_connection(TokioIo::new(socket), service).await);
        });
    }
}

async fn answer(state: &Mutex<State>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, QUESTION_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    if let Some(name) = parts.uri.path().strip_prefix(NODES) {
        let fault = lock(state).fault.clone();
        return match fault {
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Status(status)) => respond(status, failure(status)),
            Some(Fault::Body(text)) => respond(200, text),
            Some(Fault::NoAudiences) | None => node(&lock(state), &parts.method, name, &parts.headers),
        };
    }
    let asked = question(&lock(state), &parts.method, parts.uri.path(), &parts.headers, &body);
    let fault = match asked {
        Ok(token) => {
            let mut state = lock(state);
            state.asked.push(token);
            state.fault.clone()
        }
        Err((status, mistake)) => {
            lock(state).mistakes.push(mistake.to_owned());
            return respond(status, failure(status));
        }
    };
    match fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Status(status)) => respond(status, failure(status)),
        Some(Fault::Body(text)) => respond(201, text),
        Some(Fault::NoAudiences) => respond(201, review(&lock(state), &body, false)),
        None => respond(201, review(&lock(state), &body, true)),
    }
}

/// A node, as far as anybody here reads it.
fn node(state: &State, method: &Method, name: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if authorization != Some(&format!("Bearer {}", state.reviewer)) {
        return respond(401, failure(401));
    }
    if method != Method::GET {
        return respond(405, failure(405));
    }
    let Some(labels) = state.nodes.get(name) else { return respond(404, failure(404)) };
    let node = json!({ "kind": "Node", "apiVersion": "v1", "metadata": { "name": name, "labels": labels }, "spec": {} });
    respond(200, node.to_string())
}

/// The token that is asked about, or the status and what is wrong with the question.
fn question(
    state: &State,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<String, (u16, &'static str)> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header(header::AUTHORIZATION) != format!("Bearer {}", state.reviewer) {
        return Err((401, "the reviewer's token is another"));
    }
    if path != PATH {
        return Err((404, "there is nothing at this path"));
    }
    if method != Method::POST {
        return Err((405, "a review is created"));
    }
    if header(header::CONTENT_TYPE) != "application/json" {
        return Err((415, "it is no JSON"));
    }
    let question: Value = serde_json::from_slice(body).map_err(|_| (400, "it is no JSON"))?;
    if question["kind"] != "TokenReview" || question["apiVersion"] != API_VERSION {
        return Err((400, "it is no TokenReview"));
    }
    let audiences = question["spec"]["audiences"].as_array();
    if audiences.is_none_or(|audiences| audiences.iter().any(|audience| !audience.is_string())) {
        return Err((400, "the audiences are no list of texts"));
    }
    question["spec"]["token"].as_str().map(str::to_owned).ok_or((400, "there is no token"))
}

/// The answer to a good question, which repeats it.
fn review(state: &State, question: &[u8], audiences: bool) -> String {
    let mut answer: Value = serde_json::from_slice(question).unwrap_or_default();
    answer["metadata"] = json!({ "creationTimestamp": null });
    let asked: Vec<&str> = match answer["spec"]["audiences"].as_array() {
        Some(audiences) => audiences.iter().filter_map(Value::as_str).collect(),
        None => Vec::new(),
    };
    let grant = answer["spec"]["token"].as_str().and_then(|token| state.grants.get(token));
    let shared = |grant: &Grant| -> Vec<String> {
        grant.audiences.iter().filter(|audience| asked.contains(&audience.as_str())).cloned().collect()
    };
    answer["status"] = match grant {
        Some(grant) if !audiences || !shared(grant).is_empty() => {
            let mut extra = json!({ "authentication.kubernetes.io/credential-id": ["JTI=1"] });
            if let Some((pod, node)) = &grant.pod {
                extra["authentication.kubernetes.io/pod-name"] = json!([pod]);
                extra["authentication.kubernetes.io/node-name"] = json!([node]);
            }
            let groups = ["system:serviceaccounts", "system:authenticated"];
            let user = json!({ "username": grant.username, "uid": "1", "groups": groups, "extra": extra });
            let mut status = json!({ "authenticated": true, "user": user });
            if audiences {
                status["audiences"] = json!(shared(grant));
            }
            status
        }
        Some(grant) => {
            let error = format!("token audiences {:?} is invalid for the target audiences", grant.audiences);
            json!({ "user": {}, "error": error })
        }
        None => json!({ "user": {}, "error": "invalid bearer token" }),
    };
    answer.to_string()
}

fn failure(status: u16) -> String {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status }).to_string()
}

fn respond(status: u16, text: String) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    if status.is_redirection() {
        response = response.header(header::LOCATION, PATH);
    }
    response.body(Full::new(text.into())).unwrap_or_default()
}
