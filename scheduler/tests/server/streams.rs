//! Streams of hosts over real gRPC: greetings, members, heartbeats, and everything that ends a stream.

use crate::fake_host::{FakeHost, Running, SOON, blob, hello, options};
use proto::{FromHost, HOST_FRAME_BYTES_MAX, Hello, Traffic, wire};
use std::time::Duration;
use tonic::Code;
use types::{HostBody, HostId, PieceIndex};

#[tokio::test]
async fn hosts_are_welcomed_and_introduced() {
    let running = Running::start(options()).await;
    let mut a = running.host("a").await;
    assert_eq!((a.welcome.protocol, a.welcome.cluster.as_str()), (proto::PROTOCOL, "damselfly"));
    assert_eq!(a.welcome.heartbeat, Duration::from_secs(1));
    let mut b = running.host("b").await;
    a.until_members(&[b.id]).await;
    b.until_members(&[a.id]).await;
    assert_eq!(a.welcome.instance, b.welcome.instance);
    // An address that a host does not know is the one that it is seen under.
    let seen = a.named.iter().find(|m| m.host() == b.id).expect("named");
    assert_eq!(seen.bulk.to_string(), "127.0.0.1:4001");
    b.until_pong(5).await;

    b.hang_up();
    a.until_members(&[]).await;
    assert_eq!(b.end().await.code(), Code::Ok);
    running.stop().await;
}

#[tokio::test]
async fn a_second_connection_of_a_host_replaces_the_first() {
    let running = Running::start(options()).await;
    let mut watcher = running.host("watcher").await;
    let mut first = running.host("a").await;
    watcher.until_members(&[first.id]).await;
    let mut again = hello("a");
    again.bulk.set_port(4002);
    let mut second = FakeHost::connect(running.channel().await, again).await.unwrap();
    assert_eq!(first.end().await.code(), Code::Aborted);
    second.until_pong(1).await;
    // Named again, with its new address, and not taken back by the end of the first.
    while !watcher.named.iter().any(|m| m.host() == second.id && m.bulk.port() == 4002) {
        watcher.hear().await.unwrap();
    }
    watcher.until_pong(1).await;
    assert!(watcher.members.contains(&second.id));
    running.stop().await;
}

#[tokio::test]
async fn protocols_are_negotiated() {
    let running = Running::start(options()).await;
    for (max, expected) in [(9, proto::PROTOCOL), (1, 1)] {
        let hello = Hello { protocol_max: max, ..hello("another") };
        let welcome = FakeHost::connect(running.channel().await, hello).await.unwrap().welcome;
        assert_eq!(welcome.protocol, expected);
    }
    let mut stranger = hello("stranger");
    (stranger.protocol_min, stranger.protocol_max) = (7, 9);
    let refused = FakeHost::connect(running.channel().await, stranger).await.err().expect("refused");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("versions 7 to 9"), "{refused}");
    running.stop().await;
}

#[tokio::test]
async fn a_silent_stream_is_ended_before_and_after_its_hello() {
    let mut short = options();
    short.hosts.hello_timeout = Duration::from_millis(100);
    short.hosts.heartbeat = Duration::from_millis(50);
    short.hosts.silence_timeout = Duration::from_millis(200);
    let running = Running::start(short).await;

    let mut client = running.client().await;
    let mute = client.connect(tokio_stream::pending()).await.expect_err("no hello");
    assert_eq!(mute.code(), Code::DeadlineExceeded);

    let mut host = running.host("a").await;
    for n in 0..10 {
        host.until_pong(n).await;
    }
    let end = host.end().await;
    assert_eq!(end.code(), Code::DeadlineExceeded);
    running.stop().await;
}

#[tokio::test]
async fn attack_nonsense_or_too_large_a_frame_ends_the_stream() {
    let running = Running::start(options()).await;
    let mut watcher = running.host("watcher").await;

    let mut client = running.client().await;
    let ping = wire::HostFrame { content: Some(wire::host_frame::Content::Ping(1)) };
    let refused = client.connect(tokio_stream::iter([ping])).await.expect_err("no hello");
    assert_eq!(refused.code(), Code::InvalidArgument);

    let mut host = running.host("a").await;
    host.say(FromHost::Hello(hello("a"))).await;
    assert_eq!(host.end().await.code(), Code::InvalidArgument);

    // A piece that the blob does not have: valid on the wire, but not for this blob.
    let mut host = running.host("b").await;
    let (key, _) = blob(1000);
    host.tell(&key, HostBody::NearlyDone { piece: PieceIndex(1) }).await;
    let end = host.end().await;
    assert_eq!((end.code(), end.message()), (Code::InvalidArgument, "piece 1 of a blob of 1"));

    // Longer than a frame may be.
    let mut host = running.host("c").await;
    let version = "x".repeat(HOST_FRAME_BYTES_MAX + 1);
    let hello = wire::Hello { version, ..Default::default() };
    host.say_frame(wire::HostFrame { content: Some(wire::host_frame::Content::Hello(hello)) }).await;
    assert_eq!(host.end().await.code(), Code::OutOfRange);

    // Nobody but the watcher is left, and it was not disturbed.
    watcher.until_members(&[]).await;
    watcher.until_pong(9).await;
    running.stop().await;
}

/// A host that pings and never reads its pongs: the scheduler remembers so much for it, and then cuts it off.
#[tokio::test]
async fn a_host_that_does_not_read_is_disconnected() {
    let running = Running::start(options()).await;
    let mut watcher = running.host("watcher").await;
    let deaf = running.host("deaf").await;
    let id = deaf.id;
    watcher.until_members(&[id]).await;
    let shouting = tokio::spawn(async move {
        for number in 0..2_000_000 {
            deaf.say(FromHost::Ping(number)).await;
        }
        deaf
    });
    let mut number = 0;
    while watcher.members.contains(&id) {
        number += 1;
        watcher.until_pong(number).await;
    }
    // It is not only out of the members but its connection is gone: what it sends ends nowhere, and what it reads
    // after all ends early.
    let mut deaf = tokio::time::timeout(SOON * 3, shouting).await.expect("sends into the void").unwrap();
    let mut heard = 0;
    let end = loop {
        match deaf.hear().await {
            Ok(_) => heard += 1,
            Err(status) => break status,
        }
    };
    assert!(heard < 1_000_000, "{heard}");
    assert_ne!(end.code(), Code::Ok, "{end}");
    running.stop().await;
}

#[tokio::test]
async fn too_many_hosts_are_refused() {
    let mut few = options();
    few.hosts.max = 2;
    let running = Running::start(few).await;
    let _a = running.host("a").await;
    let mut b = running.host("b").await;
    b.until_pong(1).await;
    let refused = match FakeHost::connect(running.channel().await, hello("c")).await {
        Ok(mut host) => host.end().await,
        Err(status) => status,
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    // One that is known may come back.
    let mut again = running.host("a").await;
    again.until_pong(1).await;
    running.stop().await;
}

#[tokio::test]
async fn stopping_ends_streams_with_a_reason_and_within_the_time() {
    let running = Running::start(options()).await;
    let mut host = running.host("a").await;
    host.until_pong(1).await;
    let address = running.server.grpc_addr();
    running.cancel.cancel();
    let end = host.end().await;
    assert_eq!(end.code(), Code::Unavailable);
    tokio::time::timeout(SOON, running.server.stopped()).await.expect("stops");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn status_and_metrics_show_hosts_and_their_bytes() {
    let running = Running::start(options()).await;
    let mut host = running.host("a").await;
    let traffic = Traffic { origin: 70, rack: 30, uploaded: 5, ..Traffic::default() };
    host.say(FromHost::Traffic(traffic.clone())).await;
    host.until_pong(1).await;
    let status = running.client().await.status(wire::StatusRequest {}).await.unwrap().into_inner();
    let status = proto::Status::try_from(status).unwrap();
    assert_eq!((status.hosts_total, status.hosts.len()), (1, 1));
    let seen = &status.hosts[0];
    assert_eq!((seen.host, &seen.traffic, seen.zone.as_str()), (host.id, &traffic, "z"));

    let admin = running.server.admin_addr().unwrap();
    let json: serde_json::Value = serde_json::from_str(&get(admin, "/v1/status").await).unwrap();
    assert_eq!(json["hosts"][0]["traffic"]["origin"], 70);
    assert_eq!(json["hosts"][0]["address"], "127.0.0.1:4001");
    let metrics = get(admin, "/metrics").await;
    let line = format!(
        "damselfly_scheduler_host_traffic_bytes_total{{peer=\"{}\",source=\"origin\",direction=\"down\"}} 70",
        HostId::of_peer_id(b"a")
    );
    assert!(metrics.contains(&line), "{metrics}");
    assert_eq!(get(admin, "/readyz").await, "ready\n");
    running.stop().await;
}

#[tokio::test]
async fn health_is_served() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let running = Running::start(options()).await;
    let mut health = HealthClient::new(running.channel().await);
    for service in ["", "damselfly.v1.Scheduler"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service}");
    }
    running.stop().await;
}

/// The body of an answer on the admin port.
async fn get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split_once("\r\n\r\n").expect("a head").1.to_owned()
}
