//! One preheat: its orders, and a row for each host. Rows are small, since there may be hundreds of thousands.

use super::figures::{Figures, Outcome};
use super::hosts::{Hosts, Slot};
use super::reasons::{Reason, Reasons, readable};
use super::view::{FAILURES_MAX, FailureView, HostCounts, ImageView, PreheatView, ROWS_MAX, RowView, State};
use proto::{PreheatOrder, PreheatReport};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::HostId;

/// One host's part. What `State::Away` stands for is the host's and not kept here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    held_bytes: u64,
    slot: Slot,
    held_blobs: u32,
    state: State,
    order: u8,
    /// The first; it stays, whatever the host says later.
    reason: Reason,
    /// Whether the host was told its order while it ran.
    told: bool,
}

const _: () = assert!(size_of::<Row>() <= 24, "10,000 hosts of 64 preheats take 15 MiB");

impl Row {
    pub(super) fn new(slot: Slot, order: u8) -> Self {
        let (state, reason) = (State::Running, Reason::default());
        Self { held_bytes: 0, slot, held_blobs: 0, state, order, reason, told: false }
    }
}

/// What an order's blobs come to, each counted once: several repositories may have it.
#[derive(Clone, Copy, Debug)]
struct Size {
    bytes: u64,
    blobs: u32,
}

impl Size {
    fn of(order: &PreheatOrder) -> Self {
        let mut sizes = BTreeMap::new();
        for blob in order.images.iter().flat_map(|image| &image.blobs) {
            sizes.entry(blob.digest).or_insert(blob.size);
        }
        Self {
            bytes: sizes.values().fold(0, |sum: u64, size| sum.saturating_add(*size)),
            blobs: u32::try_from(sizes.len()).unwrap_or(u32::MAX),
        }
    }
}

/// Sums over the rows.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    hosts: HostCounts,
    bytes: u64,
    held_bytes: u64,
}

/// A preheat that runs, or has ended.
#[derive(Debug)]
pub(super) struct Record {
    number: u64,
    state: State,
    created: u64,
    ended: Option<u64>,
    images: Arc<[ImageView]>,
    /// None once it has ended.
    orders: Vec<Arc<PreheatOrder>>,
    sizes: Vec<Size>,
    /// In the order of slots while it runs; once it has ended, the failed ones first and as many as a view has.
    rows: Vec<Row>,
    /// Rows that run.
    running: usize,
    /// The place of the row whose host's turn it is to be told.
    turn: usize,
    reasons: Reasons,
    /// Once it has ended.
    totals: Totals,
}

impl Record {
    pub(super) fn new(
        number: u64,
        created: u64,
        images: Vec<ImageView>,
        orders: Vec<Arc<PreheatOrder>>,
        mut rows: Vec<Row>,
    ) -> Self {
        rows.sort_unstable_by_key(|row| row.slot);
        let sizes = orders.iter().map(|order| Size::of(order)).collect();
        Self {
            number,
            state: State::Running,
            created,
            ended: None,
            images: images.into(),
            orders,
            sizes,
            running: rows.len(),
            turn: 0,
            rows,
            reasons: Reasons::default(),
            totals: Totals::default(),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// The place of a host's row, if that runs.
    pub(super) fn running_row(&self, slot: Slot) -> Option<usize> {
        if !self.is_running() {
            return None;
        }
        let place = self.rows.binary_search_by_key(&slot, |row| row.slot).ok()?;
        (self.rows[place].state == State::Running).then_some(place)
    }

    /// What a row's host is to hold: it is told now.
    pub(super) fn tell(&mut self, place: usize) -> Arc<PreheatOrder> {
        let row = &mut self.rows[place];
        row.told = true;
        Arc::clone(&self.orders[usize::from(row.order)])
    }

    /// Has the next hosts told, until there are `max` in `told`; whether all have had their turn. Who is away is told when
    /// it comes back, and who came back before was told then.
    pub(super) fn tell_next(
        &mut self,
        max: usize,
        hosts: &Hosts,
        told: &mut Vec<(HostId, Arc<PreheatOrder>)>,
    ) -> bool {
        while told.len() < max
            && let Some(row) = self.rows.get(self.turn)
        {
            let host = hosts.get(row.slot);
            if row.state == State::Running && !row.told && host.away.is_none() {
                told.push((host.id, self.tell(self.turn)));
            }
            self.turn += 1;
        }
        self.turn >= self.rows.len()
    }

    /// A host says how far it is with its row, which runs.
    pub(super) fn hear(&mut self, place: usize, report: &PreheatReport, figures: &Figures) {
        let row = &mut self.rows[place];
        if row.reason == Reason::default() {
            row.reason = self.reasons.note(&report.failure);
        }
        let size = self.sizes[usize::from(row.order)];
        row.held_bytes = report.held_bytes.min(size.bytes);
        row.held_blobs = report.held_blobs.min(size.blobs);
        if report.ended {
            let failed = !readable(&report.failure).is_empty();
            if !failed {
                // Its daemon has begun anew since something went wrong.
                row.reason = Reason::default();
            }
            self.end_row(place, if failed { State::Failed } else { State::Done }, figures);
        }
    }

    /// A host's row fails, if it runs.
    pub(super) fn fail_if_running(&mut self, slot: Slot, why: &'static str, figures: &Figures) {
        if let Some(place) = self.running_row(slot) {
            let row = &mut self.rows[place];
            if row.reason == Reason::default() {
                row.reason = self.reasons.note_own(why);
            }
            self.end_row(place, State::Failed, figures);
        }
    }

    fn end_row(&mut self, place: usize, state: State, figures: &Figures) {
        self.rows[place].state = state;
        self.running -= 1;
        figures.ended(match state {
            State::Done => Outcome::Done,
            State::Cancelled => Outcome::Cancelled,
            State::Failed | State::Running | State::Away => Outcome::Failed,
        });
    }

    /// Cancels the rows that run; gives those of their hosts that were told.
    pub(super) fn cancel(&mut self, figures: &Figures) -> Vec<Slot> {
        let running = |place: &usize| self.rows[*place].state == State::Running;
        let running: Vec<usize> = (0..self.rows.len()).filter(running).collect();
        let end = |place| {
            self.end_row(place, State::Cancelled, figures);
            let row = &self.rows[place];
            row.told.then_some(row.slot)
        };
        running.into_iter().filter_map(end).collect()
    }

    /// How it has ended, if no row runs any more.
    pub(super) fn outcome(&self) -> Option<State> {
        let failed = || self.rows.iter().any(|row| row.state == State::Failed);
        (self.running == 0).then(|| if failed() { State::Failed } else { State::Done })
    }

    /// It has ended: what is not shown of it any more is let go.
    pub(super) fn end(&mut self, state: State, at: u64, hosts: &mut Hosts) {
        self.totals = self.sum(hosts);
        (self.state, self.ended) = (state, Some(at));
        self.orders = Vec::new();
        self.rows.sort_unstable_by_key(|row| (row.state != State::Failed, row.slot));
        for row in self.rows.drain(ROWS_MAX.min(self.rows.len())..) {
            hosts.release(row.slot);
        }
        self.rows.shrink_to_fit();
    }

    /// Nothing names the hosts of its rows any more.
    pub(super) fn release(self, hosts: &mut Hosts) {
        self.rows.iter().for_each(|row| hosts.release(row.slot));
    }

    fn sum(&self, hosts: &Hosts) -> Totals {
        let mut sum = Totals::default();
        for row in &self.rows {
            sum.hosts.total += 1;
            match self.shown(row, hosts) {
                State::Done => sum.hosts.done += 1,
                State::Failed => sum.hosts.failed += 1,
                State::Away => sum.hosts.away += 1,
                State::Running | State::Cancelled => {}
            }
            sum.bytes = sum.bytes.saturating_add(self.sizes[usize::from(row.order)].bytes);
            sum.held_bytes = sum.held_bytes.saturating_add(row.held_bytes);
        }
        sum
    }

    /// How a row stands, for people.
    fn shown(&self, row: &Row, hosts: &Hosts) -> State {
        let away = self.is_running() && row.state == State::Running && hosts.get(row.slot).away.is_some();
        if away { State::Away } else { row.state }
    }

    /// The rows that have failed, then the others.
    fn failed_first(&self) -> impl Iterator<Item = &Row> {
        let is_failed = |row: &&Row| row.state == State::Failed;
        self.rows.iter().filter(is_failed).chain(self.rows.iter().filter(move |row| !is_failed(row)))
    }

    /// Without rows.
    pub(super) fn view(&self, hosts: &Hosts) -> PreheatView {
        let totals = if self.is_running() { self.sum(hosts) } else { self.totals };
        let failure = |row: &Row| FailureView {
            host: hosts.get(row.slot).id.to_string(),
            why: self.reasons.get(row.reason).unwrap_or_default().to_owned(),
        };
        let failed = self.rows.iter().filter(|row| row.state == State::Failed);
        PreheatView {
            id: self.number.to_string(),
            state: self.state,
            created: self.created,
            ended: self.ended,
            images: Arc::clone(&self.images),
            bytes: totals.bytes,
            held_bytes: totals.held_bytes,
            hosts: totals.hosts,
            failures: failed.take(FAILURES_MAX).map(failure).collect(),
            rows: None,
        }
    }

    pub(super) fn rows(&self, hosts: &Hosts) -> Vec<RowView> {
        let view = |row: &Row| {
            let (host, size) = (hosts.get(row.slot), self.sizes[usize::from(row.order)]);
            RowView {
                host: host.id.to_string(),
                zone: host.zone.to_string(),
                platform: host.platform.to_string(),
                state: self.shown(row, hosts),
                bytes: size.bytes,
                held_bytes: row.held_bytes,
                blobs: size.blobs,
                held_blobs: row.held_blobs,
                why: self.reasons.get(row.reason).map(ToOwned::to_owned),
            }
        };
        self.failed_first().take(ROWS_MAX).map(view).collect()
    }
}
