//! A registry of one repository whose blobs are computed while they are read: gigabytes without a disk.
//!
//! A role: it says `ready ADDRESS DIGEST…`. Pulls by digest only, with single ranges; no manifests, no credentials.

use crate::content::Content;
use crate::role::say;
use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::stream;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;
use types::{ByteRange, Digest};

/// The repository.
pub const REPOSITORY: &str = "bench/blobs";

/// How many bytes are made at once.
const CHUNK: u64 = 256 * 1024;

type Blobs = Arc<BTreeMap<Digest, Arc<Content>>>;

/// Serves blobs of these sizes until the process is ended.
///
/// # Errors
/// If it cannot listen.
pub async fn serve(sizes: &[u64]) -> Result<()> {
    let blobs: Vec<(Digest, Arc<Content>)> = sizes
        .iter()
        .map(|size| Content::new(*size))
        .map(|content| (content.digest(), Arc::new(content)))
        .collect();
    let digests: Vec<String> = blobs.iter().map(|(digest, _)| digest.to_string()).collect();
    let blobs: Blobs = Arc::new(blobs.into_iter().collect());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say("ready", format!("{} {}", listener.local_addr()?, digests.join(" ")));
    let blob_path = format!("/v2/{REPOSITORY}/blobs/{{digest}}");
    let routes = Router::new()
        .route("/v2/", get(StatusCode::OK))
        .route(&blob_path, get(blob).head(blob))
        .with_state(blobs);
    axum::serve(listener, routes).await?;
    Ok(())
}

async fn blob(
    State(blobs): State<Blobs>,
    Path(digest): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let found = digest.parse().ok().and_then(|digest: Digest| blobs.get(&digest).cloned());
    let Some(content) = found else { return StatusCode::NOT_FOUND.into_response() };
    let whole = ByteRange::whole(content.len());
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, range) = match asked {
        None => (StatusCode::OK, whole),
        Some(asked) => match parse_range(asked, content.len()) {
            Some(range) => (StatusCode::PARTIAL_CONTENT, range),
            None => return StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
        },
    };
    let mut answer = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes")
        .header("Docker-Content-Digest", digest)
        .header(header::CONTENT_LENGTH, range.len());
    if status == StatusCode::PARTIAL_CONTENT {
        let of = format!("bytes {}-{}/{}", range.start(), range.end() - 1, content.len());
        answer = answer.header(header::CONTENT_RANGE, of);
    }
    let body = if method == Method::HEAD { Body::empty() } else { body(content, range) };
    answer.body(body).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn body(content: Arc<Content>, range: ByteRange) -> Body {
    let parts = (range.start()..range.end()).step_by(usize::try_from(CHUNK).unwrap_or(usize::MAX));
    Body::from_stream(stream::iter(parts.filter_map(move |start| {
        let part = ByteRange::new(start, range.end().min(start + CHUNK))?;
        Some(Ok::<_, Infallible>(Bytes::from(content.bytes(part))))
    })))
}

/// `bytes=a-b` or `bytes=a-` within `len` bytes.
fn parse_range(text: &str, len: u64) -> Option<ByteRange> {
    let (start, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let start: u64 = start.parse().ok()?;
    let end = if last.is_empty() { len } else { last.parse::<u64>().ok()?.checked_add(1)?.min(len) };
    (start < end).then(|| ByteRange::new(start, end)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        let range = |text| parse_range(text, 100).map(|range| (range.start(), range.end()));
        assert_eq!(range("bytes=0-0"), Some((0, 1)));
        assert_eq!(range("bytes=10-"), Some((10, 100)));
        assert_eq!(range("bytes=10-1000"), Some((10, 100)));
        for bad in ["bytes=100-", "bytes=-5", "bytes=5-4", "0-1", "bytes=a-b"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }
}
