//! `dfctl pull`: an image through the daemon, as a runtime would pull it, with a progress bar for each blob.

use crate::cli::Image;
use crate::client::Client;
use crate::image::{self, BlobRef, Contents};
use crate::{Error, Output, blob, json};
use bytes::Bytes;
use bytesize::ByteSize;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use origin::{MANIFEST_TYPES, Reference, Repository};
use reqwest::Method;
use reqwest::header::ACCEPT;
use serde::Serialize;
use std::io::Write;
use std::time::{Duration, Instant};
use types::{Digest, Platform};

/// Blobs pulled at once, as many as runtimes do.
const CONCURRENT_BLOBS: usize = 3;

/// How many manifests may lead to one another: an index, in it an index, in it a manifest.
const MANIFESTS_MAX: usize = 3;

/// The shortest time that a rate is computed from.
const ELAPSED_MIN: Duration = Duration::from_millis(1);

/// What was pulled, as JSON.
#[derive(Serialize)]
struct Pulled {
    image: String,
    /// Of what the name means: for an image of several platforms its index.
    digest: String,
    platform: String,
    /// The config and the layers, each once; manifests are not counted.
    blobs: Vec<PulledBlob>,
    bytes: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct PulledBlob {
    digest: String,
    bytes: u64,
}

pub(crate) async fn run(
    client: &Client,
    image: &Image,
    platform: &Platform,
    output: Output,
    out: &mut impl Write,
) -> Result<(), Error> {
    let started = Instant::now();
    let repository = &image.0.repository;
    let (digest, blobs) = resolve(client, repository, &image.0.reference, platform).await?;
    let bars = MultiProgress::new();
    if output == Output::Json {
        bars.set_draw_target(ProgressDrawTarget::hidden());
    }
    let pulls = blobs.iter().map(|&blob| {
        let bars = &bars;
        async move {
            let bar = bars.add(bar(blob));
            let pulled = blob::pull(client, repository, blob, &bar).await;
            if pulled.is_ok() {
                bar.finish();
            } else {
                bar.abandon();
            }
            pulled
        }
    });
    stream::iter(pulls).buffer_unordered(CONCURRENT_BLOBS).try_collect::<()>().await?;
    let elapsed = started.elapsed().max(ELAPSED_MIN);
    let bytes: u64 = blobs.iter().map(|blob| blob.size).sum();
    if output == Output::Json {
        let blob = |blob: &BlobRef| PulledBlob { digest: blob.digest.to_string(), bytes: blob.size };
        let pulled = Pulled {
            image: image.to_text(),
            digest: digest.to_string(),
            platform: platform.to_string(),
            blobs: blobs.iter().map(blob).collect(),
            bytes,
            seconds: elapsed.as_secs_f64(),
        };
        return Ok(json::write(&pulled, out)?);
    }
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate to be shown"
    )]
    let rate = ByteSize((bytes as f64 / elapsed.as_secs_f64()) as u64);
    writeln!(
        out,
        "pulled {} ({digest}): {} blobs, {}, every digest checked, in {:.1} s ({rate}/s)",
        image.to_text(),
        blobs.len(),
        ByteSize(bytes),
        elapsed.as_secs_f64(),
    )?;
    Ok(())
}

/// From a reference to the image's own digest and its blobs.
async fn resolve(
    client: &Client,
    repository: &Repository,
    reference: &Reference,
    platform: &Platform,
) -> Result<(Digest, Vec<BlobRef>), Error> {
    let (first, mut bytes) = manifest(client, repository, reference).await?;
    for _ in 1..MANIFESTS_MAX {
        match image::read(&bytes, platform)? {
            Contents::Blobs(blobs) => return Ok((first, blobs)),
            Contents::Manifest(digest) => {
                (_, bytes) = manifest(client, repository, &Reference::Digest(digest)).await?;
            }
        }
    }
    match image::read(&bytes, platform)? {
        Contents::Blobs(blobs) => Ok((first, blobs)),
        Contents::Manifest(_) => Err(Error::Unexpected("an index in an index in an index".to_owned())),
    }
}

/// A manifest, checked against its digest.
async fn manifest(
    client: &Client,
    repository: &Repository,
    reference: &Reference,
) -> Result<(Digest, Bytes), Error> {
    let path = format!("/v2/{}/manifests/{reference}", repository.name);
    let request = client.request(Method::GET, &path, &[("ns", repository.registry.to_string())]);
    let response = client.send(request.header(ACCEPT, MANIFEST_TYPES.join(", "))).await?;
    let announced = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
    let announced = announced.and_then(|text| text.parse::<Digest>().ok());
    let bytes = client.read(response).await?;
    let digest = match reference {
        Reference::Digest(digest) => *digest,
        Reference::Tag(_) => announced.unwrap_or_else(|| Digest::sha256(&bytes)),
    };
    if digest.matches(&bytes) { Ok((digest, bytes)) } else { Err(Error::WrongDigest(digest)) }
}

fn bar(blob: BlobRef) -> ProgressBar {
    const SHOWN: usize = 12;
    let style = ProgressStyle::with_template(
        "{prefix}  [{bar:30}] {bytes:>11} / {total_bytes:<11} {binary_bytes_per_sec:>13}",
    );
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
    let name: String = blob.digest.encoded().chars().take(SHOWN).collect();
    ProgressBar::new(blob.size).with_style(style).with_prefix(name)
}
