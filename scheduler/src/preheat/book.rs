//! The preheats that run, and those that have ended: what each host is to be told, and how far it is.
//!
//! The driver owns it, and tells it who comes, who goes and what hosts report. It sends nothing itself. Hosts are told of a
//! preheat a few at a time: all of a large cluster would begin, and ask, in the same instant.

use super::error::PreheatError;
use super::figures::Figures;
use super::hosts::{Hosts, Slot};
use super::plan::Plan;
use super::record::{Record, Row};
use super::targets::{Candidate, OLDER};
use super::view::{PreheatView, State};
use proto::{PREHEAT_PROTOCOL, PreheatOrder, PreheatReport};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use types::HostId;

/// Preheats that may run at the same time.
pub(crate) const RUNNING_MAX: usize = 64;

/// Preheats that are remembered, those that run among them; the oldest that have ended go first.
pub(super) const KEPT_MAX: usize = 256;

/// A host that is away for so long fails.
pub(super) const AWAY_MAX: Duration = Duration::from_secs(300);

/// What is said of it then.
const AWAY: &str = "it has been away for 5 min";

/// What is said of one that does not come back by itself.
const REMOVED: &str = "an operator has removed it";

/// Hosts that are told at a time, of all preheats, and how long it is from these to the next ones: 500 a second.
pub(super) const TOLD_AT_ONCE: usize = 50;
pub(super) const TELL_PAUSE: Duration = Duration::from_millis(100);

/// A moment, by the clock that never goes back and by the calendar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    /// Seconds since 1970.
    pub(crate) unix: u64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { at: Instant::now(), unix }
    }
}

/// All that is known of preheats.
#[derive(Debug)]
pub(crate) struct Book {
    /// The next one's number.
    next: u64,
    records: BTreeMap<u64, Record>,
    hosts: Hosts,
    /// Preheats that run and of which not all hosts have had their turn to be told; the first that began is the first.
    untold: VecDeque<u64>,
    /// When the next hosts may be told; nothing before the first preheat.
    tell_at: Option<Instant>,
    figures: Figures,
}

impl Book {
    /// An empty one. `first` is larger than the number of any preheat that a host may still know.
    pub(crate) fn new(first: u64, figures: Figures) -> Self {
        let (records, hosts, untold) = Default::default();
        Self { next: first, records, hosts, untold, tell_at: None, figures }
    }

    /// Whether as many run as may.
    pub(crate) fn is_full(&self) -> bool {
        self.running().len() >= RUNNING_MAX
    }

    /// The numbers of those that run.
    fn running(&self) -> Vec<u64> {
        self.records.iter().filter(|(_, record)| record.is_running()).map(|(number, _)| *number).collect()
    }

    /// Begins a preheat, and gives its number; [`Self::tell`] has its hosts told. `protocol` says which version was agreed
    /// on with a host; nothing if it is not connected.
    ///
    /// # Errors
    /// [`PreheatError::TooMany`].
    pub(crate) fn begin(
        &mut self,
        now: Moment,
        plan: Plan,
        protocol: impl Fn(HostId) -> Option<u32>,
    ) -> Result<u64, PreheatError> {
        if self.is_full() {
            return Err(PreheatError::TooMany);
        }
        let number = self.next;
        self.next += 1;
        let order = |images| Arc::new(PreheatOrder { number, images });
        let orders: Vec<Arc<PreheatOrder>> = plan.orders.into_iter().map(order).collect();
        let (mut rows, mut old) = (Vec::with_capacity(plan.hosts.len()), Vec::new());
        for (candidate, order) in plan.hosts {
            let host = candidate.host;
            let slot = self.hosts.take(host, candidate.zone, candidate.platform);
            rows.push(Row::new(slot, order));
            let away = &mut self.hosts.get_mut(slot).away;
            match protocol(host) {
                None => *away = away.or(Some(now.at)),
                Some(protocol) => {
                    *away = None;
                    if protocol < PREHEAT_PROTOCOL {
                        old.push(slot);
                    }
                }
            }
        }
        let mut record = Record::new(number, now.unix, plan.images, orders, rows);
        for slot in old {
            record.fail_if_running(slot, OLDER, &self.figures);
        }
        self.records.insert(number, record);
        self.figures.running(self.running().len());
        self.untold.push_back(number);
        self.tell_at = self.tell_at.or(Some(now.at));
        self.settle(now, number);
        self.forget_oldest();
        Ok(number)
    }

    /// When hosts are to be told next; nothing if all have had their turn.
    pub(crate) fn next_telling(&self) -> Option<Instant> {
        self.tell_at.filter(|_| !self.untold.is_empty())
    }

    /// Whom to tell what now: a few at a time, and nobody before [`Self::next_telling`].
    pub(crate) fn tell(&mut self, now: Instant) -> Vec<(HostId, Arc<PreheatOrder>)> {
        let mut told = Vec::new();
        if self.next_telling().is_none_or(|at| now < at) {
            return told;
        }
        while told.len() < TOLD_AT_ONCE
            && let Some(number) = self.untold.front()
        {
            let record = self.records.get_mut(number);
            if record.is_none_or(|record| record.tell_next(TOLD_AT_ONCE, &self.hosts, &mut told)) {
                self.untold.pop_front();
            }
        }
        self.tell_at = Some(now + TELL_PAUSE);
        told
    }

    /// A host has connected, or connected again: what it is to be told, now and not once more at its turn.
    pub(crate) fn joined(&mut self, now: Moment, joined: Candidate) -> Vec<Arc<PreheatOrder>> {
        let Some(slot) = self.hosts.find(joined.host) else { return Vec::new() };
        let host = self.hosts.get_mut(slot);
        (host.zone, host.platform, host.away) = (joined.zone, joined.platform, None);
        let mut orders = Vec::new();
        for number in self.running() {
            let Some(record) = self.records.get_mut(&number) else { continue };
            let Some(place) = record.running_row(slot) else { continue };
            if joined.protocol >= PREHEAT_PROTOCOL {
                orders.push(record.tell(place));
            } else {
                record.fail_if_running(slot, OLDER, &self.figures);
                self.settle(now, number);
            }
        }
        orders
    }

    /// A host is gone.
    pub(crate) fn left(&mut self, now: Moment, host: HostId) {
        if let Some(slot) = self.hosts.find(host) {
            self.hosts.get_mut(slot).away = Some(now.at);
        }
    }

    /// A host is gone, since an operator has removed it.
    pub(crate) fn removed(&mut self, now: Moment, host: HostId) {
        self.left(now, host);
        let slot = self.hosts.find(host);
        self.fail(now, slot.as_slice(), REMOVED);
    }

    /// A host says how far it is. Whether it is to be told that this one is over: it has ended for this host, or the
    /// host has no such order.
    pub(crate) fn heard(&mut self, now: Moment, host: HostId, report: &PreheatReport) -> bool {
        let Some(slot) = self.hosts.find(host) else { return true };
        let Some(record) = self.records.get_mut(&report.number) else { return true };
        let Some(place) = record.running_row(slot) else { return true };
        record.hear(place, report, &self.figures);
        if report.ended {
            self.settle(now, report.number);
        }
        report.ended
    }

    /// Ends a preheat that runs; gives the connected hosts that are to hear of it, since they were told. One that has ended
    /// stays as it is; nothing if there is none of this number.
    pub(crate) fn cancel(&mut self, now: Moment, number: u64) -> Option<Vec<HostId>> {
        let record = self.records.get_mut(&number)?;
        if !record.is_running() {
            return Some(Vec::new());
        }
        let stopped = record.cancel(&self.figures);
        self.end(now, number, State::Cancelled);
        let hosts = stopped.into_iter().map(|slot| self.hosts.get(slot));
        Some(hosts.filter(|host| host.away.is_none()).map(|host| host.id).collect())
    }

    /// Hosts that have been away for too long fail, and those among them that an operator has removed without delay.
    pub(crate) fn lapse(&mut self, now: Moment, is_removed: impl Fn(HostId) -> bool) {
        let (mut removed, mut late) = (Vec::new(), Vec::new());
        for (slot, host, since) in self.hosts.away() {
            if is_removed(host) {
                removed.push(slot);
            } else if now.at - since >= AWAY_MAX {
                late.push(slot);
            }
        }
        self.fail(now, &removed, REMOVED);
        self.fail(now, &late, AWAY);
    }

    /// The parts of these hosts fail, of all preheats that run.
    fn fail(&mut self, now: Moment, hosts: &[Slot], why: &'static str) {
        if hosts.is_empty() {
            return;
        }
        for number in self.running() {
            let Some(record) = self.records.get_mut(&number) else { continue };
            for slot in hosts {
                record.fail_if_running(*slot, why, &self.figures);
            }
            self.settle(now, number);
        }
    }

    /// Ends a preheat when no host of it runs any more.
    fn settle(&mut self, now: Moment, number: u64) {
        if let Some(record) = self.records.get(&number)
            && record.is_running()
            && let Some(state) = record.outcome()
        {
            tracing::info!(preheat = number, ?state, "a preheat has ended");
            self.end(now, number, state);
        }
    }

    fn end(&mut self, now: Moment, number: u64, state: State) {
        if let Some(record) = self.records.get_mut(&number) {
            record.end(state, now.unix, &mut self.hosts);
        }
        self.untold.retain(|untold| *untold != number);
        self.figures.running(self.running().len());
    }

    fn forget_oldest(&mut self) {
        while self.records.len() > KEPT_MAX {
            let oldest = self.records.iter().find(|(_, record)| !record.is_running());
            let Some(number) = oldest.map(|(number, _)| *number) else { return };
            if let Some(record) = self.records.remove(&number) {
                record.release(&mut self.hosts);
            }
        }
    }

    /// How one stands, host by host.
    pub(crate) fn view(&self, number: u64) -> Option<PreheatView> {
        let record = self.records.get(&number)?;
        Some(PreheatView { rows: Some(record.rows(&self.hosts)), ..record.view(&self.hosts) })
    }

    /// How all stand, without their hosts, the newest first.
    pub(crate) fn list(&self) -> Vec<PreheatView> {
        self.records.values().rev().map(|record| record.view(&self.hosts)).collect()
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
