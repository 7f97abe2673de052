//! What a member holds of a blob, asked over control: `/damselfly/holdings/2`.
//!
//! ```text
//! request   ticket length u16 | ticket | algorithm u8 | digest
//! answer    ticket length u16 | ticket | known u8 (0: nothing more follows) | size u64 | piece length u32
//!           | number of runs u32 | runs
//! run       first piece u32 | one past the last u32
//! ```
//!
//! All numbers are big-endian. The tickets are those of `wire`; a question with a bad one is not answered. A host without
//! a scheduler finds parents with it. An answer with more runs than fit is cut short: it says what is held, not what is
//! not.

use crate::wire::{TICKET_MAX, ticket_frame};
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec as RequestCodec;
use std::io;
use types::{Algorithm, Digest, PieceLayout, PieceSet};

/// The protocol's name.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/damselfly/holdings/2");
/// The most runs in an answer: 64 KiB.
const RUNS_MAX: usize = 8192;
/// The head of an answer that knows the blob.
const HEAD: usize = 8 + 4 + 4;

/// What a host holds of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// The blob's size and piece length.
    pub layout: PieceLayout,
    /// The verified pieces.
    pub pieces: PieceSet,
}

/// A question or an answer, and the ticket of who says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown<T> {
    pub(crate) ticket: Vec<u8>,
    pub(crate) said: T,
}

/// Reads and writes the frames.
#[derive(Clone, Debug, Default)]
pub(crate) struct Codec;

impl RequestCodec for Codec {
    type Protocol = StreamProtocol;
    type Request = Shown<Digest>;
    type Response = Shown<Option<Holdings>>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Shown<Digest>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let ticket = read_ticket(io).await?;
        let mut algorithm = [0];
        io.read_exact(&mut algorithm).await?;
        let algorithm = match algorithm {
            [1] => Algorithm::Sha256,
            [2] => Algorithm::Sha512,
            _ => return Err(bad("unknown algorithm")),
        };
        let mut digest = [0; 64];
        let digest = &mut digest[..algorithm.digest_len()];
        io.read_exact(digest).await?;
        let said = Digest::new(algorithm, digest).map_err(|_| bad("no digest"))?;
        Ok(Shown { ticket, said })
    }

    async fn read_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Shown<Option<Holdings>>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let ticket = read_ticket(io).await?;
        let mut known = [0];
        io.read_exact(&mut known).await?;
        match known {
            [0] => return Ok(Shown { ticket, said: None }),
            [1] => {}
            _ => return Err(bad("neither known nor unknown")),
        }
        let mut head = [0; HEAD];
        io.read_exact(&mut head).await?;
        let (size, rest) = head.split_first_chunk().ok_or_else(|| bad("no size"))?;
        let (numbers, _) = rest.as_chunks();
        let [piece_len, count] = [0, 1].map(|i| u32::from_be_bytes(numbers[i]));
        let layout =
            PieceLayout::new(u64::from_be_bytes(*size), piece_len).ok_or_else(|| bad("no layout"))?;
        let count = usize::try_from(count).ok().filter(|count| *count <= RUNS_MAX);
        let mut runs = vec![0; count.ok_or_else(|| bad("too many runs"))? * 8];
        io.read_exact(&mut runs).await?;
        let (runs, _) = runs.as_chunks::<8>();
        let runs = runs.iter().map(|run| {
            let number = |i| u32::from_be_bytes(std::array::from_fn(|j| run[i + j]));
            number(0)..number(4)
        });
        let pieces = PieceSet::from_runs(layout.count(), runs).ok_or_else(|| bad("runs out of order"))?;
        Ok(Shown { ticket, said: Some(Holdings { layout, pieces }) })
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        question: Shown<Digest>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let digest = question.said;
        let mut frame = ticket_frame(&question.ticket);
        frame.push(match digest.algorithm() {
            Algorithm::Sha256 => 1,
            Algorithm::Sha512 => 2,
        });
        frame.extend(digest.as_bytes());
        io.write_all(&frame).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        answer: Shown<Option<Holdings>>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let mut frame = ticket_frame(&answer.ticket);
        let Some(Holdings { layout, pieces }) = answer.said else {
            frame.push(0);
            return io.write_all(&frame).await;
        };
        let runs: Vec<_> = pieces.runs().take(RUNS_MAX).collect();
        let count = u32::try_from(runs.len()).map_err(io::Error::other)?;
        frame.push(1);
        frame.extend(layout.size().to_be_bytes());
        frame.extend(layout.piece_len().to_be_bytes());
        frame.extend(count.to_be_bytes());
        for run in runs {
            frame.extend(run.start.to_be_bytes());
            frame.extend(run.end.to_be_bytes());
        }
        io.write_all(&frame).await
    }
}

async fn read_ticket(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    io.read_exact(&mut len).await?;
    let len = u16::from_be_bytes(len);
    if len > TICKET_MAX {
        return Err(bad("too long a ticket"));
    }
    let mut ticket = vec![0; usize::from(len)];
    io.read_exact(&mut ticket).await?;
    Ok(ticket)
}

fn bad(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::io::Cursor;
    use types::PieceIndex;

    async fn through(answer: Option<Holdings>) -> io::Result<Option<Holdings>> {
        let mut wire = Cursor::new(Vec::new());
        let sent = Shown { ticket: b"ticket".to_vec(), said: answer };
        Codec.write_response(&PROTOCOL, &mut wire, sent).await?;
        let got = Codec.read_response(&PROTOCOL, &mut &wire.get_ref()[..]).await?;
        assert_eq!(got.ticket, b"ticket");
        Ok(got.said)
    }

    fn every_other(count: u32) -> Holdings {
        let layout = PieceLayout::new(u64::from(count) * 128, 128).unwrap();
        let mut pieces = PieceSet::empty(count);
        for i in (0..count).step_by(2) {
            pieces.insert(PieceIndex(i));
        }
        Holdings { layout, pieces }
    }

    #[tokio::test]
    async fn answers_come_back_as_they_were() {
        assert_eq!(through(None).await.unwrap(), None);
        for count in [0, 1, 2, 1000, 16_384] {
            let sent = every_other(count);
            assert_eq!(through(Some(sent.clone())).await.unwrap(), Some(sent), "{count} pieces");
        }
    }

    #[tokio::test]
    async fn an_answer_with_too_many_runs_is_cut_short() {
        let sent = every_other(40_000);
        let got = through(Some(sent.clone())).await.unwrap().unwrap();
        assert_eq!(got.pieces.len(), 8192);
        assert!(got.pieces.iter().all(|piece| sent.pieces.contains(piece)));
    }

    #[tokio::test]
    async fn requests_come_back_as_they_were() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::new(algorithm, &vec![5; algorithm.digest_len()]).unwrap();
            let mut wire = Cursor::new(Vec::new());
            let sent = Shown { ticket: b"ticket".to_vec(), said: digest };
            Codec.write_request(&PROTOCOL, &mut wire, sent.clone()).await.unwrap();
            assert_eq!(Codec.read_request(&PROTOCOL, &mut &wire.get_ref()[..]).await.unwrap(), sent);
        }
    }

    #[tokio::test]
    async fn bad_answers_are_errors() {
        let head = |size: u64, piece_len: u32, runs: u32| {
            [&[0, 0, 1][..], &size.to_be_bytes(), &piece_len.to_be_bytes(), &runs.to_be_bytes()].concat()
        };
        let run = |a: u32, b: u32| [a.to_be_bytes(), b.to_be_bytes()].concat();
        let cases = [
            vec![],
            vec![0, 0],
            vec![0, 0, 2],
            vec![0, 0, 1, 0],
            vec![0, 2, 1],
            [&[0x10, 0x01][..], &[0; 5000]].concat(),
            head(u64::MAX, 128, 0),
            head(1280, 100, 0),
            head(1280, 128, u32::MAX),
            head(1280, 128, 8193),
            head(1280, 128, 1),
            [head(1280, 128, 1), run(3, 11)].concat(),
            [head(1280, 128, 1), run(3, 3)].concat(),
            [head(1280, 128, 2), run(3, 5), run(0, 1)].concat(),
        ];
        for case in cases {
            assert!(Codec.read_response(&PROTOCOL, &mut &case[..]).await.is_err(), "{case:?}");
        }
    }
}
