//! Reads what a client asks for: method, path and query → a [`Route`], or what is wrong with it.
//!
//! Three ways to name the registry, one for each family of clients: `?ns=REGISTRY` (containerd), the path's first
//! component (podman, CRI-O: `/v2/docker.io/library/alpine/…`), or not at all (dockerd; the configured upstream).
//! Nothing here asks anybody anything; the handler calls it first.

use super::backend::ForwardKind;
use super::error::Malformed;
use http::{Method, Uri};
use origin::{Reference, Repository};
use types::{Digest, Registry};
use url::form_urlencoded;

/// The longest path in bytes: a registry, a name of 255, a SHA-512 digest, and the words between.
pub const PATH_LEN_MAX: usize = 1024;

/// The longest query in bytes.
pub const QUERY_LEN_MAX: usize = 2048;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: whether this is a registry.
    Ping {
        /// Which one the client has in mind, if it said so.
        registry: Option<Registry>,
    },
    /// A manifest by tag or digest.
    Manifest {
        /// Where.
        repository: Repository,
        /// Which.
        reference: Reference,
    },
    /// A blob.
    Blob {
        /// Where.
        repository: Repository,
        /// Which.
        digest: Digest,
    },
    /// What only the origin can answer.
    Forward {
        /// Where.
        repository: Repository,
        /// What.
        kind: ForwardKind,
        /// The query without `ns`.
        query: Option<String>,
    },
}

/// The route of a request; `upstream` is the registry of a path that names none.
pub fn parse(method: &Method, uri: &Uri, upstream: &Registry) -> Result<Route, Malformed> {
    if method != Method::GET && method != Method::HEAD {
        return Err(Malformed::Method);
    }
    let path = uri.path();
    let query = uri.query().unwrap_or_default();
    if path.len() > PATH_LEN_MAX || query.len() > QUERY_LEN_MAX {
        return Err(Malformed::TooLong);
    }
    let namespace = namespace(query)?;
    if path == "/v2" || path == "/v2/" {
        return Ok(Route::Ping { registry: namespace });
    }
    let rest = path.strip_prefix("/v2/").ok_or(Malformed::Endpoint)?;
    // Names, tags and digests have no character that needs an escape, so an escape can only hide something.
    if rest.contains('%') {
        return Err(Malformed::Name);
    }
    let (name, endpoint) = split_endpoint(rest)?;
    let repository = repository(name, namespace, upstream)?;
    Ok(match endpoint {
        Endpoint::Manifest(text) => Route::Manifest { repository, reference: reference(text)? },
        Endpoint::Blob(text) => Route::Blob { repository, digest: digest(text)? },
        Endpoint::Tags => {
            Route::Forward { repository, kind: ForwardKind::TagsList, query: without_namespace(query) }
        }
        Endpoint::Referrers(text) => {
            let kind = ForwardKind::Referrers(digest(text)?);
            Route::Forward { repository, kind, query: without_namespace(query) }
        }
    })
}

/// The last two components of a path.
enum Endpoint<'a> {
    Manifest(&'a str),
    Blob(&'a str),
    Tags,
    Referrers(&'a str),
}

/// Cuts the last two components off. A repository may have a component named `manifests` or `blobs`, so the path is
/// read from its end.
fn split_endpoint(path: &str) -> Result<(&str, Endpoint<'_>), Malformed> {
    let mut parts = path.rsplitn(3, '/');
    let (last, word, name) = (parts.next(), parts.next(), parts.next());
    let (Some(last), Some(word), Some(name)) = (last, word, name) else { return Err(Malformed::Endpoint) };
    let endpoint = match word {
        "manifests" => Endpoint::Manifest(last),
        "blobs" => Endpoint::Blob(last),
        "tags" if last == "list" => Endpoint::Tags,
        "referrers" => Endpoint::Referrers(last),
        _ => return Err(Malformed::Endpoint),
    };
    Ok((name, endpoint))
}

fn reference(text: &str) -> Result<Reference, Malformed> {
    if text.contains(':') {
        digest(text).map(Reference::Digest)
    } else {
        text.parse().map_err(|_| Malformed::Tag)
    }
}

fn digest(text: &str) -> Result<Digest, Malformed> {
    text.parse().map_err(|e: types::DigestError| Malformed::Digest(e.to_string()))
}

/// The registry and the name in it.
fn repository(path: &str, namespace: Option<Registry>, upstream: &Registry) -> Result<Repository, Malformed> {
    let (registry, name) = match namespace {
        Some(registry) => (registry, path),
        None => registry_in_path(path)?.unwrap_or_else(|| (upstream.clone(), path)),
    };
    Ok(Repository::new(&registry, name.parse().map_err(|_| Malformed::Name)?))
}

/// Whether a path's first component is a registry: the rule of image references, by which a host has a dot, a colon, or
/// is `localhost`. One with nothing after it is a name.
fn registry_in_path(path: &str) -> Result<Option<(Registry, &str)>, Malformed> {
    let Some((first, name)) = path.split_once('/') else { return Ok(None) };
    if !first.contains(['.', ':']) && first != "localhost" {
        return Ok(None);
    }
    Ok(Some((registry(first)?, name)))
}

fn registry(text: &str) -> Result<Registry, Malformed> {
    let registry = Registry::parse(text).map_err(|e| Malformed::Registry(e.to_string()))?;
    Ok(origin::canonical(&registry))
}

/// The registry that `ns` names; two that differ are a trick or a mistake.
fn namespace(query: &str) -> Result<Option<Registry>, Malformed> {
    let mut found = None;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if key != "ns" {
            continue;
        }
        let registry = registry(&value)?;
        if found.as_ref().is_some_and(|other| *other != registry) {
            return Err(Malformed::Registry("ns is given twice".to_owned()));
        }
        found = Some(registry);
    }
    Ok(found)
}

/// The rest of the query, for the origin.
fn without_namespace(query: &str) -> Option<String> {
    let mut rest = form_urlencoded::Serializer::new(String::new());
    let mut any = false;
    for (key, value) in form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key != "ns") {
        rest.append_pair(&key, &value);
        any = true;
    }
    any.then(|| rest.finish())
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
