//! To whom a host has sent pieces lately: there is a connection already. A new one costs each side
//! some milliseconds of CPU, as much as a short piece itself, and the piece two round trips.
//!
//! A neighbour that has left may have lent its number to another host: what is kept here is a hint for the choice among
//! equals, and no more.

use crate::slab::HostIx;
use smallvec::SmallVec;

/// So many are remembered: enough that one of them is free and lacks something, few enough to be looked through.
const KEPT: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Neighbours(SmallVec<[HostIx; KEPT]>);

impl Neighbours {
    /// The last met last: who takes always the same two or three from each other soon has what they have.
    pub(crate) fn iter(&self) -> impl Iterator<Item = HostIx> + '_ {
        self.0.iter().rev().copied()
    }

    pub(crate) fn knows(&self, host: HostIx) -> bool {
        self.0.contains(&host)
    }

    /// Something is sent to `host`.
    pub(crate) fn meet(&mut self, host: HostIx) {
        match self.0.iter().position(|known| *known == host) {
            Some(at) => self.0[..=at].rotate_right(1),
            None => {
                self.0.truncate(KEPT - 1);
                self.0.insert(0, host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slot as _;

    #[test]
    fn the_last_few_are_remembered() {
        let mut neighbours = Neighbours::default();
        let numbers =
            |neighbours: &Neighbours| neighbours.iter().map(|host| host.index()).collect::<Vec<_>>();
        (0..5).for_each(|n| neighbours.meet(HostIx::new(n)));
        neighbours.meet(HostIx::new(2));
        assert_eq!(numbers(&neighbours), [0, 1, 3, 4, 2]);
        (5..18).for_each(|n| neighbours.meet(HostIx::new(n)));
        assert_eq!(numbers(&neighbours)[..4], [3, 4, 2, 5]);
        assert_eq!(numbers(&neighbours).len(), KEPT);
        assert!(neighbours.knows(HostIx::new(3)) && !neighbours.knows(HostIx::new(1)));
    }
}
