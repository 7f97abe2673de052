//! The `Range` header (RFC 9110, section 14): which parts of a blob or manifest a client wants.
//!
//! containerd 2.1 and later ask open-ended ranges, dockerd and containerd resume with them, podman's partial pulls ask
//! for hundreds at once and expect one part for each, in their order: so ranges are neither merged nor sorted.

use http::header::{IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue};
use types::ByteRange;

/// The most ranges in one request. containers/storage asks for up to 1,024; refused with 400 it asks for half as many.
pub const RANGES_MAX: usize = 1024;

/// The sum of all parts' lengths over the size of the whole: more than this is no partial pull but a way to make one
/// small request cost much.
pub const AMPLIFICATION_MAX: u64 = 2;

/// What of the content is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of it, as 200.
    Whole,
    /// One part or more, as 206; none is empty, all lie in the content.
    Parts(Vec<ByteRange>),
    /// No part of it: 416.
    Unsatisfiable,
}

/// A `Range` header that cannot be read (400).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not the header's grammar.
    #[error("malformed range")]
    Form,
    /// More ranges than [`RANGES_MAX`].
    #[error("more than {RANGES_MAX} ranges")]
    TooMany,
    /// Ranges that overlap until they are more than [`AMPLIFICATION_MAX`] times the content.
    #[error("the ranges overlap too much")]
    Overlap,
}

/// What a GET with these headers selects of content that is `size` bytes long and has the entity tag `etag`.
pub fn select(headers: &HeaderMap, size: u64, etag: &HeaderValue) -> Result<Selection, RangeError> {
    let mut lines = headers.get_all(RANGE).iter();
    let Some(line) = lines.next() else { return Ok(Selection::Whole) };
    if lines.next().is_some() {
        return Err(RangeError::Form);
    }
    // A date never matches, since no Last-Modified is sent; a weak tag never does (RFC 9110, section 13.1.5).
    if headers.get(IF_RANGE).is_some_and(|condition| condition != etag) {
        return Ok(Selection::Whole);
    }
    parse(line.as_bytes(), size)
}

fn parse(line: &[u8], size: u64) -> Result<Selection, RangeError> {
    let line = std::str::from_utf8(line).map_err(|_| RangeError::Form)?;
    let (unit, set) = line.split_once('=').ok_or(RangeError::Form)?;
    // A unit that is not understood is ignored (RFC 9110, section 14.2).
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Ok(Selection::Whole);
    }
    let mut parts = Vec::new();
    let mut any = false;
    for (i, spec) in set.split(',').enumerate() {
        if i >= RANGES_MAX {
            return Err(RangeError::TooMany);
        }
        let spec = spec.trim_matches([' ', '\t']);
        if spec.is_empty() {
            continue;
        }
        any = true;
        parts.extend(parse_spec(spec, size)?);
    }
    if !any {
        return Err(RangeError::Form);
    }
    // Clients that put a range on everything put it on empty blobs too, where none can be satisfied.
    if size == 0 {
        return Ok(Selection::Whole);
    }
    if parts.is_empty() {
        return Ok(Selection::Unsatisfiable);
    }
    let total: u128 = parts.iter().map(|part| u128::from(part.len())).sum();
    if total > u128::from(size) * u128::from(AMPLIFICATION_MAX) {
        return Err(RangeError::Overlap);
    }
    Ok(Selection::Parts(parts))
}

/// One range, clipped to the content; nothing if it lies outside.
fn parse_spec(spec: &str, size: u64) -> Result<Option<ByteRange>, RangeError> {
    let (first, last) = spec.split_once('-').ok_or(RangeError::Form)?;
    let range = match (position(first)?, position(last)?) {
        (None, None) => return Err(RangeError::Form),
        (None, Some(suffix)) => ByteRange::new(size.saturating_sub(suffix), size),
        (Some(first), None) => ByteRange::new(first, size),
        (Some(first), Some(last)) if first > last => return Err(RangeError::Form),
        (Some(first), Some(last)) => ByteRange::new(first, last.saturating_add(1).min(size)),
    };
    Ok(range.filter(|range| !range.is_empty()))
}

/// A position or length; one that is too large for a number lies beyond every content.
fn position(text: &str) -> Result<Option<u64>, RangeError> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(RangeError::Form);
    }
    Ok(Some(text.parse().unwrap_or(u64::MAX)))
}

/// `Content-Range` of one part.
pub fn content_range(part: ByteRange, size: u64) -> String {
    debug_assert!(!part.is_empty() && part.end() <= size, "a part lies in the content");
    format!("bytes {}-{}/{size}", part.start(), part.end() - 1)
}

/// `Content-Range` of a 416.
pub fn unsatisfied_range(size: u64) -> String {
    format!("bytes */{size}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(line: &str, size: u64) -> Result<Selection, RangeError> {
        parse(line.as_bytes(), size)
    }

    fn selected(ranges: &[(u64, u64)]) -> Result<Selection, RangeError> {
        Ok(Selection::Parts(ranges.iter().map(|&(a, b)| ByteRange::new(a, b).unwrap()).collect()))
    }

    #[test]
    fn forms_of_the_grammar() {
        let table = [
            ("bytes=0-", 100, selected(&[(0, 100)])),
            ("bytes=0-0", 100, selected(&[(0, 1)])),
            ("bytes=10-19", 100, selected(&[(10, 20)])),
            ("bytes=99-", 100, selected(&[(99, 100)])),
            ("bytes=90-200", 100, selected(&[(90, 100)])),
            ("bytes=-1", 100, selected(&[(99, 100)])),
            ("bytes=-100", 100, selected(&[(0, 100)])),
            ("bytes=-1000", 100, selected(&[(0, 100)])),
            ("BYTES=1-2", 100, selected(&[(1, 3)])),
            ("bytes=0-1, 5-6,-1", 100, selected(&[(0, 2), (5, 7), (99, 100)])),
            ("bytes=50-59,0-9", 100, selected(&[(50, 60), (0, 10)])),
            ("bytes=0-1,1-2", 100, selected(&[(0, 2), (1, 3)])),
            ("bytes=,0-1,,", 100, selected(&[(0, 2)])),
            ("bytes=200-,0-1", 100, selected(&[(0, 2)])),
            ("bytes=0-99999999999999999999999", 100, selected(&[(0, 100)])),
            ("bytes=0-18446744073709551615", 100, selected(&[(0, 100)])),
            ("bytes=100-", 100, Ok(Selection::Unsatisfiable)),
            ("bytes=99999999999999999999999-", 100, Ok(Selection::Unsatisfiable)),
            ("bytes=-0", 100, Ok(Selection::Unsatisfiable)),
            ("bytes=100-200,300-", 100, Ok(Selection::Unsatisfiable)),
            ("bytes=0-", 0, Ok(Selection::Whole)),
            ("items=0-1", 100, Ok(Selection::Whole)),
            ("bytes", 100, Err(RangeError::Form)),
            ("bytes=", 100, Err(RangeError::Form)),
            ("bytes=,", 100, Err(RangeError::Form)),
            ("bytes=-", 100, Err(RangeError::Form)),
            ("bytes=5", 100, Err(RangeError::Form)),
            ("bytes=5-4", 100, Err(RangeError::Form)),
            ("bytes=+1-2", 100, Err(RangeError::Form)),
            ("bytes=1-2-3", 100, Err(RangeError::Form)),
            ("bytes=a-b", 100, Err(RangeError::Form)),
            ("bytes=0-1;2-3", 100, Err(RangeError::Form)),
            ("bytes=0-,0-,0-", 100, Err(RangeError::Overlap)),
            ("bytes=0-,0-,0-", u64::MAX, Err(RangeError::Overlap)),
        ];
        for (line, size, expected) in table {
            assert_eq!(parts(line, size), expected, "{line} of {size}");
        }
    }

    #[test]
    fn as_many_ranges_as_podman_asks_and_no_more() {
        let ranges = |n: u64| (0..n).map(|i| format!("{}-{}", i * 10, i * 10)).collect::<Vec<_>>().join(",");
        let Ok(Selection::Parts(many)) = parts(&format!("bytes={}", ranges(1024)), 1 << 20) else { panic!() };
        assert_eq!(many.len(), 1024);
        assert_eq!(parts(&format!("bytes={}", ranges(1025)), 1 << 20), Err(RangeError::TooMany));
    }

    #[test]
    fn conditions() {
        let etag = HeaderValue::from_static("\"sha256:abc\"");
        let selected_by = |lines: &[(http::HeaderName, &'static str)]| {
            let lines = lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            select(
                &lines.fold(HeaderMap::new(), |mut h, (n, v)| {
                    h.append(n, v);
                    h
                }),
                10,
                &etag,
            )
        };
        assert_eq!(selected_by(&[]), Ok(Selection::Whole));
        assert_eq!(selected_by(&[(RANGE, "bytes=1-")]), selected(&[(1, 10)]));
        assert_eq!(selected_by(&[(RANGE, "bytes=1-"), (RANGE, "bytes=2-")]), Err(RangeError::Form));
        assert_eq!(selected_by(&[(RANGE, "bytes=1-"), (IF_RANGE, "\"sha256:abc\"")]), selected(&[(1, 10)]));
        assert_eq!(selected_by(&[(RANGE, "bytes=1-"), (IF_RANGE, "\"other\"")]), Ok(Selection::Whole));
        assert_eq!(selected_by(&[(RANGE, "bytes=1-"), (IF_RANGE, "W/\"sha256:abc\"")]), Ok(Selection::Whole));
        let date = "Tue, 15 Nov 1994 12:45:26 GMT";
        assert_eq!(selected_by(&[(RANGE, "bytes=1-"), (IF_RANGE, date)]), Ok(Selection::Whole));
    }

    proptest! {
        /// Every part lies in the content and is not empty, whatever the header.
        #[test]
        fn parts_lie_inside(line in "bytes=[0-9, -]{0,40}", size in 0u64..1000) {
            if let Ok(Selection::Parts(found)) = parts(&line, size) {
                prop_assert!(!found.is_empty());
                for part in found {
                    prop_assert!(!part.is_empty() && part.end() <= size);
                }
            }
        }

        /// Ranges written out are read back, in their order.
        #[test]
        fn ranges_come_back(ranges in prop::collection::vec((0u64..1000, 1u64..50), 1..20)) {
            let size = 1_000_000;
            let line = ranges.iter().map(|(a, n)| format!("{a}-{}", a + n - 1)).collect::<Vec<_>>().join(", ");
            let expected: Vec<_> = ranges.iter().map(|&(a, n)| (a, a + n)).collect();
            prop_assert_eq!(parts(&format!("bytes={line}"), size), selected(&expected));
        }

        /// Nothing that a client can send makes the parser fail in another way than by its error.
        #[test]
        fn any_bytes(line in prop::collection::vec(any::<u8>(), 0..200), size: u64) {
            let _ = parse(&line, size);
        }
    }
}
