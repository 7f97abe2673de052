//! What goes wrong, and how it is mended.

use crate::settings::Fault;
use crate::store::Stored;
use crate::world::{Happening, World};
use download_core::{Event, LinkState};
use scheduler_core::Scheduler;
use std::time::Duration;
use types::{PieceIndex, PieceSet};

/// How long a daemon listens to a silent scheduler before it calls it so.
const SILENT_AFTER: Duration = Duration::from_secs(2);

impl World {
    pub(crate) fn break_something(&mut self, fault: Fault) {
        self.trace.note(self.now, "fault", 0, &fault);
        match fault {
            Fault::HostDies { host } => self.host_dies(host),
            Fault::HostReturns { host, keeps_store } => self.host_returns(host, keeps_store),
            Fault::HostLeaves { host } => self.host_leaves(host),
            Fault::SourceLeaves => self.source_leaves(),
            Fault::LinkBreaks { host } => self.disconnects(host),
            Fault::SchedulerRestarts { gone } => self.scheduler_dies(gone),
            Fault::SchedulerFreezes { lasts } => self.scheduler_freezes(lasts),
            Fault::OriginFails { why, lasts } => self.origin.failing = Some((why, self.now + lasts)),
            Fault::Corrupts { host, corrupts: true } => self.hosts[host].corrupts = true,
            Fault::Corrupts { host, corrupts: false } => self.repair(host),
            Fault::OriginLies { host, lies } => self.hosts[host].is_lied_to = lies,
            Fault::StoreLoses { host } => self.store_loses(host),
            Fault::ClientsLeave { host, gone } => self.clients_leave(host, gone),
        }
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn mend_everything(&mut self) {
        self.settings.stalls = 0;
        self.origin.failing = None;
        for host in 0..self.hosts.len() {
            self.host_returns(host, true);
            self.hosts[host].is_lied_to = false;
            self.repair(host);
        }
    }

    /// A host that corrupted is repaired and started anew: only so is it asked again for what it had corrupted.
    fn repair(&mut self, host: usize) {
        if std::mem::take(&mut self.hosts[host].corrupts) {
            self.disconnects(host);
        }
    }

    fn host_dies(&mut self, host: usize) {
        if !self.hosts[host].alive {
            return;
        }
        let was_connected = self.hosts[host].link != LinkState::Down;
        let dead = &mut self.hosts[host];
        dead.alive = false;
        dead.incarnation += 1;
        dead.uploads = 0;
        let waited = std::mem::take(&mut dead.waiting);
        dead.link = LinkState::Down;
        dead.session += 1;
        for place in &mut dead.places {
            place.running = None;
            place.clients.iter_mut().for_each(|client| client.reading = false);
        }
        // It is dead already, so that nobody who waits for a slot gets one of those that fall free.
        self.uncarry_host(host);
        for (spot, fetch) in waited {
            let delay = self.delay();
            self.queue.push(self.now + delay, Happening::Unreachable { spot, fetch });
        }
        if was_connected {
            let session = self.hosts[host].session;
            let delay = self.delay();
            self.queue.push(self.now + delay, Happening::HostGone { host, session });
        }
    }

    fn host_leaves(&mut self, host: usize) {
        self.host_dies(host);
        self.hosts[host].left = true;
        self.outcome.completed[host] = Duration::ZERO;
        for client in self.hosts[host].places.iter_mut().flat_map(|place| &mut place.clients) {
            self.unserved -= usize::from(!std::mem::replace(&mut client.done, true));
        }
    }

    fn source_leaves(&mut self) {
        let key = &self.blobs[0].key;
        let blobs = self.scheduler.core.summary().blobs;
        let source = blobs.into_iter().find(|blob| blob.digest == key.digest).and_then(|blob| blob.source);
        if let Some((source, _)) = source {
            self.host_leaves(self.numbers[&source]);
        }
    }

    fn host_returns(&mut self, host: usize, keeps_store: bool) {
        if self.hosts[host].alive || self.hosts[host].left {
            return;
        }
        self.hosts[host].alive = true;
        self.queue.push(self.now, Happening::Connects { host });
        for blob in 0..self.blobs.len() {
            let place = &mut self.hosts[host].places[blob];
            if !keeps_store {
                place.stored = Stored::new(&self.blobs[blob]);
                self.all_want_again(host, blob);
            }
            for client in 0..self.hosts[host].places[blob].clients.len() {
                self.queue.push(self.now, Happening::ClientComes { host, blob, client });
            }
        }
    }

    /// Clients that had what they wanted ask again. Where only this host has a right, the others depend on it.
    fn all_want_again(&mut self, host: usize, blob: usize) {
        let clients = &mut self.hosts[host].places[blob].clients;
        for (client, visitor) in clients.iter_mut().enumerate().filter(|(_, visitor)| visitor.done) {
            visitor.done = false;
            self.unserved += 1;
            self.queue.push(self.now, Happening::ClientComes { host, blob, client });
        }
    }

    fn scheduler_dies(&mut self, gone: Duration) {
        if !self.scheduler.is_up {
            return;
        }
        self.scheduler.is_up = false;
        for host in 0..self.hosts.len() {
            self.disconnects(host);
        }
        self.queue.push(self.now + gone, Happening::SchedulerBack);
    }

    pub(crate) fn scheduler_back(&mut self) {
        let mut options = self.settings.scheduler.clone();
        // A driver may count epochs on, or anew.
        if self.rng.bool() {
            options.first_epoch = self.scheduler.starts * 1_000_000;
        }
        self.scheduler.starts += 1;
        self.scheduler.core = Scheduler::new(options, self.rng.u64(..));
        self.scheduler.watch.restarts();
        self.scheduler.is_up = true;
        self.scheduler.tick_at = None;
        self.tick_scheduler();
    }

    fn scheduler_freezes(&mut self, lasts: Duration) {
        self.scheduler.frozen_until = self.scheduler.frozen_until.max(self.now + lasts);
        self.queue.push(self.now + SILENT_AFTER, Happening::Silent);
        self.queue.push(self.scheduler.frozen_until, Happening::Thaw);
    }

    pub(crate) fn scheduler_is_silent(&mut self) {
        if self.now >= self.scheduler.frozen_until {
            return;
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].link == LinkState::Up {
                self.link_event(host, LinkState::Silent);
            }
        }
    }

    pub(crate) fn scheduler_thaws(&mut self) {
        if self.now < self.scheduler.frozen_until {
            return;
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].link == LinkState::Silent {
                self.link_event(host, LinkState::Up);
            }
        }
    }

    /// Some pieces are gone from a host's disk. It notices at once, and says so; its clients ask again.
    fn store_loses(&mut self, host: usize) {
        if !self.hosts[host].alive {
            return;
        }
        for blob in 0..self.blobs.len() {
            let layout = self.blobs[blob].layout;
            let mut lost = PieceSet::empty(layout.count());
            for i in 0..layout.count() {
                if self.rng.u8(..3) == 0 {
                    lost.insert(PieceIndex(i));
                }
            }
            self.hosts[host].places[blob].stored.discard(&lost);
            self.all_want_again(host, blob);
            let place = &self.hosts[host].places[blob];
            if let Some(running) = &place.running {
                let spot = crate::host::Spot { host, blob, serial: running.serial };
                self.download_event(spot, Event::Lost { pieces: lost });
            }
        }
    }
}
