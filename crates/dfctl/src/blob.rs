//! Pulls one blob and hashes it as it comes; a broken connection goes on where it stopped, as runtimes do.

use crate::Error;
use crate::client::{self, Client};
use crate::image::BlobRef;
use futures::StreamExt;
use indicatif::ProgressBar;
use origin::Repository;
use reqwest::header::RANGE;
use reqwest::{Method, StatusCode};
use sha2::Digest as _;
use types::{Algorithm, Digest};

/// How often a connection may break without having brought anything.
const ATTEMPTS_MAX: u32 = 3;

/// The hash of what has come so far.
enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn is(self, digest: &Digest) -> bool {
        match self {
            Self::Sha256(hasher) => hasher.finalize()[..] == *digest.as_bytes(),
            Self::Sha512(hasher) => hasher.finalize()[..] == *digest.as_bytes(),
        }
    }
}

/// Pulls `blob` from `repository` and checks it.
pub(crate) async fn pull(
    client: &Client,
    repository: &Repository,
    blob: BlobRef,
    progress: &ProgressBar,
) -> Result<(), Error> {
    let mut hasher = Hasher::new(blob.digest.algorithm());
    let mut at = 0;
    let mut attempts = 0;
    loop {
        let before = at;
        match read_on(client, repository, blob, &mut at, &mut hasher, progress).await? {
            None => break,
            Some(why) => {
                attempts = if at > before { 1 } else { attempts + 1 };
                if attempts >= ATTEMPTS_MAX {
                    return Err(Error::Blob { digest: blob.digest, at, why });
                }
            }
        }
    }
    if hasher.is(&blob.digest) { Ok(()) } else { Err(Error::WrongDigest(blob.digest)) }
}

/// Reads from `at` on; nothing when all is there, or why the connection broke.
async fn read_on(
    client: &Client,
    repository: &Repository,
    blob: BlobRef,
    at: &mut u64,
    hasher: &mut Hasher,
    progress: &ProgressBar,
) -> Result<Option<String>, Error> {
    let wrong_size = |got| Err(Error::WrongSize { digest: blob.digest, expected: blob.size, got });
    let path = format!("/v2/{}/blobs/{}", repository.name, blob.digest);
    let mut request = client.request(Method::GET, &path, &[("ns", repository.registry.to_string())]);
    if *at > 0 {
        request = request.header(RANGE, format!("bytes={at}-"));
    }
    let response = match client.send(request).await {
        Err(Error::Broken { why, .. }) => return Ok(Some(why)),
        sent => sent?,
    };
    if *at > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
        return Err(Error::Unexpected("a range was asked for and ignored".to_owned()));
    }
    if let Some(rest) = response.content_length()
        && rest != blob.size - *at
    {
        return wrong_size(at.saturating_add(rest));
    }
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return Ok(Some(client::cause(&error))),
        };
        if chunk.len() as u64 > blob.size - *at {
            return wrong_size(*at + chunk.len() as u64);
        }
        hasher.update(&chunk);
        *at += chunk.len() as u64;
        progress.set_position(*at);
    }
    if *at < blob.size { Ok(Some("it ended early".to_owned())) } else { Ok(None) }
}
