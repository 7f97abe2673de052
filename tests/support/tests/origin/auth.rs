//! Challenges, tokens, credentials, and that secrets go where they belong.

use crate::*;
use http::Method;
use origin::{CredentialOptions, Secret};
use support::origin::{AuthMode, Fault, When};

fn with_credential(server: &FaultyOrigin, credential: CredentialOptions) -> Origin {
    let mut options = options(server);
    options.registries.get_mut(&server.registry()).unwrap().credential = Some(credential);
    client_with(options)
}

fn password(password: &str) -> CredentialOptions {
    CredentialOptions {
        username: Some("user".into()),
        password: Some(Secret::new(password)),
        ..CredentialOptions::default()
    }
}

async fn bearer() -> (FaultyOrigin, Digest) {
    let server = FaultyOrigin::builder().auth(AuthMode::bearer("user", "hunter2")).start().await.unwrap();
    let digest = server.add_blob(REPOSITORY, "content");
    (server, digest)
}

async fn head(
    server: &FaultyOrigin,
    origin: &Origin,
    digest: &Digest,
    auth: &Auth,
) -> Result<Option<u64>, OriginError> {
    origin.head_blob(&repository(server), digest, auth).await.map(|head| head.size)
}

fn tokens(server: &FaultyOrigin) -> usize {
    server.count(&When::token())
}

#[tokio::test]
async fn an_anonymous_token_is_fetched_once() {
    let (server, digest) = bearer().await;
    let origin = client(&server);
    let all = (0..20).map(|_| head(&server, &origin, &digest, &Auth::Anonymous));
    assert!(futures::future::join_all(all).await.into_iter().all(|size| size.unwrap() == Some(7)));
    assert_eq!(tokens(&server), 1);
    head(&server, &origin, &digest, &Auth::Anonymous).await.unwrap();
    let last = server.requests().pop().unwrap();
    assert_eq!((tokens(&server), last.header("authorization")), (1, Some("Bearer token-1")));
    let token = server.requests().into_iter().find(|r| r.path == "/token").unwrap();
    assert!(token.query.contains("scope=repository%3Alibrary%2Fapp%3Apull"), "{}", token.query);
    assert!(token.query.contains("service=test-registry"), "{}", token.query);

    server.revoke_tokens();
    assert_eq!(head(&server, &origin, &digest, &Auth::Anonymous).await.unwrap(), Some(7));
    assert_eq!(tokens(&server), 2);
}

#[tokio::test]
async fn a_private_repository_answers_with_its_challenge() {
    let (server, digest) = bearer().await;
    let origin = client(&server);
    head(&server, &origin, &digest, &Auth::Anonymous).await.unwrap();
    server.make_private(REPOSITORY);
    // With a token in the cache and without.
    for _ in 0..2 {
        let error =
            origin.read_blob(&repository(&server), &digest, None, None, &Auth::Anonymous).await.unwrap_err();
        let OriginError::Unauthorized { challenges, .. } = error else { panic!("{error}") };
        let expected = format!(
            "Bearer realm=\"{}/token\",service=\"test-registry\",scope=\"repository:library/app:pull\"",
            server.url()
        );
        assert_eq!(challenges, [expected]);
    }
}

#[tokio::test]
async fn configured_credentials() {
    let mut refresh =
        CredentialOptions { identity_token: Some(Secret::new("identity-user")), ..Default::default() };
    for oauth in [true, false] {
        let mode =
            AuthMode::Bearer { user: "user".into(), password: "hunter2".into(), expires_in: None, oauth };
        let server = FaultyOrigin::builder().auth(mode).start().await.unwrap();
        let digest = server.add_blob(REPOSITORY, "content");
        server.make_private(REPOSITORY);
        for credential in [password("hunter2"), refresh.clone()] {
            let origin = with_credential(&server, credential);
            assert!(origin.has_credential(&repository(&server)));
            assert_eq!(head(&server, &origin, &digest, &Auth::Configured).await.unwrap(), Some(7));
            let anonymous = head(&server, &origin, &digest, &Auth::Anonymous).await;
            assert!(matches!(anonymous, Err(OriginError::Unauthorized { .. })));
        }
        assert!(server.count(&When::token().post()) > 0);
        let wrong = with_credential(&server, password("wrong"));
        let error = head(&server, &wrong, &digest, &Auth::Configured).await;
        assert!(matches!(error, Err(OriginError::Unauthorized { .. })));
    }
    refresh.identity_token = Some(Secret::new("stale"));
    let (server, digest) = bearer().await;
    let error =
        head(&server, &with_credential(&server, refresh), &digest, &Auth::Configured).await.unwrap_err();
    assert!(matches!(error, OriginError::Unauthorized { .. }));

    let none = client(&server);
    assert!(!none.has_credential(&repository(&server)));
    let error = head(&server, &none, &digest, &Auth::Configured).await;
    assert!(matches!(error, Err(OriginError::NoCredential(_))));
}

#[tokio::test]
async fn basic() {
    let server = FaultyOrigin::builder().auth(AuthMode::basic("user", "hunter2")).start().await.unwrap();
    let digest = server.add_blob(REPOSITORY, "content");
    let origin = with_credential(&server, password("hunter2"));
    for _ in 0..3 {
        assert_eq!(head(&server, &origin, &digest, &Auth::Configured).await.unwrap(), Some(7));
    }
    // The challenge was answered once, then the header was known.
    assert_eq!(server.requests().len(), 4);
    let error = head(&server, &origin, &digest, &Auth::Anonymous).await.unwrap_err();
    assert!(
        matches!(error, OriginError::Unauthorized { challenges, .. } if challenges == ["Basic realm=\"Registry\""])
    );
    let error = head(&server, &with_credential(&server, password("wrong")), &digest, &Auth::Configured).await;
    assert!(matches!(error, Err(OriginError::Unauthorized { .. })));
}

#[tokio::test]
async fn a_clients_header_goes_as_it_is() {
    let (server, digest) = bearer().await;
    let origin = client(&server);
    for value in ["Bearer made-up", "Basic dXNlcjpodW50ZXIy"] {
        let auth = Auth::Client(Secret::new(value));
        let error = head(&server, &origin, &digest, &auth).await.unwrap_err();
        assert!(matches!(error, OriginError::Unauthorized { challenges, .. } if challenges.len() == 1));
    }
    assert_eq!(tokens(&server), 0);
    head(&server, &origin, &digest, &Auth::Anonymous).await.unwrap();
    server.forget_requests();
    head(&server, &origin, &digest, &Auth::Client(Secret::new("Bearer token-1"))).await.unwrap();
    assert_eq!(server.requests()[0].header("authorization"), Some("Bearer token-1"));
}

#[tokio::test]
async fn ping_shows_the_challenge() {
    let (server, _) = bearer().await;
    let origin = with_credential(&server, password("hunter2"));
    let error = origin.ping(&server.registry(), &Auth::Anonymous).await.unwrap_err();
    assert!(matches!(error, OriginError::Unauthorized { challenges, .. } if challenges.len() == 1));
    assert_eq!(tokens(&server), 0);
    origin.ping(&server.registry(), &Auth::Configured).await.unwrap();
    let open = FaultyOrigin::start().await.unwrap();
    client(&open).ping(&open.registry(), &Auth::Anonymous).await.unwrap();
}

#[tokio::test]
async fn token_endpoints_that_fail() {
    let (server, digest) = bearer().await;
    let origin = client(&server);
    server.fault(When::token().times(2), Fault::Status(503));
    assert_eq!(head(&server, &origin, &digest, &Auth::Anonymous).await.unwrap(), Some(7));
    server.revoke_tokens();
    for (fault, unauthorized) in
        [(Fault::Status(403), true), (Fault::Status(400), true), (Fault::Status(500), false)]
    {
        server.heal();
        server.fault(When::token(), fault.clone());
        let error =
            origin.read_blob(&repository(&server), &digest, None, None, &Auth::Anonymous).await.unwrap_err();
        assert_eq!(matches!(error, OriginError::Unauthorized { .. }), unauthorized, "{fault:?}: {error}");
    }
    server.heal();
    server.fault(When::token(), Fault::Endless);
    let error =
        origin.read_blob(&repository(&server), &digest, None, None, &Auth::Anonymous).await.unwrap_err();
    assert!(matches!(error, OriginError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn secrets_are_in_no_error() {
    let (server, digest) = bearer().await;
    server.make_private(REPOSITORY);
    let origin = with_credential(&server, password("wrong-secret"));
    let error = head(&server, &origin, &digest, &Auth::Configured).await.unwrap_err();
    let client = Auth::Client(Secret::new("Bearer client-secret"));
    let other = head(&server, &origin, &digest, &client).await.unwrap_err();
    server.set_reachable(false);
    let down = origin
        .forward(
            Method::GET,
            &repository(&server),
            "tags/list?signature=url-secret",
            &http::HeaderMap::new(),
            &client,
        )
        .await
        .unwrap_err();
    let shown = format!("{error} {error:?} {other} {other:?} {down} {down:?} {origin:?} {client:?}");
    assert!(!shown.contains("-secret"), "{shown}");
}
