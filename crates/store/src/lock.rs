//! Locking that goes on after a panic elsewhere.
//!
//! Every critical section here leaves its data whole between any two statements that can panic, so a poisoned mutex
//! says nothing about them. No lock is held across an await, and only `Inner::space` and `Inner::syncing` are held
//! across disk I/O, on blocking threads. Order, outermost first: `space`, `syncing`, `index` or `retained`, an entry, the others.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
