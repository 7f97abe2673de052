//! What the scheduler says, and what is said to it.

use crate::peers::Transfer;
use crate::proof::{Claim, Link};
use crate::readers::Need;
use crate::source::Lease;
use crate::turn::Turn;
use crate::{Download, Failure, FetchId, LinkState};
use std::ops::Range;
use std::time::Duration;
use types::{
    BlobFailure, Credential, Epoch, FetchFailure, HostBody, LeaseFailure, PieceFrom, PieceIndex, Priority,
    SchedulerBody, State, Timestamp,
};

/// States in one message: 32 KiB of SHA-256's.
const STATES_MAX: u32 = 1024;

/// A client's credential is told again only if it lasts this much longer than the one told before.
const CREDENTIAL_GAIN: Duration = Duration::from_secs(30);

/// The chain that was offered contradicts what this host knows better.
struct FalseChain;

impl Download {
    pub(crate) fn hear(&mut self, body: SchedulerBody, turn: &mut Turn<'_>) {
        match body {
            SchedulerBody::Assign { piece, parent, epoch, before, after } => {
                let link = Link { before, after };
                self.assigned(Transfer { piece, parent, epoch, link, void: false }, turn);
            }
            SchedulerBody::Cancel { piece, parent } => {
                self.peers.cancel(turn, |transfer| transfer.piece == piece && transfer.parent == parent);
            }
            SchedulerBody::Lease { epoch, ttl, missing, prefix, limit } => {
                self.leased(
                    Lease { epoch, todo: missing, limit, ttl, unconfirmed_until: None },
                    &prefix,
                    turn,
                );
            }
            SchedulerBody::LeaseLimit { epoch, limit } => {
                if let Some(lease) = self.source.lease.as_mut().filter(|lease| lease.epoch == epoch) {
                    lease.limit = limit;
                    lease.unconfirmed_until = None;
                }
            }
            SchedulerBody::SourceReads => self.alone.helped(turn.now, &self.options, &mut self.rng),
            SchedulerBody::Revoke { epoch } => {
                if self.lease().is_some_and(|mine| mine <= epoch) {
                    self.end_lease(turn);
                }
            }
            SchedulerBody::ChainReset { epoch } => self.chain_void(epoch, turn),
            SchedulerBody::WantChain { epoch, boundaries } => self.tell_chain(epoch, boundaries, turn),
            SchedulerBody::Failed { why } => self.no_help(&why, turn),
        }
    }

    fn assigned(&mut self, transfer: Transfer, turn: &mut Turn<'_>) {
        let Transfer { piece, parent, epoch, link, .. } = transfer;
        if piece.0 >= self.layout.count() || self.is_void(epoch) {
            return;
        }
        if self.hear_states(epoch, piece.0, vec![link.before, link.after], turn).is_err() {
            self.send(HostBody::Failed { piece, parent, epoch, why: FetchFailure::Corrupt }, turn);
            return;
        }
        self.alone.no_source = false;
        if self.proof.holds(piece) {
            self.send(HostBody::Verified { piece, from: PieceFrom::Peer(parent) }, turn);
        } else if self.peers.renew(piece, parent, epoch, link) {
            // It is coming already: the scheduler did not know.
        } else if self.source.is_kept(piece) {
            // Its bytes are here, and what came with the assignment lets them be hashed.
        } else if self.peers.count() >= self.options.fetches_max.max(1) {
            self.send(HostBody::Failed { piece, parent, epoch, why: FetchFailure::Local }, turn);
        } else {
            self.peers.begin(transfer, turn);
        }
    }

    fn leased(&mut self, mut lease: Lease, prefix: &[State], turn: &mut Turn<'_>) {
        let epoch = lease.epoch;
        let fits = lease.todo.count() == self.layout.count();
        if !fits || self.is_void(epoch) || self.lease().is_some_and(|mine| mine > epoch) {
            return;
        }
        if self.proof.is_closed() {
            let body = self.closed_chain(epoch);
            self.send(body, turn);
            return;
        }
        if self.credential == Credential::None {
            self.send(HostBody::LeaseReturned { epoch, why: LeaseFailure::Refused }, turn);
            return;
        }
        if self.hear_states(epoch, 0, prefix.to_vec(), turn).is_err() {
            self.source.lease = None;
            self.declare_false(epoch, turn);
            return;
        }
        self.alone.no_source = false;
        let mut known_better = lease.todo.clone();
        known_better.intersect_with(self.proof.held());
        lease.todo.subtract(&known_better);
        self.source.lease = Some(lease);
        self.source.adopt();
        self.tell_what_is_held(epoch, u32::try_from(prefix.len()).unwrap_or(u32::MAX), turn);
        for piece in known_better.iter() {
            self.send(HostBody::Verified { piece, from: PieceFrom::Origin }, turn);
        }
    }

    /// As the source: the states around the pieces that this host holds, from boundary `first` on. The scheduler may have
    /// lost them, or never had them; without them it cannot count those pieces.
    fn tell_what_is_held(&self, epoch: Epoch, first: u32, turn: &mut Turn<'_>) {
        for run in self.proof.held().runs().filter(|run| run.end >= first) {
            self.tell_states(epoch, run.start.max(first)..run.end + 1, false, turn);
        }
    }

    /// Takes over states that came with this epoch. They prevail over what others said before it.
    fn hear_states(
        &mut self,
        epoch: Epoch,
        boundary: u32,
        states: Vec<State>,
        turn: &mut Turn<'_>,
    ) -> Result<(), FalseChain> {
        if epoch > self.told.chain_epoch {
            self.told.older_states = self.proof.relies_on_others();
        }
        let mut claim = self.proof.hear(boundary, &states);
        if claim == Claim::Contradicts && epoch >= self.told.chain_epoch && self.told.older_states {
            self.reset_chain(turn);
            claim = self.proof.hear(boundary, &states);
        }
        let Claim::Taken { new } = claim else { return Err(FalseChain) };
        self.told.chain_epoch = self.told.chain_epoch.max(epoch);
        if new {
            self.learnt(boundary, states, turn);
        }
        Ok(())
    }

    pub(crate) fn is_void(&self, epoch: Epoch) -> bool {
        self.told.void_epoch.is_some_and(|void| epoch <= void)
    }

    /// This host has found that the chain of `epoch` cannot lead to the digest.
    pub(crate) fn declare_false(&mut self, epoch: Epoch, turn: &mut Turn<'_>) {
        self.send(HostBody::ChainFalse { epoch }, turn);
        self.void_up_to(epoch);
    }

    fn void_up_to(&mut self, epoch: Epoch) {
        self.told.void_epoch = self.told.void_epoch.max(Some(epoch));
    }

    fn chain_void(&mut self, epoch: Epoch, turn: &mut Turn<'_>) {
        if self.proof.is_proven() {
            // It need not forget anything.
            self.tell_proof(turn);
            return;
        }
        self.void_up_to(epoch);
        if self.lease().is_some_and(|mine| mine <= epoch) {
            self.end_lease(turn);
        }
        self.reset_chain(turn);
    }

    fn tell_chain(&self, epoch: Epoch, boundaries: Range<u32>, turn: &mut Turn<'_>) {
        let end = boundaries.end.min(self.layout.count().saturating_add(1));
        let chain = self.proof.chain();
        let known = (boundaries.start..end).find(|i| chain.state(*i).is_none()).unwrap_or(end);
        self.tell_states(epoch, boundaries.start..known.max(boundaries.start), self.proof.is_proven(), turn);
    }

    /// Sends known states in messages of bounded length; one even if there are none. The last says whether the chain is
    /// closed.
    fn tell_states(&self, epoch: Epoch, boundaries: Range<u32>, closed: bool, turn: &mut Turn<'_>) {
        let chain = self.proof.chain();
        let mut boundary = boundaries.start;
        loop {
            let end = boundaries.end.min(boundary.saturating_add(STATES_MAX));
            let states = (boundary..end).filter_map(|i| chain.state(i).copied()).collect();
            let last = end >= boundaries.end;
            self.send(HostBody::Chain { epoch, boundary, states, closed: closed && last }, turn);
            if last {
                return;
            }
            boundary = end;
        }
    }

    fn no_help(&mut self, why: &BlobFailure, turn: &mut Turn<'_>) {
        let client = matches!(self.credential, Credential::Client { .. });
        match why {
            BlobFailure::OriginWrong => self.fail(Failure::OriginWrong, turn),
            BlobFailure::BadKey => self.fail(Failure::BadKey, turn),
            // An origin may hide from others what it shows to this client.
            BlobFailure::NotFound if !client => self.fail(Failure::NotFound, turn),
            BlobFailure::NoEligibleHost if self.credential == Credential::None => {
                self.fail(Failure::Denied, turn);
            }
            BlobFailure::NotFound | BlobFailure::NoEligibleHost => self.alone.no_source = true,
        }
    }

    pub(crate) fn link_changed(&mut self, link: LinkState, turn: &mut Turn<'_>) {
        self.alone.link(turn.now, link, &self.options, &mut self.rng);
        if link != LinkState::Up {
            return;
        }
        // Another scheduler may count its epochs anew, and nothing said on the old stream comes any more.
        self.told.want_due = true;
        self.told.position = None;
        self.told.chain_epoch = Epoch::default();
        self.told.void_epoch = None;
        if let Some(lease) = &mut self.source.lease {
            lease.unconfirmed_until = Some(turn.now + lease.ttl);
        }
    }

    pub(crate) fn credential_changed(&mut self, credential: Credential, turn: &mut Turn<'_>) {
        let same_kind = std::mem::discriminant(&self.credential) == std::mem::discriminant(&credential);
        let until = lapses(credential, turn.now);
        let gained = until > self.told.credential_until.map(|told| told + CREDENTIAL_GAIN);
        self.told.want_due |= !same_kind || (until.is_some() && gained);
        if !same_kind {
            self.alone.origin_worked();
        }
        self.credential = credential;
        // A right comes with a reader, which is about to join.
        self.readers.expect(turn.now);
        if credential == Credential::None {
            self.return_lease(LeaseFailure::CredentialEnds, turn);
        }
    }

    /// Tells the scheduler what this host wants, and where its first reader stands.
    pub(crate) fn announce(&mut self, needs: &[Need], turn: &mut Turn<'_>) {
        if !self.alone.is_up() {
            return;
        }
        let first = needs.first();
        let priority = self.urgency(turn);
        if self.told.want_due || priority != self.told.priority {
            let position = first.map_or_else(|| self.position(), |need| need.piece);
            self.told.want_due = false;
            self.told.wanted = true;
            self.told.priority = priority;
            self.told.position = Some((position, false));
            self.told.position_at = turn.now;
            self.told.credential_until = lapses(self.credential, turn.now);
            let held = self.proof.held().clone();
            let (credential, lease) = (self.credential, self.lease());
            self.send(HostBody::Want { held, credential, priority, position, lease }, turn);
        }
        let Some(need) = first else { return };
        let blocked = need.since.is_some_and(|since| turn.reached(since + self.options.blocked_after));
        let position = Some((need.piece, blocked));
        if position != self.told.position
            && turn.reached(self.told.position_at + self.options.position_interval)
        {
            self.told.position = position;
            self.told.position_at = turn.now;
            self.send(HostBody::Position { piece: need.piece, blocked }, turn);
        }
    }

    /// How urgent this is. A client that reads a blob part by part leaves and comes again: it is taken to be there for as
    /// long as a download lingers. Who reads no more leaves the priority as it was.
    fn urgency(&self, turn: &mut Turn<'_>) -> Priority {
        match self.readers.priority() {
            None => self.told.priority,
            Some(Priority::Waiting) => Priority::Waiting,
            Some(priority) => match self.readers.client_left() {
                Some(left) if !turn.reached(left + self.options.linger) => Priority::Waiting,
                _ => priority,
            },
        }
    }

    /// Where readers were last, or the first missing piece.
    fn position(&self) -> PieceIndex {
        let told = self.told.position.map(|(piece, _)| piece);
        told.or_else(|| self.proof.held().next_out(PieceIndex(0))).unwrap_or_default()
    }

    pub(crate) fn fetched(&mut self, fetch: FetchId, turn: &mut Turn<'_>) {
        let Some(Transfer { piece, parent, link, void, .. }) = self.peers.ended(fetch) else { return };
        if void {
            self.discard_unsure(piece, turn);
        } else if self.proof.link(piece) == Some(link) {
            self.alone.helped(turn.now, &self.options, &mut self.rng);
            self.readers.came(turn.now);
            self.held_now(piece, PieceFrom::Peer(parent), turn);
        } else {
            self.stored_in_doubt(piece, link, turn);
        }
    }

    pub(crate) fn nearly_fetched(&mut self, fetch: FetchId, turn: &mut Turn<'_>) {
        if let Some(transfer) = self.peers.get(fetch) {
            let piece = transfer.piece;
            self.alone.progressed(turn.now);
            self.send(HostBody::NearlyDone { piece }, turn);
        }
    }

    pub(crate) fn fetch_failed(&mut self, fetch: FetchId, why: FetchFailure, turn: &mut Turn<'_>) {
        let asked = self.peers.get(fetch).is_some();
        if let Some(Transfer { piece, parent, epoch, .. }) = self.peers.ended(fetch)
            && asked
        {
            self.send(HostBody::Failed { piece, parent, epoch, why }, turn);
        }
    }
}

fn lapses(credential: Credential, now: Timestamp) -> Option<Timestamp> {
    match credential {
        Credential::Client { remaining } => Some(now + remaining),
        Credential::None | Credential::Anonymous | Credential::Configured => None,
    }
}
