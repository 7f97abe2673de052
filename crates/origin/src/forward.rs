//! What is passed on without being understood: tag lists, referrers, `/v2/`.

use crate::client::Origin;
use crate::metrics::Kind;
use crate::send::Ask;
use crate::{Auth, OriginError, Repository};
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use types::{Digest, Registry};

/// The request headers that are passed on.
const REQUEST_HEADERS: [header::HeaderName; 1] = [header::ACCEPT];

/// The response headers that are passed back. Whatever else a registry sends concerns this connection alone.
const RESPONSE_HEADERS: [&str; 5] = [
    "content-type",
    "link",
    "docker-content-digest",
    "docker-distribution-api-version",
    "oci-filters-applied",
];

/// The largest answer to `/v2/`, in bytes; it is thrown away.
const PING_LEN_MAX: u64 = 64 * 1024;

impl Origin {
    /// Passes a GET or HEAD for something else of a repository on: `tail` is what follows `/v2/NAME/`
    /// (`tags/list?n=100` or `referrers/sha256:…`, nothing else). Of `headers` only Accept goes out. The answer is a success, with the
    /// headers that a client can use (its `Link`, if there is one, names the registry's own paths) and a body of at most
    /// [`Options::manifest_len_max`](crate::Options::manifest_len_max) bytes.
    ///
    /// # Errors
    /// [`OriginError`].
    pub async fn forward(
        &self,
        method: Method,
        repository: &Repository,
        tail: &str,
        headers: &HeaderMap,
        auth: &Auth,
    ) -> Result<http::Response<Bytes>, OriginError> {
        if !is_listing(tail) {
            return Err(OriginError::NotFound { body: Bytes::new() });
        }
        let mut ask = Ask::new(method, repository, tail, auth, Kind::Other);
        for name in REQUEST_HEADERS {
            for value in headers.get_all(&name) {
                ask.headers.append(name.clone(), value.clone());
            }
        }
        let answer = self.ask_whole(&ask, self.options().manifest_len_max).await?;
        let (parts, body) = answer.into_parts();
        let mut passed = http::Response::new(body);
        *passed.status_mut() = parts.status;
        for (name, value) in &parts.headers {
            if RESPONSE_HEADERS.contains(&name.as_str()) {
                passed.headers_mut().append(name.clone(), value.clone());
            }
        }
        Ok(passed)
    }

    /// GET `/v2/`: `Ok` if the registry lets `auth` in, [`OriginError::Unauthorized`] with its challenges if it does not.
    /// No token is fetched for [`Auth::Anonymous`], so that a client gets the challenge that it needs.
    ///
    /// # Errors
    /// [`OriginError`].
    pub async fn ping(&self, registry: &Registry, auth: &Auth) -> Result<(), OriginError> {
        let ask = Ask {
            method: Method::GET,
            registry,
            repository: None,
            tail: "",
            headers: HeaderMap::new(),
            auth,
            kind: Kind::Other,
            challenge_wanted: matches!(auth, Auth::Anonymous),
        };
        self.ask_whole(&ask, PING_LEN_MAX).await.map(drop)
    }
}

/// Whether `tail` is one of the two that are passed on: any other could lead out of the repository.
fn is_listing(tail: &str) -> bool {
    let path = tail.split('?').next().unwrap_or_default();
    path == "tags/list"
        || path.strip_prefix("referrers/").is_some_and(|digest| digest.parse::<Digest>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings() {
        let referrers = format!("referrers/{}?artifactType=a", Digest::sha256(b""));
        assert!([referrers.as_str(), "tags/list", "tags/list?n=1&last=x"].into_iter().all(is_listing));
        assert!(
            !["", "tags", "tags/list/", "tags/list/../../../x", "referrers/../x", "?tags/list"]
                .into_iter()
                .any(is_listing)
        );
    }
}
