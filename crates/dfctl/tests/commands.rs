//! The commands against a daemon that is none: its admin port and its registry, from memory.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use clap::Parser as _;
use dfctl::{Cli, Error};
use futures::{StreamExt, stream};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use types::Digest;

#[tokio::test]
async fn shells_and_man() {
    for shell in ["bash", "zsh", "fish"] {
        let cli = Cli::try_parse_from(["dfctl", "completion", shell]).unwrap();
        let mut out = Vec::new();
        dfctl::run(cli, &mut out).await.unwrap();
        let script = String::from_utf8(out).unwrap();
        for word in ["uninstall", "dry-run", "preheats"] {
            assert!(script.contains(word), "{shell}, {word}: {script}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let cli = Cli::try_parse_from(["dfctl", "man", pages.to_str().unwrap()]).unwrap();
    dfctl::run(cli, &mut Vec::new()).await.unwrap();
    for page in [
        "dfctl.1",
        "dfctl-runtime-install.1",
        "dfctl-token-create.1",
        "dfctl-preheat.1",
        "dfctl-preheats-cancel.1",
    ] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
}

/// What it has, by path; and what it was asked.
#[derive(Default)]
struct Daemon {
    contents: BTreeMap<String, Vec<u8>>,
    /// Blobs that break off in the middle the first so many times.
    breaks: Mutex<BTreeMap<String, u32>>,
    asked: Mutex<Vec<String>>,
}

impl Daemon {
    fn put(&mut self, kind: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        self.contents.insert(format!("library/app/{kind}/{digest}"), bytes.to_vec());
        digest
    }

    /// An image of a config and two layers, for two platforms, as `library/app:v1`.
    fn with_image() -> (Self, Vec<Digest>) {
        let mut daemon = Self::default();
        let blobs = [b"{}".to_vec(), vec![1; 300_000], vec![2; 5]];
        let digests: Vec<_> = blobs.iter().map(|blob| daemon.put("blobs", blob)).collect();
        let descriptor =
            |i: usize| serde_json::json!({"digest": digests[i].to_string(), "size": blobs[i].len()});
        let text = serde_json::json!({"config": descriptor(0), "layers": [descriptor(1), descriptor(2)]})
            .to_string();
        let manifest = daemon.put("manifests", text.as_bytes());
        let entry = |architecture: &str| {
            let platform = serde_json::json!({"os": "linux", "architecture": architecture});
            serde_json::json!({"digest": manifest.to_string(), "size": text.len(), "platform": platform})
        };
        let index = serde_json::json!({"manifests": [entry("arm64"), entry("amd64")]}).to_string();
        daemon.contents.insert("library/app/manifests/v1".to_owned(), index.into_bytes());
        (daemon, digests)
    }

    async fn start(self) -> (Arc<Self>, String) {
        let daemon = Arc::new(self);
        let app = Router::new()
            .route("/v2/{*path}", any(registry))
            .route("/v1/{*path}", any(admin))
            .with_state(daemon.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (daemon, address)
    }
}

async fn registry(
    State(daemon): State<Arc<Daemon>>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let range = headers.get("range").map_or("", |range| range.to_str().unwrap());
    daemon
        .asked
        .lock()
        .unwrap()
        .push(format!("{path} {} {range}", query.unwrap_or_default()).trim_end().to_owned());
    if path.contains("private") {
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        return (StatusCode::UNAUTHORIZED, body).into_response();
    }
    let Some(bytes) = daemon.contents.get(&path).cloned() else {
        let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown to registry"}]}"#;
        return (StatusCode::NOT_FOUND, body).into_response();
    };
    let from: usize = range.strip_prefix("bytes=").map_or(0, |r| r.trim_end_matches('-').parse().unwrap());
    let rest = bytes[from..].to_vec();
    let status = if from > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut breaks = daemon.breaks.lock().unwrap();
    let response = Response::builder().status(status).header("content-length", rest.len());
    match breaks.get_mut(&path).filter(|left| **left > 0) {
        None => response.body(Body::from(rest)).unwrap(),
        Some(left) => {
            *left -= 1;
            let half = rest[..rest.len() / 2].to_vec();
            // The first half is written while the second is waited for.
            let broken = async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("broken on purpose"))
            };
            let chunks = stream::iter([Ok(half)]).chain(stream::once(broken));
            response.body(Body::from_stream(chunks)).unwrap()
        }
    }
}

async fn admin(method: Method, Path(path): Path<String>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    match (method.as_str(), path.as_str(), query.as_str()) {
        ("GET", "status", "") => {
            let text = r#"{"host":"aa","scheduler":"down","hosts":[],"blobs":[],"extra":7}"#;
            text.into_response()
        }
        ("POST", "refresh", "image=docker.io%2Flibrary%2Fapp%3Av1") => {
            r#"{"digest":"sha256:new"}"#.into_response()
        }
        _ => (StatusCode::BAD_GATEWAY, r#"{"error":"the registry gave a bad answer"}"#).into_response(),
    }
}

async fn dfctl(line: &[&str]) -> Result<String, Error> {
    let cli = Cli::try_parse_from([&["dfctl"], line].concat()).unwrap();
    let mut out = Vec::new();
    dfctl::run(cli, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn pull_checks_every_blob() {
    let (daemon, blobs) = Daemon::with_image();
    let (daemon, address) = daemon.start().await;
    let out = dfctl(&["pull", "app:v1", "--proxy", &address, "--platform", "linux/amd64"]).await.unwrap();
    assert!(out.starts_with("pulled docker.io/library/app:v1 (sha256:"), "{out}");
    assert!(out.contains("3 blobs, 293.0 KiB, every digest checked"), "{out}");
    let asked = daemon.asked.lock().unwrap().clone();
    assert_eq!(asked[0], "library/app/manifests/v1 ns=docker.io");
    for blob in &blobs {
        assert!(asked.contains(&format!("library/app/blobs/{blob} ns=docker.io")), "{blob}");
    }
    let line = ["pull", "app:v1", "--proxy", &address, "--platform", "linux/amd64", "-o", "json"];
    let out: serde_json::Value = serde_json::from_str(&dfctl(&line).await.unwrap()).unwrap();
    assert_eq!(out["image"], "docker.io/library/app:v1");
    assert_eq!(out["platform"], "linux/amd64");
    assert!(out["digest"].as_str().unwrap().starts_with("sha256:"), "{out}");
    let listed = blobs.iter().zip([2_u64, 300_000, 5]);
    let listed: Vec<_> = listed
        .map(|(digest, bytes)| serde_json::json!({"digest": digest.to_string(), "bytes": bytes}))
        .collect();
    assert_eq!(out["blobs"], serde_json::Value::from(listed));
    assert_eq!(out["bytes"], 300_007);
    assert!(out["seconds"].as_f64().unwrap() > 0.0, "{out}");
}

#[tokio::test]
async fn pull_goes_on_where_a_connection_broke() {
    let (daemon, blobs) = Daemon::with_image();
    daemon.breaks.lock().unwrap().insert(format!("library/app/blobs/{}", blobs[1]), 2);
    let (daemon, address) = daemon.start().await;
    dfctl(&["pull", "app:v1", "--proxy", &address, "--platform", "linux/amd64"]).await.unwrap();
    let asked = daemon.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().filter(|asked| asked.contains(" bytes=")).count(), 2, "{asked:?}");
}

#[tokio::test]
async fn pull_gives_up_at_last() {
    let (daemon, blobs) = Daemon::with_image();
    daemon.breaks.lock().unwrap().insert(format!("library/app/blobs/{}", blobs[1]), 1000);
    let (_, address) = daemon.start().await;
    let error = dfctl(&["pull", "app:v1", "--proxy", &address, "--platform", "linux/amd64"]).await;
    assert!(matches!(&error, Err(Error::Blob { digest, .. }) if *digest == blobs[1]), "{error:?}");
}

#[tokio::test]
async fn wrong_bytes_are_found() {
    let (mut daemon, blobs) = Daemon::with_image();
    daemon.contents.insert(format!("library/app/blobs/{}", blobs[2]), vec![3; 5]);
    let (_, address) = daemon.start().await;
    let error = dfctl(&["pull", "app:v1", "--proxy", &address, "--platform", "linux/amd64"]).await;
    assert!(matches!(&error, Err(Error::WrongDigest(digest)) if *digest == blobs[2]), "{error:?}");
    let (mut daemon, blobs) = Daemon::with_image();
    daemon.contents.insert(format!("library/app/blobs/{}", blobs[2]), vec![2; 6]);
    let (_, address) = daemon.start().await;
    let error = dfctl(&["pull", "app:v1", "--proxy", &address, "--platform", "linux/amd64"]).await;
    assert!(matches!(&error, Err(Error::WrongSize { expected: 5, got: 6, .. })), "{error:?}");
}

#[tokio::test]
async fn refusals_in_plain_words() {
    let (daemon, _) = Daemon::with_image();
    let (_, address) = daemon.start().await;
    let table = [
        (vec!["pull", "app:v2", "--proxy", &address], "manifest unknown to registry (status 404)"),
        (
            vec!["pull", "app:v1", "--proxy", &address, "--platform", "linux/s390x"],
            "it has: linux/amd64, linux/arm64",
        ),
        (
            vec!["pull", "ghcr.io/private/app", "--proxy", &address],
            "the registry wants a credential: authentication",
        ),
        (vec!["refresh", "other", "--daemon", &address], "the registry gave a bad answer (status 502)"),
        (vec!["pull", "app", "--proxy", "http://127.0.0.1:1"], "no daemon answers at http://127.0.0.1:1"),
    ];
    for (line, expected) in table {
        let error = dfctl(&line).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{line:?}: {error}");
    }
}

#[tokio::test]
async fn audit_needs_no_daemon_but_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.log");
    let path = file.to_str().unwrap();
    let error = dfctl(&["audit", "--file", path]).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot read the audit log {path}: ")), "{error}");
    let lost = r#"{"time":"2026-01-01T00:00:00.000Z","event":"lost","lines":3,"later":1}"#;
    std::fs::write(&file, format!("{lost}\nnot a line\n")).unwrap();
    let table = dfctl(&["audit", "--file", path]).await.unwrap();
    assert!(
        table.starts_with("TIME ") && table.ends_with(" 3 lines are missing before this one\n"),
        "{table}"
    );
    for json in [&["--json"][..], &["-o", "json"]] {
        let line = [&["audit", "--file", path], json].concat();
        assert_eq!(dfctl(&line).await.unwrap(), format!("{lost}\n"));
    }
    assert_eq!(dfctl(&["audit", "--file", path, "--json", "--uid", "0"]).await.unwrap(), "");
}

#[tokio::test]
async fn top_as_text() {
    let (_, address) = Daemon::default().start().await;
    let picture = dfctl(&["top", "--once", "--interval", "200ms", "--daemon", &address]).await.unwrap();
    let lines: Vec<&str> = picture.lines().collect();
    assert!(lines[0].ends_with("Z  0 hosts  scheduler down  origin share -"), "{picture}");
    assert_eq!(lines[1], "the scheduler does not answer: this host alone");
    assert!(lines.contains(&"rollouts: 0 under way, 0 ended"), "{picture}");
    // Before the first answer it fails as status does.
    let nobody = ["--daemon", "http://127.0.0.1:1"];
    let of_top = dfctl(&[&["top", "--once"][..], &nobody].concat()).await.unwrap_err().to_string();
    let of_status = dfctl(&[&["status"][..], &nobody].concat()).await.unwrap_err().to_string();
    assert_eq!(of_top, of_status);
}

#[tokio::test]
async fn status_and_refresh() {
    let (_, address) = Daemon::default().start().await;
    let json = dfctl(&["status", "-o", "json", "--daemon", &address]).await.unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["extra"], 7);
    let table = dfctl(&["status", "--daemon", &address]).await.unwrap();
    assert!(table.starts_with("the scheduler does not answer: this host alone\n\nHOST"), "{table}");
    let line = dfctl(&["refresh", "app:v1", "--daemon", &address]).await.unwrap();
    assert_eq!(line, "docker.io/library/app:v1 is sha256:new\n");
    let json = dfctl(&["refresh", "app:v1", "-o", "json", "--daemon", &address]).await.unwrap();
    let expected = serde_json::json!({"image": "docker.io/library/app:v1", "digest": "sha256:new"});
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), expected);
}
