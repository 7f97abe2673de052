//! One peer's client: pulls the image through its daemon as a runtime would, and compares every byte with the original.
//!
//! Comparing is stronger than hashing and costs a tenth of it, so that the clients of hundreds of daemons leave the
//! machine to what is measured. What they cost is shown by itself.

use crate::http::Http;
use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use http::Method;
use http_body_util::BodyExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use support::images::{Blob, Image, MANIFEST};
use tokio::sync::watch;

/// The registry's name: no client asks DNS for it.
pub const REGISTRY: &str = "registry.load";
/// The image's name.
pub const REPOSITORY: &str = "load/app";
/// The image's tag.
pub const TAG: &str = "v1";

/// Blobs that a client asks for at once: what containerd's CRI does.
const BLOBS_AT_ONCE: usize = 3;

/// Without a byte for this long a pull fails: far longer than any patience.
const STALL_LIMIT: Duration = Duration::from_secs(120);

/// What all clients have in common.
#[derive(Debug)]
pub struct Shared {
    /// The original.
    pub image: Image,
    /// Bytes received by all clients.
    pub received: AtomicU64,
    /// Bytes that are not those of the original.
    pub wrong: AtomicU64,
}

impl Shared {
    /// Nothing received yet.
    #[must_use]
    pub fn new(image: Image) -> Arc<Self> {
        Arc::new(Self { image, received: AtomicU64::new(0), wrong: AtomicU64::new(0) })
    }
}

/// One client.
#[derive(Debug)]
pub struct Client {
    http: Http,
    /// `http://host:port` of the daemon's proxy.
    proxy: String,
    shared: Arc<Shared>,
    /// How many bytes of blobs it has received; the owner watches.
    progress: watch::Sender<u64>,
}

impl Client {
    /// A client of the daemon at `proxy`, and how many bytes of blobs it has received.
    #[must_use]
    pub fn new(proxy: String, shared: Arc<Shared>) -> (Self, watch::Receiver<u64>) {
        let (progress, watched) = watch::channel(0);
        (Self { http: Http::new(), proxy, shared, progress }, watched)
    }

    /// Pulls the image. Wrong bytes are no error but counted.
    ///
    /// # Errors
    /// If a request fails, or a body ends early or stalls.
    pub async fn pull(&self) -> Result<()> {
        let manifest = &self.shared.image.manifest;
        self.get("manifests", TAG, manifest, |_| ()).await?;
        let received = |bytes: u64| {
            self.shared.received.fetch_add(bytes, Ordering::Relaxed);
            self.progress.send_modify(|sum| *sum += bytes);
        };
        futures::stream::iter(self.shared.image.blobs())
            .map(async |blob| self.get("blobs", &blob.digest.to_string(), blob, received).await)
            .buffer_unordered(BLOBS_AT_ONCE)
            .try_collect::<()>()
            .await
    }

    async fn get(&self, kind: &str, name: &str, expected: &Blob, received: impl Fn(u64)) -> Result<()> {
        let url = format!("{}/v2/{REPOSITORY}/{kind}/{name}?ns={REGISTRY}", self.proxy);
        let accept = if kind == "manifests" { MANIFEST } else { "" };
        let asking = tokio::time::timeout(STALL_LIMIT, self.http.ask(Method::GET, &url, accept)).await;
        let mut body = asking.with_context(|| format!("{url}: no answer"))??.into_body();
        let mut at = 0;
        loop {
            let next = tokio::time::timeout(STALL_LIMIT, body.frame()).await;
            let Some(frame) = next.with_context(|| format!("{url}: nothing more after {at} bytes"))? else {
                break;
            };
            let frame = frame.with_context(|| format!("{url}: after {at} bytes"))?;
            let Some(part) = frame.data_ref() else { continue };
            self.shared.wrong.fetch_add(difference(&expected.bytes, at, part), Ordering::Relaxed);
            at += part.len();
            received(part.len() as u64);
        }
        ensure!(at >= expected.bytes.len(), "{url}: {at} bytes of {}", expected.bytes.len());
        Ok(())
    }
}

/// How many bytes of `part` are not those of `whole` from `at` on; those beyond its end are all wrong.
fn difference(whole: &[u8], at: usize, part: &[u8]) -> u64 {
    let rest = whole.get(at..).unwrap_or_default();
    let same = &rest[..rest.len().min(part.len())];
    let (inside, beyond) = part.split_at(same.len());
    let inside = if inside == same { 0 } else { inside.iter().zip(same).filter(|(a, b)| a != b).count() };
    (inside + beyond.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use support::origin::{Fault, FaultyOrigin, When};

    #[test]
    fn differences_are_counted_by_byte() {
        assert_eq!(difference(b"abcdef", 2, b"cd"), 0);
        assert_eq!(difference(b"abcdef", 2, b"xdy"), 2);
        assert_eq!(difference(b"abcdef", 4, b"efgh"), 2);
        assert_eq!(difference(b"abcdef", 9, b"z"), 1);
    }

    #[tokio::test]
    async fn a_pull_finds_wrong_and_missing_bytes() {
        let image = Image::random(3, &[100_000, 50_000]).unwrap();
        let origin = FaultyOrigin::start().await.unwrap();
        image.lay_into(&origin, REPOSITORY, TAG);
        let bytes = image.blob_bytes();
        let (first, second) = (image.layers[0].blob.digest, image.layers[1].blob.digest);
        let shared = Shared::new(image);
        let (client, progress) = Client::new(origin.url().to_owned(), Arc::clone(&shared));
        client.pull().await.unwrap();
        assert_eq!((*progress.borrow(), shared.wrong.load(Ordering::Relaxed)), (bytes, 0));

        origin.fault(When::blob(&first).get(), Fault::Corrupt(70_000));
        client.pull().await.unwrap();
        assert_eq!(shared.wrong.load(Ordering::Relaxed), 1);

        origin.fault(When::blob(&second).get(), Fault::TooFew(1));
        let error = client.pull().await.unwrap_err().to_string();
        assert!(error.contains("bytes of"), "{error}");
    }
}
