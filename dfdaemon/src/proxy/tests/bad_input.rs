//! What the proxy says to requests that it cannot serve, and to those that nobody should make.

use super::client::{Connection, once};
use super::memory::{Memory, OCI_MANIFEST};
use super::{options, stage, stage_with};
use crate::proxy::{HEAD_LEN_MAX, Malformed, ProxyError, Server, Unknown};
use bytes::Bytes;
use http::HeaderValue;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const ABSENT: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[tokio::test]
async fn every_refusal_has_a_status_and_a_code() {
    let mut memory = Memory::new();
    memory.manifest("docker.io/library/alpine", "latest", OCI_MANIFEST, "{}");
    let blob = memory.blob("docker.io/library/alpine", b"0123456789");
    let stage = stage(memory).await;
    let absent = format!("GET /v2/library/alpine/blobs/{ABSENT}");
    let outside = format!("GET /v2/library/alpine/blobs/{blob} HTTP/1.1\nRange: bytes=10-");
    let malformed = format!("GET /v2/library/alpine/blobs/{blob} HTTP/1.1\nRange: bytes=9-1");
    let table = [
        ("GET /v2/library/alpine/manifests/absent", 404, "MANIFEST_UNKNOWN"),
        (&*absent, 404, "BLOB_UNKNOWN"),
        ("GET /v2/library/alpine/blobs/sha256:1234", 400, "DIGEST_INVALID"),
        ("GET /v2/library/alpine/manifests/-x", 400, "TAG_INVALID"),
        ("GET /v2/library/ALPINE/manifests/latest", 400, "NAME_INVALID"),
        ("GET /v2/alpine/manifests/latest?ns=a%20b", 400, "NAME_INVALID"),
        ("GET /v2/alpine/manifests/latest?ns=10.0.0.1", 403, "DENIED"),
        ("GET /v2/169.254.169.254/latest/manifests/latest", 403, "DENIED"),
        ("GET /v2/_catalog", 404, "NAME_UNKNOWN"),
        ("GET /metrics", 404, "NAME_UNKNOWN"),
        ("POST /v2/library/alpine/blobs/uploads/", 405, "UNSUPPORTED"),
        ("DELETE /v2/library/alpine/manifests/latest", 405, "UNSUPPORTED"),
        (&*outside, 416, "RANGE_INVALID"),
        (&*malformed, 400, "RANGE_INVALID"),
        ("GET /v2/library/alpine/manifests/latest HTTP/1.1\nRange: bytes=a-b", 400, "RANGE_INVALID"),
        (
            "GET /v2/library/alpine/manifests/latest HTTP/1.1\nAuthorization: a\nAuthorization: b",
            400,
            "UNSUPPORTED",
        ),
    ];
    for (request, status, code) in table {
        let request =
            if request.contains("HTTP/1.1") { request.to_owned() } else { format!("{request} HTTP/1.1") };
        let reply = once(stage.address, &request).await;
        assert_eq!(reply.status, status, "{request}");
        let json = reply.json();
        assert_eq!(json["errors"][0]["code"], code, "{request}");
        assert!(json["errors"][0]["message"].as_str().is_some_and(|m| !m.is_empty()), "{request}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        match status {
            405 => assert_eq!(reply.header("allow"), Some("GET, HEAD")),
            416 => assert_eq!(reply.header("content-range"), Some("bytes */10")),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_head_is_refused_without_a_body() {
    let stage = stage(Memory::new()).await;
    let mut client = Connection::open(stage.address).await;
    for _ in 0..2 {
        let reply = client.exchange("HEAD /v2/library/alpine/manifests/absent HTTP/1.1").await;
        assert_eq!(reply.status, 404);
    }
}

#[tokio::test]
async fn failures_of_the_origin_are_told_apart_and_never_as_429_or_408() {
    let stage = stage(Memory::new()).await;
    let why = || "connection refused".to_owned();
    let denied = Bytes::from_static(b"not for you");
    let table = [
        (ProxyError::NotFound(Unknown::Name), 404, "NAME_UNKNOWN"),
        (ProxyError::Unauthorized { challenges: vec![], body: Bytes::new() }, 401, "UNAUTHORIZED"),
        (ProxyError::Denied { body: Bytes::new() }, 403, "DENIED"),
        (ProxyError::BadGateway(why()), 502, "UNAVAILABLE"),
        (ProxyError::Unavailable { why: why(), retry_after: None }, 503, "UNAVAILABLE"),
        (
            ProxyError::Unavailable { why: why(), retry_after: Some(Duration::from_secs(7)) },
            503,
            "UNAVAILABLE",
        ),
        (ProxyError::GatewayTimeout, 504, "UNAVAILABLE"),
        (ProxyError::Internal(why()), 500, "UNKNOWN"),
        (ProxyError::Malformed(Malformed::TooLong), 414, "NAME_INVALID"),
    ];
    for (failure, status, code) in table {
        *stage.memory.failure.lock().unwrap() = Some(failure.clone());
        let reply = once(stage.address, "GET /v2/library/alpine/manifests/latest HTTP/1.1").await;
        assert_eq!(
            (reply.status, reply.json()["errors"][0]["code"].as_str()),
            (status, Some(code)),
            "{failure:?}"
        );
        let retry = matches!(failure, ProxyError::Unavailable { retry_after: Some(_), .. }).then_some("7");
        assert_eq!(reply.header("retry-after"), retry);
    }
    *stage.memory.failure.lock().unwrap() = Some(ProxyError::Denied { body: denied.clone() });
    let reply = once(stage.address, "GET /v2/library/alpine/manifests/latest HTTP/1.1").await;
    assert_eq!((reply.status, &reply.body), (403, &denied.to_vec()));
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[tokio::test]
async fn all_challenges_are_relayed() {
    let stage = stage(Memory::new()).await;
    let challenges = ["Bearer realm=\"https://a.example/t\",service=\"s\"", "Basic realm=\"r\""];
    let lines = challenges.iter().map(|line| HeaderValue::from_static(line)).collect();
    *stage.memory.failure.lock().unwrap() =
        Some(ProxyError::Unauthorized { challenges: lines, body: Bytes::new() });
    let reply = once(stage.address, "GET /v2/ HTTP/1.1").await;
    let relayed: Vec<_> =
        reply.headers.iter().filter(|(name, _)| name == "www-authenticate").map(|(_, v)| v).collect();
    assert_eq!(relayed, challenges);
}

#[tokio::test]
async fn attack_a_head_without_end_is_refused() {
    let stage = stage(Memory::new()).await;
    let mut client = Connection::open(stage.address).await;
    let long = "x".repeat(HEAD_LEN_MAX);
    client.send(&format!("GET /v2/ HTTP/1.1\nX-Long: {long}")).await;
    assert_eq!(client.head().await.status, 431);
    let mut client = Connection::open(stage.address).await;
    let many = (0..200).map(|i| format!("X-{i}: y")).collect::<Vec<_>>().join("\n");
    client.send(&format!("GET /v2/ HTTP/1.1\n{many}")).await;
    assert_eq!(client.head().await.status, 431);
    let mut client = Connection::open(stage.address).await;
    client.send_raw(b"\x16\x03\x01\x02\x00\x01\x00 not http\r\n\r\n").await;
    assert_eq!(client.head().await.status, 400);
}

#[tokio::test]
async fn attack_a_client_that_never_ends_its_head_is_closed() {
    let head_timeout = Duration::from_millis(20);
    let stage = stage_with(crate::proxy::Options { head_timeout, ..options() }, Memory::new()).await;
    for sent in ["", "GET /v2/ HT"] {
        let mut client = Connection::open(stage.address).await;
        client.send_raw(sent.as_bytes()).await;
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn attack_connections_beyond_the_limit_wait_their_turn() {
    let mut memory = Memory::new();
    let (blob, gate) = memory.gated("docker.io/library/alpine", &[7; 10]);
    let stage = stage_with(crate::proxy::Options { connections_max: 1, ..options() }, memory).await;
    let mut first = Connection::open(stage.address).await;
    first.send(&format!("GET /v2/library/alpine/blobs/{blob} HTTP/1.1\nConnection: close")).await;
    assert_eq!(first.head().await.status, 200);
    let address = stage.address;
    let second = tokio::spawn(async move { once(address, "GET /v2/ HTTP/1.1").await });
    tokio::task::yield_now().await;
    assert!(!second.is_finished() && stage.memory.seen().len() == 1);
    gate.add_permits(1);
    assert_eq!(first.body(10).await, [7; 10]);
    assert_eq!(second.await.unwrap().status, 200);
}

#[tokio::test]
async fn attack_silent_connections_make_room_for_those_that_ask() {
    let mut memory = Memory::new();
    let (blob, gate) = memory.gated("docker.io/library/alpine", &[7; 10]);
    let stage = stage_with(crate::proxy::Options { connections_max: 4, ..options() }, memory).await;
    let mut busy = Connection::open(stage.address).await;
    busy.send(&format!("GET /v2/library/alpine/blobs/{blob} HTTP/1.1\nConnection: close")).await;
    assert_eq!(busy.head().await.status, 200);
    let mut rested = Connection::open(stage.address).await;
    assert_eq!(rested.exchange("GET /v2/ HTTP/1.1").await.status, 200);
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(Connection::open(stage.address).await);
        // What has begun to ask, and goes no further, is as good as silent.
        silent.last_mut().unwrap().send_raw(b"GET /v2/").await;
    }
    // Until then their first words may be on their way.
    tokio::time::sleep(Duration::from_millis(300)).await;
    silent.push(Connection::open(stage.address).await);
    assert!(silent[0].is_closed().await, "the oldest makes room");
    assert_eq!(once(stage.address, "GET /v2/ HTTP/1.1").await.status, 200);
    assert!(silent[1].is_closed().await);
    assert_eq!(
        rested.exchange("GET /v2/ HTTP/1.1").await.status,
        200,
        "one that has asked stays before them"
    );
    gate.add_permits(1);
    assert_eq!(busy.body(10).await, [7; 10], "what is being answered stays");
}

/// One whose first words are on their way is not taken for silent: those that rest make room, and nobody else for a moment.
#[tokio::test]
async fn attack_connections_that_keep_coming_do_not_push_out_who_is_about_to_ask() {
    let stage = stage_with(crate::proxy::Options { connections_max: 64, ..options() }, Memory::new()).await;
    let address = stage.address;
    let mut resting = Connection::open(address).await;
    assert_eq!(resting.exchange("GET /v2/ HTTP/1.1").await.status, 200);
    let flood = tokio::spawn(async move {
        let mut silent = Vec::new();
        loop {
            silent.push(Connection::open(address).await);
            tokio::task::yield_now().await;
            silent.drain(..silent.len().saturating_sub(100)).for_each(drop);
        }
    });
    for _ in 0..5 {
        let mut client = Connection::open(address).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(client.exchange("GET /v2/ HTTP/1.1").await.status, 200);
    }
    flood.abort();
}

#[tokio::test]
async fn those_that_have_had_their_answer_make_room_too() {
    let stage = stage_with(crate::proxy::Options { connections_max: 2, ..options() }, Memory::new()).await;
    let mut resting = Vec::new();
    for _ in 0..5 {
        let mut connection = Connection::open(stage.address).await;
        assert_eq!(connection.exchange("GET /v2/ HTTP/1.1").await.status, 200);
        resting.push(connection);
    }
    for connection in &mut resting[..3] {
        assert!(connection.is_closed().await);
    }
    assert_eq!(resting[4].exchange("GET /v2/ HTTP/1.1").await.status, 200);
}

/// More than the system's buffers take, so that the answer waits for its client.
#[tokio::test]
async fn attack_a_client_that_does_not_read_keeps_no_place() {
    let mut memory = Memory::new();
    let blob = memory.blob("docker.io/library/alpine", &vec![7; 64 << 20]);
    let write_timeout = Duration::from_millis(300);
    let options = crate::proxy::Options { connections_max: 1, write_timeout, ..options() };
    let stage = stage_with(options, memory).await;
    let mut idle = Connection::open(stage.address).await;
    idle.send(&format!("GET /v2/library/alpine/blobs/{blob} HTTP/1.1")).await;
    assert_eq!(once(stage.address, "GET /v2/ HTTP/1.1").await.status, 200);
    let begun = std::time::Instant::now();
    assert_eq!(idle.head().await.status, 200);
    let taken = idle.body(64 << 20).await.len();
    assert!(taken < 64 << 20 && begun.elapsed() < Duration::from_secs(10), "{taken} bytes");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let stage = stage(Memory::new()).await;
    let options = crate::proxy::Options { listen: stage.address, ..options() };
    let metrics = crate::proxy::Metrics::register(&mut prometheus_client::registry::Registry::default());
    let again =
        Server::start(options, Arc::new(Memory::new()), metrics, None, CancellationToken::new()).await;
    let error = again.expect_err("the port is taken");
    assert!(error.to_string().contains(&stage.address.to_string()));
}
