//! What goes wrong, and how it is mended.

use crate::settings::Fault;
use crate::store::Stored;
use crate::world::{Happening, World};
use download_core::{Event, LinkState};
use scheduler_core::Scheduler;
use std::time::Duration;
use types::{HostBody, LeaseFailure, PieceIndex, PieceSet, Timestamp};

/// How long a daemon listens to a silent scheduler before it calls it so.
const SILENT_AFTER: Duration = Duration::from_secs(2);

impl World {
    pub(crate) fn break_something(&mut self, fault: Fault) {
        self.trace.note(self.now, "fault", 0, &fault);
        if let Some(kind) = self.takes_effect(&fault) {
            *self.outcome.faults.entry(kind).or_default() += 1;
        }
        let is_lie = matches!(
            fault,
            Fault::OriginLies { .. }
                | Fault::SourceIsLiedTo
                | Fault::Corrupts { .. }
                | Fault::Overclaims { .. }
        );
        if is_lie {
            self.scheduler.watch.disturb();
        }
        match fault {
            Fault::HostDies { host } => self.host_dies(host),
            Fault::HostReturns { host, keeps_store } => self.host_returns(host, keeps_store),
            Fault::HostLeaves { host } => self.host_leaves(host),
            Fault::SourceLeaves => self.source_leaves(),
            Fault::SourceDies => {
                if let Some(source) = self.source() {
                    self.host_dies(source);
                }
            }
            Fault::SourceIsLiedTo => {
                if let Some(source) = self.source() {
                    self.hosts[source].is_lied_to = true;
                }
            }
            Fault::SourceClientsLeave { gone } => {
                if let Some(source) = self.source() {
                    self.clients_leave(source, gone);
                }
            }
            Fault::Delays { host, by, lasts } => self.hosts[host].lag = (by, self.now + lasts),
            Fault::ZoneParts { zone, lasts } => self.zone_parts(zone, lasts),
            Fault::Overclaims { host, overclaims: true } => self.overclaims(host),
            Fault::Overclaims { host, overclaims: false } => self.repair(host),
            Fault::Slows { host, part } => self.slow(host, part),
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

    /// What kind of fault it is, if it changes anything now.
    fn takes_effect(&self, fault: &Fault) -> Option<&'static str> {
        let host = |host: &usize| &self.hosts[*host];
        let is_down = !self.scheduler.is_up || self.now < self.scheduler.frozen_until;
        let (kind, is_felt) = match fault {
            Fault::HostDies { host: h } => ("host dies", host(h).alive),
            Fault::HostReturns { host: h, .. } => ("host returns", !host(h).alive && !host(h).left),
            Fault::HostLeaves { host: h } => ("host leaves", host(h).alive),
            Fault::SourceLeaves => ("source leaves", self.source().is_some()),
            Fault::SourceDies => ("source dies", self.source().is_some()),
            Fault::SourceIsLiedTo => ("origin lies to a source", self.source().is_some()),
            Fault::SourceClientsLeave { .. } => ("source's clients leave", self.source().is_some()),
            Fault::LinkBreaks { host: h } => ("link breaks", host(h).link != LinkState::Down),
            Fault::Delays { host: h, .. } => ("messages are late", host(h).link != LinkState::Down),
            Fault::ZoneParts { .. } => ("zone is cut off", self.settings.zones > 1),
            Fault::Overclaims { host: h, overclaims } => {
                ("host claims what it does not hold", *overclaims && host(h).alive && !host(h).overclaims)
            }
            Fault::Slows { part, .. } => ("host is slow", *part > 1 && self.network.is_some()),
            Fault::SchedulerRestarts { .. } => ("scheduler restarts", self.scheduler.is_up),
            Fault::SchedulerFreezes { .. } => ("scheduler freezes", !is_down),
            Fault::OriginFails { why: LeaseFailure::Throttled, .. } => ("origin throttles", true),
            Fault::OriginFails { why: LeaseFailure::Refused, .. } => ("origin refuses", true),
            Fault::OriginFails { .. } => ("origin cannot be reached", true),
            Fault::Corrupts { host: h, corrupts } => {
                ("host corrupts", *corrupts && host(h).alive && !host(h).corrupts)
            }
            Fault::OriginLies { host: h, lies } => {
                ("origin lies", *lies && host(h).alive && !host(h).is_lied_to)
            }
            Fault::StoreLoses { host: h } => ("store loses pieces", host(h).alive),
            Fault::ClientsLeave { host: h, .. } => {
                let reads = |place: &crate::host::Place| place.running.is_some();
                ("clients leave", host(h).places.iter().any(reads))
            }
        };
        is_felt.then_some(kind)
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn mend_everything(&mut self) {
        self.settings.stalls = 0;
        self.origin.failing = None;
        self.parted.fill(Timestamp::ZERO);
        for host in 0..self.hosts.len() {
            self.slow(host, 1);
            self.hosts[host].lag.1 = Timestamp::ZERO;
            self.host_returns(host, true);
            self.hosts[host].is_lied_to = false;
            self.repair(host);
        }
    }

    /// A host that corrupted or overclaimed is repaired and started anew: only so is it asked again for what it had
    /// corrupted, and given what it had claimed.
    fn repair(&mut self, host: usize) {
        let repaired = &mut self.hosts[host];
        if std::mem::take(&mut repaired.corrupts) | std::mem::take(&mut repaired.overclaims) {
            self.disconnects(host);
        }
    }

    /// A host says of all that it has begun that it has more of it.
    fn overclaims(&mut self, host: usize) {
        self.hosts[host].overclaims = true;
        for blob in 0..self.blobs.len() {
            if !self.hosts[host].alive || self.hosts[host].places[blob].running.is_none() {
                continue;
            }
            let pieces = self.hosts[host].places[blob].stored.pieces().clone();
            self.say(host, blob, HostBody::Hold { closed: false, pieces });
        }
    }

    /// What a host says that claims to hold more than it does.
    pub(crate) fn exaggerate(&mut self, body: HostBody) -> HostBody {
        let rng = &mut self.rng;
        let mut more = |mut pieces: PieceSet| {
            for piece in (0..pieces.count()).filter(|_| rng.u8(..3) == 0).map(PieceIndex) {
                pieces.insert(piece);
            }
            pieces
        };
        match body {
            HostBody::Hold { closed, pieces } => HostBody::Hold { closed, pieces: more(pieces) },
            HostBody::Want { held, credential, priority, position, lease } => {
                HostBody::Want { held: more(held), credential, priority, position, lease }
            }
            other => other,
        }
    }

    /// Whether a host stands in a zone that is cut off.
    pub(crate) fn is_parted(&self, host: usize) -> bool {
        self.now < self.parted[host % self.parted.len()]
    }

    /// Whether two hosts cannot reach each other.
    pub(crate) fn are_parted(&self, one: usize, other: usize) -> bool {
        let zones = self.parted.len();
        one % zones != other % zones && (self.is_parted(one) || self.is_parted(other))
    }

    fn zone_parts(&mut self, zone: usize, lasts: Duration) {
        if self.parted.len() == 1 {
            return;
        }
        self.parted[zone] = self.parted[zone].max(self.now + lasts);
        self.uncarry_parted();
        for host in (zone..self.hosts.len()).step_by(self.parted.len()) {
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
        if let Some(source) = self.source() {
            self.host_leaves(source);
        }
    }

    /// The source of the first blob, if it has one.
    pub(crate) fn source(&self) -> Option<usize> {
        let key = &self.blobs[0].key;
        let blobs = self.scheduler.core.summary().blobs;
        let (source, _) = blobs.into_iter().find(|blob| blob.digest == key.digest)?.source?;
        self.numbers.get(&source).copied().filter(|host| self.hosts[*host].alive)
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
