//! A read buffer under TLS. The TLS library reads 4 KiB at a time; read ahead by more, it makes a sixteenth of the
//! system calls. The buffer is as large as the traffic needs: small while requests come, large while a piece comes, and
//! none while a connection is idle in the pool.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// While requests and heads of answers come, in bytes.
const SMALL: usize = 4 * 1024;
/// While a piece comes, in bytes: eight TLS records.
const LARGE: usize = 128 * 1024;

/// A stream whose reads go through a buffer; writes pass.
#[derive(Debug)]
pub struct ReadAhead<S> {
    inner: S,
    /// What has been read from `inner` is `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How large the next buffer is.
    size: usize,
}

impl<S> ReadAhead<S> {
    /// Nothing is allocated before the first read.
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner, buffer: Vec::new(), start: 0, end: 0, size: SMALL }
    }

    /// A piece is about to come.
    pub(crate) const fn expect_piece(&mut self) {
        self.size = LARGE;
    }

    /// Nothing is expected: gives the buffer back if it is empty.
    pub(crate) fn rest(&mut self) {
        self.size = SMALL;
        if self.start == self.end {
            self.buffer = Vec::new();
            (self.start, self.end) = (0, 0);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.start == this.end {
            if this.buffer.len() < this.size {
                this.buffer = vec![0; this.size];
            }
            // A future that is dropped here leaves the buffer empty.
            (this.start, this.end) = (0, 0);
            let mut read = ReadBuf::new(&mut this.buffer);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut read))?;
            this.end = read.filled().len();
        }
        let n = buf.remaining().min(this.end - this.start);
        buf.put_slice(&this.buffer[this.start..this.start + n]);
        this.start += n;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn passes_everything_in_order_in_any_size() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let sent: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(700_000).collect();
        let (near, mut far) = tokio::io::duplex(60_000);
        let writing = tokio::spawn({
            let sent = sent.clone();
            async move { far.write_all(&sent).await }
        });
        let mut stream = ReadAhead::new(near);
        let mut got = Vec::new();
        while got.len() < sent.len() {
            match rng.u8(..8) {
                0 => stream.expect_piece(),
                1 => stream.rest(),
                _ => {}
            }
            let mut part = vec![0; rng.usize(1..9_000)];
            let n = stream.read(&mut part).await.unwrap();
            got.extend_from_slice(&part[..n]);
        }
        writing.await.unwrap().unwrap();
        assert!(got == sent, "bytes differ");
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "the end is passed on");
        stream.rest();
        assert_eq!(stream.buffer.capacity(), 0, "an idle stream has no buffer");
    }
}
