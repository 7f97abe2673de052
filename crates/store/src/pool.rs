//! Read buffers that are used again: a warm blob is streamed through memory that is mapped and in the cache already.

use crate::READ_LEN;
use crate::lock::lock;
use bytes::Bytes;
use rustix::io::ReadWriteFlags;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

/// How many idle buffers are kept: 16 MiB together. Those in use are the callers'.
const IDLE_MAX: usize = 64;

/// The length of a pooled buffer, in bytes.
#[allow(clippy::cast_possible_truncation, reason = "256 KiB")]
const BUFFER_LEN: usize = READ_LEN as usize;

/// Reads shorter than this get a buffer of their own: a pooled one would waste most of its length.
const POOLED_LEN_MIN: usize = BUFFER_LEN / 4;

/// The idle buffers.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Box<[u8]>>>,
}

/// A buffer on loan, `len` bytes of which are filled.
pub(crate) struct Pooled {
    buffer: Box<[u8]>,
    len: usize,
    pool: Arc<Pool>,
}

impl Pool {
    /// A buffer of [`READ_LEN`] bytes, with whatever is in it.
    pub(crate) fn take(self: &Arc<Self>) -> Pooled {
        let idle = lock(&self.idle).pop();
        let buffer = idle.unwrap_or_else(|| vec![0; BUFFER_LEN].into());
        Pooled { buffer, len: 0, pool: Arc::clone(self) }
    }

    /// Reads `len` bytes at `offset` if that takes no wait: the kernel has them in memory.
    pub(crate) fn read_now(self: &Arc<Self>, file: &File, offset: u64, len: usize) -> Option<Bytes> {
        if len > BUFFER_LEN {
            return None;
        }
        let mut pooled = self.take();
        let mut parts = [IoSliceMut::new(&mut pooled.buffer[..len])];
        let read = rustix::io::preadv2(file, &mut parts, offset, ReadWriteFlags::NOWAIT);
        if read != Ok(len) {
            return None;
        }
        if len < POOLED_LEN_MIN {
            return Some(Bytes::copy_from_slice(&pooled.buffer[..len]));
        }
        pooled.len = len;
        Some(Bytes::from_owner(pooled))
    }

    /// Reads `len` bytes at `offset`.
    pub(crate) fn read(self: &Arc<Self>, file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
        if !(POOLED_LEN_MIN..=BUFFER_LEN).contains(&len) {
            return read_vec(file, offset, len).map(Bytes::from);
        }
        let mut pooled = self.take();
        pooled.fill(file, offset, len)?;
        Ok(Bytes::from_owner(pooled))
    }
}

impl Pooled {
    /// Reads `len` bytes at `offset`, at most [`READ_LEN`].
    pub(crate) fn fill(&mut self, file: &File, offset: u64, len: usize) -> io::Result<&[u8]> {
        file.read_exact_at(&mut self.buffer[..len], offset)?;
        self.len = len;
        Ok(&self.buffer[..len])
    }
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        let mut idle = lock(&self.pool.idle);
        if idle.len() < IDLE_MAX {
            idle.push(buffer);
        }
    }
}

/// Reads `len` bytes at `offset` into a new buffer, which is not zeroed first.
fn read_vec(file: &File, mut offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => offset += read as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // The allocator may have given more room than was asked for.
    bytes.truncate(len);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_exact_and_buffers_come_back() {
        let file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..600_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all_at(&content, 0).unwrap();
        let pool = Arc::new(Pool::default());
        for (offset, len) in
            [(0, 0), (5, 1), (7, 70_000), (1, BUFFER_LEN), (3, BUFFER_LEN + 1), (599_000, 1000)]
        {
            let bytes = pool.read(&file, offset as u64, len).unwrap();
            assert!(bytes == content[offset..offset + len], "{offset} {len}");
        }
        assert_eq!(lock(&pool.idle).len(), 1, "both pooled reads used the same buffer");
        let now = pool.read_now(&file, 7, 70_000).unwrap();
        assert!(now == content[7..70_007] && pool.read_now(&file, 0, 10).unwrap() == content[..10]);
        assert!(
            pool.read_now(&file, 599_000, 1001).is_none()
                && pool.read_now(&file, 0, BUFFER_LEN + 1).is_none()
        );
        for len in [1001, 100_000, 400_000] {
            let error = pool.read(&file, 599_000, len).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
