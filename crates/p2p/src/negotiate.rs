//! Agreeing on a protocol as libp2p does: multistream-select 1.0 (libp2p specification, "Connection establishment").
//!
//! Each message is its length as a varint, text, and a line feed. Ours are short, so the length is one byte. Nothing is
//! read beyond the last message, so the stream itself goes on to TLS, with nothing wrapped around it.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const HEADER: &str = "/multistream/1.0.0";
const NOT_AVAILABLE: &str = "na";
/// How many protocols a dialer may try.
const PROPOSALS_MAX: usize = 4;
/// The longest message that fits a one-byte varint.
const MESSAGE_MAX: u8 = 127;

/// Proposes `protocol` and waits for the listener's consent.
pub(crate) async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    protocol: &str,
) -> io::Result<()> {
    let mut proposal = message(HEADER);
    proposal.extend(message(protocol));
    stream.write_all(&proposal).await?;
    stream.flush().await?;
    if read(stream).await? != HEADER.as_bytes() {
        return Err(bad("no multistream-select"));
    }
    if read(stream).await? != protocol.as_bytes() {
        return Err(bad("the listener does not speak the protocol"));
    }
    Ok(())
}

/// Waits until the dialer proposes `protocol`.
pub(crate) async fn listen<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    protocol: &str,
) -> io::Result<()> {
    if read(stream).await? != HEADER.as_bytes() {
        return Err(bad("no multistream-select"));
    }
    stream.write_all(&message(HEADER)).await?;
    for _ in 0..PROPOSALS_MAX {
        let agreed = read(stream).await? == protocol.as_bytes();
        stream.write_all(&message(if agreed { protocol } else { NOT_AVAILABLE })).await?;
        stream.flush().await?;
        if agreed {
            return Ok(());
        }
    }
    Err(bad("the dialer does not speak the protocol"))
}

fn message(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len() + 1).expect("our protocol names are short");
    debug_assert!(len <= MESSAGE_MAX);
    let mut bytes = vec![len];
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(b'\n');
    bytes
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let len = stream.read_u8().await?;
    if len == 0 || len > MESSAGE_MAX {
        return Err(bad("a message of unexpected length"));
    }
    let mut bytes = vec![0; usize::from(len)];
    stream.read_exact(&mut bytes).await?;
    if bytes.pop() != Some(b'\n') {
        return Err(bad("a message without its line feed"));
    }
    Ok(bytes)
}

fn bad(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn agrees_and_leaves_what_follows() {
        let (mut near, mut far) = tokio::io::duplex(256);
        let (dialed, listened) = tokio::join!(
            async {
                dial(&mut near, "/a/1").await?;
                near.write_all(b"more").await
            },
            async {
                listen(&mut far, "/a/1").await?;
                let mut more = [0; 4];
                far.read_exact(&mut more).await.map(|_| more)
            }
        );
        dialed.unwrap();
        assert_eq!(&listened.unwrap(), b"more");
    }

    #[tokio::test]
    async fn another_protocol_is_an_error_on_both_sides() {
        let (mut near, mut far) = tokio::io::duplex(256);
        let (dialed, listened) = tokio::join!(
            async {
                let result = dial(&mut near, "/a/1").await;
                drop(near);
                result
            },
            listen(&mut far, "/b/1")
        );
        assert_eq!(dialed.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(listened.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn garbage_is_an_error() {
        for garbage in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0], &[0xff, 0xff, 0x7f], &[3, b'a', b'b', b'c'], &[]]
        {
            let (mut near, mut far) = tokio::io::duplex(256);
            near.write_all(garbage).await.unwrap();
            drop(near);
            assert!(listen(&mut far, "/a/1").await.is_err(), "{garbage:?}");
        }
    }

    #[tokio::test]
    async fn proposals_without_end_are_cut_off() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        near.write_all(&message(HEADER)).await.unwrap();
        for _ in 0..10 {
            near.write_all(&message("/x")).await.unwrap();
        }
        assert_eq!(listen(&mut far, "/a/1").await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
