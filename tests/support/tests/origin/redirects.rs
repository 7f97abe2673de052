//! Redirects, TLS, and the addresses that are not to be reached.

use crate::*;
use origin::Secret;
use std::io::Write as _;
use support::origin::{AuthMode, Fault, Storage, When};

async fn redirecting(base: Option<String>, uses: u64) -> FaultyOrigin {
    let storage = Storage::Redirect { base, uses };
    FaultyOrigin::builder().auth(AuthMode::bearer("user", "hunter2")).storage(storage).start().await.unwrap()
}

#[tokio::test]
async fn attack_storage_on_another_host_gets_no_authorization() {
    let store = FaultyOrigin::start().await.unwrap();
    let server = redirecting(Some(store.url().into()), 1).await;
    let digest = server.add_blob(REPOSITORY, content(1000));
    store.add_blob("any", content(1000));
    let origin = client(&server);
    assert_eq!(read(&server, &origin, &digest, None, None).await.unwrap(), content(1000));
    let client_auth = Auth::Client(Secret::new("Bearer token-1"));
    let got =
        origin.read_blob(&repository(&server), &digest, Some(range(1, 5)), None, &client_auth).await.unwrap();
    assert_eq!(collect(got).await.unwrap(), content(1000)[1..5]);
    assert_eq!(store.requests().len(), 2);
    assert!(store.requests().iter().all(|request| request.header("authorization").is_none()));
    assert_eq!(store.requests()[1].header("range"), Some("bytes=1-4"));
    // A challenge of the store's is not the registry's.
    store.fault(When::any(), Fault::Status(401));
    let error = read(&server, &origin, &digest, None, None).await.unwrap_err();
    assert!(matches!(error, OriginError::Denied { .. }), "{error}");
}

#[tokio::test]
async fn a_signature_that_lapses_is_asked_for_again() {
    let server = redirecting(None, 1).await;
    let digest = server.add_blob(REPOSITORY, content(1000));
    let origin = client(&server);
    // On the same host the header stays, and this store refuses it.
    let error = read(&server, &origin, &digest, None, None).await.unwrap_err();
    assert!(matches!(error, OriginError::Unexpected { .. }), "{error}");

    let plain =
        FaultyOrigin::builder().storage(Storage::Redirect { base: None, uses: 1 }).start().await.unwrap();
    let digest = plain.add_blob(REPOSITORY, content(1_000_000));
    let origin = client(&plain);
    // A body that breaks goes on with a new signature.
    plain.fault(When::storage(&digest).times(1), Fault::BreakAfter(300_000));
    assert_eq!(read(&plain, &origin, &digest, None, None).await.unwrap(), content(1_000_000));
    assert_eq!(plain.count(&When::blob(&digest)), 2);

    // Refused by the store: asked for once more.
    let store = FaultyOrigin::start().await.unwrap();
    store.add_blob("any", content(1000));
    let server = redirecting(Some(store.url().into()), 1).await;
    let digest = server.add_blob(REPOSITORY, content(1000));
    store.fault(When::any().times(1), Fault::Status(403));
    assert_eq!(read(&server, &client(&server), &digest, None, None).await.unwrap(), content(1000));
}

#[tokio::test]
async fn redirects_that_lead_nowhere() {
    let server = FaultyOrigin::start().await.unwrap();
    let origin = client(&server);
    let digest = server.add_blob(REPOSITORY, "content");
    let port = server.address().port();
    server.fault(When::blob(&digest), Fault::RedirectLoop);
    let error = read(&server, &origin, &digest, None, None).await.unwrap_err();
    assert!(matches!(error, OriginError::RedirectLoop), "{error}");
    assert_eq!(server.requests().len(), OriginError::REDIRECTS_MAX + 1);
    for location in [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://0.0.0.0/",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "data:text/plain,x",
        "http://",
    ] {
        server.heal();
        server.forget_requests();
        server.fault(When::blob(&digest), Fault::Redirect(location.into()));
        let error = read(&server, &origin, &digest, None, None).await.unwrap_err();
        let refused = matches!(error, OriginError::ForbiddenAddress { .. } | OriginError::Malformed(_));
        assert!(refused, "{location}: {error}");
        assert_eq!(server.requests().len(), 1);
    }
    // A user in the Location does not become a header.
    server.heal();
    server.fault(When::blob(&digest), Fault::Redirect(format!("http://user:pw@127.0.0.1:{port}/x")));
    assert!(read(&server, &origin, &digest, None, None).await.is_err());
    assert_eq!(server.requests().pop().unwrap().header("authorization"), None);
}

#[tokio::test]
async fn attack_a_name_that_leads_inside() {
    let server = FaultyOrigin::start().await.unwrap();
    let digest = server.add_blob(REPOSITORY, "content");
    let port = server.address().port();
    let origin = client_with(Options { registries: [].into(), retries: 0, ..options(&server) });
    for name in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        "0x7f000001".into(),
    ] {
        let registry = types::Registry::parse(&name).unwrap();
        let repository = Repository::new(&registry, REPOSITORY.parse().unwrap());
        let error = origin.read_blob(&repository, &digest, None, None, &Auth::Anonymous).await.unwrap_err();
        assert!(matches!(error, OriginError::ForbiddenAddress { .. }), "{name}: {error}");
    }
    assert!(server.requests().is_empty());

    // By name in the configuration it may; what it redirects to, then, too.
    let registry = types::Registry::parse(&format!("localhost:{port}")).unwrap();
    let particular = RegistryOptions { plain_http: true, allow_private_address: true, ..Default::default() };
    let origin =
        client_with(Options { registries: [(registry.clone(), particular)].into(), ..options(&server) });
    let repository = Repository::new(&registry, REPOSITORY.parse().unwrap());
    let got = origin.read_blob(&repository, &digest, None, None, &Auth::Anonymous).await.unwrap();
    assert_eq!(collect(got).await.unwrap(), "content");
}

#[tokio::test]
async fn tls_is_verified() {
    let server = FaultyOrigin::builder().tls().start().await.unwrap();
    let digest = server.add_blob(REPOSITORY, content(1000));
    let error = read(&server, &client(&server), &digest, None, None).await.unwrap_err();
    assert!(matches!(error, OriginError::Tls { .. }), "{error:?}");

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(server.ca_pem().unwrap().as_bytes()).unwrap();
    let extra = Options { extra_ca: vec![file.path().into()], ..options(&server) };
    let mut own = options(&server);
    own.registries.get_mut(&server.registry()).unwrap().ca = Some(file.path().into());
    let mut insecure = options(&server);
    insecure.registries.get_mut(&server.registry()).unwrap().insecure_tls = true;
    for options in [extra, own, insecure.clone()] {
        let origin = client_with(options);
        assert_eq!(read(&server, &origin, &digest, None, None).await.unwrap(), content(1000));
    }

    // Trust in one registry by its name is no trust in where it redirects to.
    let other = FaultyOrigin::builder().tls().start().await.unwrap();
    server.fault(When::blob(&digest), Fault::Redirect(format!("{}/storage/{digest}", other.url())));
    let error = read(&server, &client_with(insecure), &digest, None, None).await.unwrap_err();
    assert!(matches!(error, OriginError::Tls { .. }), "{error:?}");
    // TLS is not left on the way.
    let plain = FaultyOrigin::start().await.unwrap();
    server.heal();
    server.fault(When::blob(&digest), Fault::Redirect(format!("{}/storage/{digest}", plain.url())));
    let origin = client_with(Options { extra_ca: vec![file.path().into()], ..options(&server) });
    let error = read(&server, &origin, &digest, None, None).await.unwrap_err();
    assert!(matches!(error, OriginError::Malformed(_)), "{error:?}");
    assert!(plain.requests().is_empty());

    let missing = Options { extra_ca: vec!["/nonexistent".into()], ..options(&server) };
    assert!(Origin::new(missing).unwrap_err().to_string().starts_with("cannot read /nonexistent"));
    let empty = tempfile::NamedTempFile::new().unwrap();
    let empty = Options { extra_ca: vec![empty.path().into()], ..options(&server) };
    assert!(Origin::new(empty).unwrap_err().to_string().starts_with("no PEM certificate in"));
}
