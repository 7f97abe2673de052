//! What commands print with `-o json`: the fields that docs/dfctl.md promises.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use axum::extract::Path as UrlPath;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::{any, get, post, put};
use axum::{Json, Router};
use clap::Parser as _;
use dfctl::{Cli, Error};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// What a line with `-o json` behind it prints, and how it ends.
async fn dfctl(line: &[&str]) -> (String, Result<(), Error>) {
    let cli = Cli::try_parse_from([&["dfctl"], line, &["-o", "json"]].concat()).unwrap();
    let mut out = Vec::new();
    let result = Box::pin(dfctl::run(cli, &mut out)).await;
    (String::from_utf8(out).unwrap(), result)
}

async fn done(line: &[&str]) -> Value {
    let (out, result) = dfctl(line).await;
    result.unwrap_or_else(|error| panic!("{line:?}: {error}"));
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{line:?}: {error}: {out}"))
}

/// A scheduler's operator socket that knows one token and no host.
fn operator(socket: &Path) {
    let token = || json!({"id": "ab12", "created": 1_700_000_000, "expires": null, "note": "rack 7"});
    let made = move || async move {
        let mut made = token();
        made["token"] = json!("secret");
        Json(made)
    };
    let routes = Router::new()
        .route("/v1/tokens", get(move || async move { Json(json!([token()])) }).post(made))
        .route("/v1/tokens/{id}", any(|| async { StatusCode::NO_CONTENT }))
        .route("/v1/removed-hosts", get(|| async { Json(json!(["cd34"])) }))
        .route(
            "/v1/removed-hosts/{id}",
            put(|| async { Json(json!({"connected": false})) }).delete(
                |UrlPath(id): UrlPath<String>| async move {
                    match id.as_str() {
                        "cd34" => StatusCode::NO_CONTENT.into_response(),
                        _ => (StatusCode::NOT_FOUND, Json(json!({"error": "this host was not removed"})))
                            .into_response(),
                    }
                },
            ),
        )
        .route("/v1/flush", post(|| async { Json(json!({"hosts": 3})) }))
        .route("/v1/preheats", get(|| async { Json(json!([preheat("running")])) }).post(begin))
        .route("/v1/preheats/{id}", get(look).delete(|| async { Json(preheat("cancelled")) }));
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
}

/// A preheat as the scheduler tells of it, with a field that dfctl does not know.
fn preheat(state: &str) -> Value {
    json!({
        "id": "17", "state": state, "created": 1_700_000_000, "ended": null, "images": [], "bytes": 2, "held_bytes": 1,
        "hosts": {"total": 2, "done": 1, "failed": 1, "away": 0}, "failures": [{"host": "ab12", "why": "denied"}],
        "rows": [], "later": 7,
    })
}

async fn begin() -> (StatusCode, Json<Value>) {
    (StatusCode::CREATED, Json(preheat("running")))
}

async fn look(UrlPath(id): UrlPath<String>) -> (StatusCode, Json<Value>) {
    match id.as_str() {
        "17" => (StatusCode::OK, Json(preheat("failed"))),
        _ => (StatusCode::NOT_FOUND, Json(json!({"error": "no such preheat"}))),
    }
}

/// As the scheduler tells it.
#[tokio::test]
async fn preheats() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("operator.sock");
    operator(&socket);
    let socket = ["--socket", socket.to_str().unwrap()];
    let cases: [(&[&str], Value); 4] = [
        (&["preheat", "alpine"], preheat("running")),
        (&["preheats", "list"], json!([preheat("running")])),
        (&["preheats", "show", "17"], preheat("failed")),
        (&["preheats", "cancel", "17"], preheat("cancelled")),
    ];
    for (line, expected) in cases {
        assert_eq!(done(&[line, &socket].concat()).await, expected, "{line:?}");
    }
    // How it ended is printed all the same.
    let (out, result) = dfctl(&[&["preheat", "alpine", "--wait"][..], &socket].concat()).await;
    assert_eq!(result.unwrap_err().exit_code(), 1);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), preheat("failed"));
    let (out, result) = dfctl(&[&["preheats", "show", "18"][..], &socket].concat()).await;
    assert_eq!((out.as_str(), result.unwrap_err().exit_code()), ("", 1));
}

#[tokio::test]
async fn membership() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("operator.sock");
    operator(&socket);
    let token = json!({"id": "ab12", "created": 1_700_000_000, "expires": null, "note": "rack 7"});
    let mut made = token.clone();
    made["token"] = json!("secret");
    let removed = json!({"id": "cd34", "removed": true});
    let cases: [(&[&str], Value); 8] = [
        (&["token", "create"], made),
        (&["token", "list"], json!([token])),
        (&["token", "revoke", "ab12"], json!({"id": "ab12", "revoked": true})),
        (&["host", "remove", "ef56"], json!({"id": "ef56", "removed": true, "connected": false})),
        (&["host", "restore", "cd34"], json!({"id": "cd34", "removed": false})),
        (&["host", "removed"], json!([removed])),
        (&["flush"], json!({"registry": null, "repository": null, "hosts_told": 3})),
        (
            &["flush", "ghcr.io/org/app"],
            json!({"registry": "ghcr.io", "repository": "org/app", "hosts_told": 3}),
        ),
    ];
    let socket = ["--socket", socket.to_str().unwrap()];
    for (line, expected) in cases {
        assert_eq!(done(&[line, &socket].concat()).await, expected, "{line:?}");
    }
    let (out, result) = dfctl(&[&["host", "restore", "99"][..], &socket].concat()).await;
    assert_eq!((out.as_str(), result.unwrap_err().exit_code()), ("", 1));
}

#[tokio::test]
async fn runtimes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    let units = dir.path().join("usr/lib/systemd/system");
    for made in [&units, &dir.path().join("etc/docker"), &dir.path().join("var/lib")] {
        fs::create_dir_all(made).unwrap();
    }
    fs::write(units.join("docker.service"), "[Service]\nExecStart=/usr/sbin/dockerd -H fd://\n").unwrap();
    let shown = done(&["runtime", "install", "docker", "--dry-run", "--root", root]).await;
    let file = "/etc/docker/daemon.json";
    let docker = &shown[0];
    assert_eq!(docker["runtime"], "docker", "{shown}");
    assert_eq!((&docker["standing"], &docker["dry_run"]), (&json!("set-up"), &json!(true)), "{shown}");
    assert_eq!((&docker["refused"], &docker["files"]), (&Value::Null, &json!([file])), "{shown}");
    assert_eq!(docker["changes"][0]["path"], file, "{shown}");
    assert!(docker["changes"][0]["diff"].as_str().unwrap().contains("6500"), "{shown}");
    assert!(docker["notes"][0].is_string(), "{shown}");
    let needs = json!({"command": "systemctl try-reload-or-restart docker", "done": false});
    assert_eq!(docker["needs"], needs, "{shown}");
    assert!(!dir.path().join("etc/docker/daemon.json").exists());
    let did = done(&["runtime", "install", "docker", "--root", root]).await;
    // What stands beside ours may be a secret: no text of a file that was changed.
    assert_eq!(did[0]["changes"], json!([{"path": file}]), "{did}");
    let status = done(&["runtime", "status", "--root", root]).await;
    let standings: Vec<_> = status.as_array().unwrap().iter().map(|one| &one["standing"]).collect();
    assert_eq!(standings, ["absent", "absent", "set-up"], "{status}");
    let undone = done(&["runtime", "uninstall", "--root", root]).await;
    assert_eq!((&undone[0]["standing"], &undone[0]["files"]), (&json!("not-set-up"), &json!([])), "{undone}");
    assert_eq!(done(&["runtime", "uninstall", "--root", root]).await, json!([]));
    let (out, result) = dfctl(&["runtime", "install", "containerd", "--root", root]).await;
    assert_eq!(result.unwrap_err().exit_code(), 1);
    let refused: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(refused[0]["standing"], "refused", "{refused}");
    assert!(refused[0]["refused"].as_str().unwrap().starts_with("it is not here"), "{refused}");
}

#[tokio::test]
async fn a_cache() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("metadata.redb"), "").unwrap();
    let path = cache.to_str().unwrap();
    assert_eq!(done(&["cache", "remove", path]).await, json!({"path": path, "removed": true}));
    assert_eq!(done(&["cache", "remove", path]).await, json!({"path": path, "removed": false}));
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("letters"), "dear").unwrap();
    let (out, result) = dfctl(&["cache", "remove", path]).await;
    assert_eq!((out.as_str(), result.unwrap_err().exit_code()), ("", 1));
}

#[tokio::test]
async fn labels_that_nobody_says() {
    let dir = tempfile::tempdir().unwrap();
    let (config, written) = (dir.path().join("in.toml"), dir.path().join("out.toml"));
    fs::write(&config, "[host]\n").unwrap();
    let (config, written) = (config.to_str().unwrap(), written.to_str().unwrap());
    let account = dir.path().to_str().unwrap();
    let line = ["node-labels", "node-1", "--config", config, "--out", written, "--timeout", "100ms"];
    let place = ["--api", "https://127.0.0.1:1", "--service-account", account];
    let said = done(&[&line[..], &place[..]].concat()).await;
    assert_eq!((&said["node"], &said["path"]), (&json!("node-1"), &json!(written)), "{said}");
    assert_eq!((&said["zone"], &said["rack"]), (&Value::Null, &Value::Null), "{said}");
    assert!(
        said["warning"].as_str().unwrap().starts_with("the daemon starts without zone and rack"),
        "{said}"
    );
}
