//! What reads the answers of registries, without a connection, for `tests/fuzz` alone.

use crate::challenge::{self, Challenge};
use crate::credentials::{Credential, parse_docker_config};
use crate::endpoint::Endpoints;
use crate::manifest;
use crate::token::Authorization;
use crate::{Options, Reference, Repository};
use http::{HeaderMap, HeaderValue};
use std::sync::LazyLock;
use std::time::Duration;
use types::{Digest, Registry};
use url::Url;

/// The challenge that would be answered among `WWW-Authenticate` headers: `None` inside for Basic, or the realm, the
/// service and the scope of Bearer.
#[must_use]
pub fn challenge(headers: &[HeaderValue]) -> Option<Option<(String, Option<String>, Option<String>)>> {
    Some(match challenge::choose(headers)? {
        Challenge::Basic => None,
        Challenge::Bearer { realm, service, scope } => Some((realm, service, scope)),
    })
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

/// Where a manifest would be asked for without any configuration; nothing if nobody would be asked.
///
/// # Panics
/// If the machine cannot set up TLS.
#[must_use]
pub fn manifest_url(repository: &Repository, reference: &Reference) -> Option<Url> {
    static PUBLIC: LazyLock<Endpoints> =
        LazyLock::new(|| Endpoints::new(&Options::default()).expect("TLS can be set up"));
    let endpoint = PUBLIC.get(&repository.registry).ok()?;
    let url = endpoint.url(Some(repository), &format!("manifests/{reference}"));
    endpoint.place.check(&url).ok()?;
    Some(url)
}
