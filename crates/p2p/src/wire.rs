//! The frames of the bulk protocol, version 1. All numbers are big-endian; every length is checked before its bytes
//! are read.
//!
//! ```text
//! hello    version u16 | ticket length u16 | ticket                    once, from each side, first
//! request  length u16 | kind u8 | algorithm u8 | digest | size u64 | piece length u32 | piece u32
//!          | extras length u16 | extras
//! extra    tag u8 | length u8 | bytes
//! answer   status u8 | length u32 | bytes
//! ```
//!
//! The ticket proves membership (`membership::Ticket`); it is empty where none is needed. An extra tells what can be left
//! out: tag 1 is the span of a trace for which the child asks (`types::TraceContext`). Extras of unknown tags are passed
//! over, and so is what is no list of extras. A peer of before there were extras passes over all of them: it has one field
//! there, kept for a grant that was never issued, of which it looks at the length alone.

use crate::{PieceRequest, ProtocolError, Refusal};
use membership::TicketError;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};
use types::{Algorithm, Digest, PieceIndex, TraceContext};

/// The newest version that we speak, and the oldest.
pub(crate) const VERSION: u16 = 1;
/// The longest ticket, in bytes.
pub(crate) const TICKET_MAX: u16 = 4096;
/// The longest request without its length, in bytes.
pub(crate) const REQUEST_MAX: u16 = 512;
/// The length of an answer's head.
pub(crate) const ANSWER_HEAD: usize = 5;

const KIND_PIECE: u8 = 1;
const SHA256: u8 = 1;
const SHA512: u8 = 2;
/// The head of the extra that tells a trace: its tag and its length.
const TRACE: [u8; 2] = [1, 24];
const _: () = assert!(TRACE[1] as usize == TraceContext::LEN);

/// A frame did not arrive whole, or breaks the rules.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("the peer shows {0}")]
    Ticket(#[from] TicketError),
}

/// Our hello with our ticket.
pub(crate) fn hello(ticket: &[u8]) -> Vec<u8> {
    [&VERSION.to_be_bytes()[..], &ticket_frame(ticket)].concat()
}

/// A ticket behind its length. One that is too long, which none is, would be left out.
pub(crate) fn ticket_frame(ticket: &[u8]) -> Vec<u8> {
    let len = u16::try_from(ticket.len()).ok().filter(|len| *len <= TICKET_MAX);
    let (len, ticket) = len.map_or((0, &[][..]), |len| (len, ticket));
    [&len.to_be_bytes(), ticket].concat()
}

/// Reads the other side's hello; its ticket is the caller's to check.
pub(crate) async fn read_hello<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, FrameError> {
    let version = stream.read_u16().await?;
    if version < VERSION {
        return Err(ProtocolError::Version { theirs: version, ours: VERSION }.into());
    }
    let len = stream.read_u16().await?;
    if len > TICKET_MAX {
        return Err(
            ProtocolError::TooLong { frame: "ticket", len: len.into(), max: TICKET_MAX.into() }.into()
        );
    }
    let mut ticket = vec![0; usize::from(len)];
    stream.read_exact(&mut ticket).await?;
    Ok(ticket)
}

/// A request's frame.
pub(crate) fn request(request: &PieceRequest) -> Vec<u8> {
    let mut frame = vec![0, 0, KIND_PIECE];
    frame.push(match request.digest.algorithm() {
        Algorithm::Sha256 => SHA256,
        Algorithm::Sha512 => SHA512,
    });
    frame.extend(request.digest.as_bytes());
    frame.extend(request.size.to_be_bytes());
    frame.extend(request.piece_len.to_be_bytes());
    frame.extend(request.piece.0.to_be_bytes());
    let extras = request.trace.map_or_else(Vec::new, |trace| [&TRACE[..], &trace.to_bytes()].concat());
    frame.extend(u16::try_from(extras.len()).expect("one extra at most").to_be_bytes());
    frame.extend(extras);
    let len = u16::try_from(frame.len() - 2).expect("a request has at most 110 bytes");
    frame[..2].copy_from_slice(&len.to_be_bytes());
    frame
}

/// Reads the length of the next request; nothing if the other side has closed between two requests.
pub(crate) async fn read_request_len<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Result<Option<u16>, FrameError> {
    let mut first = [0];
    if stream.read(&mut first).await? == 0 {
        return Ok(None);
    }
    let len = u16::from_be_bytes([first[0], stream.read_u8().await?]);
    if len > REQUEST_MAX {
        return Err(
            ProtocolError::TooLong { frame: "request", len: len.into(), max: REQUEST_MAX.into() }.into()
        );
    }
    Ok(Some(len))
}

/// Reads the rest of a request of `len` bytes; the inner error is one to answer.
pub(crate) async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut S,
    len: u16,
) -> io::Result<Result<PieceRequest, Refusal>> {
    let mut bytes = [0; REQUEST_MAX as usize];
    let bytes = &mut bytes[..usize::from(len.min(REQUEST_MAX))];
    stream.read_exact(bytes).await?;
    Ok(parse_request(bytes).ok_or(Refusal::Malformed))
}

fn parse_request(bytes: &[u8]) -> Option<PieceRequest> {
    let (&[kind, algorithm], rest) = bytes.split_first_chunk()?;
    let algorithm = match algorithm {
        SHA256 => Algorithm::Sha256,
        SHA512 => Algorithm::Sha512,
        _ => return None,
    };
    let (digest, rest) = rest.split_at_checked(algorithm.digest_len())?;
    let (size, rest) = rest.split_first_chunk()?;
    let (piece_len, rest) = rest.split_first_chunk()?;
    let (piece, rest) = rest.split_first_chunk()?;
    let (extras_len, extras) = rest.split_first_chunk()?;
    let request = PieceRequest {
        digest: Digest::new(algorithm, digest).ok()?,
        size: u64::from_be_bytes(*size),
        piece_len: u32::from_be_bytes(*piece_len),
        piece: PieceIndex(u32::from_be_bytes(*piece)),
        trace: trace_among(extras),
    };
    let whole = usize::from(u16::from_be_bytes(*extras_len)) == extras.len();
    (kind == KIND_PIECE && whole && request.layout().is_some()).then_some(request)
}

/// The span among these extras, if a good one is there.
fn trace_among(mut extras: &[u8]) -> Option<TraceContext> {
    while let Some((&[tag, len], rest)) = extras.split_first_chunk() {
        let (bytes, rest) = rest.split_at_checked(len.into())?;
        if tag == TRACE[0] {
            return TraceContext::from_bytes(bytes);
        }
        extras = rest;
    }
    None
}

/// The head of an answer: a piece of `Ok(length)` bytes, or a refusal.
pub(crate) fn answer(answer: Result<u32, Refusal>) -> [u8; ANSWER_HEAD] {
    let (status, len) = match answer {
        Ok(len) => (0, len),
        Err(Refusal::NotHeld) => (1, 0),
        Err(Refusal::Busy) => (2, 0),
        Err(Refusal::NotAllowed) => (3, 0),
        Err(Refusal::Malformed) => (4, 0),
    };
    let [a, b, c, d] = u32::to_be_bytes(len);
    [status, a, b, c, d]
}

/// Reads the head of an answer to a request for `expected` bytes: whether they follow.
pub(crate) fn parse_answer(
    head: [u8; ANSWER_HEAD],
    expected: u32,
) -> Result<Result<(), Refusal>, ProtocolError> {
    let [status, len @ ..] = head;
    let got = u32::from_be_bytes(len);
    let refusal = match status {
        0 if got == expected => return Ok(Ok(())),
        0 => return Err(ProtocolError::Length { expected, got }),
        1 => Refusal::NotHeld,
        2 => Refusal::Busy,
        3 => Refusal::NotAllowed,
        4 => Refusal::Malformed,
        value => return Err(ProtocolError::Unknown { field: "status", value }),
    };
    if got == 0 { Ok(Err(refusal)) } else { Err(ProtocolError::Length { expected: 0, got }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(algorithm: Algorithm) -> PieceRequest {
        let digest = Digest::new(algorithm, &vec![7; algorithm.digest_len()]).unwrap();
        PieceRequest { digest, size: 10_000_000, piece_len: 1 << 20, piece: PieceIndex(9), trace: None }
    }

    async fn read(frame: &[u8]) -> Result<Result<PieceRequest, Refusal>, FrameError> {
        let mut stream = frame;
        let len = read_request_len(&mut stream).await?.expect("not the end");
        let request = read_request(&mut stream, len).await?;
        assert!(stream.is_empty(), "read to the end");
        Ok(request)
    }

    #[tokio::test]
    async fn requests_come_back_as_they_were() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for trace in [None, TraceContext::new([0xab; 16], [0xcd; 8])] {
                let sent = PieceRequest { trace, ..example(algorithm) };
                let frame = request(&sent);
                assert!(frame.len() <= 112, "{} bytes", frame.len());
                assert_eq!(read(&frame).await.unwrap(), Ok(sent));
            }
        }
    }

    #[tokio::test]
    async fn bad_requests_are_refused() {
        let good = request(&example(Algorithm::Sha256));
        let set = |at: usize, to: &[u8]| {
            let mut frame = good.clone();
            frame[at..at + to.len()].copy_from_slice(to);
            frame
        };
        let cases = [
            ("kind", set(2, &[9])),
            ("algorithm", set(3, &[3])),
            ("size beyond the limit", set(36, &u64::MAX.to_be_bytes())),
            ("empty blob", set(36, &0u64.to_be_bytes())),
            ("piece length no power of two", set(44, &1_000_000u32.to_be_bytes())),
            ("piece length zero", set(44, &0u32.to_be_bytes())),
            ("piece too long", set(44, &(1u32 << 30).to_be_bytes())),
            ("no such piece", set(48, &10u32.to_be_bytes())),
            ("extras longer than the frame", set(52, &1u16.to_be_bytes())),
            ("empty", vec![0, 0]),
        ];
        for (what, frame) in cases {
            assert_eq!(read(&frame).await.unwrap(), Err(Refusal::Malformed), "{what}");
        }
        for cut in 1..good.len() {
            assert!(matches!(read(&good[..cut]).await, Err(FrameError::Io(_))), "cut at {cut}");
        }
        let long = set(0, &(REQUEST_MAX + 1).to_be_bytes());
        assert!(matches!(read(&long).await, Err(FrameError::Protocol(ProtocolError::TooLong { .. }))));
    }

    /// A request with these bytes for extras.
    fn with_extras(request_for: &PieceRequest, extras: &[u8]) -> Vec<u8> {
        let mut frame = request(request_for);
        let at = frame.len() - 2;
        frame[at..].copy_from_slice(&u16::try_from(extras.len()).unwrap().to_be_bytes());
        frame.extend(extras);
        let len = u16::try_from(frame.len() - 2).unwrap();
        frame[..2].copy_from_slice(&len.to_be_bytes());
        frame
    }

    #[tokio::test]
    async fn what_an_extra_is_not_known_for_does_not_matter() {
        let sent = example(Algorithm::Sha256);
        let trace = TraceContext::new([1; 16], [2; 8]).unwrap();
        let told = [&TRACE[..], &trace.to_bytes()].concat();
        let nobody = [&TRACE[..], &[0; 24]].concat();
        let unknown = [9, 3, b'a', b'b', b'c'];
        let cases = [
            (b"grant".to_vec(), None),
            (vec![1], None),
            (vec![1, 24], None),
            (vec![1, 2, 3, 4], None),
            (nobody, None),
            (unknown.to_vec(), None),
            (told.clone(), Some(trace)),
            ([&unknown[..], &told, &unknown].concat(), Some(trace)),
            (vec![7; 400], None),
        ];
        for (extras, trace) in cases {
            let frame = with_extras(&sent, &extras);
            assert_eq!(read(&frame).await.unwrap(), Ok(PieceRequest { trace, ..sent }), "{extras:?}");
        }
    }

    #[tokio::test]
    async fn hellos_are_bounded() {
        assert_eq!(read_hello(&mut &hello(b"ticket")[..]).await.unwrap(), b"ticket");
        assert_eq!(read_hello(&mut &hello(&[])[..]).await.unwrap(), b"");
        let mut later = vec![0, 9, 0, 3];
        later.extend(b"abc");
        assert_eq!(read_hello(&mut &later[..]).await.unwrap(), b"abc");
        let old = read_hello(&mut &[0u8, 0, 0, 0][..]).await.unwrap_err();
        assert!(matches!(old, FrameError::Protocol(ProtocolError::Version { theirs: 0, ours: VERSION })));
        let long = read_hello(&mut &[0u8, 1, 0xff, 0xff][..]).await.unwrap_err();
        assert!(matches!(long, FrameError::Protocol(ProtocolError::TooLong { frame: "ticket", .. })));
    }

    #[test]
    fn answers_come_back_as_they_were() {
        assert_eq!(parse_answer(answer(Ok(77)), 77), Ok(Ok(())));
        for refusal in [Refusal::NotHeld, Refusal::Busy, Refusal::NotAllowed, Refusal::Malformed] {
            assert_eq!(parse_answer(answer(Err(refusal)), 77), Ok(Err(refusal)));
        }
        for wrong in [0, 76, 78, u32::MAX] {
            let error = ProtocolError::Length { expected: 77, got: wrong };
            assert_eq!(parse_answer(answer(Ok(wrong)), 77), Err(error));
        }
        let unknown = ProtocolError::Unknown { field: "status", value: 200 };
        assert_eq!(parse_answer([200, 0, 0, 0, 0], 77), Err(unknown));
        assert!(parse_answer([1, 0, 0, 0, 1], 77).is_err(), "a refusal with bytes");
    }
}
