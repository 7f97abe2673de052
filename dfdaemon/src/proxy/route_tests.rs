//! Tables of paths as real clients write them, and of those that nobody should.

use super::*;
use proptest::prelude::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn route(path: &str) -> Result<Route, Malformed> {
    let path = path.replace("DIGEST", DIGEST);
    parse(&Method::GET, &path.parse().unwrap(), &Registry::parse("docker.io").unwrap())
}

/// A route in one line: `blob docker.io library/alpine sha256:…`.
fn show(route: &Route) -> String {
    let place = |r: &Repository| format!("{} {}", r.registry, r.name);
    match route {
        Route::Ping { registry: None } => "ping".to_owned(),
        Route::Ping { registry: Some(registry) } => format!("ping {registry}"),
        Route::Manifest { repository, reference } => match reference {
            Reference::Tag(tag) => format!("tag {} {tag}", place(repository)),
            Reference::Digest(_) => format!("manifest {}", place(repository)),
        },
        Route::Blob { repository, digest } => {
            assert_eq!(digest.to_string(), DIGEST);
            format!("blob {}", place(repository))
        }
        Route::Forward { repository, kind, query } => {
            let kind = if *kind == ForwardKind::TagsList { "tags" } else { "referrers" };
            format!("{kind} {} {}", place(repository), query.as_deref().unwrap_or("-"))
        }
    }
}

#[test]
fn paths_of_the_pull_api_are_read() {
    let table = [
        // containerd: the registry in ns
        ("/v2/library/alpine/manifests/3.20?ns=docker.io", "tag docker.io library/alpine 3.20"),
        ("/v2/library/alpine/manifests/DIGEST?ns=docker.io", "manifest docker.io library/alpine"),
        ("/v2/library/alpine/blobs/DIGEST?ns=docker.io", "blob docker.io library/alpine"),
        ("/v2/alpine/blobs/DIGEST?ns=registry-1.docker.io", "blob docker.io library/alpine"),
        ("/v2/alpine/blobs/DIGEST?ns=index.docker.io", "blob docker.io library/alpine"),
        ("/v2/team/app/blobs/DIGEST?ns=127.0.0.1%3A5000", "blob 127.0.0.1:5000 team/app"),
        ("/v2/team/app/blobs/DIGEST?ns=Registry.Example", "blob registry.example team/app"),
        ("/v2/app/blobs/DIGEST?ns=registry.example&ns=registry.example", "blob registry.example app"),
        // a name that looks like a registry stays a name where ns says the registry
        ("/v2/a.b/app/blobs/DIGEST?ns=registry.example", "blob registry.example a.b/app"),
        // podman, CRI-O: the registry in the path
        ("/v2/docker.io/library/alpine/manifests/latest", "tag docker.io library/alpine latest"),
        ("/v2/docker.io/alpine/manifests/latest", "tag docker.io library/alpine latest"),
        ("/v2/registry.example:5000/a/b/c/blobs/DIGEST", "blob registry.example:5000 a/b/c"),
        ("/v2/localhost/app/blobs/DIGEST", "blob localhost app"),
        ("/v2/localhost:5000/app/blobs/DIGEST", "blob localhost:5000 app"),
        // dockerd: the configured upstream
        ("/v2/library/alpine/manifests/latest", "tag docker.io library/alpine latest"),
        ("/v2/alpine/blobs/DIGEST", "blob docker.io library/alpine"),
        ("/v2/my.name/manifests/latest", "tag docker.io library/my.name latest"),
        // words of the API as parts of a name
        ("/v2/team/blobs/manifests/latest", "tag docker.io team/blobs latest"),
        ("/v2/team/manifests/x/blobs/DIGEST", "blob docker.io team/manifests/x"),
        // the rest
        ("/v2/", "ping"),
        ("/v2", "ping"),
        ("/v2/?ns=ghcr.io", "ping ghcr.io"),
        ("/v2/a/b/tags/list", "tags docker.io a/b -"),
        ("/v2/a/b/tags/list?n=10&ns=quay.io&last=x%2Fy", "tags quay.io a/b n=10&last=x%2Fy"),
        ("/v2/ghcr.io/a/b/referrers/DIGEST?artifactType=x", "referrers ghcr.io a/b artifactType=x"),
    ];
    for (path, expected) in table {
        match route(path) {
            Ok(route) => assert_eq!(show(&route), expected, "{path}"),
            Err(e) => panic!("{path}: {e}"),
        }
    }
}

#[test]
fn what_is_no_pull_is_refused_by_its_kind() {
    let long = format!("/v2/{}/blobs/DIGEST", "a/".repeat(500));
    let table = [
        ("/", "NAME_UNKNOWN", 404),
        ("/v1/a/blobs/DIGEST", "NAME_UNKNOWN", 404),
        ("/v2/_catalog", "NAME_UNKNOWN", 404),
        ("/v2/a/blobs", "NAME_UNKNOWN", 404),
        ("/v2/a/things/DIGEST", "NAME_UNKNOWN", 404),
        ("/v2/a/tags/other", "NAME_UNKNOWN", 404),
        ("/v2/a/blobs/uploads/", "NAME_UNKNOWN", 404),
        ("/v2/a/blobs/uploads", "DIGEST_INVALID", 400),
        ("/v2/a/blobs/sha256:abc", "DIGEST_INVALID", 400),
        ("/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", "DIGEST_INVALID", 400),
        ("/v2/a/manifests/sha256:xyz", "DIGEST_INVALID", 400),
        ("/v2/a/referrers/latest", "DIGEST_INVALID", 400),
        ("/v2/a/manifests/.hidden", "TAG_INVALID", 400),
        ("/v2/a/manifests/", "TAG_INVALID", 400),
        ("/v2/A/manifests/latest", "NAME_INVALID", 400),
        ("/v2/a//b/manifests/latest", "NAME_INVALID", 400),
        ("/v2//manifests/latest", "NAME_INVALID", 400),
        ("/v2/../etc/manifests/latest", "NAME_INVALID", 400),
        ("/v2/a/../b/manifests/latest", "NAME_INVALID", 400),
        ("/v2/a/%2e%2e/b/manifests/latest", "NAME_INVALID", 400),
        ("/v2/a%2Fb/manifests/latest", "NAME_INVALID", 400),
        ("/v2/127.0.0.1:5000/manifests/latest", "NAME_INVALID", 400),
        ("/v2/registry.example:port/a/manifests/latest", "NAME_INVALID", 400),
        ("/v2/a/manifests/latest?ns=", "NAME_INVALID", 400),
        ("/v2/a/manifests/latest?ns=user%40host", "NAME_INVALID", 400),
        ("/v2/a/manifests/latest?ns=http%3A%2F%2Fhost", "NAME_INVALID", 400),
        ("/v2/a/manifests/latest?ns=a.example&ns=b.example", "NAME_INVALID", 400),
        (&*long, "NAME_INVALID", 414),
    ];
    for (path, code, status) in table {
        let error = super::super::ProxyError::from(route(path).expect_err(path));
        assert_eq!((error.code(), error.status().as_u16()), (code, status), "{path}");
    }
}

#[test]
fn other_methods_are_refused_before_anything_is_read() {
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::CONNECT]
    {
        let uri = "/v2/a/blobs/uploads/".parse().unwrap();
        let refused = parse(&method, &uri, &Registry::parse("docker.io").unwrap());
        assert_eq!(refused, Err(Malformed::Method), "{method}");
    }
}

proptest! {
    /// Whatever the path, a route's name has no way out of its repository.
    #[test]
    fn no_path_escapes(path in "/v2/[a-z./:%A2_-]{0,60}/(blobs|manifests|tags)/[a-z0-9:.%/-]{0,20}") {
        let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
        let upstream = Registry::parse("docker.io").unwrap();
        if let Ok(Route::Manifest { repository, .. } | Route::Blob { repository, .. }
            | Route::Forward { repository, .. }) = parse(&Method::GET, &uri, &upstream)
        {
            let name = repository.name.to_string();
            prop_assert!(!name.contains("..") && !name.contains('%') && !name.contains("//") && !name.contains(':'));
            prop_assert!(name.split('/').all(|part| !part.is_empty()));
        }
    }
}
