//! A token server as the distribution registry's documentation describes it ("Token Authentication"): Basic credentials
//! or an OAuth2 form against a signed token that says what its bearer may do.
//!
//! Called by the end-to-end tests, before Debian's docker-registry. It remembers every question and every token.

use crate::authority::{Authority, Identity};
use crate::origin::{basic, parse};
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_RSA_SHA256, SigningKey as _};
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Who signs, for the registry.
pub const ISSUER: &str = "test-issuer";

/// The registry's name, as it gives it in its challenges.
pub const SERVICE: &str = "test-registry";

/// How long a token lives, in seconds.
const LIFETIME: u64 = 300;

/// How long a TLS handshake may take; the next one waits for it.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Somebody who may have tokens.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: String,
    /// The repositories that the user may pull.
    pub repositories: Vec<String>,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A token that is good for all that was asked.
    Granted,
    /// A token that is good for less: the registry will say no.
    Less,
    /// No token: the password is wrong.
    Refused,
}

/// A question that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who asked, by the name given; nobody for an anonymous client.
    pub account: Option<String>,
    /// What for, as it was asked.
    pub scope: String,
    /// What became of it.
    pub outcome: Outcome,
}

#[derive(Debug, Default)]
struct Asked {
    questions: Vec<Question>,
    tokens: Vec<String>,
}

struct Shared {
    accounts: Vec<Account>,
    signer: Identity,
    asked: Mutex<Asked>,
}

/// The running server. Dropping it ends it.
#[derive(Debug)]
pub struct TokenServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl TokenServer {
    /// Serves `accounts` over TLS on `listener`, which may be of another network namespace. Its certificate and the one
    /// that vouches for its tokens are of `authority`.
    ///
    /// # Errors
    /// If it cannot be set up.
    pub fn start(listener: TcpListener, authority: &Authority, accounts: Vec<Account>) -> Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let acceptor = authority.identity(&[&address.ip().to_string()])?.acceptor()?;
        // The only kind whose signature stands in a token as it is made.
        let signer = authority.identity_of(KeyPair::generate_for(&PKCS_RSA_SHA256)?, &[ISSUER])?;
        let shared = Arc::new(Shared { accounts, signer, asked: Mutex::default() });
        let router =
            Router::new().route("/token", get(by_query).post(by_form)).with_state(Arc::clone(&shared));
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tokio::select! {
                    served = axum::serve(Listener { listener, acceptor }, router) => Ok(served?),
                    _ = stopped => Ok(()),
                }
            })
        });
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Where clients get tokens.
    #[must_use]
    pub fn realm(&self) -> String {
        format!("https://{}/token", self.address)
    }

    /// What was asked so far.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        self.shared.asked().questions.clone()
    }

    /// All tokens that it has given.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.shared.asked().tokens.clone()
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Gone already is as good as stopped.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The distribution specification's form, "Token Authentication Specification".
async fn by_query(State(shared): State<Arc<Shared>>, headers: HeaderMap, uri: Uri) -> Response {
    let asked = parse(uri.query().unwrap_or_default());
    let login = match headers.get(header::AUTHORIZATION) {
        None => None,
        Some(value) => match value.to_str().ok().and_then(basic) {
            None => return StatusCode::BAD_REQUEST.into_response(),
            login => login,
        },
    };
    shared.answer(login.as_ref(), &asked)
}

/// The OAuth2 form ("Docker Registry v2 Bearer token specification", "POST"), by a user's password only.
async fn by_form(State(shared): State<Arc<Shared>>, form: String) -> Response {
    let asked = parse(&form);
    let of = |key: &str| asked.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone());
    match (of("grant_type").as_deref(), of("username"), of("password")) {
        (Some("password"), Some(user), Some(password)) => shared.answer(Some(&(user, password)), &asked),
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}

impl Shared {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, login: Option<&(String, String)>, asked: &[(String, String)]) -> Response {
        let scopes: Vec<&str> = asked
            .iter()
            .filter(|(key, _)| key == "scope")
            .flat_map(|(_, scopes)| scopes.split(' '))
            .collect();
        let mut question = Question {
            account: login.map(|(user, _)| user.clone()),
            scope: scopes.join(" "),
            outcome: Outcome::Refused,
        };
        let account = login.and_then(|(user, password)| {
            self.accounts.iter().find(|account| account.user == *user && account.password == *password)
        });
        if login.is_some() && account.is_none() {
            self.asked().questions.push(question);
            let body = json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "wrong user or password" }] });
            return (StatusCode::UNAUTHORIZED, axum::Json(body)).into_response();
        }
        let access: Vec<_> = scopes.iter().filter_map(|scope| granted(account, scope)).collect();
        question.outcome = if access.len() == scopes.len() { Outcome::Granted } else { Outcome::Less };
        let token = match self.sign(account, &access) {
            Ok(token) => token,
            Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        };
        let mut asked = self.asked();
        asked.questions.push(question);
        asked.tokens.push(token.clone());
        drop(asked);
        axum::Json(json!({ "token": token, "access_token": token, "expires_in": LIFETIME })).into_response()
    }

    /// A JSON Web Token (RFC 7519) as the registry wants it ("Token Authentication Implementation").
    fn sign(&self, account: Option<&Account>, access: &[serde_json::Value]) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let certificate = STANDARD.encode(self.signer.certificate.der());
        let head = json!({ "typ": "JWT", "alg": "RS256", "x5c": [certificate] });
        let claims = json!({
            "iss": ISSUER,
            "sub": account.map_or("", |account| &account.user),
            "aud": SERVICE,
            "nbf": now,
            "iat": now,
            "exp": now + LIFETIME,
            "jti": format!("{:032x}", fastrand::u128(..)),
            "access": access,
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(&claims));
        let signature = self.signer.key.sign(signed.as_bytes()).context("a signature")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// What a token says of `scope`, `repository:NAME:ACTIONS`, if the account may have all of it.
fn granted(account: Option<&Account>, scope: &str) -> Option<serde_json::Value> {
    let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    let may = actions == "pull" && account?.repositories.iter().any(|repository| repository == name);
    may.then(|| json!({ "type": "repository", "name": name, "actions": [actions] }))
}

/// TLS connections.
struct Listener {
    listener: tokio::net::TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((socket, address)) = self.listener.accept().await else { continue };
            let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, self.acceptor.accept(socket));
            if let Ok(Ok(stream)) = handshake.await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}
