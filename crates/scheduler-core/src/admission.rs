//! How many blobs of one registry are begun at a time.
//!
//! Sources share what their registry lets through. If all blobs are begun together, the first piece of each comes late and at the
//! same time as all others', and until then no host has anything to pass on. So a few are read at a time, and each that
//! ends lets the next begin. None waits long: a registry may have more for many than for few.

use crate::Scheduler;
use crate::slab::{MemberIx, SwarmIx};
use crate::swarm::Member;
use std::collections::{BTreeMap, BTreeSet};
use types::{Priority, Registry, Timestamp};

/// A blob's place among those that wait: the urgent first, then those that came first.
pub(crate) type Turn = (Priority, Timestamp, SwarmIx);

/// Where a blob waits, and until when at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) registry: Registry,
    pub(crate) turn: Turn,
    pub(crate) until: Timestamp,
}

#[derive(Debug, Default)]
struct Queue {
    reading: BTreeSet<SwarmIx>,
    /// How many of those that are read clients wait for.
    for_clients: usize,
    waiting: BTreeSet<Turn>,
}

/// Who reads from which registry, and who waits to begin.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    queues: BTreeMap<Registry, Queue>,
}

impl Admission {
    /// The blobs of the registry that are being read.
    pub(crate) fn reading(&self, registry: &Registry) -> impl ExactSizeIterator<Item = SwarmIx> + '_ {
        static NONE: BTreeSet<SwarmIx> = BTreeSet::new();
        self.queues.get(registry).map_or(&NONE, |queue| &queue.reading).iter().copied()
    }

    /// How many of them clients wait for.
    pub(crate) fn for_clients(&self, registry: &Registry) -> usize {
        self.queues.get(registry).map_or(0, |queue| queue.for_clients)
    }

    /// A blob is being read from now on, which clients wait for or not. Whether it is the first that they wait for.
    pub(crate) fn begin(&mut self, registry: &Registry, six: SwarmIx, awaited: bool) -> bool {
        let queue = self.queues.entry(registry.clone()).or_default();
        queue.reading.insert(six);
        queue.for_clients += usize::from(awaited);
        awaited && queue.for_clients == 1
    }

    /// A blob is read no more. Whether it was the last that clients waited for.
    pub(crate) fn end(&mut self, registry: &Registry, six: SwarmIx, awaited: bool) -> bool {
        let Some(queue) = self.queues.get_mut(registry) else { return false };
        queue.reading.remove(&six);
        queue.for_clients -= usize::from(awaited);
        let last = awaited && queue.for_clients == 0;
        self.drop_if_empty(registry);
        last
    }

    /// Clients wait from now on for a blob that is being read, or no more. Whether it is the first or was the last.
    pub(crate) fn await_it(&mut self, registry: &Registry, awaited: bool) -> bool {
        let Some(queue) = self.queues.get_mut(registry) else { return false };
        if awaited {
            queue.for_clients += 1;
        } else {
            queue.for_clients -= 1;
        }
        queue.for_clients == usize::from(awaited)
    }

    pub(crate) fn wait(&mut self, waiting: &Waiting) {
        self.queues.entry(waiting.registry.clone()).or_default().waiting.insert(waiting.turn);
    }

    /// Waits no more: it is begun, or nobody wants it.
    pub(crate) fn forget(&mut self, waiting: &Waiting) {
        if let Some(queue) = self.queues.get_mut(&waiting.registry) {
            queue.waiting.remove(&waiting.turn);
            self.drop_if_empty(&waiting.registry);
        }
    }

    /// Whose turn it is.
    pub(crate) fn next(&mut self, registry: &Registry) -> Option<SwarmIx> {
        let next = self.queues.get_mut(registry)?.waiting.pop_first().map(|(.., six)| six);
        self.drop_if_empty(registry);
        next
    }

    fn drop_if_empty(&mut self, registry: &Registry) {
        if self.queues.get(registry).is_some_and(|queue| queue.reading.is_empty() && queue.waiting.is_empty())
        {
            self.queues.remove(registry);
        }
    }

    /// Of each registry: the blobs that are being read, how many of them clients wait for, and the blobs that wait.
    pub(crate) fn all(
        &self,
    ) -> impl Iterator<Item = (&Registry, &BTreeSet<SwarmIx>, usize, &BTreeSet<Turn>)> {
        let queues = self.queues.iter();
        queues.map(|(registry, queue)| (registry, &queue.reading, queue.for_clients, &queue.waiting))
    }
}

impl Scheduler {
    /// Until when a blob that nobody has begun to read waits: the only host for it reads another already, or many are
    /// being read from its registry.
    pub(crate) fn held_back_until(&mut self, six: SwarmIx, source: MemberIx) -> Option<Timestamp> {
        let swarm = &self.swarms[six];
        let demand = swarm.demand.as_deref()?;
        if demand.last_source.is_some() || swarm.learnt {
            return None;
        }
        let Member { host, registry, .. } = &swarm.members[source];
        let until = demand.last_gain + self.options.lease_spread;
        let others_may_come = swarm.wanting < self.hosts.len();
        if self.hosts[*host].leases > 0 && others_may_come && self.now < until {
            return Some(until);
        }
        let is_awaited = swarm.awaiting > 0;
        let wait = if is_awaited { self.options.lease_wait } else { self.options.preheat_wait };
        let for_clients = self.admission.for_clients(registry);
        let ahead = if is_awaited { for_clients } else { self.admission.reading(registry).len() };
        let is_free = ahead < self.options.leases_at_once && (is_awaited || for_clients == 0);
        let until = demand.last_gain + wait;
        if is_free || self.now >= until {
            return None;
        }
        let wants = swarm.members.iter().filter_map(|(_, member)| member.want.as_ref());
        let priority = wants.map(|want| want.priority).min().unwrap_or(Priority::Prefetch);
        let turn = (priority, demand.last_gain, six);
        let waiting = Waiting { registry: registry.clone(), turn, until };
        self.waits_no_more(six);
        self.admission.wait(&waiting);
        if let Some(demand) = self.swarms[six].demand.as_deref_mut() {
            demand.waiting = Some(waiting);
        }
        Some(until)
    }

    /// A blob leaves the row of those that wait to be begun.
    pub(crate) fn waits_no_more(&mut self, six: SwarmIx) {
        let waiting = self.swarms[six].demand.as_deref_mut().and_then(|demand| demand.waiting.take());
        if let Some(waiting) = waiting {
            self.admission.forget(&waiting);
        }
    }

    /// Clients may wait for a blob that is being read from now on, or no more: what else is read from the same registry
    /// gives way, or goes on.
    pub(crate) fn others_give_way(&mut self, six: SwarmIx) {
        let awaited = self.swarms[six].awaiting > 0;
        let Some(lease) = self.lease_mut(six).filter(|lease| lease.awaited != awaited) else { return };
        lease.awaited = awaited;
        let registry = lease.registry.clone();
        if self.admission.await_it(&registry, awaited) {
            self.work.leases.extend(self.admission.reading(&registry));
            self.admit(&registry);
        }
    }

    /// Whether the source is to wait since nobody waits for its blob, and clients wait for another of its registry.
    pub(crate) fn gives_way(&self, six: SwarmIx) -> bool {
        let lease = self.lease(six).filter(|_| self.swarms[six].awaiting == 0);
        lease.is_some_and(|lease| self.admission.for_clients(&lease.registry) > 0)
    }

    /// Lets as many of those that wait for a registry look again as may begin, one at least.
    pub(crate) fn admit(&mut self, registry: &Registry) {
        let free = self.options.leases_at_once.saturating_sub(self.admission.reading(registry).len());
        for _ in 0..free.max(1) {
            let Some(six) = self.admission.next(registry) else { return };
            if let Some(demand) = self.swarms.get_mut(six).and_then(|swarm| swarm.demand.as_deref_mut()) {
                demand.waiting = None;
            }
            self.work.leases.insert(six);
        }
    }
}
