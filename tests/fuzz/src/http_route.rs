//! What a client of the proxy may ask for: the path, `?ns=`, and where it would lead.

use crate::input::Input;
use dfdaemon::config::AllowRegistries;
use dfdaemon::proxy::allow::Allowed;
use dfdaemon::proxy::route::{PATH_LEN_MAX, QUERY_LEN_MAX, Route, parse};
use dfdaemon::proxy::{ForwardKind, Malformed};
use http::{Method, Uri};
use origin::{DOCKER_HUB, Reference, Repository};
use std::collections::BTreeSet;
use types::Registry;
use url::{Host, form_urlencoded};

/// The first byte chooses the method, the others are the request's address.
pub fn http_route(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let method = [Method::GET, Method::HEAD, Method::POST][usize::from(input.u8() % 3)].clone();
    let Ok(uri) = Uri::try_from(input.rest()) else { return };
    let upstream = Registry::parse(DOCKER_HUB).expect("Docker Hub's name");
    let Ok(route) = parse(&method, &uri, &upstream) else { return };
    assert_ne!(method, Method::POST, "only reading is served");
    assert!(uri.path().len() <= PATH_LEN_MAX && uri.query().unwrap_or_default().len() <= QUERY_LEN_MAX);
    let (repository, reference, tail) = match &route {
        Route::Ping { .. } => return,
        Route::Manifest { repository, reference } => {
            (repository, reference.clone(), format!("manifests/{reference}"))
        }
        Route::Blob { repository, digest } => {
            (repository, Reference::Digest(*digest), format!("blobs/{digest}"))
        }
        Route::Forward { repository, kind, query } => {
            check_query(query.as_deref());
            let tail = match kind {
                ForwardKind::TagsList => "tags/list".to_owned(),
                ForwardKind::Referrers(digest) => format!("referrers/{digest}"),
            };
            (repository, "latest".parse().expect("a tag"), tail)
        }
    };
    assert!(!repository.name.as_str().contains(".."), "{repository}");
    check_place(repository, &reference);
    // Said plainly, it is the same.
    let plain = format!("/v2/{}/{tail}?ns={}", repository.name, repository.registry);
    match (parse(&Method::GET, &plain.parse().expect("an address"), &upstream), route) {
        (Ok(Route::Forward { repository, kind, .. }), Route::Forward { repository: r, kind: k, .. }) => {
            assert_eq!((repository, kind), (r, k));
        }
        // Docker Hub's namespace can make a name that is just short enough too long to be said with it.
        (Err(Malformed::TooLong), _) => {}
        (again, route) => assert_eq!(again, Ok(route)),
    }
}

/// What goes on to the origin names no registry.
fn check_query(query: Option<&str>) {
    let Some(query) = query else { return };
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    assert!(!pairs.is_empty() && pairs.iter().all(|(key, _)| key != "ns"), "{query}");
    assert!(query.bytes().all(|b| b.is_ascii_graphic() && b != b'#'), "{query}");
}

/// Where the proxy would go is where the name says, which is no place of the cluster's own.
fn check_place(repository: &Repository, reference: &Reference) {
    let allowed = Allowed::new(AllowRegistries::Public, BTreeSet::new());
    let Some(url) = origin::fuzz::manifest_url(repository, reference) else { return };
    let name = repository.registry.as_str();
    assert_eq!(url.scheme(), "https");
    assert_eq!(url.path(), format!("/v2/{}/manifests/{reference}", repository.name));
    assert!(url.username().is_empty() && url.password().is_none() && url.query().is_none());
    let Some(Host::Domain(host)) = url.host() else { panic!("{url} has an address") };
    let (expected, port) = name.split_once(':').map_or((name, None), |(host, port)| (host, Some(port)));
    let expected = if name == DOCKER_HUB { "registry-1.docker.io" } else { expected };
    assert_eq!(host, expected, "{name} leads elsewhere");
    assert_eq!(url.port_or_known_default(), Some(port.map_or(443, |port| port.parse().expect("a port"))));
    if allowed.check(&repository.registry).is_ok() {
        let host = Registry::parse(host).expect("what is asked has a registry's name");
        assert!(allowed.check(&host).is_ok(), "{name} leads to {host}");
    }
}
