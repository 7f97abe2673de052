//! The operator's door: HTTP over a Unix socket in the state directory. Whoever may use it is whoever the system says
//! runs the scheduler, or root; there is no secret for it that could be stolen.
//!
//! ```text
//! GET    /v1/tokens          the good tokens, without their secrets
//! POST   /v1/tokens          {"note": "…", "lifetime_seconds": 3600}, both optional: a new one, with its text
//! DELETE /v1/tokens/ID       revokes one
//! GET    /v1/removed-hosts   the ids of removed hosts
//! PUT    /v1/removed-hosts/ID, DELETE …   removes a host; lets it in again
//! ```

use super::tokens::{NOTE_BYTES_MAX, Record};
use super::{Cluster, NewToken};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, put};
use axum::serve::Listener;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// The longest lifetime of a token that can be asked for.
const LIFETIME_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// A host's id as people see it has this many hexadecimal digits.
const HOST_ID_DIGITS: usize = 16;

/// How long an accept that failed is not tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket, bound but not served yet.
#[derive(Debug)]
pub(crate) struct Operator {
    listener: UnixListener,
    path: PathBuf,
}

impl Operator {
    /// Binds the socket in the state directory. One that a former run left is replaced; one that is listened on is not.
    pub(crate) async fn bind(path: PathBuf) -> io::Result<Self> {
        if UnixStream::connect(&path).await.is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another scheduler uses this state directory",
            ));
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Serves until `cancel`.
    pub(crate) async fn serve(self, cluster: Cluster, cancel: CancellationToken) {
        let routes = Router::new()
            .route("/v1/tokens", get(tokens).post(create_token))
            .route("/v1/tokens/{id}", delete(revoke_token))
            .route("/v1/removed-hosts", get(removed_hosts))
            .route("/v1/removed-hosts/{id}", put(remove_host).delete(restore_host))
            .with_state(cluster);
        let serving = axum::serve(OwnerOnly(self.listener), routes);
        if let Err(error) = serving.with_graceful_shutdown(cancel.cancelled_owned()).await {
            tracing::error!(%error, "the operator's socket has ended");
        }
        drop(std::fs::remove_file(self.path));
    }
}

/// Lets in only those who run as the scheduler does, and root.
struct OwnerOnly(UnixListener);

impl Listener for OwnerOnly {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, address)) => match stream.peer_cred() {
                    Ok(peer) if peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw() => {
                        return (stream, address);
                    }
                    Ok(peer) => tracing::warn!(uid = peer.uid(), "another user at the operator's socket"),
                    Err(error) => tracing::warn!(%error, "somebody at the operator's socket"),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept at the operator's socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// What an operator is told when it does not work: `{"error": "…"}`.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({"error": self.1}))).into_response()
    }
}

#[derive(Debug, Serialize)]
struct TokenView {
    id: String,
    /// Seconds since 1970.
    created: u64,
    expires: Option<u64>,
    note: String,
    /// The token itself, in the answer to its making alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl TokenView {
    fn of(record: &Record, token: Option<String>) -> Self {
        Self {
            id: record.id(),
            created: record.created(),
            expires: record.expires(),
            note: record.note().to_owned(),
            token,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TokenRequest {
    note: String,
    lifetime_seconds: Option<u64>,
}

async fn tokens(State(cluster): State<Cluster>) -> Json<Vec<TokenView>> {
    let good = cluster.tokens.list(SystemTime::now());
    Json(good.iter().map(|record| TokenView::of(record, None)).collect())
}

async fn create_token(
    State(cluster): State<Cluster>,
    Json(request): Json<TokenRequest>,
) -> Result<Json<TokenView>, Refusal> {
    let bad = |why: String| Refusal(StatusCode::UNPROCESSABLE_ENTITY, why);
    if request.note.len() > NOTE_BYTES_MAX || request.note.contains(char::is_control) {
        return Err(bad(format!("a note has at most {NOTE_BYTES_MAX} bytes, and no control characters")));
    }
    let lifetime = request.lifetime_seconds.map(Duration::from_secs);
    if lifetime.is_some_and(|lifetime| lifetime.is_zero() || lifetime > LIFETIME_MAX) {
        return Err(bad("a token's lifetime is 1 s to 10 years".to_owned()));
    }
    let new = NewToken { note: request.note, lifetime };
    let (token, record) = on_disk(move || cluster.create_token(new)).await?;
    tracing::info!(token = record.id(), note = record.note(), "an operator made a join token");
    Ok(Json(TokenView::of(&record, Some(token.expose()))))
}

async fn revoke_token(State(cluster): State<Cluster>, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    let revoked = id.clone();
    if !on_disk(move || cluster.revoke_token(&revoked)).await? {
        return Err(Refusal(StatusCode::NOT_FOUND, "there is no token with this id".to_owned()));
    }
    tracing::info!(token = id, "an operator revoked a join token");
    Ok(StatusCode::NO_CONTENT)
}

async fn removed_hosts(State(cluster): State<Cluster>) -> Json<Vec<String>> {
    Json(cluster.removed.list())
}

async fn remove_host(State(cluster): State<Cluster>, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    let id = host_id(&id)?;
    let removed = id.clone();
    if on_disk(move || cluster.removed.add(&removed)).await? {
        tracing::info!(host = id, "an operator removed a host");
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn restore_host(State(cluster): State<Cluster>, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    let id = host_id(&id)?;
    let restored = id.clone();
    if !on_disk(move || cluster.removed.restore(&restored)).await? {
        return Err(Refusal(StatusCode::NOT_FOUND, "this host was not removed".to_owned()));
    }
    tracing::info!(host = id, "an operator let a host in again");
    Ok(StatusCode::NO_CONTENT)
}

fn host_id(text: &str) -> Result<String, Refusal> {
    let good = text.len() == HOST_ID_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
    if good {
        return Ok(text.to_ascii_lowercase());
    }
    let why = format!("a host's id has {HOST_ID_DIGITS} hexadecimal digits, as `dfctl status` shows it");
    Err(Refusal(StatusCode::UNPROCESSABLE_ENTITY, why))
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let failed = |why: String| Refusal(StatusCode::INTERNAL_SERVER_ERROR, why);
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| failed(error.to_string()))?;
    done.map_err(|error| failed(error.to_string()))
}
