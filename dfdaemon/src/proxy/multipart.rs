//! The frame of a `multipart/byteranges` body (RFC 9110, section 14.6): what stands before, between and after the parts.
//!
//! Its length is known before the first byte of content is, so that the body has a Content-Length and a client sees
//! when it was cut short. Used by `respond` for a request of several ranges.

use super::range::content_range;
use bytes::Bytes;
use http::HeaderValue;
use types::ByteRange;

/// A boundary: 128 random bits. No content can be made to contain it, since it is drawn after the content is fixed.
#[derive(Clone, Debug)]
pub(super) struct Boundary(String);

impl Boundary {
    /// A new one.
    pub(super) fn random() -> Self {
        Self(format!("{:032x}", fastrand::u128(..)))
    }

    /// The `Content-Type` of the whole body.
    pub(super) fn content_type(&self) -> HeaderValue {
        HeaderValue::try_from(format!("multipart/byteranges; boundary={}", self.0))
            .expect("hexadecimal is ASCII")
    }

    /// What stands before a part.
    pub(super) fn head(&self, part: ByteRange, size: u64, content_type: &HeaderValue) -> Bytes {
        let mut head = format!("\r\n--{}\r\nContent-Type: ", self.0).into_bytes();
        head.extend_from_slice(content_type.as_bytes());
        head.extend_from_slice(
            format!("\r\nContent-Range: {}\r\n\r\n", content_range(part, size)).as_bytes(),
        );
        head.into()
    }

    /// What stands after the last part.
    pub(super) fn tail(&self) -> Bytes {
        format!("\r\n--{}--\r\n", self.0).into()
    }

    /// The whole body's length in bytes.
    pub(super) fn total_len(&self, parts: &[ByteRange], size: u64, content_type: &HeaderValue) -> u64 {
        let framed = |part: &ByteRange| self.head(*part, size, content_type).len() as u64 + part.len();
        parts.iter().map(framed).sum::<u64>() + self.tail().len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_of_two_parts() {
        let boundary = Boundary("b".to_owned());
        let plain = HeaderValue::from_static("text/plain");
        let parts = [ByteRange::new(0, 2).unwrap(), ByteRange::new(5, 9).unwrap()];
        let mut body = Vec::new();
        for (part, bytes) in parts.into_iter().zip(["01", "5678"]) {
            body.extend_from_slice(&boundary.head(part, 10, &plain));
            body.extend_from_slice(bytes.as_bytes());
        }
        body.extend_from_slice(&boundary.tail());
        let expected = "\r\n--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
                        \r\n--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 5-8/10\r\n\r\n5678\
                        \r\n--b--\r\n";
        assert_eq!(String::from_utf8(body.clone()).unwrap(), expected);
        assert_eq!(boundary.total_len(&parts, 10, &plain), body.len() as u64);
        assert_eq!(boundary.content_type(), "multipart/byteranges; boundary=b");
    }
}
