//! Preheats, asked for on the operator's socket over HTTP and gRPC, and told to hosts over their streams.

use crate::cluster::{Cluster, hello_of, host};
use crate::fake_host::{FakeHost, SOON};
use crate::shelf::{DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST, Shelf, Silence, entry, image, index};
use proto::wire::preheat_status::State;
use proto::wire::preheats_client::PreheatsClient;
use proto::{FromHost, Hello, PREHEAT_PROTOCOL, PreheatOrder, PreheatReport, wire};
use scheduler::Options;
use serde_json::{Value, json};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use types::{Digest, HostSpec, Label};

/// A cluster whose scheduler knows the shelf as `registry.test`.
async fn cluster(shelf: Shelf) -> Cluster {
    cluster_with_silence(shelf).await.0
}

/// With what the shelf sees of questions that it does not answer.
async fn cluster_with_silence(shelf: Shelf) -> (Cluster, Silence) {
    let (registry, silence) = shelf.open().await;
    let known = |options: &mut Options| drop(options.origin.registries.insert(Shelf::name(), registry));
    (Cluster::start_with(known).await, silence)
}

/// A shelf with `app:v1`, whose layer has 100 bytes.
fn one_image() -> (Shelf, Digest) {
    let mut shelf = Shelf::default();
    let digest = shelf.lay_image("app", "v1", 100);
    (shelf, digest)
}

async fn member(cluster: &Cluster, seed: u8, zone: &str) -> FakeHost {
    let zone = Label::new(zone);
    member_with(cluster, seed, |hello| hello.spec = HostSpec { zone, ..hello.spec.clone() }).await
}

async fn member_with(cluster: &Cluster, seed: u8, change: impl FnOnce(&mut Hello)) -> FakeHost {
    let key = host(seed);
    let mut hello = hello_of(&key);
    change(&mut hello);
    FakeHost::connect(cluster.member(&key).await, hello).await.unwrap()
}

fn ask(cluster: &Cluster, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let (status, body) = cluster.operator(method, path, &body.to_string());
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

/// Begins a preheat; its id.
fn begin(cluster: &Cluster, request: &Value) -> String {
    let (status, state) = ask(cluster, "POST", "/v1/preheats", request);
    assert_eq!(status, 201, "{state}");
    state["id"].as_str().unwrap().to_owned()
}

fn state(cluster: &Cluster, id: &str) -> Value {
    let (status, state) = ask(cluster, "GET", &format!("/v1/preheats/{id}"), &json!({}));
    assert_eq!(status, 200, "{state}");
    state
}

/// How a preheat stands as soon as this is so.
async fn until(cluster: &Cluster, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let looking = async {
        loop {
            let now = state(cluster, id);
            if is_so(&now) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, looking).await.expect("in time")
}

/// Asks for a preheat, without waiting for the answer.
fn post(cluster: &Cluster, request: &Value) -> UnixStream {
    let mut stream = UnixStream::connect(cluster.running.server.operator_socket().unwrap()).unwrap();
    let body = request.to_string();
    let head = "POST /v1/preheats HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    stream
}

/// What is refused, and why.
fn refused(cluster: &Cluster, request: &Value) -> (u16, String) {
    let (status, body) = ask(cluster, "POST", "/v1/preheats", request);
    (status, body["error"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned())
}

/// A host says how far it is, and the scheduler has heard it.
async fn report(host: &mut FakeHost, number: u64, held: (u64, u32), ended: bool, failure: &str) {
    let (held_bytes, held_blobs) = held;
    let report = PreheatReport { number, held_bytes, held_blobs, ended, failure: failure.to_owned() };
    host.say(FromHost::Preheats(vec![report])).await;
    if ended {
        host.until_over(number).await;
    }
    host.until_pong(1).await;
}

fn blobs(order: &PreheatOrder) -> Vec<u64> {
    order.images.iter().flat_map(|image| &image.blobs).map(|blob| blob.size).collect()
}

async fn grpc(cluster: &Cluster) -> PreheatsClient<Channel> {
    let socket = cluster.running.server.operator_socket().unwrap();
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
    PreheatsClient::new(endpoint.connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_reaches_the_hosts_of_a_zone_and_these_alone() {
    let (shelf, digest) = one_image();
    let cluster = cluster(shelf).await;
    let (mut one, mut two) = (member(&cluster, 1, "a").await, member(&cluster, 2, "a").await);
    let mut other = member(&cluster, 3, "b").await;
    let id = begin(&cluster, &json!({"images": ["registry.test/app:v1"], "zones": ["a"]}));
    let number: u64 = id.parse().unwrap();
    for host in [&mut one, &mut two] {
        let order = host.preheat().await;
        assert_eq!((order.number, blobs(&order)), (number, vec![10, 100]));
        let [image] = &order.images[..] else { panic!("{order:?}") };
        assert_eq!((image.registry.as_str(), image.repository.as_str()), ("registry.test", "app"));
        assert_eq!(image.manifests, [digest]);
    }
    report(&mut one, number, (60, 1), false, "").await;
    let now = state(&cluster, &id);
    assert_eq!(json!([now["state"], now["bytes"], now["held_bytes"]]), json!(["running", 220, 60]));
    assert_eq!(now["hosts"], json!({"total": 2, "done": 0, "failed": 0, "away": 0}));
    let name = "registry.test/app:v1";
    let image = json!({"image": name, "digest": digest.to_string(), "platforms": [], "bytes": 110});
    assert_eq!(now["images"], json!([image]));
    let row = now["rows"].as_array().unwrap().iter().find(|row| row["host"] == one.id.to_string()).unwrap();
    let expected = json!({
        "host": one.id.to_string(), "zone": "a", "platform": "linux/amd64", "state": "running", "bytes": 110,
        "held_bytes": 60, "blobs": 2, "held_blobs": 1, "why": null,
    });
    assert_eq!(*row, expected);

    report(&mut one, number, (110, 2), true, "").await;
    report(&mut two, number, (10, 1), true, "sha256:ab: the registry does not have it").await;
    let now = state(&cluster, &id);
    assert_eq!((&now["state"], now["ended"].is_u64()), (&json!("failed"), true));
    assert_eq!(now["hosts"], json!({"total": 2, "done": 1, "failed": 1, "away": 0}));
    let failure = json!({"host": two.id.to_string(), "why": "sha256:ab: the registry does not have it"});
    assert_eq!(now["failures"], json!([failure]));
    let (_, list) = ask(&cluster, "GET", "/v1/preheats", &json!({}));
    assert_eq!((list[0]["id"].as_str(), list[0].get("rows")), (Some(&*id), None));

    other.until_pong(1).await;
    assert!(other.orders.is_empty(), "it stands elsewhere");
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_comes_back_is_told_again_until_it_has_ended() {
    let (shelf, _) = one_image();
    let cluster = cluster(shelf).await;
    let mut first = member(&cluster, 1, "a").await;
    let mut watcher = member(&cluster, 2, "b").await;
    watcher.until_members(&[first.id]).await;
    let request = json!({"images": ["registry.test/app:v1"], "hosts": [first.id.to_string()]});
    let id = begin(&cluster, &request);
    let order = first.preheat().await;
    drop(first);
    watcher.until_members(&[]).await;
    assert_eq!(state(&cluster, &id)["hosts"]["away"], 1);
    assert_eq!(state(&cluster, &id)["rows"][0]["state"], "away");

    let mut again = member(&cluster, 1, "a").await;
    assert_eq!(again.preheat().await, order);
    assert_eq!(state(&cluster, &id)["rows"][0]["state"], "running");
    report(&mut again, order.number, (110, 2), true, "").await;
    assert_eq!(state(&cluster, &id)["state"], "done");
    watcher.until_members(&[again.id]).await;
    drop(again);
    watcher.until_members(&[]).await;
    let mut again = member(&cluster, 1, "a").await;
    // It has not heard that its end was heard, or the scheduler has started anew.
    for number in [order.number, 17] {
        report(&mut again, number, (110, 2), false, "").await;
        again
            .say(FromHost::Preheats(vec![PreheatReport {
                number,
                held_bytes: 0,
                held_blobs: 0,
                ended: true,
                failure: String::new(),
            }]))
            .await;
        again.until_over(number).await;
    }
    assert!(again.orders.is_empty());
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_preheat_is_over_for_its_hosts() {
    let (shelf, _) = one_image();
    let cluster = cluster(shelf).await;
    let mut member = member(&cluster, 1, "a").await;
    let id = begin(&cluster, &json!({"images": ["registry.test/app:v1"]}));
    let path = format!("/v1/preheats/{id}");
    let number = member.preheat().await.number;
    let (status, cancelled) = ask(&cluster, "DELETE", &path, &json!({}));
    assert_eq!((status, &cancelled["state"]), (200, &json!("cancelled")));
    assert_eq!(cancelled["rows"][0]["state"], "cancelled");
    member.until_over(number).await;
    // What has ended is left as it is.
    assert_eq!(ask(&cluster, "DELETE", &path, &json!({})), (200, cancelled));
    for method in ["GET", "DELETE"] {
        let (status, unknown) = ask(&cluster, method, "/v1/preheats/17", &json!({}));
        let why = unknown["error"].as_str().unwrap();
        assert!(status == 404 && why.contains("preheat 17") && why.contains("restarts"), "{status} {why}");
    }
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_begin_says_why() {
    let (mut shelf, digest) = one_image();
    let schema_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    shelf.lay("old", "v1", schema_1, &json!({"schemaVersion": 1}));
    let entries = [entry(&digest, Some("linux/amd64")), entry(&digest, Some("linux/s390x"))];
    shelf.lay("app", "two", INDEX, &index(&entries));
    let mut deep = shelf.lay("app", "0", INDEX, &index(&entries));
    for depth in ["1", "2"] {
        deep = shelf.lay("app", depth, INDEX, &index(&[entry(&deep, None)]));
    }
    let cluster = cluster(shelf).await;
    let app = json!({"images": ["registry.test/app:v1"]});
    assert_eq!(refused(&cluster, &app), (422, "no host is connected".to_owned()));
    let _member = member(&cluster, 1, "a").await;
    let old = member_with(&cluster, 2, |hello| hello.protocol_max = PREHEAT_PROTOCOL - 1).await;
    let hosts = [old.id.to_string()];
    for (request, status, why) in [
        (json!({"images": []}), 422, "name an image"),
        (json!({"images": ["registry.test/App"]}), 422, "not a repository name"),
        (json!({"images": ["registry.test/app:v1"], "zone": "a"}), 422, "unknown field"),
        (json!({"images": ["registry.test/app:v1"], "zones": ["c"]}), 422, "no host of zone c is connected"),
        (json!({"images": ["registry.test/app:v1"], "zones": ["a"], "hosts": hosts}), 422, "zones or hosts"),
        (json!({"images": ["registry.test/app:v1"], "hosts": hosts}), 422, "it needs a newer dfdaemon"),
        (json!({"images": ["registry.test/app:v1"], "platforms": ["linux"]}), 422, "looks like linux/amd64"),
        (
            json!({"images": ["registry.test/app:two"], "platforms": ["linux/mips"]}),
            422,
            "registry.test/app:two has nothing for linux/mips; it has linux/amd64, linux/s390x",
        ),
        (json!({"images": ["registry.test/app:v2"]}), 422, "test/app:v2: the registry does not have it"),
        (json!({"images": ["registry.test/private/app:v1"]}), 422, "the registry asks for a credential"),
        (json!({"images": ["registry.test/old:v1"]}), 422, "schema 1"),
        (json!({"images": ["registry.test/app:2"]}), 422, "more than 2 deep"),
    ] {
        let (got, said) = refused(&cluster, &request);
        assert!(got == status && said.contains(why), "{request}: {got} {said}");
    }
    assert_eq!(ask(&cluster, "GET", "/v1/preheats", &json!({})), (200, json!([])), "nothing has begun");
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_gets_its_own_platform_of_indexes_and_all_if_it_is_told_to() {
    let mut shelf = Shelf::default();
    let amd64 = shelf.lay("app", "amd64", DOCKER_MANIFEST, &image(100));
    let arm64 = shelf.lay("app", "arm64", DOCKER_MANIFEST, &image(200));
    let proof = shelf.lay("app", "proof", DOCKER_MANIFEST, &image(300));
    let inner = shelf.lay("app", "inner", INDEX, &index(&[entry(&arm64, Some("linux/arm64"))]));
    let entries =
        [entry(&amd64, Some("linux/amd64")), entry(&inner, None), entry(&proof, Some("unknown/unknown"))];
    let outer = shelf.lay("app", "v1", DOCKER_LIST, &index(&entries));
    let cluster = cluster(shelf).await;
    let mut here = member(&cluster, 1, "a").await;
    let mut there = member_with(&cluster, 2, |hello| hello.platform = "linux/arm64".to_owned()).await;
    let mut elsewhere = member_with(&cluster, 3, |hello| hello.platform = "linux/s390x".to_owned()).await;
    let id = begin(&cluster, &json!({"images": ["registry.test/app:v1", "registry.test/app:v1"]}));
    let order = here.preheat().await;
    assert_eq!((&order.images[0].manifests[..], blobs(&order)), (&[outer, amd64][..], vec![10, 100]));
    let order = there.preheat().await;
    assert_eq!((&order.images[0].manifests[..], blobs(&order)), (&[outer, inner, arm64][..], vec![10, 200]));
    let now = state(&cluster, &id);
    assert_eq!((&now["hosts"]["total"], &now["bytes"]), (&json!(2), &json!(110 + 210)));
    assert_eq!(now["images"][0]["platforms"], json!(["linux/amd64", "linux/arm64"]));
    assert_eq!((now["images"].as_array().unwrap().len(), &now["images"][0]["bytes"]), (1, &json!(310)));

    begin(&cluster, &json!({"images": ["registry.test/app:v1"], "platforms": ["all"]}));
    for host in [&mut here, &mut there, &mut elsewhere] {
        assert_eq!(blobs(&host.preheat().await), [10, 100, 200]);
    }
    assert_eq!(elsewhere.orders.len(), 1, "the first had nothing for it");
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_and_http_say_the_same() {
    let (shelf, _) = one_image();
    let cluster = cluster(shelf).await;
    let mut member = member(&cluster, 1, "a").await;
    let mut client = grpc(&cluster).await;
    let request = wire::BeginPreheatRequest {
        images: vec!["registry.test/app:v1".to_owned()],
        zones: vec!["a".to_owned()],
        ..Default::default()
    };
    let begun = client.begin(request).await.unwrap().into_inner();
    let (id, number) = (begun.id.clone(), member.preheat().await.number);
    assert_eq!(id, number.to_string());
    report(&mut member, number, (60, 1), false, "slow").await;

    let got = client.get(wire::GetPreheatRequest { id: id.clone() }).await.unwrap().into_inner();
    let said = state(&cluster, &id);
    assert_eq!((got.state, said["state"].as_str()), (i32::from(State::Running), Some("running")));
    let row = &got.rows[0];
    let as_json = json!({
        "host": row.host, "zone": row.zone, "platform": row.platform, "state": "running", "bytes": row.bytes,
        "held_bytes": row.held_bytes, "blobs": row.blobs, "held_blobs": row.held_blobs, "why": row.why,
    });
    assert_eq!(as_json, said["rows"][0]);
    let image = &got.images[0];
    let as_json = json!({
        "image": image.image, "digest": image.digest, "platforms": image.platforms, "bytes": image.bytes,
    });
    assert_eq!(as_json, said["images"][0]);
    assert_eq!(json!([got.created, got.bytes, got.held_bytes]), json!([said["created"], 110, 60]));
    let hosts = got.hosts.unwrap();
    assert_eq!(json!([hosts.total, hosts.done, hosts.failed, hosts.away]), json!([1, 0, 0, 0]));

    let list = client.list(wire::ListPreheatsRequest {}).await.unwrap().into_inner().preheats;
    assert_eq!((list.len(), &list[0].id, list[0].rows.len()), (1, &id, 0));
    let cancelled = client.cancel(wire::CancelPreheatRequest { id: id.clone() }).await.unwrap().into_inner();
    assert_eq!((cancelled.state, cancelled.ended.is_some()), (i32::from(State::Cancelled), true));
    member.until_over(number).await;
    assert_eq!(state(&cluster, &id)["state"], "cancelled");

    for (image, code, why) in [
        ("registry.test/app:v2", Code::FailedPrecondition, "the registry does not have it"),
        ("registry.test/App", Code::InvalidArgument, "not a repository name"),
    ] {
        let request = wire::BeginPreheatRequest { images: vec![image.to_owned()], ..Default::default() };
        let status = client.begin(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        let (_, over_http) = refused(&cluster, &json!({"images": [image]}));
        assert!(status.message() == over_http && over_http.contains(why), "{status} {over_http}");
    }
    let unknown = client.get(wire::GetPreheatRequest { id: "17".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    drop(client);
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_given_up_begins_nothing() {
    let (cluster, silence) = cluster_with_silence(Shelf::default()).await;
    let mut member = member(&cluster, 1, "a").await;
    let stream = post(&cluster, &json!({"images": ["registry.test/silent/app:v1"]}));
    tokio::time::timeout(SOON, silence.asked.cancelled()).await.expect("the registry is asked");
    drop(stream);
    tokio::time::timeout(SOON, silence.given_up.cancelled()).await.expect("and nobody waits any more");
    assert_eq!(ask(&cluster, "GET", "/v1/preheats", &json!({})), (200, json!([])));
    member.until_pong(1).await;
    assert!(member.orders.is_empty());
    cluster.running.stop().await;
}

/// Its images are many, and it answers for none of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_does_not_answer_holds_up_no_other_preheat() {
    let (shelf, _) = one_image();
    let (cluster, silence) = cluster_with_silence(shelf).await;
    let mut member = member(&cluster, 1, "a").await;
    let silent: Vec<String> = (0..8).map(|n| format!("registry.test/silent/app{n}:v1")).collect();
    let stream = post(&cluster, &json!({"images": silent}));
    tokio::time::timeout(SOON, silence.asked.cancelled()).await.expect("the registry is asked");
    begin(&cluster, &json!({"images": ["registry.test/app:v1"]}));
    assert_eq!(blobs(&member.preheat().await), [10, 100]);
    drop(stream);
    tokio::time::timeout(SOON, silence.given_up.cancelled()).await.expect("and nobody waits any more");
    cluster.running.stop().await;
}

/// What a registry says is somebody else's.
#[tokio::test(flavor = "multi_thread")]
async fn attack_an_index_that_would_fill_the_schedulers_memory() {
    let mut shelf = Shelf::default();
    let layer = |n: u64| json!({"digest": Digest::sha256(&n.to_be_bytes()).to_string(), "size": n});
    let layers: Vec<Value> = (0..3000).map(layer).collect();
    let padding = "x".repeat(3 << 20);
    let contents =
        [("often", json!({"layers": layers})), ("long", json!({"layers": [], "padding": padding}))];
    for (repository, content) in contents {
        let manifest = |n: u64| {
            let mut manifest = content.clone();
            manifest["number"] = n.into();
            entry(&shelf.lay(repository, &n.to_string(), MANIFEST, &manifest), None)
        };
        let entries: Vec<Value> = (0..3).map(manifest).collect();
        shelf.lay(repository, "v1", INDEX, &index(&entries));
    }
    shelf.lay("quoted", "v1", MANIFEST, &json!({"layers": padding}));
    let app = shelf.lay_image("app", "v1", 100);
    let again: Vec<Value> = std::iter::repeat_n(entry(&app, None), 300).collect();
    shelf.lay("app", "again", INDEX, &index(&again));
    let cluster = cluster(shelf).await;
    let mut member = member(&cluster, 1, "a").await;
    for (image, why) in [
        ("registry.test/often:v1", "name more than 8192 blobs"),
        ("registry.test/long:v1", "more than 8388608 bytes"),
        ("registry.test/quoted:v1", "makes no sense"),
    ] {
        let (status, said) = refused(&cluster, &json!({"images": [image]}));
        assert!(status == 422 && said.contains(why) && said.len() < 600, "{image}: {status} {said}");
    }
    begin(&cluster, &json!({"images": ["registry.test/app:again"]}));
    assert_eq!(blobs(&member.preheat().await), [10, 100]);
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_more_hosts_than_are_told_at_a_time_each_is_told_once() {
    let (shelf, _) = one_image();
    let cluster = cluster(shelf).await;
    let mut hosts = Vec::new();
    for seed in 1..=60 {
        hosts.push(member(&cluster, seed, "a").await);
    }
    let id = begin(&cluster, &json!({"images": ["registry.test/app:v1"]}));
    assert_eq!(state(&cluster, &id)["hosts"]["total"], 60);
    for host in &mut hosts {
        assert_eq!(host.preheat().await.number.to_string(), id);
    }
    for host in &mut hosts {
        host.until_pong(1).await;
        assert_eq!(host.orders.len(), 1);
    }
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_an_operator_removes_holds_no_preheat_up() {
    let (shelf, _) = one_image();
    let cluster = cluster(shelf).await;
    let (away, there) = (member(&cluster, 1, "a").await, member(&cluster, 2, "a").await);
    let ids = [away.id, there.id].map(|id| id.to_string());
    let id = begin(&cluster, &json!({"images": ["registry.test/app:v1"]}));
    drop(away);
    until(&cluster, &id, |now| now["hosts"]["away"] == 1).await;
    for host in &ids {
        assert_eq!(cluster.operator("PUT", &format!("/v1/removed-hosts/{host}"), "").0, 200);
    }
    let now = until(&cluster, &id, |now| now["state"] != "running").await;
    assert_eq!((&now["state"], &now["hosts"]["failed"]), (&json!("failed"), &json!(2)));
    for row in now["rows"].as_array().unwrap() {
        assert_eq!(row["why"], "an operator has removed it");
    }
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served_and_what_is_wrong_is_said_in_json() {
    let cluster = cluster(Shelf::default()).await;
    let (status, document) = ask(&cluster, "GET", "/v1/openapi.json", &json!({}));
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    for (method, path, expected) in [("GET", "/v1/nothing", 404), ("PUT", "/v1/tokens", 405)] {
        let (status, body) = ask(&cluster, method, path, &json!({}));
        let why = body["error"].as_str().unwrap();
        assert!(status == expected && why.contains("openapi.json"), "{status} {why}");
    }
    cluster.running.stop().await;
}
