//! Streams between hosts and the scheduler: in order, with delays, and lost as a whole.

use crate::host::Spot;
use crate::world::{Happening, World};
use download_core::LinkState;
use scheduler_core::{Effect, Event};
use std::time::Duration;
use types::{
    FetchFailure, HostBody, HostMessage, HostSpec, Label, LeaseFailure, SchedulerBody, SchedulerMessage,
    Timestamp,
};

/// A host that could not connect tries again within this time.
const RECONNECT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_millis(1_000);

impl World {
    pub(crate) fn send_to_scheduler(&mut self, host: usize, message: HostMessage) {
        let delay = self.delay() + self.hosts[host].lag(self.now);
        let sender = &mut self.hosts[host];
        if sender.link == LinkState::Down {
            return;
        }
        sender.up_at = sender.up_at.max(self.now + delay);
        let (at, session) = (sender.up_at, sender.session);
        self.queue.push(at, Happening::ToScheduler { host, session, message });
    }

    pub(crate) fn reaches_scheduler(&mut self, host: usize, session: u64, message: HostMessage) {
        if self.hosts[host].session != session || !self.scheduler.is_up {
            return;
        }
        if self.now < self.scheduler.frozen_until {
            let at = self.scheduler.frozen_until;
            self.queue.push(at, Happening::ToScheduler { host, session, message });
            return;
        }
        let id = self.hosts[host].id;
        self.scheduler.watch.heard(self.now, id, &message.key, &message.body);
        let key = message.key.clone();
        self.scheduler_event(Event::Message { host: id, message });
        self.scheduler.watch.settled(&key);
    }

    pub(crate) fn scheduler_event(&mut self, event: Event) {
        self.trace.note(self.now, "to scheduler", 0, &event);
        let mut effects = Vec::new();
        self.scheduler.core.handle(self.now, event, &mut effects);
        self.steps += 1;
        if self.steps.is_multiple_of(self.settings.check_every) {
            self.scheduler.core.check_invariants();
        }
        for Effect::Send { host, message } in effects {
            let number = self.numbers[&host];
            self.trace.note(self.now, "scheduler to", number, &message.body);
            let patience = (self.now, self.settings.scheduler.gate_patience);
            self.scheduler.watch.told(patience, host, &message.key, &message.body);
            let delay = self.delay() + self.hosts[number].lag(self.now);
            let receiver = &mut self.hosts[number];
            receiver.down_at = receiver.down_at.max(self.now + delay);
            let (at, session) = (receiver.down_at, receiver.session);
            self.queue.push(at, Happening::ToHost { host: number, session, message });
        }
        self.tick_scheduler();
    }

    /// Puts the scheduler's next deadline into the queue.
    pub(crate) fn tick_scheduler(&mut self) {
        let Some(deadline) = self.scheduler.core.next_deadline() else { return };
        let due_at_once = deadline <= self.now && self.steps > 0;
        let at = if due_at_once { self.now + self.settings.turn } else { deadline.max(self.now) };
        if self.scheduler.tick_at.is_none_or(|set| at < set) {
            self.scheduler.tick_at = Some(at);
            self.queue.push(at, Happening::SchedulerTick);
        }
    }

    pub(crate) fn scheduler_tick(&mut self) {
        if self.scheduler.tick_at != Some(self.now) {
            return;
        }
        self.scheduler.tick_at = None;
        if !self.scheduler.is_up {
            return;
        }
        if self.now < self.scheduler.frozen_until {
            self.scheduler.tick_at = Some(self.scheduler.frozen_until);
            self.queue.push(self.scheduler.frozen_until, Happening::SchedulerTick);
            return;
        }
        if self.scheduler.core.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.scheduler_event(Event::Tick);
            let next = self.scheduler.core.next_deadline();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a deadline that has come must have been acted upon"
            );
        }
        self.tick_scheduler();
    }

    pub(crate) fn reaches_host(&mut self, host: usize, session: u64, message: SchedulerMessage) {
        if self.hosts[host].session != session || !self.hosts[host].alive {
            return;
        }
        let blob =
            self.blobs.iter().position(|blob| blob.key == message.key).expect("a blob that was asked for");
        match &self.hosts[host].places[blob].running {
            Some(running) => {
                let spot = Spot { host, blob, serial: running.serial };
                self.download_event(spot, download_core::Event::Message(message.body));
            }
            None => self.answer_without_download(host, blob, message.body),
        }
    }

    /// As the daemon does when no download runs.
    fn answer_without_download(&mut self, host: usize, blob: usize, body: SchedulerBody) {
        let stored = &self.hosts[host].places[blob].stored;
        let body = match body {
            SchedulerBody::WantChain { epoch, boundaries } => {
                let states = boundaries.clone().map_while(|b| stored.chain().state(b).copied()).collect();
                HostBody::Chain { epoch, boundary: boundaries.start, states, closed: stored.is_closed() }
            }
            SchedulerBody::Lease { epoch, .. } => {
                HostBody::LeaseReturned { epoch, why: LeaseFailure::NoReader }
            }
            SchedulerBody::Assign { piece, parent, epoch, .. } => {
                HostBody::Failed { piece, parent, epoch, why: FetchFailure::Local }
            }
            // The scheduler forgot what was held; what is proven it may know again.
            SchedulerBody::ChainReset { .. } if stored.is_closed() => {
                HostBody::Hold { closed: true, pieces: stored.pieces().clone() }
            }
            _ => return,
        };
        let is_work = matches!(body, HostBody::LeaseReturned { .. } | HostBody::Failed { .. });
        self.say(host, blob, body);
        if is_work {
            // The scheduler missed that this host left.
            self.say(host, blob, HostBody::Leave);
        }
    }

    pub(crate) fn say(&mut self, host: usize, blob: usize, body: HostBody) {
        let key = self.blobs[blob].key.clone();
        let stored = self.hosts[host].places[blob].stored.pieces();
        if let HostBody::Verified { piece, .. } = &body {
            assert!(stored.contains(*piece), "a host offers a piece that it has not verified: {piece}");
        }
        let body = if self.hosts[host].overclaims { self.exaggerate(body) } else { body };
        self.send_to_scheduler(host, HostMessage { key, body });
    }

    /// A host opens its stream.
    pub(crate) fn connects(&mut self, host: usize) {
        if !self.hosts[host].alive || self.hosts[host].link != LinkState::Down {
            return;
        }
        if !self.scheduler.is_up || self.now < self.scheduler.frozen_until || self.is_parted(host) {
            self.connects_later(host);
            return;
        }
        let rates = self.settings.links.as_ref().map_or((0, 0), |links| {
            let (up, down) = links.of(host);
            (up / links.scale, down / links.scale)
        });
        let spec = HostSpec {
            zone: Label::new(&format!("zone{}", host % self.settings.zones)),
            rack: Label::new(&format!("rack{}", self.settings.rack(host))),
            upload_slots: self.settings.upload_slots,
            download_slots: self.settings.download_slots,
            upload_rate: rates.0,
            download_rate: rates.1,
        };
        let connected = &mut self.hosts[host];
        connected.session += 1;
        connected.link = LinkState::Up;
        (connected.up_at, connected.down_at) = (Timestamp::ZERO, Timestamp::ZERO);
        let id = connected.id;
        self.scheduler.watch.joins(id, host % self.settings.zones);
        self.scheduler_event(Event::HostJoined { host: id, spec });
        self.scheduler.watch.forgets(id);
        self.link_event(host, LinkState::Up);
    }

    /// Announces the proven blobs of which no download runs.
    fn offer_what_is_stored(&mut self, host: usize) {
        for blob in 0..self.blobs.len() {
            let place = &self.hosts[host].places[blob];
            if place.running.is_none() && place.stored.is_closed() {
                let pieces = place.stored.pieces().clone();
                self.say(host, blob, HostBody::Hold { closed: true, pieces });
            }
        }
    }

    fn connects_later(&mut self, host: usize) {
        let pause = self.between(&RECONNECT);
        self.queue.push(self.now + pause, Happening::Connects { host });
    }

    /// A host's stream breaks; the scheduler notices a little later.
    pub(crate) fn disconnects(&mut self, host: usize) {
        if self.hosts[host].link == LinkState::Down {
            return;
        }
        self.hosts[host].link = LinkState::Down;
        self.hosts[host].session += 1;
        let session = self.hosts[host].session;
        let delay = self.delay();
        self.queue.push(self.now + delay, Happening::HostGone { host, session });
        self.link_event(host, LinkState::Down);
        self.connects_later(host);
    }

    pub(crate) fn host_gone(&mut self, host: usize, session: u64) {
        if self.hosts[host].session == session && self.scheduler.is_up {
            let id = self.hosts[host].id;
            self.scheduler.watch.leaves(id);
            self.scheduler_event(Event::HostLeft { host: id });
            self.scheduler.watch.forgets(id);
        }
    }

    pub(crate) fn link_event(&mut self, host: usize, link: LinkState) {
        self.hosts[host].link = link;
        if link == LinkState::Up {
            self.offer_what_is_stored(host);
        }
        for blob in 0..self.blobs.len() {
            if let Some(running) = &self.hosts[host].places[blob].running {
                let spot = Spot { host, blob, serial: running.serial };
                self.download_event(spot, download_core::Event::Link(link));
            }
        }
    }
}
