//! Bodies while they come: in time with the client, never whole unless proven, over when the client leaves.

use super::client::{Connection, until};
use super::memory::{CHUNK, Memory};
use super::{options, stage, stage_with};
use std::time::Duration;

const REPOSITORY: &str = "docker.io/library/alpine";

fn request(digest: &types::Digest, headers: &str) -> String {
    format!("GET /v2/library/alpine/blobs/{digest} HTTP/1.1\n{headers}").trim().to_owned()
}

#[tokio::test]
async fn bytes_are_sent_as_they_come() {
    let mut memory = Memory::new();
    let bytes: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
    let (blob, gate) = memory.gated(REPOSITORY, &bytes);
    let stage = stage(memory).await;
    let mut client = Connection::open(stage.address).await;
    client.send(&request(&blob, "")).await;
    assert_eq!(client.head().await.header("content-length"), Some("5000"), "the head comes before any byte");
    for i in 0..5 {
        gate.add_permits(1);
        let chunk = client.body(CHUNK as usize).await;
        assert_eq!(chunk, bytes[i * CHUNK as usize..(i + 1) * CHUNK as usize]);
    }
    assert_eq!(stage.memory.reading(), 0);
}

#[tokio::test]
async fn a_failure_in_mid_body_breaks_the_connection() {
    let mut memory = Memory::new();
    let (blob, gate) = memory.gated(REPOSITORY, &[1; 5000]);
    let stage = stage(memory).await;
    let mut client = Connection::open(stage.address).await;
    client.send(&request(&blob, "")).await;
    gate.add_permits(4);
    assert_eq!(client.head().await.status, 200);
    assert_eq!(client.body(4000).await.len(), 4000);
    gate.close();
    assert!(client.is_closed().await, "what is missing is seen to be missing");
}

#[tokio::test]
async fn a_failure_in_a_later_part_breaks_the_connection() {
    let mut memory = Memory::new();
    let (blob, gate) = memory.gated(REPOSITORY, &[1; 5000]);
    let stage = stage(memory).await;
    let mut client = Connection::open(stage.address).await;
    client.send(&request(&blob, "Range: bytes=0-9,100-109")).await;
    gate.add_permits(1);
    let len: usize = client.head().await.header("content-length").unwrap().parse().unwrap();
    until(|| gate.available_permits() == 0).await;
    gate.close();
    assert!(client.body(len).await.len() < len);
}

/// Both for clients that keep the connection and for those that do not.
#[tokio::test]
async fn a_client_that_leaves_ends_the_read_even_while_nothing_comes() {
    for headers in ["", "Connection: close", "Range: bytes=10-"] {
        let mut memory = Memory::new();
        let (blob, gate) = memory.gated(REPOSITORY, &[1; 5000]);
        let stage = stage(memory).await;
        let mut client = Connection::open(stage.address).await;
        client.send(&request(&blob, headers)).await;
        gate.add_permits(1);
        client.head().await;
        client.body(CHUNK as usize).await;
        assert_eq!(stage.memory.reading(), 1);
        drop(client);
        until(|| stage.memory.reading() == 0).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_engine_back() {
    let mut memory = Memory::new();
    // More than the sockets' buffers take.
    let len = 64 << 20;
    let (blob, gate) = memory.gated(REPOSITORY, &vec![1; len]);
    let stage = stage(memory).await;
    let mut client = Connection::open(stage.address).await;
    let chunks = len.div_ceil(CHUNK as usize);
    gate.add_permits(chunks);
    client.send(&request(&blob, "")).await;
    client.head().await;
    // It has stopped taking chunks when two looks show the same.
    let mut before = usize::MAX;
    while before != gate.available_permits() {
        before = gate.available_permits();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(before > chunks / 2, "{before} of {chunks} chunks left");
    assert_eq!(client.body(len).await.len(), len);
}

#[tokio::test]
async fn an_empty_blob_needs_no_stream() {
    let mut memory = Memory::new();
    let (blob, _gate) = memory.gated(REPOSITORY, &[]);
    let stage = stage(memory).await;
    let mut client = Connection::open(stage.address).await;
    for headers in ["", "Range: bytes=0-"] {
        let reply = client.exchange(&request(&blob, headers)).await;
        assert_eq!((reply.status, reply.body.len(), reply.header("content-length")), (200, 0, Some("0")));
    }
}

#[tokio::test]
async fn told_to_stop_it_ends_what_it_has_begun() {
    let mut memory = Memory::new();
    let (blob, gate) = memory.gated(REPOSITORY, &[1; 2000]);
    let mut stage = stage(memory).await;
    let mut client = Connection::open(stage.address).await;
    client.send(&request(&blob, "")).await;
    client.head().await;
    stage.cancel.cancel();
    gate.add_permits(2);
    assert_eq!(client.body(2000).await.len(), 2000);
    assert!(client.is_closed().await);
    stage.server.stopped().await;
    assert!(tokio::net::TcpStream::connect(stage.address).await.is_err());
}

#[tokio::test]
async fn the_drain_has_an_end() {
    let mut memory = Memory::new();
    let (blob, _gate) = memory.gated(REPOSITORY, &[1; 2000]);
    let drain_timeout = Duration::from_millis(20);
    let mut stage = stage_with(crate::proxy::Options { drain_timeout, ..options() }, memory).await;
    let mut client = Connection::open(stage.address).await;
    client.send(&request(&blob, "")).await;
    client.head().await;
    stage.cancel.cancel();
    stage.server.stopped().await;
    assert!(client.is_closed().await);
    assert_eq!(stage.memory.reading(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_ends_the_question() {
    for headers in ["", "\nConnection: close"] {
        let stage = stage(Memory::silent()).await;
        let mut client = Connection::open(stage.address).await;
        client.send(&format!("GET /v2/library/alpine/manifests/latest HTTP/1.1{headers}")).await;
        until(|| stage.memory.reading() == 1).await;
        drop(client);
        until(|| stage.memory.reading() == 0).await;
        until(|| stage.counts("proxy_requests_total{kind=\"manifest\",outcome=\"client_left\"} 1")).await;
    }
}

#[tokio::test]
async fn an_answer_that_never_comes_is_a_504() {
    let answer_timeout = Duration::from_millis(20);
    let memory = Memory::silent();
    let stage = stage_with(crate::proxy::Options { answer_timeout, ..options() }, memory).await;
    let mut client = Connection::open(stage.address).await;
    let reply = client.exchange("GET /v2/library/alpine/manifests/latest HTTP/1.1").await;
    assert_eq!((reply.status, stage.memory.reading()), (504, 0));
}

#[tokio::test]
async fn what_was_given_is_counted() {
    let mut memory = Memory::new();
    let blob = memory.blob(REPOSITORY, &[1; 5000]);
    let (broken, gate) = memory.gated(REPOSITORY, &[2; 5000]);
    let stage = stage(memory).await;
    let mut client = Connection::open(stage.address).await;
    client.exchange(&request(&blob, "")).await;
    client.exchange(&request(&blob, "Range: bytes=0-99")).await;
    client.exchange("HEAD /v2/library/alpine/manifests/absent HTTP/1.1").await;
    gate.add_permits(1);
    client.send(&request(&broken, "")).await;
    client.head().await;
    client.body(CHUNK as usize).await;
    gate.close();
    for line in [
        "proxy_requests_total{kind=\"blob\",outcome=\"ok\"} 2",
        "proxy_requests_total{kind=\"blob\",outcome=\"broken\"} 1",
        "proxy_requests_total{kind=\"manifest\",outcome=\"client_error\"} 1",
        "proxy_sent_bytes_total{kind=\"blob\"} 6100",
        "proxy_connections 0",
    ] {
        until(|| stage.counts(line)).await;
    }
}
