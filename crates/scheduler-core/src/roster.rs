//! Lists of a swarm's members from which one is drawn in constant time. A member is in at most one list of a roster.
//!
//! There are two rosters per swarm: who could upload, by zone, and who needs pieces, by zone and priority. They are
//! kept lazily: a member whose host has no slot free is taken out when it is met, and put back when one falls free.

use crate::slab::{MemberIx, Slot};

/// Where a member stands: which list, and where in it.
#[derive(Clone, Copy, Debug)]
struct Place {
    list: u32,
    at: u32,
}

const NOWHERE: Place = Place { list: u32::MAX, at: 0 };

#[derive(Debug, Default)]
pub(crate) struct Roster {
    lists: Vec<Vec<MemberIx>>,
    places: Vec<Place>,
}

impl Roster {
    /// The members in `list`.
    pub(crate) fn list(&self, list: u32) -> &[MemberIx] {
        self.lists.get(list as usize).map_or(&[], Vec::as_slice)
    }

    /// Which list `member` is in.
    pub(crate) fn place(&self, member: MemberIx) -> Option<u32> {
        self.places.get(member.index()).filter(|p| p.list != u32::MAX).map(|p| p.list)
    }

    /// Puts `member` into `list`, out of the one that it was in.
    pub(crate) fn put(&mut self, member: MemberIx, list: u32) {
        if self.place(member) == Some(list) {
            return;
        }
        self.take(member);
        if self.places.len() <= member.index() {
            self.places.resize(member.index() + 1, NOWHERE);
        }
        if self.lists.len() <= list as usize {
            self.lists.resize(list as usize + 1, Vec::new());
        }
        let members = &mut self.lists[list as usize];
        let at = u32::try_from(members.len()).expect("fewer members than 2^32");
        members.push(member);
        self.places[member.index()] = Place { list, at };
    }

    /// Takes `member` out.
    pub(crate) fn take(&mut self, member: MemberIx) {
        let Some(place) = self.places.get_mut(member.index()).filter(|p| p.list != u32::MAX) else { return };
        let Place { list, at } = std::mem::replace(place, NOWHERE);
        let members = &mut self.lists[list as usize];
        members.swap_remove(at as usize);
        if let Some(moved) = members.get(at as usize) {
            self.places[moved.index()].at = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_move_between_lists() {
        let mut roster = Roster::default();
        let m = |i| MemberIx::new(i);
        for i in 0..5 {
            roster.put(m(i), 1);
        }
        roster.take(m(1));
        roster.put(m(0), 3);
        roster.take(m(9));
        assert_eq!(roster.list(3), [m(0)]);
        let mut left = roster.list(1).to_vec();
        left.sort();
        assert_eq!(left, [m(2), m(3), m(4)]);
        assert_eq!(roster.place(m(1)), None);
        for i in [3, 2, 4] {
            roster.take(m(i));
        }
        assert!(roster.list(1).is_empty());
    }
}
