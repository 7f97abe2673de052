//! The requests of real clients, and of some that cannot run here, sent again to a daemon on loopback.
//!
//! `fixtures/*.json` says of each whether it was recorded or written from a description. Needs no root.

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::future::try_join_all;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE};
use reqwest::{Client, Method, StatusCode};
use std::path::Path;
use support::binaries::{Binaries, Profile};
use support::daemon::{DaemonPlace, READY_LIMIT, Upstream, loopback};
use support::images::{Blob, Image};
use support::origin::FaultyOrigin;
use support::record::{Recorded, Recording, with_digests};

/// The first layer is longer than containerd's buffer, so that a parallel fetch has several parts.
const LAYERS: [u64; 3] = [20 << 20, 200_000, 100_000];

/// What containerd's parallel fetch reads of an answer before it closes it.
const BUFFER: usize = 8 << 20;

fn fixtures() -> Result<Vec<(String, Recording)>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut files: Vec<_> = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    let read = |file: &std::path::PathBuf| {
        let name = file.file_stem().and_then(|name| name.to_str()).context("a file name")?.to_owned();
        Ok((name, serde_json::from_slice(&std::fs::read(file)?).with_context(|| file.display().to_string())?))
    };
    files.iter().map(read).collect()
}

#[tokio::test]
async fn recorded_requests_get_the_right_answers() -> Result<()> {
    let binaries = Binaries::build(Profile::of_caller())?;
    let image = Image::random(21, &LAYERS)?;
    let dir = tempfile::tempdir()?;
    let mut count = 0;
    for (i, (name, recording)) in (1..).zip(fixtures()?) {
        // A cold daemon and an origin for each, so that each client sees the first answers.
        let origin = FaultyOrigin::start().await?;
        for repository in ["demo/app", "library/demo-app"] {
            image.lay_into(&origin, repository, "v1");
        }
        let upstreams = [e2e::REGISTRY, "docker.io"].map(|name| Upstream::new(name, origin.url()));
        let place = DaemonPlace::new(&*name, loopback(i), dir.path().join(&name));
        let mut daemon = place.start(&binaries, &upstreams)?;
        daemon.wait_for_ok(&format!("{}/readyz", place.admin_url()), READY_LIMIT).await?;
        replay(&place, &image, &recording).await.with_context(|| format!("{name}: {}", daemon.log_tail()))?;
        eprintln!(
            "  {name} ({}, {:?}): {} requests",
            recording.client,
            recording.origin,
            recording.requests.len()
        );
        count += recording.requests.len();
    }
    ensure!(count > 20, "only {count} requests");
    Ok(())
}

/// Sends what is no blob in order, and the blobs at once, as all these clients do.
async fn replay(place: &DaemonPlace, image: &Image, recording: &Recording) -> Result<()> {
    let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    let (blobs, others): (Vec<_>, Vec<_>) =
        recording.requests.iter().partition(|r| r.target.contains("/blobs/"));
    for request in others {
        check(&client, place, image, request).await.with_context(|| request.target.clone())?;
    }
    try_join_all(blobs.into_iter().map(|request| async move {
        check(&Client::builder().no_proxy().build()?, place, image, request)
            .await
            .with_context(|| request.target.clone())
    }))
    .await?;
    Ok(())
}

/// Sends one request, and compares the answer with what the image has.
async fn check(client: &Client, place: &DaemonPlace, image: &Image, request: &Recorded) -> Result<()> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        headers.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    let range = headers.get(RANGE).map(|range| range.to_str().map(ToOwned::to_owned)).transpose()?;
    let method: Method = request.method.parse()?;
    let target = with_digests(&request.target, image);
    let url = format!("{}{target}", place.proxy_url());
    let answer = client.request(method.clone(), url).headers(headers).send().await?;
    let path = target.split('?').next().unwrap_or(&target);
    if path == "/v2/" {
        ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
        return Ok(());
    }
    let name = path.rsplit('/').next().context("no name")?;
    let mut contents = image.blobs().chain([&image.manifest]);
    let content = contents.find(|blob| name == blob.digest.to_string()).unwrap_or(&image.manifest);
    if path.contains("/manifests/") {
        ensure!(answer.headers()[CONTENT_TYPE] == content.media_type, "{:?}", answer.headers());
        ensure!(
            answer.headers()["docker-content-digest"] == *content.digest.to_string(),
            "{:?}",
            answer.headers()
        );
    }
    let length = answer.content_length();
    match range {
        None => {
            ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
            if method == Method::HEAD {
                let declared = answer.headers()["content-length"].to_str()?;
                ensure!(declared == content.size().to_string(), "Content-Length {declared}");
                return Ok(());
            }
            ensure!(length == Some(content.size()), "{length:?}");
            ensure!(answer.bytes().await? == content.bytes, "other bytes");
        }
        Some(range) if range.contains(',') => {
            ensure!(answer.status() == StatusCode::PARTIAL_CONTENT, "{}", answer.status());
            let media_type = answer.headers()[CONTENT_TYPE].to_str()?.to_owned();
            ensure!(media_type.starts_with("multipart/byteranges"), "{media_type}");
            several(&range, content, &answer.bytes().await?)?;
        }
        Some(range) => {
            ensure!(answer.status() == StatusCode::PARTIAL_CONTENT, "{}", answer.status());
            let start: usize =
                range.trim_start_matches("bytes=").split('-').next().context("a start")?.parse()?;
            let expected = format!("bytes {start}-{}/{}", content.size() - 1, content.size());
            ensure!(answer.headers()[CONTENT_RANGE] == *expected, "{:?}", answer.headers());
            let wanted = &content.bytes[start..content.bytes.len().min(start + BUFFER)];
            let mut got = Vec::new();
            let mut body = answer.bytes_stream();
            while got.len() < wanted.len()
                && let Some(bytes) = body.next().await
            {
                got.extend_from_slice(&bytes?);
            }
            ensure!(got.len() >= wanted.len() && got[..wanted.len()] == *wanted, "other bytes from {start}");
        }
    }
    Ok(())
}

/// Each of several ranges is somewhere in the multipart body.
fn several(range: &str, content: &Blob, body: &[u8]) -> Result<()> {
    for part in range.trim_start_matches("bytes=").split(',') {
        let (first, last) = part.trim().split_once('-').context("a range")?;
        let (first, last): (usize, usize) = (first.parse()?, last.parse()?);
        let wanted = &content.bytes[first..=last];
        ensure!(body.windows(wanted.len()).any(|window| window == wanted), "bytes {part} are missing");
    }
    Ok(())
}
