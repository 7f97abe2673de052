//! One request from its head to its answer: route, permission to go there, the backend, the response.
//!
//! `server` calls [`Proxy::answer`] for each request. What it waits for is bounded in time: some clients give up when
//! headers take 30 seconds.

use super::access::Record;
use super::allow::Allowed;
use super::audit::Audit;
use super::backend::{
    self, Backend, BlobRequest, ClientAuth, ForwardKind, ForwardRequest, ManifestRequest, Want,
};
use super::body::ProxyBody;
use super::error::{Malformed, ProxyError};
use super::metrics::Metrics;
use super::respond::{self, Content, Description};
use super::route::{self, Route};
use http::header::{AUTHORIZATION, CONTENT_TYPE, LINK};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use origin::{Reference, Repository, Secret};
use process::client::Client;
use process::traces;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument;
use types::{Digest, Registry};
use url::form_urlencoded;

/// Headers of a forwarded answer that are passed on; `Link` is rewritten.
const FORWARDED: [HeaderName; 2] = [CONTENT_TYPE, HeaderName::from_static("oci-filters-applied")];

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The proxy apart from its sockets.
pub(super) struct Proxy {
    pub(super) backend: Arc<dyn Backend>,
    /// The registry of a request that names none.
    pub(super) upstream: Registry,
    pub(super) allowed: Allowed,
    pub(super) metrics: Metrics,
    pub(super) audit: Option<Audit>,
    /// The backend has this long to come up with an answer's headers.
    pub(super) answer_timeout: Duration,
    /// Bytes per second that this host can receive, if that is known.
    pub(super) download_rate: Option<u64>,
}

impl Proxy {
    /// Answers a request; every failure is an answer too. May be dropped: the client has left.
    pub(super) async fn answer(&self, client: &Client, parts: &Parts) -> Response<ProxyBody> {
        let draft = self.audit.as_ref().map(|audit| audit.begin(client, parts));
        let mut record = Record::new(self.metrics.clone(), client.address(), parts, draft);
        let want = if parts.method == Method::HEAD { Want::Head } else { Want::Body };
        let answered = match route::parse(&parts.method, &parts.uri, &self.upstream) {
            Ok(route) => {
                record.routed(&route);
                let span = tracing::info_span!("pull", client = %client.address(), asked = record.asked());
                let trace = record.trace();
                let dispatched = self.dispatch(route, want, parts, &mut record).instrument(span);
                let dispatched = traces::within(trace, dispatched);
                // Boxed: the futures of all kinds of requests in one are large.
                match tokio::time::timeout(self.answer_timeout, Box::pin(dispatched)).await {
                    Ok(answered) => answered,
                    Err(_) => Err(ProxyError::GatewayTimeout),
                }
            }
            Err(malformed) => Err(malformed.into()),
        };
        let (mut response, error) = match answered {
            Ok(response) => (response, None),
            Err(error) => (respond::error(want, &error), Some(error.to_string())),
        };
        record.answered(response.status(), error);
        response.body_mut().follow(record);
        response
    }

    async fn dispatch(
        &self,
        route: Route,
        want: Want,
        parts: &Parts,
        record: &mut Record,
    ) -> Result<Response<ProxyBody>, ProxyError> {
        let auth = client_auth(&parts.headers)?;
        record.audit(|draft| draft.presented(&auth));
        if let Some(registry) = registry_of(&route) {
            self.allowed.check(registry)?;
        }
        match route {
            Route::Ping { registry } => {
                self.backend.ping(registry, auth).await?;
                Ok(respond::pong(want))
            }
            Route::Manifest { repository, reference } => {
                self.manifest(repository, reference, auth, want, parts, record).await
            }
            Route::Blob { repository, digest } => {
                self.blob(repository, digest, auth, want, parts, record).await
            }
            Route::Forward { repository, kind, query } => {
                self.forward(repository, kind, query, auth, want, parts).await
            }
        }
    }

    async fn manifest(
        &self,
        repository: Repository,
        reference: Reference,
        auth: ClientAuth,
        want: Want,
        parts: &Parts,
        record: &mut Record,
    ) -> Result<Response<ProxyBody>, ProxyError> {
        let accept = backend::accept_lines(&parts.headers);
        let request = ManifestRequest { repository, reference, accept, auth, want };
        let manifest = self.backend.manifest(request).await?;
        self.metrics.permitted(manifest.permit);
        record.audit(|draft| draft.manifest(manifest.permit, manifest.digest));
        let described =
            Description { digest: manifest.digest, media_type: manifest.media_type, size: manifest.size };
        match (want, manifest.bytes) {
            (Want::Head, _) => Ok(respond::head(parts, &described)),
            (Want::Body, Some(bytes)) if bytes.len() as u64 == described.size => {
                respond::content(parts, &described, Content::Memory(bytes))
            }
            (Want::Body, _) => Err(ProxyError::Internal("a manifest without its bytes".to_owned())),
        }
    }

    async fn blob(
        &self,
        repository: Repository,
        digest: Digest,
        auth: ClientAuth,
        want: Want,
        parts: &Parts,
        record: &mut Record,
    ) -> Result<Response<ProxyBody>, ProxyError> {
        let handle = self.backend.blob(BlobRequest { repository, digest, auth }).await?;
        self.metrics.permitted(handle.permit());
        record.audit(|draft| draft.blob(handle.permit()));
        record.blob(handle.tally(), self.download_rate);
        let described = Description { digest, media_type: OCTETS, size: handle.size() };
        match want {
            Want::Head => Ok(respond::head(parts, &described)),
            Want::Body => respond::content(parts, &described, Content::Blob(handle)),
        }
    }

    async fn forward(
        &self,
        repository: Repository,
        kind: ForwardKind,
        query: Option<String>,
        auth: ClientAuth,
        want: Want,
        parts: &Parts,
    ) -> Result<Response<ProxyBody>, ProxyError> {
        let accept = backend::accept_lines(&parts.headers);
        let request = ForwardRequest { repository, kind, want, query, accept, auth };
        let answer = self.backend.forward(request).await?;
        let (head, bytes) = answer.into_parts();
        let mut response = respond::document(want, OCTETS, bytes);
        for name in FORWARDED {
            if let Some(value) = head.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        if let Some(link) = next_page(&head.headers, parts) {
            response.headers_mut().insert(LINK, link);
        }
        Ok(response)
    }
}

fn registry_of(route: &Route) -> Option<&Registry> {
    match route {
        Route::Ping { registry } => registry.as_ref(),
        Route::Manifest { repository, .. }
        | Route::Blob { repository, .. }
        | Route::Forward { repository, .. } => Some(&repository.registry),
    }
}

fn client_auth(headers: &HeaderMap) -> Result<ClientAuth, Malformed> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(ClientAuth::None),
        (Some(line), None) => {
            Secret::from_header(line).map(ClientAuth::Header).ok_or(Malformed::Header("Authorization"))
        }
        (Some(_), Some(_)) => Err(Malformed::Header("Authorization")),
    }
}

/// The origin's link to the next page, on the path and with the `ns` by which this client came.
fn next_page(origins: &HeaderMap, parts: &Parts) -> Option<HeaderValue> {
    let link = origins.get(LINK)?.to_str().ok()?;
    let target = link.strip_prefix('<')?.split_once('>')?.0;
    let (_, query) = target.split_once('?')?;
    let own = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
        .filter(|(key, _)| key == "ns");
    let theirs = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key != "ns");
    let query =
        form_urlencoded::Serializer::new(String::new()).extend_pairs(theirs).extend_pairs(own).finish();
    HeaderValue::try_from(format!("<{}?{query}>; rel=\"next\"", parts.uri.path())).ok()
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("upstream", &self.upstream)
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_back_here() {
        let next = |link: &'static str, uri: &str| {
            let (parts, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
            let headers = HeaderMap::from_iter([(LINK, HeaderValue::from_static(link))]);
            next_page(&headers, &parts).map(|value| value.to_str().unwrap().to_owned())
        };
        let link = "</v2/a/b/tags/list?last=x&n=10>; rel=\"next\"";
        assert_eq!(
            next(link, "/v2/quay.io/a/b/tags/list?n=10").as_deref(),
            Some("</v2/quay.io/a/b/tags/list?last=x&n=10>; rel=\"next\"")
        );
        assert_eq!(
            next("<https://quay.io/v2/a/b/tags/list?last=x>; rel=\"next\"", "/v2/a/b/tags/list?ns=quay.io")
                .as_deref(),
            Some("</v2/a/b/tags/list?last=x&ns=quay.io>; rel=\"next\"")
        );
        assert_eq!(next("garbage", "/v2/a/b/tags/list"), None);
    }

    #[test]
    fn one_authorization_at_most() {
        let line = |value| (AUTHORIZATION, HeaderValue::from_static(value));
        let of = |lines: Vec<_>| {
            client_auth(&lines.into_iter().fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            }))
        };
        assert!(matches!(of(vec![]), Ok(ClientAuth::None)));
        let Ok(ClientAuth::Header(secret)) = of(vec![line("Bearer x")]) else { panic!() };
        assert_eq!(secret.expose(), "Bearer x");
        assert_eq!(
            of(vec![line("Bearer x"), line("Basic y")]).unwrap_err(),
            Malformed::Header("Authorization")
        );
    }
}
