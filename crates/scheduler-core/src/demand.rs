//! What a swarm keeps only while somebody wants its blob: copies by piece and by zone, who waits, who could serve.

use crate::admission::Waiting;
use crate::handover::Handovers;
use crate::lease::Lease;
use crate::overview::Overview;
use crate::rarity::Rarity;
use crate::roster::Roster;
use crate::slab::{HostIx, MemberIx, Slot, ZoneIx};
use crate::timers::Alarm;
use types::{PieceIndex, PieceSet, Priority, Timestamp};

/// The members of one zone.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) zone: ZoneIx,
    pub(crate) members: u32,
    /// How many usable members hold each piece.
    pub(crate) holders: Vec<u32>,
    /// The pieces that at least one does.
    pub(crate) held: PieceSet,
    /// The pieces on their way into this zone: one transfer each.
    pub(crate) crossing: PieceSet,
    /// When a piece last became held here.
    pub(crate) last_gain: Timestamp,
}

/// The number of priorities.
pub(crate) const PRIORITIES: usize = 3;
/// The list of those for whom there is nothing at the moment.
const SATED: u32 = 0;

/// The priorities by [`rank`].
pub(crate) const BY_RANK: [Priority; PRIORITIES] = [Priority::Waiting, Priority::Preheat, Priority::Prefetch];

/// A priority as an index.
pub(crate) fn rank(priority: Priority) -> usize {
    match priority {
        Priority::Waiting => 0,
        Priority::Preheat => 1,
        Priority::Prefetch => 2,
    }
}

#[derive(Debug)]
pub(crate) struct Demand {
    pub(crate) rarity: Rarity,
    /// How many usable members hold each piece.
    pub(crate) holders: Vec<u32>,
    pub(crate) held: PieceSet,
    /// Held by somebody usable, and both states are known: can be assigned.
    pub(crate) avail: PieceSet,
    pub(crate) parts: Vec<Part>,
    pub(crate) overview: Overview,
    /// Which part each member is in.
    part_of: Vec<u32>,
    /// Members that hold something and whose host may have an upload slot free, by part.
    pub(crate) idle: Roster,
    /// Members that lack pieces and whose host may have a download slot free.
    need: Roster,
    /// How many of those are hungry, by priority.
    pub(crate) hungry: [usize; PRIORITIES],
    /// A piece stopped being available: whether the source has to read it must be looked at.
    pub(crate) lost: bool,
    /// When a piece last became available.
    pub(crate) last_gain: Timestamp,
    /// When those who wait were told last that the source gets on.
    pub(crate) told_waiting: Timestamp,
    pub(crate) lease: Option<Lease>,
    /// Its place among the blobs of the registry that wait to be begun.
    pub(crate) waiting: Option<Waiting>,
    /// The last member that had the lease: it serves each piece about once and leaves the rest to others.
    pub(crate) last_source: Option<MemberIx>,
    /// How many pieces it has sent, or is sending, that others in the child's zone had too.
    pub(crate) source_extras: u32,
    /// How often a slow source has handed over.
    pub(crate) handovers: Handovers,
    /// Leases in a row that lapsed without progress.
    pub(crate) lapses: u32,
    /// No lease before then: the origin asked for a pause.
    pub(crate) backoff_until: Timestamp,
    pub(crate) backoffs: u32,
    pub(crate) transfers: usize,
    pub(crate) lease_alarm: Alarm,
    pub(crate) consider_alarm: Alarm,
    pub(crate) retry_alarm: Alarm,
    /// How often in a row looking again was in vain.
    pub(crate) retries: u32,
    /// Where the next round of looking again begins.
    pub(crate) retry_cursor: usize,
}

impl Demand {
    pub(crate) fn new(count: u32, rarity_cap: u8, now: Timestamp) -> Self {
        Self {
            rarity: Rarity::new(count, rarity_cap),
            holders: vec![0; count as usize],
            held: PieceSet::empty(count),
            avail: PieceSet::empty(count),
            parts: Vec::new(),
            overview: Overview::new(count),
            part_of: Vec::new(),
            idle: Roster::default(),
            need: Roster::default(),
            hungry: [0; PRIORITIES],
            lost: false,
            last_gain: now,
            told_waiting: Timestamp::ZERO,
            lease: None,
            waiting: None,
            last_source: None,
            source_extras: 0,
            handovers: Handovers::default(),
            lapses: 0,
            backoff_until: Timestamp::ZERO,
            backoffs: 0,
            transfers: 0,
            lease_alarm: Alarm::default(),
            consider_alarm: Alarm::default(),
            retry_alarm: Alarm::default(),
            retries: 0,
            retry_cursor: 0,
        }
    }

    /// Takes a member into its zone's part.
    pub(crate) fn join(&mut self, ix: MemberIx, (host, zone): (HostIx, ZoneIx), held: &PieceSet) {
        self.overview.join(ix, host, held);
        let count = u32::try_from(self.holders.len()).expect("a blob's pieces are counted in 32 bits");
        let part = self.parts.iter().position(|p| p.zone == zone && p.members > 0);
        let part = part.or_else(|| {
            let empty = self.parts.iter().position(|p| p.members == 0)?;
            self.parts[empty].zone = zone;
            Some(empty)
        });
        let part = part.unwrap_or_else(|| {
            self.parts.push(Part {
                zone,
                members: 0,
                holders: vec![0; self.holders.len()],
                held: PieceSet::empty(count),
                crossing: PieceSet::empty(count),
                last_gain: Timestamp::ZERO,
            });
            self.parts.len() - 1
        });
        self.parts[part].members += 1;
        if self.part_of.len() <= ix.index() {
            self.part_of.resize(ix.index() + 1, u32::MAX);
        }
        self.part_of[ix.index()] = u32::try_from(part).expect("no more parts than hosts");
    }

    /// Lets a member go that holds nothing and has nothing under way any more.
    pub(crate) fn part(&mut self, ix: MemberIx, host: HostIx) {
        self.overview.leave(host);
        self.idle.take(ix);
        self.unlist(ix);
        let part = std::mem::replace(&mut self.part_of[ix.index()], u32::MAX);
        self.parts[part as usize].members -= 1;
        if self.last_source == Some(ix) {
            self.last_source = None;
        }
    }

    /// Whether the source would send what somebody else in the child's zone could.
    pub(crate) fn is_extra(&self, child: MemberIx, parent: MemberIx, piece: PieceIndex) -> bool {
        let part = self.part_ix(child);
        let own = u32::from(part == self.part_ix(parent));
        self.last_source == Some(parent) && self.parts[part as usize].holders[piece.as_usize()] > own
    }

    /// From now on this lease's member is the source.
    pub(crate) fn set_source(&mut self, lease: Lease) {
        if self.last_source != Some(lease.member) {
            self.source_extras = 0;
        }
        self.last_source = Some(lease.member);
        self.lease = Some(lease);
    }

    pub(crate) fn part_ix(&self, ix: MemberIx) -> u32 {
        self.part_of[ix.index()]
    }

    pub(crate) fn part_mut(&mut self, ix: MemberIx) -> &mut Part {
        let part = self.part_ix(ix);
        &mut self.parts[part as usize]
    }

    /// One holder more; whether it is the only one.
    pub(crate) fn add_holder(&mut self, ix: MemberIx, piece: PieceIndex, now: Timestamp) -> bool {
        self.rarity.add(piece);
        let part = self.part_mut(ix);
        part.holders[piece.as_usize()] += 1;
        if part.held.insert(piece) {
            part.last_gain = now;
        }
        self.holders[piece.as_usize()] += 1;
        self.held.insert(piece)
    }

    pub(crate) fn remove_holder(&mut self, ix: MemberIx, piece: PieceIndex) {
        self.rarity.sub(piece);
        let part = self.part_mut(ix);
        part.holders[piece.as_usize()] -= 1;
        if part.holders[piece.as_usize()] == 0 {
            part.held.remove(piece);
        }
        self.holders[piece.as_usize()] -= 1;
        if self.holders[piece.as_usize()] == 0 {
            self.held.remove(piece);
            self.lost |= self.avail.remove(piece);
        }
    }

    fn hungry_list(&self, ix: MemberIx, priority: Priority) -> u32 {
        self.list_of(self.part_ix(ix), rank(priority))
    }

    fn list_of(&self, part: u32, rank: usize) -> u32 {
        let ranks = u32::try_from(PRIORITIES).expect("a small constant");
        1 + part * ranks + u32::try_from(rank).expect("a small constant")
    }

    fn rank_of(list: u32) -> Option<usize> {
        (list != SATED).then(|| (list - 1) as usize % PRIORITIES)
    }

    /// The hungry members of one part and priority.
    pub(crate) fn hungry_in(&self, part: u32, rank: usize) -> &[MemberIx] {
        self.need.list(self.list_of(part, rank))
    }

    /// Whether a member is one of those.
    pub(crate) fn is_hungry_in(&self, ix: MemberIx, part: u32, rank: usize) -> bool {
        self.need.place(ix) == Some(self.list_of(part, rank))
    }

    /// The members for whom nothing is available.
    pub(crate) fn sated(&self) -> &[MemberIx] {
        self.need.list(SATED)
    }

    fn place(&mut self, ix: MemberIx, list: Option<u32>) {
        if let Some(rank) = self.need.place(ix).and_then(Self::rank_of) {
            self.hungry[rank] -= 1;
        }
        match list {
            Some(list) => self.need.put(ix, list),
            None => self.need.take(ix),
        }
        if let Some(rank) = list.and_then(Self::rank_of) {
            self.hungry[rank] += 1;
        }
    }

    pub(crate) fn set_hungry(&mut self, ix: MemberIx, priority: Priority) {
        self.place(ix, Some(self.hungry_list(ix, priority)));
    }

    pub(crate) fn set_sated(&mut self, ix: MemberIx) {
        self.place(ix, Some(SATED));
    }

    /// Out of both lists: it lacks nothing, or its host has no slot free and looks again when it has.
    pub(crate) fn unlist(&mut self, ix: MemberIx) {
        self.place(ix, None);
    }

    pub(crate) fn is_listed(&self, ix: MemberIx) -> bool {
        self.need.place(ix).is_some()
    }

    pub(crate) fn is_sated(&self, ix: MemberIx) -> bool {
        self.need.place(ix) == Some(SATED)
    }

    pub(crate) fn is_source(&self, ix: MemberIx) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.member == ix)
    }
}
