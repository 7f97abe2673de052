//! What registries and their token endpoints answer, and the file that docker keeps credentials in.

use crate::input::Input;
use dfctl::image::{self, Contents};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue};
use origin::{canonical, fuzz};
use std::collections::BTreeSet;
use std::time::Duration;
use types::Registry;
use url::{Host, Url};

/// The longest challenge that is read, in bytes.
const CHALLENGE_LEN_MAX: usize = 8 * 1024;

/// The first byte says what the others are.
pub fn registry_answers(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.u8() % 7 {
        0 => challenge(input),
        1 => token(input.rest()),
        2 => docker_config(input.rest()),
        3 => manifest_headers(input),
        4 => manifest(input.rest()),
        5 => content_range(input.rest()),
        _ => redirect(input.rest()),
    }
}

/// One `WWW-Authenticate` header to a line.
fn challenge(mut input: Input<'_>) {
    let mut headers = Vec::new();
    while !input.is_empty() {
        headers.extend(HeaderValue::from_bytes(input.line()));
    }
    let Some(chosen) = fuzz::challenge(&headers) else { return };
    let text = |header: &HeaderValue| String::from_utf8_lossy(header.as_bytes()).to_ascii_lowercase();
    assert!(headers.iter().map(text).any(|header| header.contains("bearer") && header.contains("realm")));
    // Written out, it is read again, whatever is in it.
    let quoted = |text: &str| text.replace('\\', r"\\").replace('"', "\\\"");
    let mut plain = format!("Bearer realm=\"{}\"", quoted(&chosen.realm));
    for (key, value) in [("service", &chosen.service), ("scope", &chosen.scope)] {
        if let Some(value) = value {
            plain += &format!(",{key}=\"{}\"", quoted(value));
        }
    }
    if plain.len() <= CHALLENGE_LEN_MAX {
        let plain = HeaderValue::try_from(plain).expect("what came in a header can go into one");
        assert_eq!(fuzz::challenge(&[plain]), Some(chosen));
    }
}

fn token(body: &[u8]) {
    match fuzz::token(body) {
        Ok((header, lifetime)) => {
            assert!(
                header.is_sensitive() && header.as_bytes().starts_with(b"Bearer "),
                "a header that is shown"
            );
            assert!(header.len() <= 16 * 1024 + 7 && header.len() > 7);
            assert!(!lifetime.is_zero() && lifetime <= Duration::from_secs(3600), "{lifetime:?}");
        }
        // One of a few texts; the answer is not quoted.
        Err(error) => assert!(error.len() < 400 && error.is_ascii(), "{error}"),
    }
}

fn docker_config(json: &[u8]) {
    let Ok(credentials) = fuzz::docker_config(json) else { return };
    for (registry, _, secret) in credentials {
        assert_eq!(canonical(&registry), registry);
        assert!(!secret.is_empty(), "a credential without a secret");
    }
}

/// The content type, the digest header, and the content.
fn manifest_headers(mut input: Input<'_>) {
    let names = [CONTENT_TYPE, HeaderName::from_static("docker-content-digest")];
    let values = names.map(|name| (name, HeaderValue::from_bytes(input.line())));
    let headers: HeaderMap =
        values.into_iter().filter_map(|(name, value)| Some((name, value.ok()?))).collect();
    let (_, media_type) = fuzz::manifest(&headers, input.rest());
    assert!(!media_type.is_empty() && media_type.len() <= 255, "{media_type:?}");
    assert!(HeaderValue::from_str(&media_type).is_ok(), "it goes back as a header: {media_type:?}");
}

/// A manifest or an index, as `dfctl pull` reads it.
fn manifest(bytes: &[u8]) {
    match image::read(bytes, &"linux/amd64".parse::<types::Platform>().expect("a platform")) {
        Ok(Contents::Blobs(blobs)) => {
            assert!((1..=1024).contains(&blobs.len()), "{} blobs", blobs.len());
            let digests: BTreeSet<_> = blobs.iter().map(|blob| blob.digest).collect();
            assert_eq!(digests.len(), blobs.len(), "a blob is pulled once");
        }
        Ok(Contents::Manifest(_)) => {}
        Err(error) => {
            let error = error.to_string();
            assert!(!error.contains(|c: char| c.is_control()), "an error that steers a terminal: {error:?}");
        }
    }
}

fn content_range(value: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let Some((range, total)) = fuzz::content_range(value) else { return };
    assert!(!range.is_empty() && total.is_none_or(|total| range.end() <= total), "{range} of {total:?}");
    let total = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
    let plain = format!("bytes {}-{}/{total}", range.start(), range.end() - 1);
    let again = fuzz::content_range(HeaderValue::try_from(plain).expect("visible ASCII"));
    assert_eq!(again.map(|(range, _)| range), Some(range));
}

/// A public registry leads nowhere but to names, over TLS, without a password.
fn redirect(location: &[u8]) {
    let Ok(location) = HeaderValue::from_bytes(location) else { return };
    let registry = Registry::parse("registry.example").expect("a name");
    let from: Url = "https://registry.example/v2/a/blobs/x".parse().expect("an address");
    let Some(to) = fuzz::redirect(&registry, &from, location) else { return };
    assert_eq!(to.scheme(), "https");
    assert!(matches!(to.host(), Some(Host::Domain(_))), "{to} is an address");
    assert!(to.username().is_empty() && to.password().is_none() && to.fragment().is_none(), "{to}");
}
