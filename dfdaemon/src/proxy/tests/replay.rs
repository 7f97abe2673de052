//! Pulls as the runtimes do them: the requests follow what was observed of each and are written out by hand; those
//! recorded from the programs themselves are replayed by the end-to-end tests.

use super::client::{Connection, Reply, once};
use super::memory::{CHALLENGE, Memory, OCI_INDEX, OCI_MANIFEST};
use super::stage;
use types::Digest;

const REPOSITORY: &str = "docker.io/library/alpine";

struct Image {
    index: Digest,
    manifest: Digest,
    config: Digest,
    layer: Digest,
}

/// 100,000 bytes that differ from place to place.
fn layer() -> Vec<u8> {
    (0..100_000u32).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn image(memory: &mut Memory, repository: &str) -> Image {
    let config = memory.blob(repository, b"{\"architecture\":\"amd64\"}");
    let layer = memory.blob(repository, &layer());
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{config}"}},"layers":[{{"digest":"{layer}"}}]}}"#
    );
    let manifest = memory.manifest(repository, "", OCI_MANIFEST, &text);
    let text = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{manifest}"}}]}}"#);
    let index = memory.manifest(repository, "3.20", OCI_INDEX, &text);
    Image { index, manifest, config, layer }
}

fn assert_content(reply: &Reply, status: u16, digest: &Digest, media_type: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
    assert_eq!(reply.header("etag"), Some(format!("\"{digest}\"").as_str()));
    assert_eq!(reply.header("docker-distribution-api-version"), Some("registry/2.0"));
    assert_eq!(reply.header("accept-ranges"), Some("bytes"));
    assert_eq!(reply.header("content-type"), Some(media_type));
}

const OCTETS: &str = "application/octet-stream";

#[tokio::test]
async fn containerd_1_6_pulls() {
    let mut memory = Memory::new();
    let image = image(&mut memory, REPOSITORY);
    let stage = stage(memory).await;
    let headers = "User-Agent: containerd/1.6.20~ds1
        Accept: application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*
        Accept-Encoding: gzip";
    let mut client = Connection::open(stage.address).await;

    let reply = client
        .exchange(&format!("HEAD /v2/library/alpine/manifests/3.20?ns=docker.io HTTP/1.1\n{headers}"))
        .await;
    assert_content(&reply, 200, &image.index, OCI_INDEX);
    assert_ne!(reply.header("content-length"), Some("0"), "containerd takes the size from here");
    for (digest, media_type) in [(image.index, OCI_INDEX), (image.manifest, OCI_MANIFEST)] {
        let path = format!("/v2/library/alpine/manifests/{digest}?ns=docker.io");
        let reply = client.exchange(&format!("GET {path} HTTP/1.1\n{headers}")).await;
        assert_content(&reply, 200, &digest, media_type);
        assert!(digest.matches(&reply.body));
    }
    for digest in [image.config, image.layer] {
        let path = format!("/v2/library/alpine/blobs/{digest}?ns=docker.io");
        let reply = client.exchange(&format!("GET {path} HTTP/1.1\n{headers}")).await;
        assert_content(&reply, 200, &digest, OCTETS);
        assert!(digest.matches(&reply.body) && reply.whole);
    }
    // A broken download goes on where it stopped.
    let path = format!("/v2/library/alpine/blobs/{}?ns=docker.io", image.layer);
    let reply = client.exchange(&format!("GET {path} HTTP/1.1\n{headers}\nRange: bytes=70000-")).await;
    assert_content(&reply, 206, &image.layer, OCTETS);
    assert_eq!(reply.header("content-range"), Some("bytes 70000-99999/100000"));
    assert_eq!(reply.body, layer()[70_000..]);
}

#[tokio::test]
async fn containerd_gets_the_origins_challenge_and_its_token_is_passed_on() {
    let mut memory = Memory::new();
    let image = image(&mut memory, "registry.example/private/app");
    let stage = stage(memory).await;
    let path = format!("/v2/private/app/manifests/{}?ns=registry.example", image.index);
    let reply = once(stage.address, &format!("GET {path} HTTP/1.1")).await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.header("www-authenticate"), Some(CHALLENGE));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.json()["errors"][0]["message"], "the origin's own words");
    let reply = once(stage.address, &format!("GET {path} HTTP/1.1\nAuthorization: Bearer good")).await;
    assert_content(&reply, 200, &image.index, OCI_INDEX);
}

/// Written from what is known of version 2.1, not recorded.
#[tokio::test]
async fn containerd_2_1_fetches_in_parallel() {
    let mut memory = Memory::new();
    let image = image(&mut memory, REPOSITORY);
    let stage = stage(memory).await;
    let headers = "User-Agent: containerd/v2.1.0\nAccept-Encoding: zstd;q=1.0, gzip;q=0.8, deflate;q=0.5";

    let path = format!("/v2/library/alpine/manifests/{}?ns=docker.io", image.index);
    let reply = once(stage.address, &format!("GET {path} HTTP/1.1\n{headers}\nRange: bytes=0-")).await;
    assert_content(&reply, 206, &image.index, OCI_INDEX);
    let len = reply.body.len();
    assert_eq!(reply.header("content-range"), Some(format!("bytes 0-{}/{len}", len - 1).as_str()));
    assert!(image.index.matches(&reply.body));

    // Every part is asked for without an end; the client reads its share and closes.
    let path = format!("/v2/library/alpine/blobs/{}?ns=docker.io", image.layer);
    let parts = futures::future::join_all((0..4).map(|i| {
        let start = i * 25_000;
        let request = format!("GET {path} HTTP/1.1\n{headers}\nRange: bytes={start}-");
        async move {
            let mut client = Connection::open(stage.address).await;
            client.send(&request).await;
            let head = client.head().await;
            assert_content(&head, 206, &image.layer, OCTETS);
            assert_eq!(head.header("content-range"), Some(format!("bytes {start}-99999/100000").as_str()));
            client.body(25_000).await
        }
    }));
    assert!(image.layer.matches(&parts.await.concat()));
    let memory = stage.memory.clone();
    super::client::until(|| memory.reading() == 0).await;
}

#[tokio::test]
async fn podman_4_3_pulls() {
    let mut memory = Memory::new();
    let image = image(&mut memory, REPOSITORY);
    let stage = stage(memory).await;
    let headers = "User-Agent: containers/5.23.1 (github.com/containers/image)
        Docker-Distribution-Api-Version: registry/2.0
        Connection: close";
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json
        Accept: application/vnd.docker.distribution.manifest.v2+json
        Accept: application/vnd.docker.distribution.manifest.v1+prettyjws
        Accept: application/vnd.docker.distribution.manifest.v1+json
        Accept: application/vnd.docker.distribution.manifest.list.v2+json
        Accept: application/vnd.oci.image.index.v1+json";

    let reply = once(stage.address, &format!("GET /v2/ HTTP/1.1\n{headers}")).await;
    assert_eq!((reply.status, &reply.body[..]), (200, &b"{}"[..]));
    assert_eq!(reply.header("docker-distribution-api-version"), Some("registry/2.0"));
    let path = "/v2/docker.io/library/alpine";
    let mut client = Connection::open(stage.address).await;
    let reply = client.exchange(&format!("GET {path}/manifests/3.20 HTTP/1.1\n{headers}\n{accept}")).await;
    assert_content(&reply, 200, &image.index, OCI_INDEX);
    assert!(client.is_closed().await, "it asked for that");
    assert!(stage.memory.seen().iter().any(|seen| seen == "manifest docker.io/library/alpine:3.20 accept 6"));
    for digest in [image.config, image.layer] {
        let reply = once(stage.address, &format!("GET {path}/blobs/{digest} HTTP/1.1\n{headers}")).await;
        assert_content(&reply, 200, &digest, OCTETS);
        assert!(digest.matches(&reply.body));
    }
}

/// The parts of a `multipart/byteranges` body: their ranges and bytes.
fn read_multipart(reply: &Reply) -> Vec<(String, Vec<u8>)> {
    let boundary =
        reply.header("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let mut rest = &reply.body[..];
    let mut parts = Vec::new();
    while let Some(at) = rest.windows(delimiter.len()).position(|w| w == delimiter) {
        if !parts.is_empty() {
            let (_, bytes): &mut (String, Vec<u8>) = parts.last_mut().unwrap();
            *bytes = rest[..at].to_vec();
        }
        rest = &rest[at + delimiter.len()..];
        if rest == b"--\r\n" {
            break;
        }
        let head = rest.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let text = std::str::from_utf8(&rest[..head]).unwrap();
        let range = text.lines().find_map(|line| line.strip_prefix("Content-Range: ")).unwrap();
        parts.push((range.to_owned(), Vec::new()));
        rest = &rest[head + 4..];
    }
    parts
}

#[tokio::test]
async fn podman_pulls_a_part_of_a_layer() {
    let mut memory = Memory::new();
    let image = image(&mut memory, REPOSITORY);
    let stage = stage(memory).await;
    let mut client = Connection::open(stage.address).await;
    let path = format!("/v2/docker.io/library/alpine/blobs/{}", image.layer);
    // The table of contents is at the end.
    let reply = client.exchange(&format!("GET {path} HTTP/1.1\nRange: bytes=99000-99999")).await;
    assert_eq!((reply.status, &reply.body[..]), (206, &layer()[99_000..]));
    let reply = client.exchange(&format!("GET {path} HTTP/1.1\nRange: bytes=0-9,50000-53999,20-29")).await;
    assert_eq!(reply.status, 206);
    assert!(reply.whole);
    let bytes = layer();
    let expected = [(0, 10), (50_000, 54_000), (20, 30)]
        .map(|(a, b)| (format!("bytes {a}-{}/100000", b - 1), bytes[a..b].to_vec()));
    assert_eq!(read_multipart(&reply), expected);
    // As many as it asks for at most, then one more: it tries again with fewer.
    let ranges =
        |n: usize| (0..n).map(|i| format!("{}-{}", i * 90, i * 90 + 9)).collect::<Vec<_>>().join(",");
    let reply = client.exchange(&format!("GET {path} HTTP/1.1\nRange: bytes={}", ranges(1024))).await;
    assert_eq!(read_multipart(&reply).len(), 1024);
    let reply = client.exchange(&format!("GET {path} HTTP/1.1\nRange: bytes={}", ranges(1025))).await;
    assert_eq!((reply.status, reply.json()["errors"][0]["code"].as_str()), (400, Some("RANGE_INVALID")));
}

#[tokio::test]
async fn dockerd_20_10_pulls() {
    let mut memory = Memory::new();
    let image = image(&mut memory, REPOSITORY);
    let stage = stage(memory).await;
    let headers = r"User-Agent: docker/20.10.24+dfsg1 go/go1.19.8 git-commit/5d6db84 kernel/6.1.0 os/linux arch/amd64 UpstreamClient(Docker-Client/20.10.24+dfsg1 \(linux\))
        Accept-Encoding: gzip";
    let accept = "Accept: application/vnd.docker.distribution.manifest.list.v2+json
        Accept: application/vnd.oci.image.index.v1+json
        Accept: application/vnd.oci.image.manifest.v1+json
        Accept: application/json
        Accept: application/vnd.docker.distribution.manifest.v1+prettyjws
        Accept: application/vnd.docker.distribution.manifest.v2+json";
    let mut client = Connection::open(stage.address).await;

    let reply = client.exchange(&format!("GET /v2/ HTTP/1.1\n{headers}")).await;
    assert_eq!(reply.status, 200);
    let reply = client
        .exchange(&format!("HEAD /v2/library/alpine/manifests/3.20 HTTP/1.1\n{headers}\n{accept}"))
        .await;
    assert_content(&reply, 200, &image.index, OCI_INDEX);
    let path = format!("/v2/library/alpine/manifests/{}", image.index);
    let reply = client.exchange(&format!("GET {path} HTTP/1.1\n{headers}\n{accept}")).await;
    assert_content(&reply, 200, &image.index, OCI_INDEX);
    let path = format!("/v2/library/alpine/blobs/{}", image.layer);
    let reply = client.exchange(&format!("GET {path} HTTP/1.1\n{headers}")).await;
    assert!(image.layer.matches(&reply.body));
    let reply = client.exchange(&format!("GET {path} HTTP/1.1\n{headers}\nRange: bytes=99999-")).await;
    assert_content(&reply, 206, &image.layer, OCTETS);
    assert_eq!(reply.body, layer()[99_999..]);
}

#[tokio::test]
async fn tags_and_conditions() {
    let mut memory = Memory::new();
    let image = image(&mut memory, REPOSITORY);
    let stage = stage(memory).await;
    let address = stage.address;
    let reply = once(address, "GET /v2/team/app/tags/list?n=2&ns=quay.io HTTP/1.1").await;
    assert_eq!((reply.status, reply.json()["tags"][1].as_str()), (200, Some("b")));
    assert_eq!(reply.header("link"), Some("</v2/team/app/tags/list?last=b&n=2&ns=quay.io>; rel=\"next\""));
    assert_eq!(reply.header("set-cookie"), None);
    assert!(stage.memory.seen().contains(&"forward quay.io/team/app Some(\"n=2\")".to_owned()));

    let path = format!("/v2/library/alpine/blobs/{}", image.layer);
    let ask = |header: String| {
        let request = format!(
            "GET {path} HTTP/1.1
{header}"
        );
        async move { once(address, &request).await }
    };
    let etag = format!("\"{}\"", image.layer);
    assert_eq!(ask(format!("If-None-Match: {etag}")).await.status, 304);
    assert_eq!(ask("If-None-Match: \"other\"".to_owned()).await.status, 200);
    assert_eq!(ask(format!("If-Range: {etag}\nRange: bytes=5-9")).await.body, layer()[5..10]);
    assert_eq!(ask("If-Range: \"other\"\nRange: bytes=5-9".to_owned()).await.status, 200);
    assert_eq!(stage.memory.reading(), 0);
}
