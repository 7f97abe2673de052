//! Reading: hash what was not hashed lately, then hand out the bytes.
//!
//! Checking reads a piece in parts through one small buffer, whatever the piece's length, and the bytes are read again
//! from the page cache for the caller: a few percent of what the hash costs, and only at a piece's first read.

use crate::entry::{Entry, Verdict};
use crate::inner::Inner;
use crate::{READ_LEN, READ_LEN_MAX, StoreError};
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;
use types::{ByteRange, PieceHash, PieceIndex};

/// Linux's error number for a failed disk. What can only be read with it cannot be read at all.
const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

impl Inner {
    /// Checks those of `pieces` that have to be, so that their bytes may be read. All must be held.
    pub(crate) fn check(
        &self,
        entry: &Arc<Entry>,
        file: &File,
        pieces: Range<u32>,
    ) -> Result<(), StoreError> {
        let now = Instant::now();
        let reverify_after = self.options.reverify_after;
        while let Some(piece) = entry.due(pieces.clone(), now, reverify_after)? {
            self.check_piece(entry, file, piece, now)?;
        }
        Ok(())
    }

    fn check_piece(
        &self,
        entry: &Arc<Entry>,
        file: &File,
        piece: PieceIndex,
        now: Instant,
    ) -> Result<(), StoreError> {
        let link = entry.link(piece)?;
        let hash = PieceHash::new(entry.layout, piece, link.before);
        let good = match self.hash(file, entry.layout.range(piece), hash) {
            Ok(hash) => hash.finish()? == link.after,
            Err(error) if is_lost(&error) => false,
            Err(error) => return Err(StoreError::io("reading a blob's file")(error)),
        };
        if entry.verdict(piece, &link, good, now) == Verdict::Removed {
            let digest = entry.digest;
            tracing::warn!(%digest, %piece, "a piece has changed on the disk, discarding it");
            self.options.metrics.verification_failures.inc();
            // Nobody listens: nobody has to be told.
            let _ = self.lost.send(digest);
            if let Err(error) = self.save(entry) {
                tracing::warn!(%digest, error = &error as &dyn std::error::Error, "a discarded piece is not recorded yet");
            }
            return Err(StoreError::Corrupt { digest, piece });
        }
        Ok(())
    }

    fn hash(&self, file: &File, range: ByteRange, mut hash: PieceHash) -> io::Result<PieceHash> {
        let mut buffer = self.pool.take();
        let mut at = range.start();
        while at < range.end() {
            let len = READ_LEN.min(range.end() - at);
            hash.update(buffer.fill(file, at, as_len(len))?);
            at += len;
        }
        self.options.metrics.verified_bytes.inc_by(range.len());
        Ok(hash)
    }

    /// Reads bytes whose pieces are held and checked and that the kernel has in memory; nothing if any of that is not
    /// so. It does not wait for the disk: a thread switch would cost more than the copy.
    pub(crate) fn read_now(&self, entry: &Entry, file: &File, range: ByteRange) -> Option<Bytes> {
        if self.is_closed() || range.len() > READ_LEN {
            return None;
        }
        let due = entry.due(entry.layout.pieces_of(range), Instant::now(), self.options.reverify_after);
        match due {
            Ok(None) => self.pool.read_now(file, range.start(), as_len(range.len())),
            _ => None,
        }
    }

    /// Reads bytes of one piece or of several whose check has passed, or is not wanted.
    pub(crate) fn read(&self, file: &File, range: ByteRange) -> Result<Bytes, StoreError> {
        let read = self.pool.read(file, range.start(), as_len(range.len()));
        read.map_err(StoreError::io("reading a blob's file"))
    }
}

/// A length that fits into memory.
fn as_len(len: u64) -> usize {
    #[allow(clippy::cast_possible_truncation, reason = "callers limit it to a piece or to READ_LEN_MAX")]
    {
        len as usize
    }
}

/// Whether the bytes are lost: the file is too short, or the disk is broken there.
fn is_lost(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(EIO)
}

/// Checks that a caller's range lies in the blob and is not too long.
pub(crate) fn validate(entry: &Entry, range: ByteRange, len_max: Option<u64>) -> Result<(), StoreError> {
    if range.end() > entry.layout.size() || len_max.is_some_and(|len_max| range.len() > len_max) {
        return Err(StoreError::Range { digest: entry.digest, range });
    }
    Ok(())
}

/// The limit of one read.
pub(crate) const ONE_READ: Option<u64> = Some(READ_LEN_MAX);
