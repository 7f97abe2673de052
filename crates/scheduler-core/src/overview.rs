//! What is looked at of many members to find one, side by side: which host is which member, what each holds, and what is on
//! its way to it. In the members' own entries, which lie far apart, every look would wait for memory.

use crate::slab::{HostIx, MemberIx, Slot};
use types::{PieceIndex, PieceSet};

/// In place of a member where a host is none.
const NOBODY: u32 = u32::MAX;
/// In place of a piece where none is on its way.
const NOTHING: PieceIndex = PieceIndex(u32::MAX);
/// Of what is on its way to a member so many are kept here. Whatever comes beyond is found at the second look.
const COMING: usize = 4;

/// What is known of a member beside its bitmap.
#[derive(Clone, Copy, Debug)]
struct Brief {
    host: HostIx,
    coming: [PieceIndex; COMING],
}

/// At most so many members are kept together, and bitmaps of at most so many words: as more come, nothing moves.
const PAGE_MEMBERS_MAX: usize = 64;
const PAGE_WORDS_MAX: usize = 4096;

#[derive(Debug)]
struct Page {
    bitmaps: Box<[u64]>,
    briefs: Box<[Brief]>,
}

#[derive(Debug)]
pub(crate) struct Overview {
    /// How many words a member's bitmap has.
    width: usize,
    /// The logarithm of how many members a page has.
    page: u32,
    pages: Vec<Page>,
    by_host: Vec<u32>,
}

impl Overview {
    /// Of nobody yet, for a blob of `count` pieces.
    pub(crate) fn new(count: u32) -> Self {
        let width = count.div_ceil(64) as usize;
        let page = (PAGE_WORDS_MAX / width.max(1)).clamp(1, PAGE_MEMBERS_MAX).ilog2();
        Self { width, page, pages: Vec::new(), by_host: Vec::new() }
    }

    pub(crate) fn join(&mut self, member: MemberIx, host: HostIx, held: &PieceSet) {
        let brief = Brief { host, coming: [NOTHING; COMING] };
        let (page, _) = self.place(member);
        while self.pages.len() <= page {
            let bitmaps = vec![0; self.width << self.page].into();
            self.pages.push(Page { bitmaps, briefs: vec![brief; 1 << self.page].into() });
        }
        self.bitmap(member).copy_from_slice(held.words());
        *self.brief_mut(member) = brief;
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

    /// Which host a member is.
    pub(crate) fn host(&self, member: MemberIx) -> HostIx {
        self.brief(member).host
    }

    /// The bitmap of what a member holds.
    pub(crate) fn held(&self, member: MemberIx) -> &[u64] {
        let (page, at) = self.place(member);
        &self.pages[page].bitmaps[at * self.width..][..self.width]
    }

    /// Some of what is on its way to a member; in place of others, pieces that no blob has.
    pub(crate) fn coming(&self, member: MemberIx) -> &[PieceIndex; COMING] {
        &self.brief(member).coming
    }

    /// All that is on its way to a member from now on.
    pub(crate) fn set_coming(&mut self, member: MemberIx, pieces: impl Iterator<Item = PieceIndex>) {
        let mut places = [NOTHING; COMING];
        places.iter_mut().zip(pieces).for_each(|(place, piece)| *place = piece);
        self.brief_mut(member).coming = places;
    }

    pub(crate) fn gain(&mut self, member: MemberIx, piece: PieceIndex) {
        *self.word(member, piece) |= 1 << (piece.0 % 64);
    }

    pub(crate) fn lose(&mut self, member: MemberIx, piece: PieceIndex) {
        *self.word(member, piece) &= !(1 << (piece.0 % 64));
    }

    fn word(&mut self, member: MemberIx, piece: PieceIndex) -> &mut u64 {
        &mut self.bitmap(member)[piece.as_usize() / 64]
    }

    /// A member's page, and where in it it is.
    fn place(&self, member: MemberIx) -> (usize, usize) {
        (member.index() >> self.page, member.index() & ((1 << self.page) - 1))
    }

    fn bitmap(&mut self, member: MemberIx) -> &mut [u64] {
        let (page, at) = self.place(member);
        &mut self.pages[page].bitmaps[at * self.width..][..self.width]
    }

    fn brief(&self, member: MemberIx) -> &Brief {
        let (page, at) = self.place(member);
        &self.pages[page].briefs[at]
    }

    fn brief_mut(&mut self, member: MemberIx) -> &mut Brief {
        let (page, at) = self.place(member);
        &mut self.pages[page].briefs[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_bitmaps_make_small_pages() {
        let (piece, many) = (PieceIndex(65_535), 65_536);
        for (count, pages) in [(65_536, 3), (100, 1), (524_288, 9)] {
            let mut overview = Overview::new(count);
            for n in 0..9 {
                overview.join(MemberIx::new(n), HostIx::new(n), &PieceSet::empty(count));
            }
            if count >= many {
                overview.gain(MemberIx::new(5), piece);
                let held = (0..9).map(|n| overview.held(MemberIx::new(n))[1023] != 0).collect::<Vec<_>>();
                assert_eq!(held, [false, false, false, false, false, true, false, false, false]);
            }
            assert_eq!(overview.pages.len(), pages, "{count} pieces");
        }
    }

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
        overview.set_coming(members[1], [7, 3, 5, 1, 2].map(PieceIndex).into_iter());
        assert_eq!(*overview.coming(members[1]), [7, 3, 5, 1].map(PieceIndex), "the first few");
        overview.set_coming(members[1], [7, 3].map(PieceIndex).into_iter());
        assert_eq!(*overview.coming(members[1]), [PieceIndex(7), PieceIndex(3), NOTHING, NOTHING]);
        assert_eq!(*overview.coming(members[0]), [NOTHING; COMING]);
        assert_eq!(members.map(|member| overview.host(member)), [5, 1].map(HostIx::new));
        overview.leave(HostIx::new(5));
        overview.join(members[0], HostIx::new(7), &PieceSet::empty(70));
        assert_eq!([5, 7].map(|host| overview.member(HostIx::new(host))), [None, Some(members[0])]);
        assert_eq!(overview.held(members[0]), [0, 0], "a member that comes brings its own");
    }
}
