//! Questions about an origin, asked by many and answered by one request.

use crate::fake_host::{Running, options};
use axum::Router;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use origin::RegistryOptions;
use proto::{
    Access, AccessRequest, CredentialKind, Manifest, OriginRefusal, RefreshRequest, ResolveRequest, wire,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tonic::Code;
use types::{Digest, Registry};

const MANIFEST: &str = r#"{"schemaVersion":2}"#;
const MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CHALLENGE: &str = "Basic realm=\"private\"";

/// A registry of one image and one blob; counts GETs of the manifest.
async fn registry() -> (RegistryOptions, Arc<AtomicUsize>) {
    let gets = Arc::new(AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(gets.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let options = RegistryOptions { endpoint: Some(endpoint.parse().unwrap()), ..RegistryOptions::default() };
    (options, gets)
}

async fn answer(State(gets): State<Arc<AtomicUsize>>, method: http::Method, uri: Uri) -> Response {
    let digest = Digest::sha256(MANIFEST.as_bytes());
    let path = uri.path();
    if path == "/v2/team/app/manifests/latest" || path == format!("/v2/team/app/manifests/{digest}") {
        gets.fetch_add(usize::from(method == http::Method::GET), Ordering::Relaxed);
        return ([(CONTENT_TYPE, MEDIA_TYPE)], MANIFEST).into_response();
    }
    if path == format!("/v2/team/app/blobs/{digest}") {
        return MANIFEST.into_response();
    }
    if path.starts_with("/v2/secret/") {
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, CHALLENGE)], "no").into_response();
    }
    StatusCode::NOT_FOUND.into_response()
}

async fn start() -> (Running, Arc<AtomicUsize>) {
    let (registry, gets) = registry().await;
    let mut options = options();
    options.origin.registries.insert(name(), registry);
    (Running::start(options).await, gets)
}

fn name() -> Registry {
    Registry::parse("registry.test").unwrap()
}

fn resolve(repository: &str, reference: &str) -> ResolveRequest {
    ResolveRequest {
        registry: name(),
        repository: repository.to_owned(),
        reference: reference.to_owned(),
        accept: vec![MEDIA_TYPE.to_owned()],
    }
}

#[tokio::test]
async fn a_tag_is_asked_for_once_and_again_when_told_to() {
    let (running, gets) = start().await;
    let digest = Digest::sha256(MANIFEST.as_bytes());
    let asking = (0..20).map(|_| async {
        let mut client = running.client().await;
        client.resolve(wire::ResolveRequest::from(resolve("team/app", "latest"))).await.unwrap().into_inner()
    });
    for answer in futures::future::join_all(asking).await {
        let manifest: Result<Manifest, OriginRefusal> = answer.try_into().unwrap();
        let manifest = manifest.unwrap();
        assert_eq!((manifest.digest, &manifest.content[..]), (digest, MANIFEST.as_bytes()));
        assert_eq!(manifest.credential, CredentialKind::Anonymous);
        assert_eq!(manifest.media_type, MEDIA_TYPE);
    }
    assert_eq!(gets.load(Ordering::Relaxed), 1);

    let request = RefreshRequest {
        registry: name(),
        repository: "team/app".to_owned(),
        reference: "latest".to_owned(),
    };
    let answer = running.client().await.refresh(wire::RefreshRequest::from(request)).await.unwrap();
    let refreshed: Result<Digest, OriginRefusal> = answer.into_inner().try_into().unwrap();
    assert_eq!(refreshed.unwrap(), digest);
    running.stop().await;
}

#[tokio::test]
async fn access_and_refusals_are_told() {
    let (running, _) = start().await;
    let mut client = running.client().await;
    let request = |repository: &str| AccessRequest {
        registry: name(),
        repository: repository.to_owned(),
        digest: Digest::sha256(MANIFEST.as_bytes()),
    };
    let answer =
        client.check_access(wire::AccessRequest::from(request("team/app"))).await.unwrap().into_inner();
    let access: Result<Access, OriginRefusal> = answer.try_into().unwrap();
    assert_eq!(access.unwrap().credential, CredentialKind::Anonymous);

    let answer =
        client.check_access(wire::AccessRequest::from(request("secret/app"))).await.unwrap().into_inner();
    let access: Result<Access, OriginRefusal> = answer.try_into().unwrap();
    let no = access.expect_err("private");
    assert_eq!((no.status, no.challenges), (401, vec![CHALLENGE.to_owned()]));

    let answer = client.resolve(wire::ResolveRequest::from(resolve("team/other", "latest"))).await.unwrap();
    let missing: Result<Manifest, OriginRefusal> = answer.into_inner().try_into().unwrap();
    assert_eq!(missing.expect_err("missing").status, 404);
    running.stop().await;
}

#[tokio::test]
async fn questions_that_make_no_sense_are_errors_of_the_call() {
    let (running, _) = start().await;
    let mut client = running.client().await;
    for bad in [resolve("Team/App", "latest"), resolve("team/app", "sha256:12"), resolve("../etc", "latest")]
    {
        let status = client.resolve(wire::ResolveRequest::from(bad)).await.expect_err("bad");
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let mut bad = wire::ResolveRequest::from(resolve("team/app", "latest"));
    bad.registry = "no registry".to_owned();
    assert_eq!(client.resolve(bad).await.expect_err("bad").code(), Code::InvalidArgument);
    running.stop().await;
}
