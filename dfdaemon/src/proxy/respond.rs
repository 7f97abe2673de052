//! Writes answers: content with its ranges and conditions, and errors in the distribution API's form.
//!
//! Every answer has a Content-Length, so that a client can tell a body cut short from a whole one, and can resume it.

use super::backend::{BlobHandle, Want};
use super::body::ProxyBody;
use super::error::{Malformed, ProxyError};
use super::multipart::Boundary;
use super::range::{self, Selection};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use types::{ByteRange, Digest};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What the content is.
pub(super) struct Description {
    pub(super) digest: Digest,
    pub(super) media_type: HeaderValue,
    /// Bytes.
    pub(super) size: u64,
}

/// Where the content comes from.
pub(super) enum Content {
    Memory(Bytes),
    Blob(Box<dyn BlobHandle>),
}

impl Content {
    fn read(&self, range: ByteRange) -> BoxStream<'static, Result<Bytes, super::BodyError>> {
        match self {
            Self::Memory(bytes) => {
                let position = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let part = bytes.slice(position(range.start())..position(range.end()));
                stream::iter([Ok(part)]).boxed()
            }
            Self::Blob(handle) => handle.read(range),
        }
    }
}

/// Content, or the parts of it that the request selects.
pub(super) fn content(
    parts: &Parts,
    described: &Description,
    content: Content,
) -> Result<Response<ProxyBody>, ProxyError> {
    let etag = entity_tag(&described.digest);
    if not_modified(&parts.headers, &etag) {
        return Ok(unmodified(described));
    }
    let size = described.size;
    let selection =
        range::select(&parts.headers, size, &etag).map_err(|e| Malformed::Range(e.to_string()))?;
    Ok(match selection {
        Selection::Unsatisfiable => return Err(ProxyError::Unsatisfiable { size }),
        Selection::Whole => whole(described, Some(content)),
        Selection::Parts(ranges) if ranges.len() == 1 => part(described, &content, ranges[0]),
        Selection::Parts(ranges) => several(described, content, ranges),
    })
}

/// The answer to a HEAD: what a GET without a range would be headed with.
pub(super) fn head(parts: &Parts, described: &Description) -> Response<ProxyBody> {
    if not_modified(&parts.headers, &entity_tag(&described.digest)) {
        return unmodified(described);
    }
    whole(described, None)
}

fn whole(described: &Description, content: Option<Content>) -> Response<ProxyBody> {
    let all = ByteRange::whole(described.size);
    let body = match content {
        None => ProxyBody::empty(),
        // What has no bytes needs no stream, and so no download.
        Some(_) if all.is_empty() => ProxyBody::empty(),
        Some(content) => ProxyBody::stream(content.read(all), all.len()),
    };
    let mut response = described_response(described, StatusCode::OK, body);
    response.headers_mut().insert(CONTENT_LENGTH, described.size.into());
    response.headers_mut().insert(CONTENT_TYPE, described.media_type.clone());
    response
}

fn part(described: &Description, content: &Content, range: ByteRange) -> Response<ProxyBody> {
    let body = ProxyBody::stream(content.read(range), range.len());
    let mut response = described_response(described, StatusCode::PARTIAL_CONTENT, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, range.len().into());
    headers.insert(CONTENT_TYPE, described.media_type.clone());
    headers.insert(CONTENT_RANGE, ascii(range::content_range(range, described.size)));
    response
}

fn several(described: &Description, content: Content, ranges: Vec<ByteRange>) -> Response<ProxyBody> {
    let (boundary, size, media_type) = (Boundary::random(), described.size, described.media_type.clone());
    let len = boundary.total_len(&ranges, size, &media_type);
    let content_type = boundary.content_type();
    let tail = boundary.tail();
    // Each part is asked for when the one before it has been sent.
    let framed = stream::iter(ranges).flat_map(move |range| {
        let head = boundary.head(range, size, &media_type);
        stream::iter([Ok(head)]).chain(content.read(range))
    });
    let body = ProxyBody::stream(framed.chain(stream::iter([Ok(tail)])).boxed(), len);
    let mut response = described_response(described, StatusCode::PARTIAL_CONTENT, body);
    response.headers_mut().insert(CONTENT_LENGTH, len.into());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn unmodified(described: &Description) -> Response<ProxyBody> {
    described_response(described, StatusCode::NOT_MODIFIED, ProxyBody::empty())
}

fn described_response(described: &Description, status: StatusCode, body: ProxyBody) -> Response<ProxyBody> {
    let mut response = plain(status, body);
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_DIGEST, ascii(described.digest.to_string()));
    headers.insert(ETAG, entity_tag(&described.digest));
    response
}

fn entity_tag(digest: &Digest) -> HeaderValue {
    ascii(format!("\"{digest}\""))
}

/// Whether the client has it (RFC 9110, section 13.1.2: weak comparison, a list, or `*`).
fn not_modified(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let tags = headers.get_all(IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    tags.flat_map(|line| line.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes()
    })
}

/// Text that this file has put together from digests and numbers.
fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digests and numbers are ASCII")
}

/// Some bytes that are no content: the body of a ping or of an answer that is passed on.
pub(super) fn document(want: Want, media_type: HeaderValue, bytes: Bytes) -> Response<ProxyBody> {
    let mut response = sized(StatusCode::OK, bytes, want);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

/// `{}`: this is a registry.
pub(super) fn pong(want: Want) -> Response<ProxyBody> {
    document(want, JSON, Bytes::from_static(b"{}"))
}

/// An error as the distribution API has it.
pub(super) fn error(want: Want, error: &ProxyError) -> Response<ProxyBody> {
    let origins = match error {
        ProxyError::Unauthorized { body, .. } | ProxyError::Denied { body } if !body.is_empty() => {
            Some(body.clone())
        }
        _ => None,
    };
    let json = origins.as_ref().is_none_or(|body| body.trim_ascii_start().starts_with(b"{"));
    let bytes = origins.unwrap_or_else(|| error_document(error));
    let mut response = sized(error.status(), bytes, want);
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        if json { JSON } else { HeaderValue::from_static("text/plain; charset=utf-8") },
    );
    match error {
        ProxyError::Unauthorized { challenges, .. } => {
            challenges.iter().for_each(|line| {
                headers.append(WWW_AUTHENTICATE, line.clone());
            });
        }
        ProxyError::Unavailable { retry_after: Some(after), .. } => {
            headers.insert(RETRY_AFTER, after.as_secs().max(1).into());
        }
        ProxyError::Unsatisfiable { size } => {
            headers.insert(CONTENT_RANGE, ascii(range::unsatisfied_range(*size)));
        }
        ProxyError::Malformed(Malformed::Method) => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        _ => {}
    }
    response
}

fn error_document(error: &ProxyError) -> Bytes {
    let document = serde_json::json!({
        "errors": [{ "code": error.code(), "message": error.to_string(), "detail": null }]
    });
    document.to_string().into()
}

fn sized(status: StatusCode, bytes: Bytes, want: Want) -> Response<ProxyBody> {
    let len = bytes.len();
    let body = if want == Want::Head { ProxyBody::empty() } else { ProxyBody::full(bytes) };
    let mut response = plain(status, body);
    response.headers_mut().insert(CONTENT_LENGTH, len.into());
    response
}

fn plain(status: StatusCode, body: ProxyBody) -> Response<ProxyBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response
}
