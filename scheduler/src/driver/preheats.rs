//! What the driver does with preheats: it keeps the book, and tells hosts what the book says, when it says so.

use super::Driver;
use crate::outbox::Out;
use crate::preheat::{Ask, Candidate, Moment, Plan, PreheatError, PreheatView};
use proto::PreheatReport;
use tokio::time::Instant;
use types::HostId;

impl Driver {
    /// Answers an operator, who may have given up meanwhile.
    pub(super) fn preheat(&mut self, ask: Ask) {
        match ask {
            Ask::Hosts { answer } => drop(answer.send(self.candidates())),
            Ask::Begin { plan, answer } => drop(answer.send(self.begin_preheat(*plan))),
            Ask::List { answer } => drop(answer.send(self.preheats.list())),
            Ask::One { number, answer } => drop(answer.send(self.preheats.view(number))),
            Ask::Cancel { number, answer } => drop(answer.send(self.cancel_preheat(number))),
        }
    }

    fn candidates(&self) -> Result<Vec<Candidate>, PreheatError> {
        if self.preheats.is_full() {
            return Err(PreheatError::TooMany);
        }
        let candidate = |(id, host): (HostId, &crate::roster::Host)| Candidate {
            host: id,
            zone: host.member.zone.clone(),
            platform: host.platform.clone(),
            protocol: host.protocol,
        };
        Ok(self.roster.iter().map(candidate).collect())
    }

    fn begin_preheat(&mut self, plan: Plan) -> Result<PreheatView, PreheatError> {
        let protocol = |host| self.roster.get(host).map(|host| host.protocol);
        let number = self.preheats.begin(Moment::now(), plan, protocol)?;
        self.tell_preheats();
        self.preheats.view(number).ok_or_else(|| PreheatError::unknown(&number.to_string()))
    }

    fn cancel_preheat(&mut self, number: u64) -> Option<PreheatView> {
        for host in self.preheats.cancel(Moment::now(), number)? {
            self.send(host, Out::PreheatOver(number));
        }
        self.preheats.view(number)
    }

    /// Tells the next hosts what they are to hold, if it is time to.
    pub(super) fn tell_preheats(&mut self) {
        for (host, order) in self.preheats.tell(Instant::now()) {
            self.send(host, Out::Preheat(order));
        }
    }

    /// A host has connected: it is told what it is to hold, also if it was told before.
    pub(super) fn join_preheats(&mut self, joined: Candidate) {
        let host = joined.host;
        for order in self.preheats.joined(Moment::now(), joined) {
            self.send(host, Out::Preheat(order));
        }
    }

    /// A host is gone.
    pub(super) fn leave_preheats(&mut self, host: HostId) {
        let now = Moment::now();
        if self.removed.as_ref().is_some_and(|removed| removed.contains(host)) {
            self.preheats.removed(now, host);
        } else {
            self.preheats.left(now, host);
        }
    }

    /// Hosts fail that are gone for too long or for good.
    pub(super) fn lapse_preheats(&mut self) {
        let removed = self.removed.as_ref();
        let is_removed = |host| removed.is_some_and(|removed| removed.contains(host));
        self.preheats.lapse(Moment::now(), is_removed);
    }

    /// A host says how far it is; it is told which of these are over.
    pub(super) fn hear_preheats(&mut self, host: HostId, reports: &[PreheatReport]) {
        let now = Moment::now();
        for report in reports {
            if self.preheats.heard(now, host, report) {
                self.send(host, Out::PreheatOver(report.number));
            }
        }
    }
}
