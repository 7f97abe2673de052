//! A client's `Range` and `If-Range` headers.

use crate::input::Input;
use dfdaemon::proxy::range::{AMPLIFICATION_MAX, RANGES_MAX, Selection, content_range, select};
use http::header::{IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue};

/// The content's size, how far it is to be shifted, and then one line for each `Range` header; a line that begins with
/// `?` is an `If-Range`.
pub fn http_range(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let shift = input.u8() % 64;
    let size = input.u64() >> shift;
    let etag = HeaderValue::from_static("\"sha256:abc\"");
    let mut headers = HeaderMap::new();
    let mut ranges = 0;
    while !input.is_empty() && headers.len() < 8 {
        let line = input.line();
        let (name, value) = line.strip_prefix(b"?").map_or((RANGE, line), |condition| (IF_RANGE, condition));
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        ranges += u32::from(name == RANGE);
        headers.append(name, value);
    }
    let selection = select(&headers, size, &etag);
    assert!(ranges < 2 || selection.is_err(), "two ranges are none");
    assert!(ranges > 0 || selection == Ok(Selection::Whole), "no range is the whole");
    match selection {
        Ok(Selection::Parts(parts)) => {
            assert!((1..=RANGES_MAX).contains(&parts.len()), "{} parts", parts.len());
            assert!(
                parts.iter().all(|part| !part.is_empty() && part.end() <= size),
                "a part outside the content"
            );
            let total: u128 = parts.iter().map(|part| u128::from(part.len())).sum();
            assert!(total <= u128::from(size) * u128::from(AMPLIFICATION_MAX), "{total} bytes of {size}");
            // Written out, they are selected again.
            let line: Vec<String> = parts.iter().map(|p| format!("{}-{}", p.start(), p.end() - 1)).collect();
            let line = HeaderValue::try_from(format!("bytes={}", line.join(","))).expect("visible ASCII");
            let headers = HeaderMap::from_iter([(RANGE, line)]);
            assert_eq!(select(&headers, size, &etag), Ok(Selection::Parts(parts.clone())));
            let shown = content_range(parts[0], size);
            assert!(shown.starts_with("bytes ") && shown.ends_with(&format!("/{size}")), "{shown}");
        }
        Ok(Selection::Unsatisfiable) => assert_ne!(size, 0, "an empty blob is always whole"),
        Ok(Selection::Whole) | Err(_) => {}
    }
}
