//! Joining over real gRPC and TLS: who gets in, what is answered before, and how a host is put out.

use crate::cluster::{Cluster, connect, hello_of, host, request, secure};
use crate::fake_host::{FakeHost, Running, SOON, client};
use membership::{Authority, JoinToken, SERVER_NAME, client_config};
use proto::client::SchedulerClient;
use proto::{Credentials, FromHost, wire};
use std::time::{Duration, SystemTime};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_joins_and_connects_and_renews() {
    let cluster = Cluster::start().await;
    let (a, b) = (host(1), host(2));
    let channel = cluster.member(&a).await;
    let mut first = connect(channel.clone(), &a).await.unwrap();
    let mut second = connect(cluster.member(&b).await, &b).await.unwrap();
    first.until_members(&[second.id]).await;
    second.until_members(&[first.id]).await;
    let renewed = client(channel).renew(wire::RenewRequest {}).await.unwrap().into_inner();
    let renewed = Credentials::try_from(renewed).unwrap();
    let again = cluster.channel(Some((&a, &renewed.certificate)));
    client(again).status(wire::StatusRequest {}).await.unwrap();
    first.until_pong(1).await;
    cluster.running.stop().await;
}

/// All that a stranger can do is to join; and what it asks else is refused before it is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn attack_a_host_that_has_not_joined_gets_no_answer() {
    let cluster = Cluster::start().await;
    let mut stranger: SchedulerClient<Channel> = client(cluster.channel(None));
    let codes = [
        stranger.status(wire::StatusRequest {}).await.err().map(|status| status.code()),
        stranger.renew(wire::RenewRequest {}).await.err().map(|status| status.code()),
        stranger.resolve(wire::ResolveRequest::default()).await.err().map(|status| status.code()),
        stranger.check_access(wire::AccessRequest::default()).await.err().map(|status| status.code()),
        stranger.refresh(wire::RefreshRequest::default()).await.err().map(|status| status.code()),
        connect(cluster.channel(None), &host(1)).await.err().map(|status| status.code()),
    ];
    assert_eq!(codes, [Some(Code::Unauthenticated); 6]);
    // Plain gRPC is no language here.
    let address = format!("http://{}", cluster.running.server.grpc_addr());
    let plain = Endpoint::from_shared(address).unwrap().connect().await;
    if let Ok(channel) = plain {
        client(channel).status(wire::StatusRequest {}).await.expect_err("no TLS");
    }
    // The service goes on.
    connect(cluster.member(&host(2)).await, &host(2)).await.unwrap();
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_a_host_that_claims_anothers_id() {
    let cluster = Cluster::start().await;
    let (honest, thief) = (host(1), host(2));
    let mut victim = connect(cluster.member(&honest).await, &honest).await.unwrap();
    let channel = cluster.member(&thief).await;
    let refused = FakeHost::connect(channel, hello_of(&honest)).await.err().expect("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    // The one whose id it is goes on.
    victim.until_pong(1).await;
    cluster.running.stop().await;
}

/// Certificates that another authority made, and that of another host.
#[tokio::test(flavor = "multi_thread")]
async fn attack_a_certificate_of_another_cluster() {
    let cluster = Cluster::start().await;
    let key = host(1);
    let other = Authority::load_or_create(cluster.dir.path()).unwrap();
    let foreign = other.certify(&key.public(), SystemTime::now()).unwrap();
    let channel = cluster.channel(Some((&key, &foreign.certificate)));
    connect(channel, &key).await.err().expect("refused");
    // And the other way round: a scheduler that is not the token's.
    let token = JoinToken { authority: other.hash(), secret: cluster.token.secret.clone() };
    let address = format!("http://{}", cluster.running.server.grpc_addr());
    let name = SERVER_NAME.try_into().unwrap();
    let authority = token.authority;
    let channel = process::grpc::channel(&Endpoint::from_shared(address).unwrap(), &name, move || {
        client_config(authority, None).map_err(std::io::Error::other)
    });
    let refused = client(channel).join(wire::JoinRequest::from(request(&key, &token))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_makes_lists_and_revokes_tokens() {
    let cluster = Cluster::start().await;
    let (status, body) = cluster.operator("GET", "/v1/tokens", "");
    let list: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, list.as_array().unwrap().len()), (200, 1));
    let secret = cluster.token.expose();
    assert!(!body.contains(secret.rsplit('.').next().unwrap()), "{body}");

    let (status, body) =
        cluster.operator("POST", "/v1/tokens", r#"{"note": "rack 7", "lifetime_seconds": 60}"#);
    assert_eq!(status, 200, "{body}");
    let made: serde_json::Value = serde_json::from_str(&body).unwrap();
    let new: JoinToken = made["token"].as_str().unwrap().parse().unwrap();
    client(cluster.channel(None)).join(wire::JoinRequest::from(request(&host(1), &new))).await.unwrap();

    let id = list[0]["id"].as_str().unwrap();
    assert_eq!(cluster.operator("DELETE", &format!("/v1/tokens/{id}"), "").0, 204);
    assert_eq!(cluster.operator("DELETE", &format!("/v1/tokens/{id}"), "").0, 404);
    let refused = cluster.join(&host(2)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    for (body, why) in [
        (r#"{"lifetime_seconds": 0}"#, "lifetime"),
        (r#"{"note": "a\nb"}"#, "control"),
        (r#"{"nota": 1}"#, "unknown field"),
    ] {
        let (status, said) = cluster.operator("POST", "/v1/tokens", body);
        assert!(status == 422 && said.contains(why), "{status} {said}");
    }
    cluster.running.stop().await;
}

/// At once, on the connection that it has, and for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_host_is_put_out_and_the_others_hear_of_it() {
    let cluster = Cluster::start().await;
    let (bad, good) = (host(1), host(2));
    let channel = cluster.member(&bad).await;
    let mut out = connect(channel.clone(), &bad).await.unwrap();
    let mut other = connect(cluster.member(&good).await, &good).await.unwrap();
    other.until_members(&[out.id]).await;
    let id = bad.public().host().to_string();
    let removed = cluster.operator("PUT", &format!("/v1/removed-hosts/{id}"), "");
    assert_eq!(removed, (200, r#"{"connected":true}"#.to_owned()));
    let mistyped = cluster.operator("PUT", "/v1/removed-hosts/0123456789abcdef", "");
    assert_eq!(mistyped, (200, r#"{"connected":false}"#.to_owned()));
    assert_eq!(cluster.operator("DELETE", "/v1/removed-hosts/0123456789abcdef", "").0, 204);
    assert_eq!(out.end().await.code(), Code::PermissionDenied);
    other.until_members(&[]).await;
    let refused = client(channel).renew(wire::RenewRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(cluster.join(&bad).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(cluster.operator("GET", "/v1/removed-hosts", "").1, format!("[{id:?}]"));
    assert_eq!(cluster.operator("PUT", "/v1/removed-hosts/short", "").0, 422);
    assert_eq!(cluster.operator("DELETE", &format!("/v1/removed-hosts/{id}"), "").0, 204);
    connect(cluster.member(&bad).await, &bad).await.unwrap();
    cluster.running.stop().await;
}

/// Ten thousand connections that say nothing come from one address; a host joins from another.
#[tokio::test(flavor = "multi_thread")]
async fn attack_a_flood_of_silent_connections_does_not_keep_hosts_out() {
    const FLOOD: usize = 10_000;
    let cluster = Cluster::start().await;
    let mut member = connect(cluster.member(&host(1)).await, &host(1)).await.unwrap();
    let address = cluster.running.server.grpc_addr();
    let mut silent = Vec::new();
    for _ in 0..FLOOD {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.extend(tokio::time::timeout(SOON, socket.connect(address)).await.expect("in time").ok());
        // The process has 1,024 descriptors on some machines, and the other end of each is here too.
        if silent.len() > 300 {
            silent.drain(..150).for_each(drop);
        }
    }
    let begun = std::time::Instant::now();
    connect(cluster.member(&host(2)).await, &host(2)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8), "it took {:?}", begun.elapsed());
    member.say(FromHost::Ping(7)).await;
    member.until_pong(8).await;
    cluster.running.stop().await;
}

/// What is kept is found again, and a second scheduler does not take it over.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_cluster_and_two_cannot_share_it() {
    let cluster = Cluster::start().await;
    let key = host(1);
    let credentials = cluster.join(&key).await.unwrap();
    let cancel = tokio_util::sync::CancellationToken::new();
    let second = scheduler::Server::start(secure(&cluster.dir), cancel).await.unwrap_err();
    let failure = process::exit::Failure::from(second);
    assert_eq!(failure.exit.code(), 69, "{failure}");
    assert!(failure.to_string().contains("another scheduler uses"), "{failure}");

    let Cluster { running, token, dir } = cluster;
    running.stop().await;
    let cluster = Cluster { running: Running::start(secure(&dir)).await, token, dir };
    let channel = cluster.channel(Some((&key, &credentials.certificate)));
    connect(channel, &key).await.unwrap();
    cluster.join(&host(2)).await.unwrap();
    cluster.running.stop().await;
}

/// Bodies that would fill the memory if each were collected: more than a question's are cut off, and a stranger's few at
/// a time.
#[tokio::test(flavor = "multi_thread")]
async fn attack_large_messages_of_strangers_and_members_are_not_collected() {
    let cluster = Cluster::start().await;
    let key = host(1);
    let large = wire::JoinRequest { peer_id: vec![0; 900_000].into(), ..Default::default() };
    let stranger = client(cluster.channel(None));
    let calls = (0..200).map(|_| {
        let (mut stranger, large) = (stranger.clone(), large.clone());
        async move { stranger.join(large).await.expect_err("refused").code() }
    });
    let codes = futures::future::join_all(calls).await;
    let known =
        [Code::ResourceExhausted, Code::Unknown, Code::Internal, Code::OutOfRange, Code::InvalidArgument];
    assert!(codes.iter().all(|code| known.contains(code)), "{codes:?}");
    let channel = cluster.member(&key).await;
    let large = wire::ResolveRequest { repository: "x".repeat(900_000), ..Default::default() };
    let refused = client(channel.clone()).resolve(large).await.unwrap_err();
    assert_ne!(refused.code(), Code::InvalidArgument, "it was read: {refused}");
    connect(channel, &key).await.unwrap();
    cluster.running.stop().await;
}
