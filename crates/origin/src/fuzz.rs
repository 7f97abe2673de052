//! What reads the answers of registries, without a connection, for `tests/fuzz` alone.

use crate::blob::ContentRange;
use crate::challenge::{self, Challenge};
use crate::credentials::{Credential, parse_docker_config};
use crate::endpoint::{Endpoint, Endpoints};
use crate::manifest;
use crate::redirect::Walk;
use crate::token::Authorization;
use crate::{Options, Reference, Repository};
use http::{HeaderMap, HeaderValue, header};
use std::sync::LazyLock;
use std::time::Duration;
use types::{ByteRange, Digest, Registry};
use url::Url;

/// Where a token is to be had, and for what.
#[derive(Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The endpoint.
    pub realm: String,
    /// For whom.
    pub service: Option<String>,
    /// For what.
    pub scope: Option<String>,
}

/// The challenge that would be answered among `WWW-Authenticate` headers, if it is one for a token.
#[must_use]
pub fn challenge(headers: &[HeaderValue]) -> Option<Bearer> {
    match challenge::choose(headers)? {
        Challenge::Basic => None,
        Challenge::Bearer { realm, service, scope } => Some(Bearer { realm, service, scope }),
    }
}

/// The header that a token endpoint's answer leads to, and for how long; or what is said of the answer.
///
/// # Errors
/// The error's text.
pub fn token(body: &[u8]) -> Result<(HeaderValue, Duration), String> {
    use crate::memo::Lapses as _;
    match Authorization::of_answer(body) {
        Ok(authorization) => Ok((authorization.header.clone(), authorization.lifetime())),
        Err(error) => Err(format!("{error} {error:?}")),
    }
}

/// The credentials in a docker `config.json`: registry, prefix of the repositories, and the secret.
///
/// # Errors
/// What is wrong with it.
pub fn docker_config(json: &[u8]) -> Result<Vec<(Registry, String, String)>, &'static str> {
    let auths = parse_docker_config(json)?.into_iter().map(|auth| {
        let secret = match &auth.credential {
            Credential::Password { password: secret, .. }
            | Credential::Identity { token: secret, .. }
            | Credential::Bearer(secret) => secret.expose().to_owned(),
        };
        (auth.registry, auth.prefix, secret)
    });
    Ok(auths.collect())
}

/// The digest and the media type that the headers and the content of a manifest say.
#[must_use]
pub fn manifest(headers: &HeaderMap, content: &[u8]) -> (Option<Digest>, String) {
    let media_type = manifest::content_type(headers).unwrap_or_else(|| manifest::inner_type(content));
    (manifest::stated_digest(headers), media_type)
}

/// The bytes that `Content-Range` says are sent, and of how many if it says that too.
#[must_use]
pub fn content_range(value: HeaderValue) -> Option<(ByteRange, Option<u64>)> {
    let headers = HeaderMap::from_iter([(header::CONTENT_RANGE, value)]);
    ContentRange::of(&headers).ok().map(|found| (found.range, found.total))
}

/// Where a manifest would be asked for without any configuration; nothing if nobody would be asked.
#[must_use]
pub fn manifest_url(repository: &Repository, reference: &Reference) -> Option<Url> {
    let endpoint = endpoint(&repository.registry)?;
    let url = endpoint.url(Some(repository), &format!("manifests/{reference}"));
    endpoint.check(&url).ok()?;
    Some(url)
}

/// Where the answer from `url` of `registry` with this `Location` leads; nothing if it may not lead there.
#[must_use]
pub fn redirect(registry: &Registry, url: &Url, location: HeaderValue) -> Option<Url> {
    let mut response = http::Response::new("");
    response.headers_mut().insert(header::LOCATION, location);
    let next = Walk::next(url, &response.into()).ok()?;
    endpoint(registry)?.check(&next).ok()?;
    Some(next)
}

fn endpoint(registry: &Registry) -> Option<Endpoint> {
    static PUBLIC: LazyLock<Endpoints> =
        LazyLock::new(|| Endpoints::new(&Options::default()).expect("TLS can be set up"));
    PUBLIC.get(registry).ok()
}
