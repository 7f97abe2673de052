//! How many blobs of one registry are begun at a time.
//!
//! Sources share what their registry lets through. If all blobs are begun together, the first piece of each comes late and at the
//! same time as all others', and until then no host has anything to pass on. So a few are read at a time, and each that
//! ends lets the next begin. None waits long: a registry may have more for many than for few.

use crate::slab::SwarmIx;
use std::collections::{BTreeMap, BTreeSet};
use types::{Priority, Registry, Timestamp};

/// A blob's place among those that wait: the urgent first, then those that came first.
pub(crate) type Turn = (Priority, Timestamp, SwarmIx);

#[derive(Debug, Default)]
struct Queue {
    reading: BTreeSet<SwarmIx>,
    waiting: BTreeSet<Turn>,
}

/// Who reads from which registry, and who waits to begin.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    queues: BTreeMap<Registry, Queue>,
}

impl Admission {
    /// The blobs of the registry that are being read.
    pub(crate) fn reading(&self, registry: &Registry) -> impl ExactSizeIterator<Item = SwarmIx> + Clone + '_ {
        static NONE: BTreeSet<SwarmIx> = BTreeSet::new();
        self.queues.get(registry).map_or(&NONE, |queue| &queue.reading).iter().copied()
    }

    pub(crate) fn begin(&mut self, registry: &Registry, six: SwarmIx) {
        self.queues.entry(registry.clone()).or_default().reading.insert(six);
    }

    pub(crate) fn end(&mut self, registry: &Registry, six: SwarmIx) {
        let Some(queue) = self.queues.get_mut(registry) else { return };
        queue.reading.remove(&six);
        if queue.reading.is_empty() && queue.waiting.is_empty() {
            self.queues.remove(registry);
        }
    }

    pub(crate) fn wait(&mut self, registry: &Registry, turn: Turn) {
        self.queues.entry(registry.clone()).or_default().waiting.insert(turn);
    }

    /// Waits no more: it is begun, or nobody wants it.
    pub(crate) fn forget(&mut self, registry: &Registry, turn: &Turn) {
        let Some(queue) = self.queues.get_mut(registry) else { return };
        queue.waiting.remove(turn);
        if queue.reading.is_empty() && queue.waiting.is_empty() {
            self.queues.remove(registry);
        }
    }

    /// Whose turn it is.
    pub(crate) fn next(&mut self, registry: &Registry) -> Option<SwarmIx> {
        let queue = self.queues.get_mut(registry)?;
        let next = queue.waiting.pop_first().map(|(.., six)| six);
        if queue.reading.is_empty() && queue.waiting.is_empty() {
            self.queues.remove(registry);
        }
        next
    }

    /// The blobs of each registry that are being read, and those that wait.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Registry, &BTreeSet<SwarmIx>, &BTreeSet<Turn>)> {
        self.queues.iter().map(|(registry, queue)| (registry, &queue.reading, &queue.waiting))
    }
}
