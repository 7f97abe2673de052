//! Manifests, tag lists, `/v2/`.

use crate::*;
use http::{HeaderMap, Method};
use support::origin::{Fault, OCI_INDEX, OCI_MANIFEST, When};

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn text() -> String {
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}"}}"#)
}

async fn get(server: &FaultyOrigin, origin: &Origin, by: &str) -> Result<origin::Manifest, OriginError> {
    let accept = accept(&[DOCKER, OCI_MANIFEST]);
    origin.get_manifest(&repository(server), &reference(by), &accept, &Auth::Anonymous).await
}

#[tokio::test]
async fn by_tag_and_by_digest() {
    let server = FaultyOrigin::start().await.unwrap();
    let origin = client(&server);
    let digest = server.add_manifest(REPOSITORY, Some("v1"), OCI_MANIFEST, text());
    for by in ["v1", &digest.to_string()] {
        let manifest = get(&server, &origin, by).await.unwrap();
        assert_eq!(
            (manifest.digest, manifest.bytes, manifest.media_type.as_str()),
            (digest, text().into(), OCI_MANIFEST)
        );
        let accept = accept(&[DOCKER, OCI_MANIFEST]);
        let head = origin
            .head_manifest(&repository(&server), &reference(by), &accept, &Auth::Anonymous)
            .await
            .unwrap();
        assert_eq!((head.digest, head.size), (Some(digest), Some(text().len() as u64)));
        assert_eq!(head.media_type, OCI_MANIFEST);
    }
    // All Accept lines go out.
    let lines = |request: &support::origin::Request| request.headers.get_all("accept").iter().count();
    assert!(server.requests().iter().all(|request| lines(request) == 2));
    let only = accept(&[DOCKER]);
    let error = origin.get_manifest(&repository(&server), &reference("v1"), &only, &Auth::Anonymous).await;
    assert!(matches!(error, Err(OriginError::NotFound { .. })));
    assert!(matches!(get(&server, &origin, "v2").await, Err(OriginError::NotFound { .. })));
}

#[tokio::test]
async fn digests_are_computed_and_compared() {
    let server = FaultyOrigin::start().await.unwrap();
    let origin = client(&server);
    let digest = server.add_manifest(REPOSITORY, Some("v1"), OCI_MANIFEST, text());
    server.fault(When::manifest("v1"), Fault::NoDigest);
    assert_eq!(get(&server, &origin, "v1").await.unwrap().digest, digest);
    let head = origin
        .head_manifest(&repository(&server), &reference("v1"), &accept(&["*/*"]), &Auth::Anonymous)
        .await
        .unwrap();
    assert_eq!(head.digest, None);

    server.heal();
    server.fault(When::manifest("v1"), Fault::FalseDigest(Digest::sha256(b"else")));
    assert!(matches!(get(&server, &origin, "v1").await, Err(OriginError::WrongDigest { .. })));
    server.heal();
    server.fault(When::manifest(&digest.to_string()), Fault::Corrupt(3));
    assert!(matches!(get(&server, &origin, &digest.to_string()).await, Err(OriginError::WrongDigest { .. })));
    server.heal();
    server.fault(When::any().head(), Fault::FalseDigest(Digest::sha256(b"else")));
    let head = origin
        .head_manifest(
            &repository(&server),
            &reference(&digest.to_string()),
            &accept(&["*/*"]),
            &Auth::Anonymous,
        )
        .await;
    assert!(matches!(head, Err(OriginError::WrongDigest { .. })));
}

#[tokio::test]
async fn media_types() {
    let server = FaultyOrigin::start().await.unwrap();
    let origin = client(&server);
    server.fault(When::any(), Fault::NoContentType);
    for (tag, content, expected) in [
        ("stated", text(), OCI_MANIFEST),
        ("index", r#"{"manifests":[]}"#.into(), OCI_INDEX),
        ("bare", r#"{"config":{}}"#.into(), OCI_MANIFEST),
        ("odd", "x".into(), OCI_MANIFEST),
    ] {
        server.add_manifest(REPOSITORY, Some(tag), OCI_MANIFEST, content);
        assert_eq!(get(&server, &origin, tag).await.unwrap().media_type, expected, "{tag}");
    }
    server.heal();
    server.add_manifest(REPOSITORY, Some("parameters"), &format!("{OCI_MANIFEST}; charset=utf-8"), text());
    let manifest = origin
        .get_manifest(&repository(&server), &reference("parameters"), &accept(&["*/*"]), &Auth::Anonymous)
        .await
        .unwrap();
    assert_eq!(manifest.media_type, OCI_MANIFEST);
}

#[tokio::test]
async fn too_large_and_broken() {
    let server = FaultyOrigin::start().await.unwrap();
    let origin = client_with(Options { manifest_len_max: 1000, ..options(&server) });
    server.add_manifest(REPOSITORY, Some("large"), OCI_MANIFEST, content(1001));
    assert!(matches!(get(&server, &origin, "large").await, Err(OriginError::TooLarge { limit: 1000 })));
    server.fault(When::manifest("large"), Fault::NoContentLength);
    assert!(matches!(get(&server, &origin, "large").await, Err(OriginError::TooLarge { limit: 1000 })));
    server.add_manifest(REPOSITORY, Some("endless"), OCI_MANIFEST, content(10));
    server.fault(When::manifest("endless"), Fault::Endless);
    assert!(matches!(get(&server, &origin, "endless").await, Err(OriginError::TooLarge { .. })));
    server.add_manifest(REPOSITORY, Some("broken"), OCI_MANIFEST, content(1000));
    server.fault(When::manifest("broken").times(2), Fault::BreakAfter(10));
    assert_eq!(get(&server, &origin, "broken").await.unwrap().bytes, content(1000));
}

#[tokio::test]
async fn no_head() {
    let server = FaultyOrigin::start().await.unwrap();
    let origin = client(&server);
    let digest = server.add_manifest(REPOSITORY, Some("v1"), OCI_MANIFEST, text());
    server.fault(When::any().head(), Fault::Status(405));
    let head = origin
        .head_manifest(&repository(&server), &reference("v1"), &accept(&["*/*"]), &Auth::Anonymous)
        .await
        .unwrap();
    assert_eq!((head.digest, head.size), (Some(digest), Some(text().len() as u64)));
}

#[tokio::test]
async fn tag_lists_are_passed_on() {
    let server = FaultyOrigin::start().await.unwrap();
    let origin = client(&server);
    for tag in ["a", "b", "c"] {
        server.add_manifest(REPOSITORY, Some(tag), OCI_MANIFEST, text());
    }
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static("application/json"));
    headers.insert("cookie", HeaderValue::from_static("private"));
    let forward = |tail: &'static str| {
        let (origin, repository, headers) = (origin.clone(), repository(&server), headers.clone());
        async move { origin.forward(Method::GET, &repository, tail, &headers, &Auth::Anonymous).await }
    };
    let answer = forward("tags/list?n=2").await.unwrap();
    let list: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(list["tags"], serde_json::json!(["a", "b"]));
    assert!(answer.headers()["link"].to_str().unwrap().contains("last=b"));
    assert_eq!(answer.headers()["content-type"], "application/json");
    let request = &server.requests()[0];
    assert_eq!((request.header("accept"), request.header("cookie")), (Some("application/json"), None));
    assert_eq!(request.query, "n=2");
    let missing =
        forward("referrers/sha256:0000000000000000000000000000000000000000000000000000000000000000").await;
    assert!(matches!(missing, Err(OriginError::NotFound { .. })));
}

#[tokio::test]
async fn an_endpoint_with_a_path() {
    let server = FaultyOrigin::start().await.unwrap();
    let mut options = options(&server);
    let registry = options.registries.values_mut().next().unwrap();
    registry.endpoint = Some(format!("{}/prefix/", server.url()).parse().unwrap());
    let origin = client_with(options);
    assert!(get(&server, &origin, "v1").await.is_err());
    assert_eq!(server.requests()[0].path, "/prefix/v2/library/app/manifests/v1");
}
