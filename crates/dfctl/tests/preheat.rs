//! `dfctl preheat` and `dfctl preheats` against a scheduler that is none: what it is asked, what is made of its answers,
//! and how the waiting ends.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use clap::Parser as _;
use dfctl::{Cli, Error};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Notify;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it will say, the last again and again; and what it was asked.
struct Script {
    answers: Mutex<VecDeque<(StatusCode, Value)>>,
    asked: Mutex<Vec<(String, String)>>,
    /// Somebody asked how a preheat stands.
    looked: Notify,
}

/// A scheduler's operator socket.
struct Scheduler {
    script: Arc<Script>,
    dir: TempDir,
}

impl Scheduler {
    fn new<const N: usize>(answers: [(u16, Value); N]) -> Self {
        let answers = answers.map(|(status, answer)| (StatusCode::from_u16(status).unwrap(), answer));
        let script = Arc::new(Script {
            answers: Mutex::new(answers.into()),
            asked: Mutex::default(),
            looked: Notify::new(),
        });
        let dir = tempfile::tempdir().unwrap();
        let routes = Router::new().fallback(answer).with_state(script.clone());
        let listener = tokio::net::UnixListener::bind(dir.path().join("s")).unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { script, dir }
    }

    fn socket(&self) -> String {
        self.dir.path().join("s").to_str().unwrap().to_owned()
    }

    /// What a line prints, and how it ends.
    async fn dfctl(&self, line: &str) -> (String, Result<(), Error>) {
        let socket = self.socket();
        let words = line.split(' ').chain(["--socket", &socket]);
        let cli = Cli::try_parse_from(words).unwrap();
        let mut out = Vec::new();
        let result = Box::pin(dfctl::run(cli, &mut out)).await;
        (String::from_utf8(out).unwrap(), result)
    }

    /// What was asked, without what was sent.
    fn asked(&self) -> Vec<String> {
        self.script.asked.lock().unwrap().iter().map(|(asked, _)| asked.clone()).collect()
    }
}

async fn answer(State(script): State<Arc<Script>>, method: Method, uri: Uri, body: String) -> Response {
    script.asked.lock().unwrap().push((format!("{method} {}", uri.path()), body));
    if method == Method::GET {
        script.looked.notify_one();
    }
    let mut answers = script.answers.lock().unwrap();
    let (status, answer) =
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers.front().unwrap().clone() };
    match answer {
        Value::Null => status.into_response(),
        answer => (status, Json(answer)).into_response(),
    }
}

/// Of two hosts.
fn state(state: &str, done: u32, failed: u32) -> Value {
    let failure = json!({"host": "00000000000000bb", "why": "ghcr.io/org/app: denied"});
    let failures = if failed > 0 { vec![failure] } else { Vec::new() };
    json!({
        "id": "17", "state": state, "created": 1_764_485_000, "ended": null, "bytes": 4096, "held_bytes": 2048,
        "images": [{"image": "ghcr.io/org/app:v1", "digest": format!("sha256:{}", "a".repeat(64)),
            "platforms": ["linux/amd64"], "bytes": 2048}],
        "hosts": {"total": 2, "done": done, "failed": failed, "away": 0},
        "failures": failures, "rows": [],
    })
}

fn running() -> Value {
    state("running", 1, 0)
}

#[tokio::test]
async fn what_the_scheduler_is_asked() {
    let digest = format!("sha256:{}", "b".repeat(64));
    let line = format!("dfctl preheat alpine host:5000/app@{digest}");
    let images = json!(["docker.io/library/alpine:latest", format!("host:5000/app@{digest}")]);
    for (flags, platforms, zones, hosts) in [
        ("", json!([]), json!([]), json!([])),
        (" --all --platform all", json!(["all"]), json!([]), json!([])),
        (" --zone a --zone b --platform linux/arm64", json!(["linux/arm64"]), json!(["a", "b"]), json!([])),
        (" --host 661da0c17a2429dd", json!([]), json!([]), json!(["661da0c17a2429dd"])),
    ] {
        let scheduler = Scheduler::new([(201, running())]);
        let (out, result) = scheduler.dfctl(&format!("{line}{flags}")).await;
        result.unwrap();
        let asked = scheduler.script.asked.lock().unwrap().clone();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!(asked[0].0, "POST /v1/preheats");
        let sent: Value = serde_json::from_str(&asked[0].1).unwrap();
        let expected = json!({"images": images, "platforms": platforms, "zones": zones, "hosts": hosts});
        assert_eq!(sent, expected, "{flags}");
        assert!(out.starts_with("preheat 17: 1 image for 2 hosts, 4.0 KiB in all\n\n"), "{out}");
        let socket = scheduler.socket();
        assert!(out.contains(&format!("\n\n`dfctl preheats show 17 --socket {socket}` shows")), "{out}");
    }
    let scheduler = Scheduler::new([(201, running())]);
    let (_, result) = scheduler.dfctl("dfctl preheat a --platform all --platform linux/arm64").await;
    assert_eq!(result.unwrap_err().exit_code(), 64);
    assert!(scheduler.asked().is_empty());
}

#[tokio::test]
async fn what_is_waited_for_ends_in_one_way_or_another() {
    let done = "preheat 17 is done: 2 of 2 hosts have all, 2.0 KiB of 4.0 KiB held\n";
    let failed = "preheat 17 failed on 1 of 2 hosts:\n  00000000000000bb: ghcr.io/org/app: denied";
    let cancelled = "preheat 17 was cancelled";
    let forgotten = Some((1_u8, "preheat 17 is forgotten: the scheduler was started anew"));
    let mut other = running();
    other["created"] = 1.into();
    let cases = [
        ((200, state("done", 2, 0)), done, None),
        ((200, state("failed", 1, 1)), "preheat 17 failed: 1 of 2 hosts have all", Some((1, failed))),
        ((200, state("cancelled", 1, 0)), cancelled, Some((1, cancelled))),
        ((404, json!({"error": "no such preheat"})), "", forgotten),
        // The number is another preheat's by now.
        ((200, other), "", forgotten),
        ((400, json!({"error": "no"})), "", Some((1, "no (status 400)"))),
    ];
    let checks = cases.map(|(last, printed, expected)| async move {
        // In between it does not answer, as one that is started anew.
        let away = (503, json!({"error": "it stops"}));
        let scheduler = Scheduler::new([(201, running()), away, last.clone()]);
        let (out, result) = scheduler.dfctl("dfctl preheat ghcr.io/org/app:v1 --wait").await;
        assert!(out.starts_with("preheat 17: 1 image for 2 hosts") && out.contains(printed), "{out}");
        match (&result, expected) {
            (Ok(()), None) => {}
            (Err(error), Some((code, text))) => {
                assert_eq!(error.exit_code(), code, "{last:?}: {error}");
                assert!(error.to_string().starts_with(text), "{last:?}: {error}");
            }
            _ => panic!("{last:?}: {result:?}"),
        }
        let looked = "GET /v1/preheats/17";
        assert_eq!(scheduler.asked(), ["POST /v1/preheats", looked, looked]);
    });
    futures::future::join_all(checks).await;
}

#[tokio::test]
async fn what_has_ended_at_once_is_not_asked_for() {
    let scheduler = Scheduler::new([(201, state("done", 2, 0))]);
    scheduler.dfctl("dfctl preheat app --wait -o json").await.1.unwrap();
    assert_eq!(scheduler.asked(), ["POST /v1/preheats"]);
}

#[tokio::test]
async fn what_takes_too_long_goes_on() {
    let scheduler = Scheduler::new([(201, running())]);
    let (_, result) = scheduler.dfctl("dfctl preheat app --wait --timeout 0s").await;
    let error = result.unwrap_err();
    let text = error.to_string();
    let expected = "preheat 17 has not ended within 0s, and goes on: `dfctl preheats show 17";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(error.exit_code(), 75);
    let (out, result) = scheduler.dfctl("dfctl preheat app --wait --timeout 0s -o json").await;
    assert_eq!(result.unwrap_err().exit_code(), 75);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), running());
    assert!(scheduler.asked().iter().all(|asked| !asked.starts_with("DELETE")), "{:?}", scheduler.asked());
}

#[tokio::test]
async fn who_is_interrupted_leaves_it_going_on() {
    let scheduler = Scheduler::new([(201, running())]);
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_dfctl"));
    command.args(["preheat", "app", "--wait", "--socket", &scheduler.socket()]).kill_on_drop(true);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    tokio::time::timeout(PATIENCE, scheduler.script.looked.notified()).await.unwrap();
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{error}");
    assert!(error.starts_with("error: preheat 17 is waited for no longer, and goes on: `dfctl"), "{error}");
    assert!(output.stdout.starts_with(b"preheat 17: 1 image for 2 hosts"));
    assert!(scheduler.asked().iter().all(|asked| !asked.starts_with("DELETE")), "{:?}", scheduler.asked());
}

#[tokio::test]
async fn looking_after_them() {
    let scheduler = Scheduler::new([
        (200, json!([running()])),
        (200, running()),
        (200, state("cancelled", 1, 0)),
        (404, json!({"error": "no preheat 9 is known"})),
        (404, Value::Null),
    ]);
    let (list, result) = scheduler.dfctl("dfctl preheats list").await;
    result.unwrap();
    assert!(list.starts_with("PREHEAT  STATE ") && list.contains("\n17       running  2025-11-"), "{list}");
    let (shown, result) = scheduler.dfctl("dfctl preheats show 17").await;
    result.unwrap();
    let how_far = "1 of 2 hosts have all, 2.0 KiB of 4.0 KiB held\n";
    assert!(shown.starts_with(&format!("preheat 17 goes on: {how_far}")), "{shown}");
    let (cancelled, result) = scheduler.dfctl("dfctl preheats cancel 17").await;
    result.unwrap();
    assert_eq!(cancelled, format!("preheat 17 was cancelled: {how_far}"));
    let (_, result) = scheduler.dfctl("dfctl preheats show 9").await;
    assert_eq!(result.unwrap_err().to_string(), "no preheat 9 is known (status 404)");
    for line in ["dfctl preheats list", "dfctl preheat app"] {
        let error = scheduler.dfctl(line).await.1.unwrap_err().to_string();
        assert!(error.contains("it is older than this dfctl"), "{line}: {error}");
    }
    let asked = [
        "GET /v1/preheats",
        "GET /v1/preheats/17",
        "DELETE /v1/preheats/17",
        "GET /v1/preheats/9",
        "GET /v1/preheats",
        "POST /v1/preheats",
    ];
    assert_eq!(scheduler.asked(), asked);
}

#[tokio::test]
async fn refusals_in_the_schedulers_words() {
    for (status, code, why) in [
        (422, 1, "ghcr.io/org/app:v1: the registry does not have it"),
        (429, 1, "too many images are being looked up: try again"),
        (502, 69, "ghcr.io/org/app:v1: the registry does not answer"),
    ] {
        let scheduler = Scheduler::new([(status, json!({"error": why}))]);
        let (out, result) = scheduler.dfctl("dfctl preheat ghcr.io/org/app:v1 --wait").await;
        let error = result.unwrap_err();
        let expected = format!("{why} (status {status})");
        assert_eq!((out.as_str(), error.to_string(), error.exit_code()), ("", expected, code));
    }
}
