//! One blob and the hosts around it: who holds what, what is known of the chain, and what that makes available.
//!
//! A blob whose chain is not closed has a swarm for each registry it is asked of; once closed, one for all. Counting is
//! done here and only here: every change of what a member holds goes through [`Swarm::gain`] and [`Swarm::lose`].
//! A swarm that nobody wants anything of costs no more than its members' bitmaps.

use crate::demand::Demand;
use crate::held::Held;
use crate::slab::{HostIx, MemberIx, Slab, TransferIx, ZoneIx};
use crate::timers::Alarm;
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use types::{
    BlobKey, Chain, ChainError, Credential, Digest, Epoch, HostId, PieceIndex, PieceLayout, PieceSet,
    Priority, Registry, State, Timestamp,
};

/// A host's part in a swarm.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Member {
    pub(crate) host: HostIx,
    pub(crate) zone: ZoneIx,
    /// In whose name it asks: messages to it carry this registry.
    pub(crate) registry: Registry,
    /// What it has reported as verified.
    pub(crate) held: Held,
    /// It says that it saw the chain end in the digest.
    pub(crate) closed: bool,
    /// It was told that its chain is false, and has not said since what it holds: what it verified before counts no more.
    pub(crate) reset: bool,
    /// It was asked for states that it did not have: its pieces are of no use until somebody else knows them.
    pub(crate) asked_in_vain: bool,
    /// What it holds counts: its host is not muted, and it is not distrusted.
    pub(crate) usable: bool,
    pub(crate) want: Option<Box<Want>>,
}

impl Member {
    /// It wants the blob and does not hold all of it.
    pub(crate) fn lacks(&self) -> bool {
        self.want.is_some() && !self.held.is_full()
    }

    /// It holds the piece, or is being sent it.
    pub(crate) fn has(&self, piece: PieceIndex) -> bool {
        let is_coming = |want: &Want| want.coming.iter().any(|coming| coming.piece == piece);
        self.held.contains(piece) || self.want.as_deref().is_some_and(is_coming)
    }

    /// Of `offered`, what it neither holds nor is being sent, in place of what was in `into`.
    pub(crate) fn misses(&self, held: &[u64], offered: &[u64], into: &mut Vec<u64>) {
        into.clear();
        into.extend(offered.iter().zip(held).map(|(offered, held)| offered & !held));
        self.without_coming(into);
    }

    /// Takes what it is being sent out of a bitmap.
    pub(crate) fn without_coming(&self, bitmap: &mut [u64]) {
        for coming in self.want.iter().flat_map(|want| &want.coming) {
            bitmap[coming.piece.as_usize() / 64] &= !(1 << (coming.piece.0 % 64));
        }
    }

    /// Whether it lacks pieces, and whether a client waits for them.
    fn lack(&self) -> (bool, bool) {
        let waits = self.want.as_ref().is_some_and(|want| want.priority == Priority::Waiting);
        (self.lacks(), waits && self.lacks())
    }
}

/// Whether a member may be the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barred {
    No,
    /// Its credential or its origin did not work; it says so itself when that changes.
    UntilWant,
}

/// A piece on its way to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coming {
    pub(crate) piece: PieceIndex,
    pub(crate) transfer: TransferIx,
}

/// What a member that wants the blob is like. First what many are looked at for, and nothing lost between.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Want {
    /// What is on its way to it.
    pub(crate) coming: SmallVec<[Coming; 4]>,
    /// Parents that sent it bytes that did not match this chain.
    pub(crate) banned: Box<[HostId]>,
    pub(crate) priority: Priority,
    pub(crate) blocked: bool,
    pub(crate) barred: Barred,
    /// It failed as a source, or lost a lease: others are preferred.
    pub(crate) last_resort: bool,
    /// It knows that nobody can be the source.
    pub(crate) told: bool,
    pub(crate) credential: Credential,

    pub(crate) position: PieceIndex,
    pub(crate) picks: u32,
    pub(crate) boosted: u32,
    /// Since when it could have been given a piece and was not.
    pub(crate) hungry_since: Timestamp,
    /// When a client's credential ends.
    pub(crate) expires: Option<Timestamp>,
    pub(crate) since: Timestamp,
}

/// A question for states of the chain, under way.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) member: MemberIx,
    pub(crate) epoch: Epoch,
    pub(crate) boundaries: Range<u32>,
    /// Some of the answer has come, in another message than the rest.
    pub(crate) begun: bool,
}

/// What outlives a chain that was discarded.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Sources whose own reading of all bytes did not lead to the digest.
    pub(crate) wrong: Vec<HostId>,
    /// Sources of discarded chains: others are preferred.
    pub(crate) doubted: Vec<HostId>,
    /// Holders that were asked for states of discarded chains, and told them: others' are preferred.
    pub(crate) tellers: BTreeSet<HostId>,
}

/// A report that a piece did not match the chain, or that the chain is false.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doubt {
    pub(crate) child: HostId,
    /// Which piece from whom; nothing if the whole chain is said to be false.
    pub(crate) piece: Option<(PieceIndex, HostId)>,
    pub(crate) weight: u32,
}

#[derive(Debug)]
pub(crate) struct Swarm {
    pub(crate) digest: Digest,
    pub(crate) layout: PieceLayout,
    /// Of which registry it is asked; none once the chain is closed.
    pub(crate) registry: Option<Registry>,
    pub(crate) chain: Chain,
    /// Which chain: quoted in assignments and in what is said against it.
    pub(crate) epoch: Epoch,
    /// Pieces of which the states before and after are known.
    pub(crate) linked: PieceSet,
    pub(crate) members: Slab<MemberIx, Member>,
    /// Members that want the blob, and those of them that do not hold all of it.
    pub(crate) wanting: usize,
    pub(crate) lacking: usize,
    /// Those that lack something a client waits for.
    pub(crate) awaiting: usize,
    /// Members that say that the chain is closed, and have not been asked for it.
    pub(crate) claims: BTreeSet<MemberIx>,
    /// Members from which all that lack pieces got wrong ones: they do not count until somebody else comes.
    pub(crate) distrusted: BTreeSet<MemberIx>,
    /// Some state was learnt: the chain is more than its two ends.
    pub(crate) learnt: bool,
    pub(crate) query: Option<Query>,
    pub(crate) query_alarm: Alarm,
    /// Holders that were asked for states of this chain, and told them.
    pub(crate) tellers: BTreeSet<HostId>,
    pub(crate) history: History,
    pub(crate) doubts: Vec<Doubt>,
    pub(crate) demand: Option<Box<Demand>>,
    pub(crate) full: Arc<PieceSet>,
}

impl Swarm {
    pub(crate) fn new(chain: Chain, registry: Registry, epoch: Epoch) -> Self {
        let layout = chain.layout();
        let mut swarm = Self {
            digest: *chain.digest(),
            layout,
            registry: Some(registry),
            chain,
            epoch,
            linked: PieceSet::empty(layout.count()),
            members: Slab::default(),
            wanting: 0,
            lacking: 0,
            awaiting: 0,
            claims: BTreeSet::new(),
            distrusted: BTreeSet::new(),
            learnt: false,
            query: None,
            query_alarm: Alarm::default(),
            tellers: BTreeSet::new(),
            history: History::default(),
            doubts: Vec::new(),
            demand: None,
            full: Arc::new(PieceSet::full(layout.count())),
        };
        if layout.count() == 1 {
            // Both states of the only piece are known from the start: no host has to tell them.
            swarm.linked.insert(PieceIndex(0));
        }
        swarm
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.registry.is_none()
    }

    pub(crate) fn count(&self) -> u32 {
        self.layout.count()
    }

    /// The blob as `member` knows it.
    pub(crate) fn key(&self, member: MemberIx) -> BlobKey {
        let registry = self.members[member].registry.clone();
        BlobKey { digest: self.digest, size: self.layout.size(), registry }
    }

    /// `member` wants the blob from now on, or no more. What it wanted before.
    pub(crate) fn set_want(&mut self, ix: MemberIx, want: Option<Box<Want>>) -> Option<Box<Want>> {
        self.uncount(ix);
        let member = &mut self.members[ix];
        self.wanting -= usize::from(member.want.is_some());
        let before = std::mem::replace(&mut member.want, want);
        self.wanting += usize::from(member.want.is_some());
        self.count_lack(ix);
        before
    }

    /// How urgent it is to `member` from now on. How urgent it was.
    pub(crate) fn set_priority(&mut self, ix: MemberIx, priority: Priority) -> Option<Priority> {
        self.uncount(ix);
        let want = self.members[ix].want.as_mut();
        let before = want.map(|want| std::mem::replace(&mut want.priority, priority));
        self.count_lack(ix);
        before
    }

    fn count_lack(&mut self, ix: MemberIx) {
        let (lacks, awaits) = self.members[ix].lack();
        self.lacking += usize::from(lacks);
        self.awaiting += usize::from(awaits);
    }

    fn uncount(&mut self, ix: MemberIx) {
        let (lacks, awaits) = self.members[ix].lack();
        self.lacking -= usize::from(lacks);
        self.awaiting -= usize::from(awaits);
    }

    /// A piece was verified by `member`. Whether that is new.
    pub(crate) fn gain(&mut self, ix: MemberIx, piece: PieceIndex, now: Timestamp) -> bool {
        if self.members[ix].held.contains(piece) {
            return false;
        }
        if self.members[ix].held.len() + 1 == self.full.len() {
            self.uncount(ix);
        }
        let member = &mut self.members[ix];
        member.held.add(piece, &self.full);
        if let Some(demand) = &mut self.demand {
            demand.overview.gain(ix, piece);
        }
        if member.usable {
            self.count_in(ix, piece, now);
        }
        self.source_done(ix, piece);
        true
    }

    /// `member` does not hold the piece any more. Whether it did.
    pub(crate) fn lose(&mut self, ix: MemberIx, piece: PieceIndex) -> bool {
        let member = &mut self.members[ix];
        if !member.held.contains(piece) {
            return false;
        }
        let was_full = member.held.is_full();
        member.held.remove(piece);
        if let Some(demand) = &mut self.demand {
            demand.overview.lose(ix, piece);
        }
        if was_full {
            self.count_lack(ix);
        }
        if self.members[ix].usable {
            self.count_out(ix, piece);
        }
        true
    }

    /// What `member` holds counts from now on, or counts no more.
    pub(crate) fn set_usable(&mut self, ix: MemberIx, usable: bool, now: Timestamp) {
        if self.members[ix].usable == usable {
            return;
        }
        self.members[ix].usable = usable;
        let held = self.members[ix].held.clone();
        for piece in held.iter() {
            if usable {
                self.count_in(ix, piece, now);
            } else {
                self.count_out(ix, piece);
            }
        }
    }

    fn count_in(&mut self, ix: MemberIx, piece: PieceIndex, now: Timestamp) {
        let Some(demand) = &mut self.demand else { return };
        let sole = demand.add_holder(ix, piece, now);
        if let Some(lease) = &mut demand.lease
            && lease.counted.contains(piece)
        {
            if sole && lease.member == ix {
                lease.unique += 1;
            } else if demand.holders[piece.as_usize()] == 2
                && lease.member != ix
                && self.members[lease.member].usable
                && self.members[lease.member].held.contains(piece)
            {
                lease.unique -= 1;
            }
        }
        if sole && self.linked.contains(piece) {
            self.available(piece, now);
        }
    }

    fn count_out(&mut self, ix: MemberIx, piece: PieceIndex) {
        let Some(demand) = &mut self.demand else { return };
        demand.remove_holder(ix, piece);
        let left = demand.holders[piece.as_usize()];
        if let Some(lease) = &mut demand.lease
            && lease.counted.contains(piece)
        {
            if left == 0 && lease.member == ix {
                lease.unique -= 1;
            } else if left == 1
                && lease.member != ix
                && self.members[lease.member].usable
                && self.members[lease.member].held.contains(piece)
            {
                lease.unique += 1;
            }
        }
    }

    /// The source need not read `piece` any more if it holds it and the piece can be passed on.
    fn source_done(&mut self, ix: MemberIx, piece: PieceIndex) {
        if let Some(demand) = &mut self.demand
            && let Some(lease) = &mut demand.lease
            && lease.member == ix
            && self.linked.contains(piece)
        {
            lease.remaining.remove(piece);
        }
    }

    /// `piece` can be assigned from now on: members that waited for such a thing are hungry again.
    fn available(&mut self, piece: PieceIndex, now: Timestamp) {
        let Some(demand) = &mut self.demand else { return };
        demand.avail.insert(piece);
        demand.last_gain = now;
        for ix in demand.sated().to_vec() {
            let member = &mut self.members[ix];
            let has = member.has(piece);
            if let Some(want) = member.want.as_mut().filter(|_| !has) {
                want.hungry_since = now;
                demand.set_hungry(ix, want.priority);
            }
        }
    }

    /// Takes states over; the pieces that can be verified thereby become available.
    ///
    /// # Errors
    /// As [`Chain::learn`]; nothing has changed then.
    pub(crate) fn learn(
        &mut self,
        boundary: u32,
        states: &[State],
        now: Timestamp,
    ) -> Result<bool, ChainError> {
        if !self.chain.learn(boundary, states)? {
            return Ok(false);
        }
        self.learnt = true;
        let end = boundary.saturating_add(u32::try_from(states.len()).unwrap_or(u32::MAX)).min(self.count());
        for piece in (boundary.saturating_sub(1)..end).map(PieceIndex) {
            if self.chain.link(piece).is_some() && self.linked.insert(piece) {
                self.link(piece, now);
            }
        }
        Ok(true)
    }

    fn link(&mut self, piece: PieceIndex, now: Timestamp) {
        let Some(demand) = &self.demand else { return };
        if let Some(source) = demand.lease.as_ref().map(|lease| lease.member)
            && self.members[source].held.contains(piece)
        {
            self.source_done(source, piece);
        }
        if self.demand.as_ref().is_some_and(|demand| demand.held.contains(piece)) {
            self.available(piece, now);
        }
    }

    /// Starts counting, since somebody wants the blob.
    pub(crate) fn activate(&mut self, rarity_cap: u8, now: Timestamp) {
        if self.demand.is_some() {
            return;
        }
        self.demand = Some(Box::new(Demand::new(self.count(), rarity_cap, now)));
        for ix in self.members.keys() {
            self.enlist(ix, now);
        }
    }

    /// Counts a member that is new to the demand.
    pub(crate) fn enlist(&mut self, ix: MemberIx, now: Timestamp) {
        let Some(demand) = &mut self.demand else { return };
        let member = &self.members[ix];
        demand.join(ix, (member.host, member.zone), &member.held);
        if member.usable {
            let held = member.held.clone();
            for piece in held.iter() {
                self.count_in(ix, piece, now);
            }
        }
    }

    /// Hosts other than `source` that still lack pieces.
    pub(crate) fn others_lacking(&self, source: MemberIx) -> bool {
        self.lacking > usize::from(self.members.get(source).is_some_and(Member::lacks))
    }
}
