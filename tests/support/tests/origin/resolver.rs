//! What a cluster asks once.

use crate::*;
use origin::{Access, CredentialOptions, Resolver, ResolverOptions, Secret};
use support::origin::{AuthMode, Fault, OCI_MANIFEST, When};

const LONG: ResolverOptions = ResolverOptions {
    tag_lifetime: Duration::from_secs(3600),
    access_lifetime: Duration::from_secs(3600),
    grace: Duration::from_secs(3600),
    manifest_bytes_max: 1 << 20,
};

/// Everything lapses at once.
const SHORT: ResolverOptions =
    ResolverOptions { tag_lifetime: Duration::ZERO, access_lifetime: Duration::ZERO, ..LONG };

async fn resolve(
    resolver: &Resolver,
    server: &FaultyOrigin,
    by: &str,
) -> Result<(Digest, Access), OriginError> {
    let accept = accept(&[OCI_MANIFEST]);
    let resolved = resolver.resolve(&repository(server), &reference(by), &accept).await?;
    Ok((resolved.manifest.digest, resolved.access))
}

#[tokio::test]
async fn a_tag_is_asked_for_once() {
    let server = FaultyOrigin::start().await.unwrap();
    let digest = server.add_manifest(REPOSITORY, Some("v1"), OCI_MANIFEST, "{}");
    let resolver = Resolver::new(client(&server), LONG);
    let by_digest = digest.to_string();
    let all = (0..50).map(|i| resolve(&resolver, &server, if i % 2 == 0 { "v1" } else { &by_digest }));
    for answer in futures::future::join_all(all).await {
        assert_eq!(answer.unwrap(), (digest, Access::Anonymous));
    }
    assert_eq!((server.manifest_gets(), server.requests().len()), (1, 2));
    // Another client's Accept costs a HEAD, and no GET.
    let wide = accept(&["*/*"]);
    resolver.resolve(&repository(&server), &reference("v1"), &wide).await.unwrap();
    assert_eq!((server.manifest_gets(), server.requests().len()), (1, 3));

    let pushed = server.add_manifest(REPOSITORY, Some("v1"), OCI_MANIFEST, "{ }");
    assert_eq!(resolve(&resolver, &server, "v1").await.unwrap().0, digest);
    let refreshed = resolver.refresh(&repository(&server), &reference("v1")).await.unwrap();
    assert_eq!(refreshed.manifest.digest, pushed);
    assert_eq!(resolve(&resolver, &server, "v1").await.unwrap().0, pushed);
    assert_eq!(server.manifest_gets(), 2);
}

#[tokio::test]
async fn a_push_is_seen_when_the_tag_lapses_and_costs_one_get() {
    let server = FaultyOrigin::start().await.unwrap();
    let first = server.add_manifest(REPOSITORY, Some("v1"), OCI_MANIFEST, "{}");
    let resolver = Resolver::new(client(&server), SHORT);
    for _ in 0..3 {
        assert_eq!(resolve(&resolver, &server, "v1").await.unwrap().0, first);
    }
    assert_eq!(server.manifest_gets(), 1);
    let second = server.add_manifest(REPOSITORY, Some("v1"), OCI_MANIFEST, "{ }");
    assert_eq!(resolve(&resolver, &server, "v1").await.unwrap().0, second);
    assert_eq!(server.manifest_gets(), 2);
    // A registry that does not say the digest is asked for the manifest.
    server.fault(When::any(), Fault::NoDigest);
    assert_eq!(resolve(&resolver, &server, "v1").await.unwrap().0, second);
}

#[tokio::test]
async fn an_outage_is_bridged_and_a_refusal_is_not() {
    let server = FaultyOrigin::start().await.unwrap();
    let digest = server.add_manifest(REPOSITORY, Some("v1"), OCI_MANIFEST, "{}");
    let blob = server.add_blob(REPOSITORY, "content");
    let resolver = Resolver::new(client(&server), SHORT);
    let tag = async |resolver: &Resolver| {
        resolver.resolve(&repository(&server), &"v1".parse().unwrap(), &[]).await.unwrap()
    };
    assert!(!tag(&resolver).await.lapsed);
    assert!(!resolver.access(&repository(&server), &blob).await.unwrap().lapsed);
    server.set_reachable(false);
    let bridged = tag(&resolver).await;
    assert_eq!((bridged.manifest.digest, bridged.lapsed), (digest, true));
    let bridged = resolver.access(&repository(&server), &blob).await.unwrap();
    assert_eq!((bridged.size, bridged.lapsed), (Some(7), true));
    let error = resolve(&resolver, &server, "v2").await.unwrap_err();
    assert!(error.is_outage(), "{error}");

    server.set_reachable(true);
    let resolver = Resolver::new(client(&server), SHORT);
    resolve(&resolver, &server, "v1").await.unwrap();
    server.remove(REPOSITORY, &digest);
    assert!(matches!(resolve(&resolver, &server, "v1").await, Err(OriginError::NotFound { .. })));
    server.set_reachable(false);
    assert!(resolve(&resolver, &server, "v1").await.is_err());
}

#[tokio::test]
async fn a_manifest_kept_for_one_repository_is_confirmed_for_another() {
    let server = FaultyOrigin::start().await.unwrap();
    let digest = server.add_manifest(REPOSITORY, None, OCI_MANIFEST, "{}");
    server.add_manifest("other/app", None, OCI_MANIFEST, "{}");
    let resolver = Resolver::new(client(&server), LONG);
    resolve(&resolver, &server, &digest.to_string()).await.unwrap();
    let get = |name: &str| {
        let repository = Repository::new(&server.registry(), name.parse().unwrap());
        let resolver = resolver.clone();
        async move { resolver.resolve(&repository, &Reference::Digest(digest), &[]).await }
    };
    get("other/app").await.unwrap();
    assert!(matches!(get("third/app").await, Err(OriginError::NotFound { .. })));
    assert_eq!(server.manifest_gets(), 1);
}

#[tokio::test]
async fn the_configured_credential_only_where_it_is_shared() {
    let server = FaultyOrigin::builder().auth(AuthMode::bearer("user", "hunter2")).start().await.unwrap();
    let digest = server.add_manifest(REPOSITORY, Some("v1"), OCI_MANIFEST, "{}");
    let blob = server.add_blob(REPOSITORY, "content");
    server.make_private(REPOSITORY);
    for share in [false, true] {
        let mut options = options(&server);
        let registry = options.registries.get_mut(&server.registry()).unwrap();
        registry.share_credential = share;
        registry.credential = Some(CredentialOptions {
            username: Some("user".into()),
            password: Some(Secret::new("hunter2")),
            ..CredentialOptions::default()
        });
        let resolver = Resolver::new(client_with(options), LONG);
        let answers =
            (resolve(&resolver, &server, "v1").await, resolver.access(&repository(&server), &blob).await);
        if share {
            assert_eq!(answers.0.unwrap(), (digest, Access::Configured));
            let access = answers.1.unwrap();
            assert_eq!((access.access, access.size), (Access::Configured, Some(7)));
        } else {
            assert!(
                matches!(answers.0, Err(OriginError::Unauthorized { challenges, .. }) if challenges.len() == 1)
            );
            assert!(matches!(answers.1, Err(OriginError::Unauthorized { .. })));
        }
    }
}

#[tokio::test]
async fn permission_is_asked_for_once() {
    let server = FaultyOrigin::start().await.unwrap();
    let blob = server.add_blob(REPOSITORY, "content");
    let resolver = Resolver::new(client(&server), LONG);
    let repository = repository(&server);
    let all = futures::future::join_all((0..20).map(|_| resolver.access(&repository, &blob))).await;
    assert!(all.iter().all(|access| access.as_ref().unwrap().access == Access::Anonymous));
    assert_eq!((server.requests().len(), server.blob_bytes(&blob)), (1, 0));
    let missing = Digest::sha256(b"missing");
    let all = futures::future::join_all((0..20).map(|_| resolver.access(&repository, &missing))).await;
    assert!(all.iter().all(|access| matches!(access, Err(OriginError::NotFound { .. }))));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn manifests_are_kept_within_bounds() {
    let server = FaultyOrigin::start().await.unwrap();
    let resolver = Resolver::new(client(&server), ResolverOptions { manifest_bytes_max: 10, ..LONG });
    let large = server.add_manifest(REPOSITORY, Some("large"), OCI_MANIFEST, content(11));
    let small = server.add_manifest(REPOSITORY, Some("small"), OCI_MANIFEST, content(10));
    for _ in 0..2 {
        assert_eq!(resolve(&resolver, &server, "large").await.unwrap().0, large);
        assert_eq!(resolve(&resolver, &server, "small").await.unwrap().0, small);
    }
}
