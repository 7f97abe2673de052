//! The frames' readers and writers without a connection, for `tests/fuzz` alone.
//!
//! A reader gives what it read and how many bytes it took; nothing where a peer would be refused.

use crate::holdings::{self, Codec, Shown};
use crate::{Holdings, PieceRequest, Refusal, negotiate, verifier, wire};
use futures::FutureExt as _;
use libp2p::request_response::Codec as _;
use rustls_pki_types::CertificateDer;
use types::Digest;

/// The longest ticket, in bytes.
pub const TICKET_MAX: usize = wire::TICKET_MAX as usize;

/// What is read from memory, and written to it, is never waited for.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory is always ready")
}

fn read<'a, T, E>(
    bytes: &'a [u8],
    read: impl AsyncFnOnce(&mut &'a [u8]) -> Result<T, E>,
) -> Option<(T, usize)> {
    let mut rest = bytes;
    let value = at_once(read(&mut rest)).ok()?;
    Some((value, bytes.len() - rest.len()))
}

/// A hello: its ticket.
#[must_use]
pub fn read_hello(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    read(bytes, wire::read_hello)
}

/// Our hello.
#[must_use]
pub fn write_hello(ticket: &[u8]) -> Vec<u8> {
    wire::hello(ticket)
}

/// A request for a piece; the inner error is one that is answered.
#[must_use]
pub fn read_request(bytes: &[u8]) -> Option<(Result<PieceRequest, Refusal>, usize)> {
    let (request, used) = read(bytes, async |stream| match wire::read_request_len(stream).await? {
        Some(len) => Ok::<_, wire::FrameError>(Some(wire::read_request(stream, len).await?)),
        None => Ok(None),
    })?;
    Some((request?, used))
}

/// A request for a piece.
#[must_use]
pub fn write_request(request: &PieceRequest) -> Vec<u8> {
    wire::request(request)
}

/// The head of an answer to a request for `expected` bytes: whether they follow.
#[must_use]
pub fn read_answer(head: [u8; wire::ANSWER_HEAD], expected: u32) -> Option<Result<(), Refusal>> {
    wire::parse_answer(head, expected).ok()
}

/// The head of an answer.
#[must_use]
pub fn write_answer(answer: Result<u32, Refusal>) -> [u8; wire::ANSWER_HEAD] {
    wire::answer(answer)
}

/// What a message says, with the ticket that its author shows.
type Ticketed<T> = (Vec<u8>, T);

/// A question for what is held of a blob, and how many bytes it took.
#[must_use]
pub fn read_question(bytes: &[u8]) -> Option<(Ticketed<Digest>, usize)> {
    let (shown, used) = read(bytes, async |io| Codec.read_request(&holdings::PROTOCOL, io).await)?;
    Some(((shown.ticket, shown.said), used))
}

/// A question for what is held of a blob.
#[must_use]
pub fn write_question(ticket: Vec<u8>, said: Digest) -> Vec<u8> {
    let mut frame = Vec::new();
    let shown = Shown { ticket, said };
    at_once(Codec.write_request(&holdings::PROTOCOL, &mut frame, shown)).expect("memory takes everything");
    frame
}

/// What is held of a blob, if it is known, and how many bytes it took to say.
#[must_use]
pub fn read_holdings(bytes: &[u8]) -> Option<(Ticketed<Option<Holdings>>, usize)> {
    let (shown, used) = read(bytes, async |io| Codec.read_response(&holdings::PROTOCOL, io).await)?;
    Some(((shown.ticket, shown.said), used))
}

/// What is held of a blob.
#[must_use]
pub fn write_holdings(ticket: Vec<u8>, said: Option<Holdings>) -> Vec<u8> {
    let mut frame = Vec::new();
    let shown = Shown { ticket, said };
    at_once(Codec.write_response(&holdings::PROTOCOL, &mut frame, shown)).expect("memory takes everything");
    frame
}

/// What a dialer proposes before TLS: whether `protocol` was agreed on, how many bytes that took, and what was answered.
#[must_use]
pub fn listen(bytes: &[u8], protocol: &str) -> (bool, usize, Vec<u8>) {
    let (mut rest, mut said) = (bytes, Vec::new());
    let mut stream = tokio::io::join(&mut rest, &mut said);
    let agreed = at_once(negotiate::listen(&mut stream, protocol)).is_ok();
    (agreed, bytes.len() - rest.len(), said)
}

/// The peer id that a certificate proves, if it does.
#[must_use]
pub fn peer_of_certificate(der: &[u8]) -> Option<Vec<u8>> {
    verifier::peer_id_of(&CertificateDer::from(der)).ok().map(|peer| peer.to_bytes())
}
