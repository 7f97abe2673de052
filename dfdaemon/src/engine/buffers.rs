//! Buffers for pieces that are on their way into the store, used again: an allocator that gets megabytes on one thread
//! and has them given back on another keeps several times what is in use.

use bytes::Bytes;
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much idle buffers hold together, in bytes: as many pieces of 2 MiB as one download transfers at once, or two of
/// the longest pieces.
const IDLE_MAX: usize = 32 << 20;

/// Shorter buffers are left to the allocator.
const POOLED_MIN: usize = 128 << 10;

/// The idle buffers; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Idle>>);

/// Those that came back last at the end.
#[derive(Default)]
struct Idle {
    buffers: VecDeque<Vec<u8>>,
    /// The sum of their capacities.
    bytes: usize,
}

/// A buffer on loan.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Buffers {
    /// An empty buffer with room for `len` bytes.
    pub(crate) fn take(&self, len: u32) -> Buffer {
        let len = len as usize;
        let bytes = self.idle().take(len).unwrap_or_else(|| Vec::with_capacity(len));
        Buffer { bytes, home: self.clone() }
    }

    /// Gives the idle buffers back to the allocator.
    pub(crate) fn release(&self) {
        let released = std::mem::take(&mut *self.idle());
        drop(released);
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        let last = self.buffers.iter().rposition(|buffer| buffer.capacity() >= len)?;
        let buffer = self.buffers.remove(last)?;
        self.bytes -= buffer.capacity();
        Some(buffer)
    }

    /// Keeps a buffer, and lets those go that have been idle for longest.
    fn put(&mut self, mut buffer: Vec<u8>) {
        if !(POOLED_MIN..=IDLE_MAX).contains(&buffer.capacity()) {
            return;
        }
        buffer.clear();
        self.bytes += buffer.capacity();
        self.buffers.push_back(buffer);
        while self.bytes > IDLE_MAX {
            let Some(oldest) = self.buffers.pop_front() else { return };
            self.bytes -= oldest.capacity();
        }
    }
}

impl Buffer {
    /// What was written; the buffer comes back with the last clone.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.home.idle().put(bytes);
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.idle();
        write!(f, "Buffers({} idle, {} bytes)", idle.buffers.len(), idle.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(buffers: &Buffers) -> (usize, usize) {
        let idle = buffers.idle();
        assert_eq!(idle.bytes, idle.buffers.iter().map(Vec::capacity).sum::<usize>());
        (idle.buffers.len(), idle.bytes)
    }

    #[test]
    fn a_buffer_comes_back_with_its_last_clone_and_empty() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(1 << 20);
        buffer.extend_from_slice(b"piece");
        let at = buffer.as_ptr();
        let bytes = buffer.freeze();
        let clone = bytes.clone();
        drop(bytes);
        assert_eq!((&clone[..], idle(&buffers).0), (&b"piece"[..], 0));
        drop(clone);
        assert_eq!(idle(&buffers).0, 1);
        let again = buffers.take(200_000);
        assert!(again.is_empty() && again.as_ptr() == at, "the same memory, though less is asked for");
        assert!(buffers.take(1 << 20).as_ptr() != at, "on loan once");
    }

    #[test]
    fn little_is_kept_and_the_oldest_goes_first() {
        let buffers = Buffers::default();
        drop(buffers.take(1000));
        drop(buffers.take(u32::try_from(IDLE_MAX).unwrap() + 1));
        assert_eq!(idle(&buffers), (0, 0), "too short and too long");
        let small: Vec<_> = (0..8).map(|_| buffers.take(2 << 20)).collect();
        let large: Vec<_> = (0..2).map(|_| buffers.take(16 << 20)).collect();
        drop(small);
        assert_eq!(idle(&buffers), (8, 16 << 20));
        drop(large);
        assert_eq!(idle(&buffers), (2, IDLE_MAX));
        buffers.release();
        assert_eq!(idle(&buffers), (0, 0));
    }
}
