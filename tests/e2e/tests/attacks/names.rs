//! Names that lead where no client is to get: into the node, into the cluster, out of the paths of the API.

use crate::scene::Scene;
use anyhow::{Result, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;

/// A service of the node that is nobody's business: how often it was reached.
async fn victim() -> Result<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let reached = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reached);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok((port, reached))
}

/// Asks for each target by itself: refused with 400, 403, 404 or 414, in the log once, and the registry hears of none.
async fn are_refused(seed: u64, targets: &[String]) -> Result<()> {
    let scene = Scene::start(|_| {}).await?;
    let attack = async {
        for target in targets {
            let answer = scene.raw_get(target).await?;
            let refused = matches!(answer.status, Some(400 | 403 | 404 | 414));
            ensure!(refused, "{target}: {:?}", answer.status);
        }
        Ok(())
    };
    let ((), lines) = scene.beside(seed, attack).await?;
    ensure!(lines.len() == targets.len(), "{} lines of {} requests: {lines:#?}", lines.len(), targets.len());
    let beside = |path: &str| path.starts_with("/v2/beside/");
    let others: Vec<_> = scene.origin.requests().into_iter().filter(|r| !beside(&r.path)).collect();
    ensure!(others.is_empty(), "the registry was asked: {others:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_ns_and_paths_that_name_the_node_or_its_metadata_service() -> Result<()> {
    let (port, reached) = victim().await?;
    let local = [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "app.localhost",
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "user@127.0.0.1",
        "docker.io@127.0.0.1",
        "docker.io%40127.0.0.1",
        "docker.io%2f@127.0.0.1",
        "docker.io%23@127.0.0.1",
        "docker.io%3f@127.0.0.1",
        "docker.io%5c@127.0.0.1",
        "docker.io%00.127.0.0.1",
        "127.0.0.1%00.docker.io",
        "127.0.0.1%0d%0aHost%3a%20docker.io",
        "127%E3%80%820%E3%80%820%E3%80%821",
        "%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1",
    ];
    let metadata = [
        "169.254.169.254",
        "169.254.169.254:80",
        "2852039166",
        "0xa9fea9fe",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "169.16689662",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[fe80::a9fe:a9fe]",
        "[fd00:ec2::254]",
        "http://169.254.169.254",
        "http%3a%2f%2f169.254.169.254",
        "metadata.google.internal",
        "metadata",
        "kubernetes",
        "kubernetes.default.svc.cluster.local",
    ];
    let mut targets = Vec::new();
    for name in local {
        targets.push(format!("/v2/app/manifests/latest?ns={name}:{port}"));
        targets.push(format!("/v2/app/manifests/latest?ns={name}"));
        targets.push(format!("/v2/{name}:{port}/app/manifests/latest"));
    }
    for name in metadata {
        targets.push(format!("/v2/latest/meta-data/manifests/latest?ns={name}"));
    }
    targets.push("/v2/169.254.169.254/latest/meta-data/manifests/latest".to_owned());
    targets.push(format!("/v2/app/manifests/latest?ns=docker.io&ns=127.0.0.1:{port}"));
    targets.push(format!("/v2/app/manifests/latest?ns=127.0.0.1:{port}&ns=docker.io"));
    are_refused(11, &targets).await?;
    ensure!(reached.load(Ordering::Relaxed) == 0, "the service on the node was reached");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_paths_that_climb_out() -> Result<()> {
    let names = [
        "..",
        "../..",
        "../../etc",
        "app/..",
        "app/../..",
        "app/../../../etc/passwd",
        "./app",
        "app/.",
        "app//other",
        "/app",
        "%2e%2e",
        "%2e%2e%2f%2e%2e",
        "app%2f..%2f..",
        "app%2fother",
        "%252e%252e",
        "..%5c..",
        "..\\..",
        "app%00",
        "app%0a",
        "app%20other",
        "~root",
        "-app",
        "app;x",
        "app%ff",
        "%c0%ae%c0%ae",
        "app%3fx",
        "app%23x",
    ];
    let digest = format!("sha256:{}", "a".repeat(64));
    let mut targets = Vec::new();
    for name in names {
        targets.push(format!("/v2/{name}/manifests/latest"));
        targets.push(format!("/v2/{name}/blobs/{digest}"));
    }
    for reference in ["..", "%2e%2e", "../../x", "-x", ".x", "a%2fb", "a%00", "%2e%2e%2fx"] {
        targets.push(format!("/v2/app/manifests/{reference}"));
        targets.push(format!("/v2/app/blobs/{reference}"));
        targets.push(format!("/v2/app/blobs/sha256:{reference}"));
    }
    for path in
        ["/", "/v2/../metrics", "/../../etc/passwd", "/v1/status", "/metrics", "/v2/app/blobs/", "//v2/"]
    {
        targets.push(path.to_owned());
    }
    are_refused(12, &targets).await
}
