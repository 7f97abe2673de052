//! Checkers that neither core could do for itself, and what is said when a run fails.

mod crossings;
mod lapsed;
mod leases;
mod reported;

use crate::world::World;
use crossings::Crossings;
use lapsed::Lapsed;
use leases::Leases;
use reported::Reported;
use std::collections::BTreeMap;
use std::time::Duration;
use types::{BlobKey, HostBody, HostId, SchedulerBody, Timestamp};

/// What passes between hosts and the scheduler, watched from outside.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    reported: Reported,
    leases: Leases,
    lapsed: Lapsed,
    crossings: Crossings,
}

impl Watch {
    /// A host's stream begins.
    pub(crate) fn joins(&mut self, host: HostId, zone: usize) {
        self.leases.gone(host);
        self.lapsed.gone(host);
        self.crossings.stands_in(host, zone);
    }

    /// The scheduler is about to hear that a host's stream has ended.
    pub(crate) fn leaves(&mut self, host: HostId) {
        self.leases.gone(host);
        self.lapsed.gone(host);
    }

    /// The scheduler has heard that a host's stream has ended, or begins anew. What was due before may have been decided
    /// on what the host had reported.
    pub(crate) fn forgets(&mut self, host: HostId) {
        self.reported.gone(host);
        self.crossings.gone(host);
    }

    /// Somebody is lied to, or lies.
    pub(crate) fn disturb(&mut self) {
        self.crossings.disturb();
    }

    /// The scheduler is another.
    pub(crate) fn restarts(&mut self) {
        self.reported = Reported::default();
        self.leases.forget();
        self.lapsed = Lapsed::default();
    }

    /// A message comes to the scheduler.
    pub(crate) fn heard(&mut self, now: Timestamp, host: HostId, key: &BlobKey, body: &HostBody) {
        self.reported.heard(host, key, body);
        self.leases.heard(host, key, body);
        self.lapsed.heard(host, key, body);
        self.crossings.heard(now, host, key, body);
    }

    /// The scheduler says something, `patience` being how long a host waits before a piece may cross again.
    pub(crate) fn told(
        &mut self,
        (now, patience): (Timestamp, Duration),
        host: HostId,
        key: &BlobKey,
        body: &SchedulerBody,
    ) {
        self.reported.told(host, key, body);
        self.leases.told(host, key, body);
        self.lapsed.told(host, key, body);
        self.crossings.told((now, patience), host, key, body, &self.reported);
    }

    /// All that followed from a message about a blob has been said.
    pub(crate) fn settled(&self, key: &BlobKey) {
        self.leases.check(key);
    }

    /// How often a lease was taken over, by what ended the one before.
    pub(crate) fn takeovers(&self) -> &BTreeMap<&'static str, u64> {
        &self.leases.takeovers
    }
}

impl World {
    /// Ends a run that does not end by itself, saying how things stand.
    pub(crate) fn give_up(&self, why: &str) -> ! {
        let mut text = format!("{why}, at {}, seed {}\n", self.now, self.settings.seed);
        let summary = self.scheduler.core.summary();
        for blob in &summary.blobs {
            text += &format!("  {blob:?}\n");
        }
        for host in &summary.hosts {
            text += &format!("  {host:?}\n");
        }
        for (number, host) in self.hosts.iter().enumerate() {
            text += &format!("host {number} {} alive {} link {:?}\n", host.id, host.alive, host.link);
            for (blob, place) in
                host.places.iter().enumerate().filter(|(_, p)| p.clients.iter().any(|c| !c.done))
            {
                let held = place.stored.pieces();
                text += &format!("  blob {blob}: stored {held:?} clients {:?}\n", place.clients);
                if let Some(running) = &place.running {
                    let next = running.core.next_deadline();
                    text += &format!("    deadline {next:?} fetches {:?}\n", running.fetches);
                    text += &format!("    reads {:?} {:?}\n", running.reads, running.core);
                }
            }
        }
        text += &format!("  {:?}\n  last in the queue: {:?}\n", summary.counters, self.queue.latest());
        panic!("{text}");
    }
}
