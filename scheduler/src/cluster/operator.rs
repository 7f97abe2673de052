//! The operator's door: HTTP, and gRPC for preheats, over a Unix socket in the state directory. Whoever may use it is
//! whoever the system says runs the scheduler, or root; there is no secret for it that could be stolen. [`super::api`]
//! has the paths.
//!
//! Whatever changes something is told to the audit log, where there is one.

use super::refusal::{Body, Refusal, Stops};
use super::tokens::{NOTE_BYTES_MAX, Record};
use super::{Cluster, NewToken, api};
use crate::driver::{Input, Inputs};
use crate::preheat::TURNS;
use axum::Json;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::serve::{IncomingStream, Listener};
use origin::{Repository, Resolver};
use process::audit::{Event, Log, Operation};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use types::Registry;

/// The longest lifetime of a token that can be asked for.
pub(super) const LIFETIME_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// A host's id as people see it has this many hexadecimal digits.
const HOST_ID_DIGITS: usize = 16;

/// How long a removal waits to hear whether the host is connected.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// How long an accept that failed is not tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What operators can change.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    cluster: Cluster,
    pub(crate) resolver: Resolver,
    /// One for each preheat whose images are resolved.
    pub(crate) turns: Arc<Semaphore>,
    inputs: Inputs,
    audit: Option<Log>,
}

impl Desk {
    pub(crate) fn new(cluster: Cluster, resolver: Resolver, inputs: Inputs, audit: Option<Log>) -> Self {
        Self { cluster, resolver, turns: Arc::new(Semaphore::new(TURNS)), inputs, audit }
    }

    /// Tells the audit log, if there is one, what an operator had the scheduler do.
    pub(crate) fn done(&self, operator: Peer, name: &'static str, detail: String) {
        if let Some(audit) = &self.audit {
            let operation = Operation { name: name.into(), by: "operator".into(), detail };
            audit.tell_user(operator.uid, Event::Operation(operation));
        }
    }

    /// Asks the driver, unless it has stopped.
    pub(crate) async fn ask<T>(&self, input: impl FnOnce(oneshot::Sender<T>) -> Input) -> Result<T, Stops> {
        let (answer, answered) = oneshot::channel();
        self.inputs.send(input(answer)).await.map_err(|_| Stops)?;
        answered.await.map_err(|_| Stops)
    }
}

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
    pub(crate) async fn serve(self, desk: Desk, cancel: CancellationToken) {
        let routes = api::router(desk).into_make_service_with_connect_info::<Peer>();
        let serving = axum::serve(OwnerOnly(self.listener), routes);
        if let Err(error) = serving.with_graceful_shutdown(cancel.cancelled_owned()).await {
            tracing::error!(%error, "the operator's socket has ended");
        }
        drop(std::fs::remove_file(self.path));
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(super) uid: u32,
}

impl Connected<IncomingStream<'_, OwnerOnly>> for Peer {
    fn connect_info(stream: IncomingStream<'_, OwnerOnly>) -> Self {
        *stream.remote_addr()
    }
}

/// Lets in only those who run as the scheduler does, and root.
struct OwnerOnly(UnixListener);

impl Listener for OwnerOnly {
    type Io = UnixStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (UnixStream, Peer) {
        loop {
            match self.0.accept().await {
                Ok((stream, _)) => match stream.peer_cred() {
                    Ok(peer) if peer.uid() == 0 || peer.uid() == own_uid() => {
                        return (stream, Peer { uid: peer.uid() });
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

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { uid: own_uid() })
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[derive(Debug, Serialize)]
pub(super) struct TokenView {
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    pub(super) expires: Option<u64>,
    pub(super) note: String,
    /// The token itself, in the answer to its making alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
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
pub(super) struct TokenRequest {
    note: String,
    lifetime_seconds: Option<u64>,
}

pub(super) async fn tokens(State(desk): State<Desk>) -> Json<Vec<TokenView>> {
    let good = desk.cluster.tokens.list(SystemTime::now());
    Json(good.iter().map(|record| TokenView::of(record, None)).collect())
}

pub(super) async fn create_token(
    State(desk): State<Desk>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    Body(request): Body<TokenRequest>,
) -> Result<Json<TokenView>, Refusal> {
    if request.note.len() > NOTE_BYTES_MAX || request.note.contains(char::is_control) {
        return Err(bad(format!("a note has at most {NOTE_BYTES_MAX} bytes, and no control characters")));
    }
    let lifetime = request.lifetime_seconds.map(Duration::from_secs);
    if lifetime.is_some_and(|lifetime| lifetime.is_zero() || lifetime > LIFETIME_MAX) {
        return Err(bad("a token's lifetime is 1 s to 10 years".to_owned()));
    }
    let (cluster, new) = (desk.cluster.clone(), NewToken { note: request.note, lifetime });
    let (token, record) = on_disk(move || cluster.create_token(new)).await?;
    tracing::info!(token = record.id(), note = record.note(), "an operator made a join token");
    desk.done(operator, "token_create", format!("{} {}", record.id(), record.note()).trim_end().to_owned());
    Ok(Json(TokenView::of(&record, Some(token.expose()))))
}

pub(super) async fn revoke_token(
    State(desk): State<Desk>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let (cluster, revoked) = (desk.cluster.clone(), id.clone());
    if !on_disk(move || cluster.revoke_token(&revoked)).await? {
        return Err(Refusal(StatusCode::NOT_FOUND, "there is no token with this id".to_owned()));
    }
    tracing::info!(token = id, "an operator revoked a join token");
    desk.done(operator, "token_revoke", id);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn removed_hosts(State(desk): State<Desk>) -> Json<Vec<String>> {
    Json(desk.cluster.removed.list())
}

#[derive(Debug, Serialize)]
pub(super) struct HostRemoved {
    /// Whether it was connected: an id that is mistyped is not. Nothing, if the scheduler is too busy to say.
    pub(super) connected: Option<bool>,
}

pub(super) async fn remove_host(
    State(desk): State<Desk>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    Path(id): Path<String>,
) -> Result<Json<HostRemoved>, Refusal> {
    let id = host_id(&id).map_err(bad)?;
    let (asked, removed, cluster) = (id.clone(), id.clone(), desk.cluster.clone());
    // Before it is out, and its stream ended; but whatever the answer, it goes.
    let connected = desk.ask(|answer| Input::IsConnected { id: asked, answer });
    let connected = tokio::time::timeout(ANSWER_PATIENCE, connected).await.ok().and_then(Result::ok);
    if on_disk(move || cluster.removed.add(&removed)).await? {
        tracing::info!(host = id, connected, "an operator removed a host");
    }
    desk.done(operator, "host_remove", id);
    Ok(Json(HostRemoved { connected }))
}

pub(super) async fn restore_host(
    State(desk): State<Desk>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let id = host_id(&id).map_err(bad)?;
    let (restored, cluster) = (id.clone(), desk.cluster.clone());
    if !on_disk(move || cluster.removed.restore(&restored)).await? {
        return Err(Refusal(StatusCode::NOT_FOUND, "this host was not removed".to_owned()));
    }
    tracing::info!(host = id, "an operator let a host in again");
    desk.done(operator, "host_restore", id);
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FlushRequest {
    registry: String,
    repository: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Flushed {
    /// Hosts that were told.
    pub(super) hosts: usize,
}

pub(super) async fn flush(
    State(desk): State<Desk>,
    ConnectInfo(operator): ConnectInfo<Peer>,
    Body(request): Body<FlushRequest>,
) -> Result<Json<Flushed>, Refusal> {
    let of = match (request.registry.as_str(), request.repository.as_str()) {
        ("", "") => None,
        (registry, repository) => {
            let registry = Registry::parse(registry).map_err(|error| bad(format!("registry: {error}")))?;
            let name = repository.parse().map_err(|error| bad(format!("repository: {error}")))?;
            Some(Repository::new(&registry, name))
        }
    };
    desk.resolver.forget(of.as_ref());
    let meant = of.as_ref().map(|of| (of.registry.clone(), of.name.as_str().to_owned()));
    let what = of.map_or_else(|| "all repositories".to_owned(), |of| of.to_string());
    desk.done(operator, "flush", what.clone());
    // Goes on though the operator goes: hosts that are away are to hear of it after a restart too.
    let flushing = tokio::spawn(async move {
        let hosts = desk.ask(|told| Input::Forget { of: meant, told }).await?;
        tracing::info!(what, hosts, "an operator had the answers of origins forgotten");
        on_disk(move || desk.cluster.flushes.save()).await?;
        Ok(Json(Flushed { hosts }))
    });
    flushing.await.map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?
}

fn bad(why: String) -> Refusal {
    Refusal(StatusCode::UNPROCESSABLE_ENTITY, why)
}

/// A host's id, as `HostId` writes it.
///
/// # Errors
/// What one looks like, for the operator.
pub(crate) fn host_id(text: &str) -> Result<String, String> {
    let good = text.len() == HOST_ID_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
    let why = || format!("a host's id has {HOST_ID_DIGITS} hexadecimal digits, as `dfctl status` shows it");
    good.then(|| text.to_ascii_lowercase()).ok_or_else(why)
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let failed = |why: String| Refusal(StatusCode::INTERNAL_SERVER_ERROR, why);
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| failed(error.to_string()))?;
    done.map_err(|error| failed(error.to_string()))
}
