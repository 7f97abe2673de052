//! Pieces on their way: begun, nearly done, verified, failed, out of time. Slots are counted here.

use crate::Scheduler;
use crate::boundary;
use crate::pace::pace_of;
use crate::pick::Choice;
use crate::slab::{HostIx, MemberIx, SwarmIx, TransferIx};
use crate::swarm::Coming;
use crate::timers::Timer;
use std::time::Duration;
use types::{Epoch, FetchFailure, HostId, PieceFrom, PieceIndex, SchedulerBody, Timestamp};

/// All transfers are looked through that often at most.
const OVERDUE_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) swarm: SwarmIx,
    pub(crate) child: MemberIx,
    pub(crate) parent: MemberIx,
    pub(crate) child_host: HostIx,
    pub(crate) parent_host: HostIx,
    pub(crate) piece: PieceIndex,
    pub(crate) epoch: Epoch,
    /// Its slots are promised again.
    pub(crate) credited_up: bool,
    pub(crate) credited_down: bool,
    pub(crate) crossing: bool,
    began: Timestamp,
    /// After so many milliseconds it has taken too long.
    patience: u32,
}

impl Transfer {
    /// When it has taken too long.
    fn due(&self) -> Timestamp {
        self.began + Duration::from_millis(self.patience.into())
    }
}

impl Scheduler {
    /// Begins a transfer.
    pub(crate) fn assign(&mut self, six: SwarmIx, choice: Choice) {
        let Choice { child, parent, piece, crossing, boosted, .. } = choice;
        let swarm = &mut self.swarms[six];
        let (child_host, parent_host) = (swarm.members[child].host, swarm.members[parent].host);
        let (before, after) = swarm.chain.link(piece).expect("only what is linked is available");
        let body = SchedulerBody::Assign {
            piece,
            parent: self.hosts[parent_host].id,
            epoch: swarm.epoch,
            before: *before,
            after: *after,
        };
        let timeout = self.allowance.of(self.options.transfer_time(swarm.layout.piece_len()));
        let transfer = Transfer {
            swarm: six,
            child,
            parent,
            child_host,
            parent_host,
            piece,
            epoch: swarm.epoch,
            credited_up: false,
            credited_down: false,
            crossing,
            began: self.now,
            patience: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        };
        let due = transfer.due();
        let tix = self.transfers.insert(transfer);
        let slow_parent = self.hosts[parent_host].upload_pace.is_slow(self.usual_pace)
            && !self.hosts[child_host].download_pace.is_slow(self.usual_pace);
        self.timers.set_by(&mut self.overdue_alarm, Timer::Overdue, due);

        let want = swarm.members[child].want.as_mut().expect("only a member that wants the blob is hungry");
        want.coming.push(Coming { piece, transfer: tix });
        want.picks += 1;
        want.boosted += u32::from(boosted);
        want.hungry_since = self.now;
        let was_told = std::mem::replace(&mut want.told, false);
        self.hosts[child_host].downloads += 1;
        let host = &mut self.hosts[parent_host];
        host.uploads.push(tix);
        host.children.meet(child_host);
        // What comes slowly takes next to nothing of the child's link, so no slot either.
        self.promise_slots(tix, slow_parent, false);
        let swarm = &mut self.swarms[six];

        let coming =
            swarm.members[child].want.iter().flat_map(|want| &want.coming).map(|coming| coming.piece);
        let demand = swarm.demand.as_mut().expect("where somebody is hungry there is a demand");
        demand.overview.set_coming(child, coming);
        demand.source_extras += u32::from(demand.is_extra(child, parent, piece));
        demand.rarity.add(piece);
        demand.transfers += 1;
        demand.retries = 0;
        if was_told {
            // It takes what it is given as a sign that there is help again: it must hear if that was all.
            let due = self.now + self.options.no_source_grace;
            self.timers.set_by(&mut demand.consider_alarm, Timer::Consider(six), due);
        }
        if crossing {
            let part = demand.part_mut(child);
            self.counters.crossings += 1;
            self.counters.crossings_again += u64::from(part.held.contains(piece));
            part.crossing.insert(piece);
            let (from, to) = (self.hosts[parent_host].zone, self.hosts[child_host].zone);
            self.hosts.begin_crossing(from, to);
        }
        if !self.hosts[child_host].can_download(self.now) {
            demand.unlist(child);
        }
        if !self.hosts[parent_host].can_upload(self.now) {
            demand.idle.take(parent);
        }
        self.counters.assigned += 1;
        self.tell(six, child, body);
    }

    /// Takes a transfer off the books; its slots are free and looked after at the next match. `done` if the piece has come.
    pub(crate) fn end_transfer(&mut self, tix: TransferIx, done: bool) -> Option<Transfer> {
        let transfer = self.transfers.remove(tix)?;
        if transfer.crossing {
            let (from, to) = (self.hosts[transfer.parent_host].zone, self.hosts[transfer.child_host].zone);
            let took = self.now.since(transfer.began);
            self.hosts.end_crossing(from, to, (done || took > boundary::TARGET).then_some(took));
        }
        let swarm = &mut self.swarms[transfer.swarm];
        let member = &mut swarm.members[transfer.child];
        if let Some(want) = &mut member.want {
            want.coming.retain(|coming| coming.transfer != tix);
        }
        let coming = member.want.iter().flat_map(|want| &want.coming).map(|coming| coming.piece);
        if let Some(demand) = &mut swarm.demand {
            demand.overview.set_coming(transfer.child, coming);
            demand.rarity.sub(transfer.piece);
            demand.transfers -= 1;
            if transfer.crossing {
                demand.part_mut(transfer.child).crossing.remove(transfer.piece);
            }
        }
        let child = &mut self.hosts[transfer.child_host];
        child.downloads -= 1;
        child.downloads_credited -= u32::from(transfer.credited_down);
        let parent = &mut self.hosts[transfer.parent_host];
        parent.uploads.retain(|t| *t != tix);
        parent.uploads_credited -= u32::from(transfer.credited_up);
        self.work.feed.push(transfer.parent_host);
        self.work.fill.push(transfer.child_host);
        Some(transfer)
    }

    /// Ends a transfer that the child has to give up, and lets it look for another parent.
    pub(crate) fn cancel(&mut self, tix: TransferIx) {
        let Some(transfer) = self.end_transfer(tix, false) else { return };
        let parent = self.hosts[transfer.parent_host].id;
        self.tell(transfer.swarm, transfer.child, SchedulerBody::Cancel { piece: transfer.piece, parent });
        self.missed(transfer.swarm, transfer.child);
    }

    pub(crate) fn transfer_of(&self, six: SwarmIx, child: MemberIx, piece: PieceIndex) -> Option<TransferIx> {
        let want = self.swarms[six].members[child].want.as_ref()?;
        want.coming.iter().find(|coming| coming.piece == piece).map(|coming| coming.transfer)
    }

    /// A child says that a piece will be there in about one round trip.
    pub(crate) fn on_nearly_done(&mut self, six: SwarmIx, child: MemberIx, piece: PieceIndex) {
        let Some(tix) = self.transfer_of(six, child, piece) else {
            self.counters.ignored += 1;
            return;
        };
        self.promise_slots(tix, true, true);
        let Transfer { child_host, parent_host, .. } = self.transfers[tix];
        self.work.feed.push(parent_host);
        self.work.fill.push(child_host);
    }

    /// Lets another transfer begin while this one still runs. No more promises than slots, so that a child that promises
    /// and does not deliver cannot pile up work.
    fn promise_slots(&mut self, tix: TransferIx, down: bool, up: bool) {
        let transfer = &mut self.transfers[tix];
        let child = &mut self.hosts[transfer.child_host];
        if down && !transfer.credited_down && (child.downloads_credited as usize) < child.download_slots() {
            transfer.credited_down = true;
            child.downloads_credited += 1;
        }
        let parent = &mut self.hosts[transfer.parent_host];
        if up && !transfer.credited_up && (parent.uploads_credited as usize) < parent.upload_slots() {
            transfer.credited_up = true;
            parent.uploads_credited += 1;
        }
    }

    fn note_pace(&mut self, transfer: &Transfer) {
        let (layout, took) = (self.swarms[transfer.swarm].layout, self.now.since(transfer.began));
        self.allowance.ended(took, self.options.transfer_time(layout.piece_len()));
        let pace = pace_of(layout.len_of(transfer.piece), took);
        self.usual_pace.add(pace);
        self.hosts[transfer.parent_host].upload_pace.add(pace);
        self.hosts[transfer.child_host].download_pace.add(pace);
    }

    /// A member verified and stored a piece.
    pub(crate) fn on_verified(&mut self, six: SwarmIx, ix: MemberIx, piece: PieceIndex, from: PieceFrom) {
        match from {
            PieceFrom::Origin => self.counters.verified_origin += 1,
            PieceFrom::Fallback => self.counters.verified_fallback += 1,
            PieceFrom::Peer(_) => self.counters.verified_peer += 1,
        }
        if self.swarms[six].members[ix].reset {
            self.counters.ignored += 1;
            return;
        }
        while let Some(tix) = self.transfer_of(six, ix, piece) {
            let Some(transfer) = self.end_transfer(tix, true) else { break };
            let parent = self.hosts[transfer.parent_host].id;
            if from == PieceFrom::Peer(parent) {
                self.note_pace(&transfer);
                self.hand_over_if_slow(six, transfer.parent_host);
                self.served_well(transfer.child_host, transfer.parent_host);
            } else {
                self.tell(six, ix, SchedulerBody::Cancel { piece, parent });
            }
        }
        let swarm = &mut self.swarms[six];
        let held_by_others = swarm.demand.as_ref().is_some_and(|demand| demand.rarity.copies(piece) > 0);
        if from == PieceFrom::Origin && held_by_others && !swarm.members[ix].held.contains(piece) {
            self.counters.origin_again += 1;
        }
        let is_source = swarm.demand.as_ref().is_some_and(|demand| demand.is_source(ix));
        if swarm.gain(ix, piece, self.now) && swarm.members[ix].held.is_full() {
            self.on_complete(six, ix);
        }
        if is_source {
            self.source_moved(six);
        }
        self.work.fresh.push((six, ix));
        let Some(swarm) = self.swarms.get(six) else { return };
        // A source may read on; a piece whose states nobody told is of no use yet.
        let has_source = swarm.demand.as_ref().is_some_and(|demand| demand.lease.is_some());
        if has_source || !swarm.linked.contains(piece) {
            self.work.leases.insert(six);
        }
    }

    /// A member holds everything. The source has checked every link of the chain that is known here; another member may
    /// have proven its own, which it says.
    fn on_complete(&mut self, six: SwarmIx, ix: MemberIx) {
        let swarm = &mut self.swarms[six];
        let Some(want) = &swarm.members[ix].want else { return };
        let (host, priority) = (swarm.members[ix].host, want.priority);
        self.wants_no_more(host, priority, six);
        let swarm = &mut self.swarms[six];
        let Some(demand) = &mut swarm.demand else { return };
        demand.unlist(ix);
        if demand.is_source(ix) && !swarm.is_closed() && swarm.chain.is_whole() {
            self.close(six);
        }
    }

    /// A transfer failed, says its child.
    pub(crate) fn on_failed(
        &mut self,
        six: SwarmIx,
        child: MemberIx,
        (piece, parent): (PieceIndex, HostId),
        epoch: Epoch,
        why: FetchFailure,
    ) {
        let tix = self.transfer_of(six, child, piece);
        let Some(tix) = tix.filter(|t| self.hosts[self.transfers[*t].parent_host].id == parent) else {
            self.counters.ignored += 1;
            return;
        };
        let Some(transfer) = self.end_transfer(tix, false) else { return };
        match why {
            FetchFailure::Corrupt => self.counters.failed_corrupt += 1,
            FetchFailure::Busy => self.counters.failed_busy += 1,
            _ => self.counters.failed_other += 1,
        }
        if epoch == transfer.epoch {
            self.react_to_failure(&transfer, why);
        } else {
            self.counters.ignored += 1;
        }
        self.missed(six, child);
    }

    fn react_to_failure(&mut self, transfer: &Transfer, why: FetchFailure) {
        let (child, parent) = (transfer.child_host, transfer.parent_host);
        match why {
            FetchFailure::Corrupt => self.accuse(transfer),
            FetchFailure::NotHeld => {
                self.swarms[transfer.swarm].lose(transfer.parent, transfer.piece);
                self.missed(transfer.swarm, transfer.parent);
                self.work.leases.insert(transfer.swarm);
            }
            FetchFailure::Busy => {
                self.hosts[parent].upload_pause = self.now + self.options.busy_pause;
                self.wake_host_at(parent, self.now + self.options.busy_pause);
            }
            FetchFailure::Local => {
                self.hosts[child].download_pause = self.now + self.options.busy_pause;
                self.wake_host_at(child, self.now + self.options.busy_pause);
            }
            FetchFailure::NotAllowed | FetchFailure::Unreachable | FetchFailure::Stalled => {
                self.unusable(child, parent, why);
            }
        }
    }

    /// Looks for transfers that have taken too long. They have no timers of their own: nearly all end in time, and each would be set
    /// and cleared for nothing.
    pub(crate) fn on_overdue(&mut self) {
        self.timers.clear(&mut self.overdue_alarm, Timer::Overdue);
        let due = self.transfers.iter().map(|(tix, transfer)| (transfer.due(), tix));
        let mut overdue: Vec<_> = due.filter(|(due, _)| *due <= self.now).collect();
        overdue.sort_unstable();
        overdue.into_iter().for_each(|(_, tix)| self.times_out(tix));
        let next = self.transfers.iter().map(|(_, transfer)| transfer.due()).min();
        if let Some(next) = next {
            let next = next.max(self.now + OVERDUE_PAUSE);
            self.timers.set(&mut self.overdue_alarm, Timer::Overdue, next);
        }
    }

    fn times_out(&mut self, tix: TransferIx) {
        let Some(transfer) = self.transfers.get(tix) else { return };
        let (child, parent) = (transfer.child_host, transfer.parent_host);
        self.counters.timed_out += 1;
        self.allowance.ran_out(child, self.hosts.len());
        self.unusable(child, parent, FetchFailure::Stalled);
        self.cancel(tix);
    }
}
