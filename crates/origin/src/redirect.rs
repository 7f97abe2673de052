//! One request with its redirects, followed by hand: where they may lead, and what they may carry.

use crate::address::Forbidden;
use crate::endpoint::{Endpoint, same_origin};
use crate::metrics::{Kind, Metrics};
use crate::{Cause, OriginError};
use http::{HeaderMap, HeaderValue, Method, header};
use std::error::Error;
use std::time::Duration;
use types::Registry;
use url::Url;

/// What every hop has in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) metrics: &'a Metrics,
    pub(crate) kind: Kind,
    /// The longest time until the headers of each response.
    pub(crate) timeout: Duration,
    /// The longest time without a byte of a body.
    pub(crate) stall: Duration,
}

/// The last response.
pub(crate) struct Arrived {
    pub(crate) response: reqwest::Response,
    /// Whether it came from another scheme, host or port than was asked.
    pub(crate) away: bool,
}

impl Walk<'_> {
    /// Asks `url`, then whatever it redirects to. `authorization` goes no further than the scheme, host and port of `url`.
    pub(crate) async fn follow(
        &self,
        method: &Method,
        url: Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
    ) -> Result<Arrived, OriginError> {
        let first = url.clone();
        let mut url = url;
        let mut away = false;
        for _ in 0..=OriginError::REDIRECTS_MAX {
            let mut headers = headers.clone();
            if let Some(value) = authorization.filter(|_| !away) {
                headers.insert(header::AUTHORIZATION, value.clone());
            }
            let response = self.hop(method, &url, headers, None).await?;
            if !is_redirect(&response) {
                return Ok(Arrived { response, away });
            }
            url = Self::next(&url, &response)?;
            // Once away, always away: who sent us back may have chosen the path.
            away |= !same_origin(&url, &first);
        }
        Err(OriginError::RedirectLoop)
    }

    /// Where a redirect leads, if it may.
    pub(crate) fn next(url: &Url, response: &reqwest::Response) -> Result<Url, OriginError> {
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or(OriginError::Malformed("a Location that is not text"))?;
        let mut next = url.join(location).map_err(|_| OriginError::Malformed("a Location that is no URL"))?;
        // A name and password in a URL would become a header. A URL that cannot have them is refused at the next hop.
        let _ = next.set_username("");
        let _ = next.set_password(None);
        next.set_fragment(None);
        Ok(next)
    }

    /// One request, no redirect.
    pub(crate) async fn hop(
        &self,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
        form: Option<String>,
    ) -> Result<reqwest::Response, OriginError> {
        self.endpoint.check(url)?;
        let mut request = self.endpoint.client(url).request(method.clone(), url.clone()).headers(headers);
        if let Some(form) = form {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        }
        let result = match tokio::time::timeout(self.timeout, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.classify(url, error)),
            Err(_) => Err(OriginError::TimedOut),
        };
        match &result {
            Ok(response) => {
                self.metrics.answered(self.registry, self.kind, response.status(), response.headers());
            }
            Err(_) => self.metrics.failed(self.registry, self.kind),
        }
        result
    }

    /// What it means that a request to `url` failed.
    fn classify(&self, url: &Url, error: reqwest::Error) -> OriginError {
        if let Some(forbidden) = find::<Forbidden>(&error) {
            return OriginError::ForbiddenAddress { host: forbidden.host.clone() };
        }
        let timed_out = error.is_timeout();
        let tls = find::<rustls::Error>(&error).map(|error| Cause::of(error));
        match tls {
            Some(why) => {
                let host = url.host_str().unwrap_or_default().to_owned();
                OriginError::Tls { registry: self.registry.clone(), host, why }
            }
            None if timed_out => OriginError::TimedOut,
            None => OriginError::Unreachable(cause_of(error)),
        }
    }
}

fn is_redirect(response: &reqwest::Response) -> bool {
    matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
        && response.headers().contains_key(header::LOCATION)
}

/// The cause without the URL.
pub(crate) fn cause_of(error: reqwest::Error) -> Cause {
    Cause::of(&error.without_url())
}

/// The first cause of this type.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // An I/O error shows the source of what it wraps, not what it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|wrapped| find::<E>(wrapped)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}
