//! What is looked at of many members to find one, side by side: which host is which member, and what each holds. In the
//! members' own entries, which lie far apart, every look would wait for memory.

use crate::slab::{HostIx, MemberIx, Slot};
use types::{PieceIndex, PieceSet};

/// In place of a member where a host is none.
const NOBODY: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Overview {
    /// How many words a member's bitmap has.
    width: usize,
    bitmaps: Vec<u64>,
    by_host: Vec<u32>,
}

impl Overview {
    /// Of nobody yet, for a blob of `count` pieces.
    pub(crate) fn new(count: u32) -> Self {
        Self { width: count.div_ceil(64) as usize, bitmaps: Vec::new(), by_host: Vec::new() }
    }

    pub(crate) fn join(&mut self, member: MemberIx, host: HostIx, held: &PieceSet) {
        let end = (member.index() + 1) * self.width;
        if self.bitmaps.len() < end {
            self.bitmaps.resize(end, 0);
        }
        self.bitmaps[end - self.width..end].copy_from_slice(held.words());
        if self.by_host.len() <= host.index() {
            self.by_host.resize(host.index() + 1, NOBODY);
        }
        self.by_host[host.index()] = u32::try_from(member.index()).expect("fewer members than 2^32");
    }

    pub(crate) fn leave(&mut self, host: HostIx) {
        self.by_host[host.index()] = NOBODY;
    }

    /// Which member a host is.
    pub(crate) fn member(&self, host: HostIx) -> Option<MemberIx> {
        self.by_host
            .get(host.index())
            .filter(|member| **member != NOBODY)
            .map(|member| MemberIx::new(*member))
    }

    /// The bitmap of what a member holds.
    pub(crate) fn held(&self, member: MemberIx) -> &[u64] {
        &self.bitmaps[member.index() * self.width..][..self.width]
    }

    pub(crate) fn gain(&mut self, member: MemberIx, piece: PieceIndex) {
        *self.word(member, piece) |= 1 << (piece.0 % 64);
    }

    pub(crate) fn lose(&mut self, member: MemberIx, piece: PieceIndex) {
        *self.word(member, piece) &= !(1 << (piece.0 % 64));
    }

    fn word(&mut self, member: MemberIx, piece: PieceIndex) -> &mut u64 {
        &mut self.bitmaps[member.index() * self.width..][..self.width][piece.as_usize() / 64]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_has_its_own_bitmap() {
        let mut overview = Overview::new(70);
        let mut held = PieceSet::empty(70);
        held.insert(PieceIndex(69));
        let members = [MemberIx::new(2), MemberIx::new(0)];
        overview.join(members[0], HostIx::new(5), &held);
        overview.join(members[1], HostIx::new(1), &PieceSet::empty(70));
        overview.gain(members[1], PieceIndex(3));
        overview.gain(members[0], PieceIndex(64));
        overview.lose(members[0], PieceIndex(69));
        assert_eq!(members.map(|member| overview.held(member)), [[0, 1], [8, 0]]);
        assert_eq!(
            [5, 1, 0, 9].map(|host| overview.member(HostIx::new(host))),
            [Some(members[0]), Some(members[1]), None, None]
        );
        overview.leave(HostIx::new(5));
        overview.join(members[0], HostIx::new(7), &PieceSet::empty(70));
        assert_eq!([5, 7].map(|host| overview.member(HostIx::new(host))), [None, Some(members[0])]);
        assert_eq!(overview.held(members[0]), [0, 0], "a member that comes brings its own");
    }
}
