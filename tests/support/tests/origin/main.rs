//! The registry client against an origin that misbehaves: what it asks, what it makes of the answers, what it asks again.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking; its sizes are small"
)]

mod auth;
mod blobs;
mod manifests;
mod redirects;
mod resolver;

use bytes::Bytes;
use futures::TryStreamExt as _;
use http::HeaderValue;
use origin::{Auth, BlobRead, Options, Origin, OriginError, Reference, RegistryOptions, Repository};
use std::time::Duration;
use support::origin::FaultyOrigin;
use types::{ByteRange, Digest};

const REPOSITORY: &str = "library/app";

/// Options that know `server`, and do not wait long.
fn options(server: &FaultyOrigin) -> Options {
    let registry =
        RegistryOptions { endpoint: Some(server.url().parse().unwrap()), ..RegistryOptions::default() };
    Options {
        registries: [(server.registry(), registry)].into(),
        retry_pause: Duration::from_millis(1),
        retry_pause_max: Duration::from_millis(10),
        ..Options::default()
    }
}

fn client_with(options: Options) -> Origin {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Origin::new(options).unwrap()
}

fn client(server: &FaultyOrigin) -> Origin {
    client_with(options(server))
}

fn repository(server: &FaultyOrigin) -> Repository {
    Repository::new(&server.registry(), REPOSITORY.parse().unwrap())
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).unwrap()
}

fn accept(types: &[&'static str]) -> Vec<HeaderValue> {
    types.iter().map(|text| HeaderValue::from_static(text)).collect()
}

/// Bytes that differ from their neighbours.
fn content(len: usize) -> Bytes {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

async fn collect(read: BlobRead) -> Result<Bytes, OriginError> {
    let chunks: Vec<Bytes> = read.body.try_collect().await?;
    Ok(chunks.concat().into())
}

/// Reads anonymously what is asked for, to the end.
async fn read(
    server: &FaultyOrigin,
    origin: &Origin,
    digest: &Digest,
    range: Option<ByteRange>,
    size: Option<u64>,
) -> Result<Bytes, OriginError> {
    collect(origin.read_blob(&repository(server), digest, range, size, &Auth::Anonymous).await?).await
}
