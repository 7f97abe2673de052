//! The origin's HTTP: from a request to its answer.

use super::auth::{Verdict, parse};
use super::body::{Body, corrupt, streamed, whole};
use super::fault::Plan;
use super::{Contents, Request as Logged, Shared, Storage, StoredManifest, lock};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The largest form that `/token` reads, in bytes.
const FORM_LEN_MAX: usize = 64 * 1024;

/// Takes connections for ever; they end with it.
pub(super) async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    reachable: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        if !*reachable.borrow() {
            continue;
        }
        while connections.try_join_next().is_some() {}
        let (acceptor, shared, mut reachable) = (acceptor.clone(), Arc::clone(&shared), reachable.clone());
        // A delayed small answer would make a slow origin of a fast one.
        let _ = socket.set_nodelay(true);
        connections.spawn(async move {
            let serve = async {
                match acceptor {
                    None => connection(socket, shared).await,
                    Some(acceptor) => {
                        if let Ok(socket) = acceptor.accept(socket).await {
                            connection(socket, shared).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = serve => {}
                _ = reachable.wait_for(|reachable| !reachable) => {}
            }
        });
    }
}

async fn connection(socket: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(shared, request).await) }
    });
    // A client that leaves, or a connection broken on demand, is not worth a word.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(socket), service)
        .await;
}

/// What a request gets, before the plan.
enum Answer {
    /// Content, of which a Range may be asked, or a token, which has no digest.
    Content { content: Bytes, media_type: String, digest: Option<String> },
    /// Anything else, complete.
    Plain(Response<Body>),
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let (parts, incoming) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let plan = shared.rules.plan(&parts.method, &path);
    let form = match Limited::new(incoming, FORM_LEN_MAX).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(_) => String::new(),
    };
    tokio::time::sleep(plan.delay).await;
    let sent = Arc::new(AtomicU64::new(0));
    let mut logged = Logged {
        method: parts.method.clone(),
        path: path.clone(),
        query: query.clone(),
        headers: parts.headers.clone(),
        status: StatusCode::OK,
        content: false,
        sent: Arc::clone(&sent),
    };
    if plan.hang {
        shared.log.push(logged);
        return std::future::pending().await;
    }
    let answer = match early(&plan, &path) {
        Some(response) => Answer::Plain(response),
        None => find(&shared, &parts.method, &path, &query, &parts.headers, &form),
    };
    let headers = plan.headers.clone();
    let mut response = match answer {
        Answer::Plain(response) => response,
        Answer::Content { content, media_type, digest } => {
            logged.content = digest.is_some();
            let head = Head {
                method: &parts.method,
                headers: &parts.headers,
                media_type: &media_type,
                digest: digest.as_deref(),
            };
            head.respond(&content, plan, &shared, sent)
        }
    };
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().append(name, value);
        }
    }
    logged.status = response.status();
    logged.content &= response.status().is_success();
    shared.log.push(logged);
    response
}

/// The answers that need no content.
fn early(plan: &Plan, path: &str) -> Option<Response<Body>> {
    if let Some(status) = plan.status {
        return Some(error(
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            "FAULT",
        ));
    }
    let location = if plan.redirect_loop { Some(path) } else { plan.redirect.as_deref() }?;
    Some(redirect(location))
}

fn redirect(location: &str) -> Response<Body> {
    let mut response = Response::new(whole(""));
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn error(status: StatusCode, code: &str) -> Response<Body> {
    let text = serde_json::json!({ "errors": [{ "code": code, "message": status.to_string() }] }).to_string();
    let mut response = Response::new(whole(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn json(text: String) -> Response<Body> {
    let mut response = Response::new(whole(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn find(
    shared: &Shared,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    form: &str,
) -> Answer {
    if path == "/token" {
        let token = lock(&shared.guard).token(method, query, headers, form);
        return match token {
            Ok(text) => {
                Answer::Content { content: text.into(), media_type: "application/json".into(), digest: None }
            }
            Err(status) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
                Answer::Plain(error(status, "UNAUTHORIZED"))
            }
        };
    }
    if method != Method::GET && method != Method::HEAD {
        return Answer::Plain(error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"));
    }
    if let Some(digest) = path.strip_prefix("/storage/") {
        return stored(shared, digest, query, headers);
    }
    let Some(rest) = path.strip_prefix("/v2/") else {
        return Answer::Plain(error(StatusCode::NOT_FOUND, "NOT_FOUND"));
    };
    let named = ["/manifests/", "/blobs/", "/tags/", "/referrers/"]
        .iter()
        .find_map(|kind| rest.rsplit_once(kind).map(|(name, item)| (*kind, name, item)));
    let private = named.is_some_and(|(_, name, _)| lock(&shared.private).contains(name));
    let verdict = lock(&shared.guard).judge(headers, named.map(|(_, name, _)| name), private);
    if let Verdict::Challenge(challenge) = verdict {
        let mut response = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        return Answer::Plain(response);
    }
    let Some((kind, name, item)) = named else {
        let known =
            if rest.is_empty() { json("{}".into()) } else { error(StatusCode::NOT_FOUND, "NOT_FOUND") };
        return Answer::Plain(known);
    };
    let contents = lock(&shared.contents);
    let Some(repository) = contents.get(name) else {
        return Answer::Plain(error(StatusCode::NOT_FOUND, "NAME_UNKNOWN"));
    };
    match kind {
        "/manifests/" => manifest(repository, item, headers),
        "/blobs/" => blob(shared, repository, item),
        "/tags/" => Answer::Plain(tags(repository, name, query)),
        _ => Answer::Plain(error(StatusCode::NOT_FOUND, "NOT_FOUND")),
    }
}

fn manifest(repository: &Contents, reference: &str, headers: &HeaderMap) -> Answer {
    let digest = repository.tags.get(reference).map_or(reference, String::as_str);
    let Some(StoredManifest { media_type, content }) = repository.manifests.get(digest) else {
        return Answer::Plain(error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"));
    };
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).peekable();
    // A registry does not serve an OCI manifest to a client that has not heard of it.
    let oci = media_type.contains("vnd.oci");
    if oci && !accepted.any(|accept| accept.contains(media_type.as_str()) || accept.contains("*/*")) {
        return Answer::Plain(error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"));
    }
    Answer::Content { content: content.clone(), media_type: media_type.clone(), digest: Some(digest.into()) }
}

fn blob(shared: &Shared, repository: &Contents, digest: &str) -> Answer {
    let Some(content) = repository.blobs.get(digest) else {
        return Answer::Plain(error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"));
    };
    match &shared.storage {
        Storage::Registry => octets(content, digest),
        Storage::Redirect { base, uses } => {
            let mut signatures = lock(&shared.signatures);
            let signature = format!("{}-{}", shared.url.len(), signatures.len());
            signatures.insert(signature.clone(), *uses);
            let base = base.as_deref().unwrap_or_default();
            Answer::Plain(redirect(&format!("{base}/storage/{digest}?signature={signature}")))
        }
    }
}

fn octets(content: &Bytes, digest: &str) -> Answer {
    Answer::Content {
        content: content.clone(),
        media_type: "application/octet-stream".into(),
        digest: Some(digest.into()),
    }
}

/// An object store: a signature instead of a header, and not both.
fn stored(shared: &Shared, digest: &str, query: &str, headers: &HeaderMap) -> Answer {
    if headers.contains_key(header::AUTHORIZATION) {
        return Answer::Plain(error(StatusCode::BAD_REQUEST, "ONE_AUTH_MECHANISM"));
    }
    let signature = parse(query).into_iter().find(|(key, _)| key == "signature").map(|(_, value)| value);
    let own = matches!(&shared.storage, Storage::Redirect { base: None, .. });
    if own {
        let mut signatures = lock(&shared.signatures);
        match signature.and_then(|signature| signatures.get_mut(&signature)) {
            Some(uses) if *uses > 0 => *uses -= 1,
            _ => return Answer::Plain(error(StatusCode::FORBIDDEN, "EXPIRED")),
        }
    }
    let contents = lock(&shared.contents);
    match contents.values().find_map(|repository| repository.blobs.get(digest)) {
        Some(content) => octets(content, digest),
        None => Answer::Plain(error(StatusCode::NOT_FOUND, "NO_SUCH_KEY")),
    }
}

fn tags(repository: &Contents, name: &str, query: &str) -> Response<Body> {
    let asked = parse(query);
    let get = |key: &str| asked.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    let count = get("n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    let last = get("last").unwrap_or_default();
    let after: Vec<&String> = repository.tags.keys().filter(|tag| tag.as_str() > last).collect();
    let page = &after[..count.min(after.len())];
    let mut response = json(serde_json::json!({ "name": name, "tags": page }).to_string());
    if page.len() < after.len()
        && let Some(last) = page.last()
        && let Ok(link) =
            HeaderValue::from_str(&format!("</v2/{name}/tags/list?n={count}&last={last}>; rel=\"next\""))
    {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// What an answer with content depends on.
struct Head<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
    media_type: &'a str,
    digest: Option<&'a str>,
}

impl Head<'_> {
    fn respond(
        &self,
        content: &Bytes,
        plan: Plan,
        shared: &Arc<Shared>,
        sent: Arc<AtomicU64>,
    ) -> Response<Body> {
        let total = content.len();
        let asked =
            self.headers.get(header::RANGE).and_then(|v| v.to_str().ok()).filter(|_| !plan.ignore_range);
        let mut response = Response::builder();
        let range = match asked.map(|text| parse_range(text, total)) {
            None => 0..total,
            Some(Some(range)) => {
                let text = format!("bytes {}-{}/{total}", range.start, range.end - 1);
                response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, text);
                range
            }
            Some(None) => {
                let mut response = error(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID");
                if let Ok(value) = HeaderValue::from_str(&format!("bytes */{total}")) {
                    response.headers_mut().insert(header::CONTENT_RANGE, value);
                }
                return response;
            }
        };
        let part = content.slice(range.clone());
        let part = match plan.corrupt {
            Some(offset) => corrupt(part, range.start as u64, offset),
            None => part,
        };
        if !plan.no_content_type {
            response = response.header(header::CONTENT_TYPE, self.media_type);
        }
        if let Some(digest) = plan.false_digest {
            response = response.header("docker-content-digest", digest.to_string());
        } else if let Some(digest) = self.digest.filter(|_| !plan.no_digest) {
            response = response.header("docker-content-digest", digest);
        }
        if !plan.no_content_length {
            let len = plan.content_length.unwrap_or(part.len() as u64);
            response = response.header(header::CONTENT_LENGTH, len);
        }
        let body = if self.method == Method::HEAD {
            whole("")
        } else {
            streamed(part, plan, Arc::clone(shared), sent)
        };
        response.body(body).unwrap_or_else(|_| error(StatusCode::INTERNAL_SERVER_ERROR, "TEST"))
    }
}

/// One range of the three forms; nothing if it lies outside.
fn parse_range(text: &str, total: usize) -> Option<Range<usize>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => first..last.checked_add(1)?.min(total),
        (Ok(first), Err(_)) => first..total,
        (Err(_), Ok(len)) => total.saturating_sub(len)..total,
        (Err(_), Err(_)) => return None,
    };
    (range.start < range.end).then_some(range)
}
