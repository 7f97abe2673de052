//! The cheapest client there is: one request on one connection, the body read into one buffer.
//!
//! On a machine of few cores the client's own work is a part of what is measured. A comfortable client costs more than
//! the servers it compares, and would hide what is between them.

use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How many bytes are read at once at most.
const BUFFER: usize = 1 << 20;
/// The longest head of an answer, in bytes.
const HEAD_MAX: usize = 16 * 1024;
/// Without a byte for this long, a measurement fails.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// What a GET found.
#[derive(Clone, Copy, Debug)]
pub struct Got {
    /// From connecting to the first byte of the body.
    pub first_byte: Duration,
    /// From connecting to the last byte.
    pub all: Duration,
    /// The body's length in bytes.
    pub bytes: u64,
}

/// How much of a body to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// All of it.
    End,
    /// The first byte; then the connection is closed.
    FirstByte,
}

/// Gets `target` (a path with its query) and gives the body's parts to `sink`. Blocks.
///
/// # Errors
/// If the answer is not 200 with a `Content-Length`, or ends early.
pub fn get(address: SocketAddr, target: &str, until: Until, mut sink: impl FnMut(&[u8])) -> Result<Got> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address).with_context(|| address.to_string())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STALL_LIMIT))?;
    // In one write: a server that answers and closes after the first part would break the second.
    stream.write_all(
        format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    let body = loop {
        ensure!(filled < HEAD_MAX, "{target}: the head is too long");
        let n = stream.read(&mut buffer[filled..HEAD_MAX])?;
        ensure!(n > 0, "{target}: the connection was closed");
        filled += n;
        if let Some(end) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let bytes = content_length(&buffer[..body]).with_context(|| target.to_owned())?;
    if body == filled && bytes > 0 {
        filled += stream.read(&mut buffer[filled..])?;
    }
    let first_byte = start.elapsed();
    let mut received = (filled - body) as u64;
    sink(&buffer[body..filled]);
    while until == Until::End && received < bytes {
        let n = stream.read(&mut buffer)?;
        ensure!(n > 0, "{target}: {received} bytes of {bytes}");
        received += n as u64;
        sink(&buffer[..n]);
    }
    Ok(Got { first_byte, all: start.elapsed(), bytes: received })
}

/// The length in the head of a 200.
fn content_length(head: &[u8]) -> Result<u64> {
    let head = String::from_utf8_lossy(head);
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.split(' ').nth(1) == Some("200"), "{status}");
    let lengths = head.lines().filter_map(|line| line.split_once(':'));
    let length = lengths
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| value)
        .next();
    length.context("no Content-Length")?.trim().parse().context("Content-Length")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn serve(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(answer).unwrap();
        });
        address
    }

    #[test]
    fn the_whole_body_or_an_error() {
        let mut body = Vec::new();
        let address = serve(b"HTTP/1.1 200 OK\r\ncontent-Length: 5\r\n\r\nabcde");
        let got = get(address, "/x", Until::End, |part| body.extend_from_slice(part)).unwrap();
        assert_eq!((got.bytes, &body[..]), (5, &b"abcde"[..]));
        assert!(got.first_byte <= got.all);
        for bad in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcde"[..],
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\n\r\nabcde",
            b"HTTP/1.1 200 OK\r\n",
        ] {
            assert!(get(serve(bad), "/x", Until::End, |_| ()).is_err());
        }
    }
}
