//! Whether a child can take something from a parent, which piece, and how good a match that is.
//!
//! Rules: a piece that only the source has goes first; then one that the child's zone lacks; then the rarest, the
//! lowest index among equals. A reader that is blocked gets its piece sooner, for at most a quarter of its picks.

use crate::demand::Demand;
use crate::glance::Glance;
use crate::hosts::{Host, Hosts};
use crate::options::Options;
use crate::slab::{MemberIx, Slab, SwarmIx, TransferIx};
use crate::swarm::{Swarm, Want};
use crate::transfers::Transfer;
use types::{PieceIndex, Timestamp};

/// How far beyond a blocked reader's position a piece still counts as helping it.
const BOOST_REACH: u32 = 4;
/// One pick in so many may be for a blocked reader.
const BOOST_SHARE: u32 = 4;
/// The level of a first copy: nobody but the one parent has it, and it is on its way to nobody.
const FIRST_COPY: u8 = 1;
/// The source may send one piece in so many once more before others could.
const EXTRAS_SHARE: u32 = 4;
/// Beyond that it waits so many times as long.
const SPENT_PATIENCE_FACTOR: u32 = 4;

/// How good a match is; the smallest is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score {
    /// Copies of the piece, up to the cap.
    level: u8,
    /// For first copies: children that get none at the moment, that can pass it on at once, and fast.
    link: u8,
    /// Same rack, same zone, elsewhere.
    distance: u8,
    /// Whether they have to connect first.
    strange: bool,
    /// How busy the parent is.
    load: u8,
    piece: PieceIndex,
}

impl Score {
    /// Whether nobody else can be better by more than chance, if no piece is scarcer than of this level. Who shall pass on a first
    /// copy is looked for with more care.
    pub(crate) fn is_best(&self, floor: u8) -> bool {
        (FIRST_COPY + 1..=floor).contains(&self.level) && self.distance == 0
    }
}

/// A transfer that could be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) score: Score,
    pub(crate) child: MemberIx,
    pub(crate) parent: MemberIx,
    pub(crate) piece: PieceIndex,
    pub(crate) crossing: bool,
    pub(crate) boosted: bool,
}

/// One swarm, looked at at one moment.
pub(crate) struct Judge<'a> {
    pub(crate) six: SwarmIx,
    pub(crate) swarm: &'a Swarm,
    pub(crate) demand: &'a Demand,
    pub(crate) hosts: &'a Hosts,
    pub(crate) transfers: &'a Slab<TransferIx, Transfer>,
    pub(crate) options: &'a Options,
    pub(crate) now: Timestamp,
    pub(crate) scratch: &'a mut Vec<u64>,
    pub(crate) glance: &'a mut Glance,
}

impl Judge<'_> {
    /// Looks for a child for `parent` from now on.
    pub(crate) fn look_for_child(&mut self, parent: MemberIx) {
        self.glance.needed = false;
        let held = self.demand.overview.held(parent).iter();
        self.glance.set(held.zip(self.demand.avail.words()).map(|(held, avail)| held & avail));
    }

    /// Looks for a parent for `child` from now on. Whether there is something that anybody could give it.
    pub(crate) fn look_for_parent(&mut self, child: MemberIx) -> bool {
        self.glance.needed = true;
        let (held, avail) = (self.demand.overview.held(child), self.demand.avail.words());
        self.swarm.members[child].misses(held, avail, self.scratch);
        self.spare_the_source(child);
        self.glance.set(self.scratch.iter().copied())
    }

    /// Whether `child` lacks something of the parent that a child is looked for, which is not on its way to it.
    pub(crate) fn could_take(&self, child: MemberIx) -> bool {
        let overview = &self.demand.overview;
        self.glance.any_out_of(overview.held(child), overview.coming(child))
    }

    /// Whether `parent` holds something for the child that a parent is looked for.
    pub(crate) fn could_give(&self, parent: MemberIx) -> bool {
        self.glance.any_in(self.demand.overview.held(parent))
    }

    /// What the source will read is not sent to it as well.
    fn spare_the_source(&mut self, child: MemberIx) {
        if let Some(lease) = self.demand.lease.as_ref().filter(|lease| lease.member == child) {
            for (word, remaining) in self.scratch.iter_mut().zip(lease.remaining.words()) {
                *word &= !remaining;
            }
        }
    }

    /// Whether members of part `from` may have something for `child`, for which a parent is looked for.
    pub(crate) fn worth_asking(&self, child: MemberIx, from: u32) -> bool {
        let own = self.demand.part_ix(child);
        let part = &self.demand.parts[own as usize];
        if own == from {
            return self.glance.any_in(part.held.words());
        }
        let opened = self.gate_opened(child);
        let (crossing, held) = (part.crossing.words(), part.held.words());
        let shut = |w: usize| if opened { crossing[w] } else { crossing[w] | held[w] };
        self.glance.words().any(|(w, need)| need & !shut(w) != 0)
    }

    /// Whether `parent` holds something that part `to` lacks and that is not on its way there.
    pub(crate) fn can_cross(&self, parent: MemberIx, to: u32) -> bool {
        let part = &self.demand.parts[to as usize];
        let held = self.demand.overview.held(parent).iter().zip(self.demand.avail.words());
        let gate = part.held.words().iter().zip(part.crossing.words());
        held.zip(gate).any(|((held, avail), (inside, crossing))| held & avail & !inside & !crossing != 0)
    }

    /// Whether `child` has waited so long for a holder in its zone that none is going to serve it.
    fn gate_opened(&self, child: MemberIx) -> bool {
        let member = &self.swarm.members[child];
        let Some(want) = &member.want else { return false };
        let waited = self.now.since(want.hungry_since);
        let part = &self.demand.parts[self.demand.part_ix(child) as usize];
        let quiet = self.now.since(part.last_gain).min(waited);
        // One that cannot use some parents may be waiting for just those, whatever else goes on in its zone.
        let shunned = !want.banned.is_empty() || !self.hosts[member.host].avoid.is_empty();
        quiet >= self.options.gate_patience || (shunned && waited >= self.options.gate_patience / 4)
    }

    /// The best piece that `child` can get from `parent`.
    pub(crate) fn pair(&mut self, child: MemberIx, parent: MemberIx) -> Option<Choice> {
        let (c, p) = (&self.swarm.members[child], &self.swarm.members[parent]);
        let want = c.want.as_deref()?;
        if child == parent || !p.usable {
            return None;
        }
        let (child_host, parent_host) = (&self.hosts[c.host], &self.hosts[p.host]);
        if want.banned.contains(&parent_host.id) || child_host.avoids(&parent_host.id, self.now) {
            return None;
        }
        let crossing = self.demand.part_ix(child) != self.demand.part_ix(parent);
        if crossing && !self.hosts.may_cross(p.zone, c.zone) {
            return None;
        }
        self.candidates(child, parent, crossing);
        let (mut level, mut piece) = self.demand.rarity.rarest(self.scratch.iter().copied())?;
        if crossing && level > FIRST_COPY {
            let only_here = self.only_from_here(child, parent);
            // What several zones could send leaves room for what only one can.
            if !only_here && !self.hosts.may_cross_again(c.zone) {
                return None;
            }
            level = if only_here { FIRST_COPY + 1 } else { FIRST_COPY + 2 };
            piece = first_of(self.scratch)?;
        }
        let shunned = !want.banned.is_empty() || !child_host.avoid.is_empty();
        let restrained = self.is_restrained(parent, want, shunned);
        if restrained && level > FIRST_COPY {
            if crossing || self.demand.parts.len() == 1 {
                return None;
            }
            self.first_in_zone(child, parent_host);
            piece = self.demand.rarity.rarest(self.scratch.iter().copied())?.1;
            level = FIRST_COPY + 1;
        }
        let boosted =
            self.boosted(want).filter(|b| !restrained || self.demand.rarity.level(*b) <= FIRST_COPY);
        let piece = boosted.unwrap_or(piece);
        let level = match boosted {
            Some(_) => FIRST_COPY,
            None => level,
        };
        let link = if level > FIRST_COPY {
            0
        } else {
            let fast = u8::try_from(63 - child_host.rate().ilog2()).unwrap_or(u8::MAX);
            // Two first copies multiply faster in two places.
            let has_one = parent_host.uploads.iter().any(|tix| self.transfers[*tix].child_host == c.host);
            fast + 64 * u8::from(!child_host.can_upload(self.now)) + 128 * u8::from(has_one)
        };
        let distance = match crossing {
            true => 2,
            false => u8::from(child_host.rack != parent_host.rack),
        };
        let load = parent_host.uploads.len() * 16 / parent_host.upload_slots().max(1);
        let load = u8::try_from(load).unwrap_or(127).min(127) + 128 * u8::from(restrained);
        let strange = !crossing && !parent_host.children.knows(c.host);
        let score = Score { level, link, distance, strange, load, piece };
        Some(Choice { score, child, parent, piece, crossing, boosted: boosted.is_some() })
    }

    /// What `parent` holds, `child` lacks, and the zone gate lets through.
    fn candidates(&mut self, child: MemberIx, parent: MemberIx, crossing: bool) {
        if self.glance.needed {
            self.glance.meet(self.demand.overview.held(parent), self.scratch);
        } else {
            self.glance.lack(self.demand.overview.held(child), self.scratch);
            self.swarm.members[child].without_coming(self.scratch);
            self.spare_the_source(child);
        }
        if crossing {
            let opened = self.gate_opened(child);
            let part = &self.demand.parts[self.demand.part_ix(child) as usize];
            let gate = part.crossing.words().iter().zip(part.held.words());
            for (word, (crossing, held)) in self.scratch.iter_mut().zip(gate) {
                *word &= !(if opened { *crossing } else { crossing | held });
            }
        }
    }

    /// Of the candidates for a crossing only those that no third zone holds or is being sent, if there are such: a zone sends
    /// what it alone has, and what several have they exchange, so that no boundary carries a piece twice. Whether there are.
    fn only_from_here(&mut self, child: MemberIx, parent: MemberIx) -> bool {
        let own = [child, parent].map(|member| self.demand.part_ix(member));
        let others = (0u32..).zip(&self.demand.parts).filter(|(ix, _)| !own.contains(ix));
        let others: Vec<_> = others.map(|(_, part)| (part.held.words(), part.crossing.words())).collect();
        let elsewhere = |w: usize| others.iter().fold(0, |all, (held, crossing)| all | held[w] | crossing[w]);
        if !self.scratch.iter().enumerate().any(|(w, word)| word & !elsewhere(w) != 0) {
            return false;
        }
        for (w, word) in self.scratch.iter_mut().enumerate() {
            *word &= !elsewhere(w);
        }
        true
    }

    /// Of the candidates only those that nobody but this parent has in the child's zone, and nobody is sent from here: other
    /// zones have them, and the gate is shut for them.
    fn first_in_zone(&mut self, child: MemberIx, parent: &Host) {
        let own = self.demand.part_ix(child);
        let part = &self.demand.parts[own as usize];
        for (w, word) in (0u32..).zip(self.scratch.iter_mut()) {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                if part.holders[(w * 64 + bit) as usize] > 1 {
                    *word &= !(1 << bit);
                }
            }
        }
        for transfer in parent.uploads.iter().map(|tix| &self.transfers[*tix]) {
            if transfer.swarm == self.six && self.demand.part_ix(transfer.child) == own {
                self.scratch[transfer.piece.as_usize() / 64] &= !(1 << (transfer.piece.0 % 64));
            }
        }
    }

    /// The source sends each piece about once and lets the others multiply it, unless nothing moves.
    fn is_restrained(&self, parent: MemberIx, want: &Want, shunned: bool) -> bool {
        if self.demand.last_source != Some(parent) {
            return false;
        }
        let still = self.now.since(self.demand.last_gain).min(self.now.since(want.hungry_since));
        let spent = self.demand.source_extras >= (self.swarm.count() / EXTRAS_SHARE).max(1);
        let patience = if shunned {
            // Those that could send it instead may be just the ones that this child cannot use.
            self.options.source_patience / SPENT_PATIENCE_FACTOR
        } else if spent {
            self.options.source_patience * SPENT_PATIENCE_FACTOR
        } else {
            self.options.source_patience
        };
        still < patience
    }

    /// The piece that a blocked reader waits for, if it is among the candidates and its share is not used up.
    fn boosted(&self, want: &Want) -> Option<PieceIndex> {
        if !want.blocked || want.boosted * BOOST_SHARE > want.picks {
            return None;
        }
        (want.position.0..want.position.0.saturating_add(BOOST_REACH)).map(PieceIndex).find(|piece| {
            let word = self.scratch.get(piece.as_usize() / 64).copied().unwrap_or(0);
            word >> (piece.0 % 64) & 1 == 1
        })
    }
}

/// The lowest piece of a bitmap.
fn first_of(bitmap: &[u64]) -> Option<PieceIndex> {
    (0u32..)
        .zip(bitmap)
        .find(|(_, word)| **word != 0)
        .map(|(w, word)| PieceIndex(w * 64 + word.trailing_zeros()))
}
