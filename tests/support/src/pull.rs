//! A plain HTTP client that pulls an image as a runtime would, and checks every byte.
//!
//! Called by the demo for its nodes and by the end-to-end tests for the nodes without a real runtime.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, Response, StatusCode};
use std::time::{Duration, Instant};
use types::Digest;

use crate::images::{DOCKER_MANIFEST, INDEX, MANIFEST};

/// The longest manifest that is read, in bytes.
const MANIFEST_MAX: usize = 4 << 20;

/// Without a byte for this long a pull fails: longer than any patience, shorter than a hanging test.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// What to pull, and through whom.
#[derive(Clone, Debug)]
pub struct Source {
    /// `http://host:port`, without a slash at the end.
    pub base: String,
    /// The registry for `?ns=`, as containerd sends it.
    pub ns: Option<String>,
    /// The repository's name.
    pub repository: String,
    /// A tag or a digest.
    pub reference: String,
    /// How many blobs at once.
    pub concurrency: usize,
}

impl Source {
    fn url(&self, kind: &str, name: &str) -> String {
        let ns = self.ns.as_ref().map(|ns| format!("?ns={ns}")).unwrap_or_default();
        format!("{}/v2/{}/{kind}/{name}{ns}", self.base, self.repository)
    }
}

/// What happens during a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The manifest is there: so many bytes of blobs will follow.
    Total(u64),
    /// So many more bytes of blobs have arrived.
    Bytes(u64),
}

/// A blob as its manifest describes it.
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A finished pull.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The digest of the image's manifest (not of an index that led to it).
    pub manifest: Digest,
    /// The configuration and the layers.
    pub blobs: Vec<Descriptor>,
    /// Bytes of blobs received.
    pub bytes: u64,
    /// Bytes of blobs that do not have their digest or length.
    pub wrong_bytes: u64,
    /// From the first request to the last byte.
    pub elapsed: Duration,
}

/// A client for [`pull`]: no proxy, no time-out but for stalls.
///
/// # Errors
/// If the TLS provider is missing.
pub fn client() -> Result<Client> {
    Ok(Client::builder().no_proxy().read_timeout(STALL_LIMIT).build()?)
}

/// Pulls an image: its manifest, through an index if there is one, then configuration and layers.
///
/// # Errors
/// If a request fails, or an answer is not what was asked for. Wrong blobs are no error but counted.
pub async fn pull(client: &Client, source: &Source, progress: impl Fn(Progress)) -> Result<Pulled> {
    let start = Instant::now();
    let (manifest, blobs) = manifest(client, source).await?;
    progress(Progress::Total(blobs.iter().map(|blob| blob.size).sum()));
    let results: Vec<(u64, u64)> = futures::stream::iter(&blobs)
        .map(|blob| self::blob(client, source, blob, &progress))
        .buffer_unordered(source.concurrency.max(1))
        .try_collect()
        .await?;
    Ok(Pulled {
        manifest,
        bytes: results.iter().map(|(bytes, _)| bytes).sum(),
        wrong_bytes: results.iter().map(|(_, wrong)| wrong).sum(),
        blobs,
        elapsed: start.elapsed(),
    })
}

/// Gets the image's manifest and what it names.
///
/// # Errors
/// If it cannot be had, has another digest than asked for, or is none.
pub async fn manifest(client: &Client, source: &Source) -> Result<(Digest, Vec<Descriptor>)> {
    let mut reference = source.reference.clone();
    for _ in 0..2 {
        let url = source.url("manifests", &reference);
        let request =
            client.get(&url).header(ACCEPT, MANIFEST).header(ACCEPT, INDEX).header(ACCEPT, DOCKER_MANIFEST);
        let answer = ok(request.send().await.with_context(|| url.clone())?).await?;
        let media_type = answer.headers().get(CONTENT_TYPE).cloned();
        let bytes = limited(answer).await.with_context(|| url.clone())?;
        if let Ok(expected) = reference.parse::<Digest>() {
            ensure!(expected.matches(&bytes), "{url}: the manifest has another digest");
        }
        let value: serde_json::Value = serde_json::from_slice(&bytes).with_context(|| url.clone())?;
        if media_type.is_some_and(|media_type| media_type == INDEX) {
            let manifests = value["manifests"].as_array().context("an index without manifests")?;
            let of_platform = manifests.iter().find(|entry| entry["platform"]["architecture"] == "amd64");
            reference = of_platform.context("no manifest for amd64")?["digest"]
                .as_str()
                .context("digest")?
                .to_owned();
            continue;
        }
        let layers = value["layers"].as_array().context("a manifest without layers")?;
        let blobs = std::iter::once(&value["config"]).chain(layers).map(descriptor).collect::<Result<_>>()?;
        return Ok((Digest::sha256(&bytes), blobs));
    }
    bail!("an index in an index")
}

fn descriptor(value: &serde_json::Value) -> Result<Descriptor> {
    let digest = value["digest"].as_str().context("a descriptor without a digest")?.parse()?;
    Ok(Descriptor { digest, size: value["size"].as_u64().context("a descriptor without a size")? })
}

/// Gets one blob; its bytes, and how many of them are wrong.
async fn blob(
    client: &Client,
    source: &Source,
    blob: &Descriptor,
    progress: &impl Fn(Progress),
) -> Result<(u64, u64)> {
    let url = source.url("blobs", &blob.digest.to_string());
    let answer = ok(client.get(&url).send().await.with_context(|| url.clone())?).await?;
    let mut body = answer.bytes_stream();
    let mut hash = Hash::new(&blob.digest);
    let mut received = 0;
    while let Some(bytes) = body.next().await {
        let bytes = bytes.with_context(|| format!("{url} after {received} bytes"))?;
        received += bytes.len() as u64;
        progress(Progress::Bytes(bytes.len() as u64));
        // Hashing must not hold up the other streams of this thread.
        hash = tokio::task::spawn_blocking(move || hash.update(&bytes)).await?;
    }
    let good = received == blob.size && hash.matches(&blob.digest);
    Ok((received, if good { 0 } else { received.max(blob.size) }))
}

/// A running hash of either algorithm.
enum Hash {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hash {
    fn new(digest: &Digest) -> Self {
        match digest.algorithm() {
            types::Algorithm::Sha256 => Self::Sha256(sha2::Digest::new()),
            types::Algorithm::Sha512 => Self::Sha512(sha2::Digest::new()),
        }
    }

    fn update(mut self, bytes: &Bytes) -> Self {
        match &mut self {
            Self::Sha256(hash) => sha2::Digest::update(hash, bytes),
            Self::Sha512(hash) => sha2::Digest::update(hash, bytes),
        }
        self
    }

    fn matches(self, digest: &Digest) -> bool {
        match self {
            Self::Sha256(hash) => sha2::Digest::finalize(hash)[..] == *digest.as_bytes(),
            Self::Sha512(hash) => sha2::Digest::finalize(hash)[..] == *digest.as_bytes(),
        }
    }
}

async fn ok(answer: Response) -> Result<Response> {
    if answer.status() == StatusCode::OK {
        return Ok(answer);
    }
    let (url, status) = (answer.url().clone(), answer.status());
    let body = limited(answer).await.unwrap_or_default();
    bail!("{url}: {status}: {}", String::from_utf8_lossy(&body))
}

async fn limited(mut answer: Response) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        ensure!(bytes.len() + chunk.len() <= MANIFEST_MAX, "longer than {MANIFEST_MAX} bytes");
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
