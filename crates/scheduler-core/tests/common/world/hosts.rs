//! How the world's hosts behave: what they do with what they are told, and what fails.

use super::{Action, Lease, World};
use types::{
    Credential, FetchFailure, HostBody, LeaseFailure, PieceFrom, PieceIndex, PieceSet, Priority,
    SchedulerBody, SchedulerMessage,
};

impl World {
    pub(super) fn hear(&mut self, who: usize, message: SchedulerMessage) {
        let blob = self.blob_of(&message.key);
        let life = self.hosts[who].life;
        let copy = &mut self.hosts[who].copies[blob];
        match message.body {
            SchedulerBody::Assign { piece, parent, epoch, .. } => {
                copy.known.insert(piece);
                copy.known.insert(piece.next());
                if copy.held.contains(piece) {
                    self.say(who, blob, HostBody::Verified { piece, from: PieceFrom::Peer(parent) });
                    return;
                }
                copy.fetches.insert(piece.0, (parent, epoch));
                let done = self.within(20);
                self.at(done, Action::Fetched { by: who, life, blob, piece: piece.0 });
                if self.rng.bool() {
                    self.say(who, blob, HostBody::NearlyDone { piece });
                }
            }
            SchedulerBody::SourceReads => {}
            SchedulerBody::Cancel { piece, parent } => {
                if copy.fetches.get(&piece.0).is_some_and(|(from, _)| *from == parent) {
                    copy.fetches.remove(&piece.0);
                }
            }
            SchedulerBody::Lease { epoch, missing, prefix, limit, .. } => {
                for boundary in 0..u32::try_from(prefix.len()).unwrap() {
                    copy.known.insert(PieceIndex(boundary));
                }
                copy.lease = Some(Lease { epoch, missing, limit });
                copy.round += 1;
                self.schedule_read(who, blob);
            }
            SchedulerBody::LeaseLimit { epoch, limit } => {
                if let Some(lease) = copy.lease.as_mut().filter(|lease| lease.epoch == epoch) {
                    lease.limit = limit;
                    copy.round += 1;
                    self.schedule_read(who, blob);
                }
            }
            SchedulerBody::Revoke { epoch } => {
                if copy.lease.as_ref().is_some_and(|lease| lease.epoch == epoch) {
                    copy.lease = None;
                }
            }
            SchedulerBody::WantChain { epoch, boundaries } => {
                let known = boundaries.clone().take_while(|b| copy.known.contains(PieceIndex(*b))).count();
                let (start, closed) = (boundaries.start as usize, copy.closed);
                let states = self.blobs[blob].states[start..start + known].to_vec();
                let mut boundary = boundaries.start;
                for part in states.chunks(16) {
                    let end = boundary + u32::try_from(part.len()).unwrap();
                    let closed = closed && end as usize == start + known;
                    self.say(who, blob, HostBody::Chain { epoch, boundary, states: part.to_vec(), closed });
                    boundary = end;
                }
                if states.is_empty() {
                    self.say(who, blob, HostBody::Chain { epoch, boundary, states, closed });
                }
            }
            SchedulerBody::Failed { .. } => {
                copy.alone = true;
                copy.round += 1;
                self.schedule_read(who, blob);
            }
            SchedulerBody::ChainReset { .. } => self.start_anew(who, blob),
        }
    }

    /// A real host keeps its bytes and compares; this one starts anew, and says so as a real one does.
    fn start_anew(&mut self, who: usize, blob: usize) {
        let copy = &mut self.hosts[who].copies[blob];
        copy.held = PieceSet::empty(copy.held.count());
        copy.known = super::super::set(copy.known.count(), [0, copy.known.count() - 1]);
        copy.closed = false;
        copy.lease = None;
        copy.round += 1;
        copy.fetches.clear();
        let alone = copy.alone;
        self.tell_all(who, blob);
        if alone {
            self.schedule_read(who, blob);
        }
    }

    fn schedule_read(&mut self, who: usize, blob: usize) {
        let (life, round) = (self.hosts[who].life, self.hosts[who].copies[blob].round);
        let at = self.within(10);
        self.at(at, Action::Read { by: who, life, blob, round });
    }

    /// The origin has sent the next piece that this host may read, and whose hash it can continue.
    pub(super) fn read(&mut self, who: usize, blob: usize, round: u32) {
        let guest = self.hosts[who].guest;
        let copy = &mut self.hosts[who].copies[blob];
        if copy.round != round || guest {
            return;
        }
        let held = &copy.held;
        copy.lease.take_if(|lease| lease.missing.iter().all(|piece| held.contains(piece)));
        let (piece, from) = match &copy.lease {
            Some(lease) => {
                let next = lease.missing.iter().find(|p| !copy.held.contains(*p));
                let Some(piece) = next.filter(|p| p.0 < lease.limit) else { return };
                (piece, PieceFrom::Origin)
            }
            None if copy.alone => match copy.held.next_out(PieceIndex(0)) {
                Some(piece) => (piece, PieceFrom::Fallback),
                None => return,
            },
            None => return,
        };
        if !copy.known.contains(piece) {
            // The state before it comes with a piece from a peer.
            self.schedule_read(who, blob);
            return;
        }
        if let Some(epoch) = copy.lease.as_ref().map(|lease| lease.epoch)
            && self.occurs(self.setup.faults.origin_fails)
        {
            let kinds = [LeaseFailure::Throttled, LeaseFailure::Unreachable, LeaseFailure::Local];
            let why = kinds[self.rng.usize(..kinds.len())].clone();
            self.hosts[who].copies[blob].lease = None;
            self.say(who, blob, HostBody::LeaseReturned { epoch, why: why.clone() });
            if why == LeaseFailure::Local {
                self.want_again(who, blob);
            }
            return;
        }
        self.store_read(who, blob, piece, from);
        self.schedule_read(who, blob);
    }

    /// After a failure of its own a host asks again: it is eligible again.
    fn want_again(&mut self, who: usize, blob: usize) {
        let held = self.hosts[who].copies[blob].held.clone();
        let (credential, priority) = (Credential::Anonymous, Priority::Waiting);
        self.say(
            who,
            blob,
            HostBody::Want { held, credential, priority, position: PieceIndex(0), lease: None },
        );
    }

    fn store_read(&mut self, who: usize, blob: usize, piece: PieceIndex, from: PieceFrom) {
        match from {
            PieceFrom::Origin => self.origin_pieces[blob] += 1,
            _ => self.fallback_pieces += 1,
        }
        let after = self.blobs[blob].states[piece.as_usize() + 1];
        let copy = &mut self.hosts[who].copies[blob];
        copy.held.insert(piece);
        copy.known.insert(piece.next());
        let full = copy.held.is_full();
        copy.closed |= full;
        if let Some(epoch) = copy.lease.as_ref().map(|lease| lease.epoch) {
            let boundary = piece.0 + 1;
            self.say(who, blob, HostBody::Chain { epoch, boundary, states: vec![after], closed: false });
        }
        self.say(who, blob, HostBody::Verified { piece, from });
        let copy = &mut self.hosts[who].copies[blob];
        if full && let Some(lease) = copy.lease.take() {
            let body = HostBody::Chain { epoch: lease.epoch, boundary: 0, states: vec![], closed: true };
            self.say(who, blob, body);
        }
    }

    pub(super) fn fetched(&mut self, who: usize, blob: usize, piece: u32) {
        let Some((parent, epoch)) = self.hosts[who].copies[blob].fetches.remove(&piece) else { return };
        let from = self.index(parent);
        let index = PieceIndex(piece);
        let failure = if !self.hosts[from].alive {
            Some(FetchFailure::Unreachable)
        } else if !self.hosts[from].copies[blob].held.contains(index) {
            Some(FetchFailure::NotHeld)
        } else if self.hosts[from].corrupts && !self.hosts[who].corrupts {
            self.corrupt_seen += 1;
            Some(FetchFailure::Corrupt)
        } else if self.occurs(self.setup.faults.fetch_fails) {
            let kinds =
                [FetchFailure::Busy, FetchFailure::Unreachable, FetchFailure::Stalled, FetchFailure::Local];
            Some(kinds[self.rng.usize(..kinds.len())])
        } else {
            None
        };
        if let Some(why) = failure {
            self.say(who, blob, HostBody::Failed { piece: index, parent, epoch, why });
            return;
        }
        let copy = &mut self.hosts[who].copies[blob];
        copy.held.insert(index);
        copy.closed |= copy.held.is_full();
        self.say(who, blob, HostBody::Verified { piece: index, from: PieceFrom::Peer(parent) });
    }
}
