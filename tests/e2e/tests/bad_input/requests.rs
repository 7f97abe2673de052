//! Requests that make no sense, or ask for what is not there, of a whole daemon: the origin never hears of the former.

use anyhow::{Result, ensure};
use e2e::inside::{Content, Node, Settings};
use reqwest::Method;
use std::net::{Ipv4Addr, SocketAddr};
use support::origin::FaultyOrigin;

/// A port at which nobody listens.
async fn nobody() -> Result<SocketAddr> {
    Ok(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?)
}

struct Case {
    method: Method,
    target: String,
    header: Option<(&'static str, String)>,
    status: u16,
    code: &'static str,
}

fn case(target: impl Into<String>, status: u16, code: &'static str) -> Case {
    Case { method: Method::GET, target: target.into(), header: None, status, code }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_makes_no_sense_is_refused_by_its_code() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let content = Content::random(1, 100_000);
    origin.add_blob("known", content.bytes.clone());
    let dead = nobody().await?;
    let mut settings = Settings::of(&[&origin]);
    let endpoint = format!("http://{dead}").parse().ok();
    let unreachable = origin::RegistryOptions { endpoint, ..origin::RegistryOptions::default() };
    settings.origin.registries.insert(types::Registry::parse("unreachable.test")?, unreachable);
    let node = Node::alone(&settings).await?;

    let (ns, digest) = (format!("?ns={}", origin.registry()), content.digest);
    let absent = types::Digest::sha256(b"absent");
    let blob = format!("/v2/known/blobs/{digest}{ns}");
    let ranged = |range: &str, status, code| Case {
        header: Some(("range", range.to_owned())),
        ..case(blob.clone(), status, code)
    };
    let with = |method, target: &str| Case { method, ..case(target, 405, "UNSUPPORTED") };
    let cases = [
        // What is not there.
        case(format!("/v2/known/manifests/absent{ns}"), 404, "MANIFEST_UNKNOWN"),
        case(format!("/v2/absent/manifests/v1{ns}"), 404, "MANIFEST_UNKNOWN"),
        case(format!("/v2/known/manifests/{absent}{ns}"), 404, "MANIFEST_UNKNOWN"),
        case(format!("/v2/known/blobs/{absent}{ns}"), 404, "BLOB_UNKNOWN"),
        case(format!("/v2/absent/blobs/{digest}{ns}"), 404, "BLOB_UNKNOWN"),
        case(format!("/v2/absent/tags/list{ns}"), 404, "NAME_UNKNOWN"),
        case(format!("/v2/known/elsewhere/v1{ns}"), 404, "NAME_UNKNOWN"),
        // Registries that nobody goes to, or that are not there.
        case("/v2/known/manifests/v1?ns=localhost:5000", 403, "DENIED"),
        case("/v2/known/manifests/v1?ns=10.0.0.1", 403, "DENIED"),
        case("/v2/known/manifests/v1?ns=169.254.169.254", 403, "DENIED"),
        case("/v2/known/manifests/v1?ns=unreachable.test", 503, "UNAVAILABLE"),
        case(format!("/v2/known/blobs/{digest}?ns=unreachable.test"), 503, "UNAVAILABLE"),
        // Malformed.
        case("/v2/known/manifests/v1?ns=a%20b", 400, "NAME_INVALID"),
        case("/v2/known/manifests/v1?ns=", 400, "NAME_INVALID"),
        case(format!("/v2/known/manifests/v1{ns}&ns=docker.io"), 400, "NAME_INVALID"),
        case(format!("/v2/KNOWN/manifests/v1{ns}"), 400, "NAME_INVALID"),
        case(format!("/v2/known/%2e%2e%2fother/manifests/v1{ns}"), 400, "NAME_INVALID"),
        case(format!("/v2/known/manifests/-v1{ns}"), 400, "TAG_INVALID"),
        case(format!("/v2/known/blobs/sha256:1234{ns}"), 400, "DIGEST_INVALID"),
        case(format!("/v2/known/blobs/md5:d41d8cd98f00b204e9800998ecf8427e{ns}"), 400, "DIGEST_INVALID"),
        case(format!("/v2/known/blobs/{}{ns}", digest.to_string().to_uppercase()), 400, "DIGEST_INVALID"),
        case(format!("/v2/known/manifests/sha512:{}{ns}", digest.encoded()), 400, "DIGEST_INVALID"),
        case(format!("/v2/{}/manifests/v1{ns}", "a/".repeat(600)), 414, "NAME_INVALID"),
        ranged("bytes=9-1", 400, "RANGE_INVALID"),
        ranged("bytes=a-b", 400, "RANGE_INVALID"),
        ranged(&format!("bytes={}", "0-0,".repeat(1025)), 400, "RANGE_INVALID"),
        ranged("bytes=0-,0-,0-", 400, "RANGE_INVALID"),
        ranged("bytes=100000-", 416, "RANGE_INVALID"),
        // No pulls.
        with(Method::POST, &format!("/v2/known/blobs/uploads/{ns}")),
        with(Method::PUT, &format!("/v2/known/manifests/v1{ns}")),
        with(Method::PATCH, &format!("/v2/known/blobs/uploads/1{ns}")),
        with(Method::DELETE, &blob),
    ];
    for Case { method, target, header, status, code } in cases {
        let headers: Vec<_> = header.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = node.ask(method.clone(), &target, &headers).await?;
        let seen = (reply.status, reply.code());
        ensure!(seen == (status, code.to_owned()), "{method} {target} {header:?}: {}", reply.summary());
    }

    let long = "x".repeat(dfdaemon::proxy::HEAD_LEN_MAX);
    ensure!(node.ask(Method::GET, &blob, &[("x-long", &long)]).await?.status == 431, "an oversized header");
    let many: Vec<(&str, &str)> = vec![("x-many", "1"); 200];
    ensure!(node.ask(Method::GET, &blob, &many).await?.status == 431, "too many headers");

    // What made no sense has not gone further, and the daemon goes on.
    let asked: Vec<String> = origin.requests().into_iter().map(|request| request.path).collect();
    let sense = |path: &String| path.starts_with("/v2/known/") || path.starts_with("/v2/absent/");
    ensure!(asked.iter().all(sense), "{asked:?}");
    ensure!(!asked.iter().any(|path| path.contains("uploads") || path.contains("..")), "{asked:?}");
    ensure!(node.get(&blob).await?.is_right(&content.bytes));
    Ok(())
}
