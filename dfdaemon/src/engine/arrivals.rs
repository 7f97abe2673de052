//! How each piece came to this host while its download ran: the audit log says it of what a client was given.

use crate::traffic::CameFrom;
use std::sync::{Mutex, PoisonError};
use types::{PieceIndex, PieceSet};

/// The pieces that came during one download.
#[derive(Debug)]
pub(crate) struct Arrivals(Mutex<Sets>);

#[derive(Debug)]
struct Sets {
    peer: PieceSet,
    origin: PieceSet,
}

impl Arrivals {
    /// None yet, of a blob of so many pieces.
    pub(crate) fn new(count: u32) -> Self {
        Self(Mutex::new(Sets { peer: PieceSet::empty(count), origin: PieceSet::empty(count) }))
    }

    /// A piece is about to be stored. One that comes again, having been lost, came from where it comes now.
    pub(crate) fn came(&self, piece: PieceIndex, from: CameFrom) {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sets.peer.remove(piece);
        sets.origin.remove(piece);
        match from {
            CameFrom::Cache => false,
            CameFrom::Peer => sets.peer.insert(piece),
            CameFrom::Origin => sets.origin.insert(piece),
        };
    }

    /// Where a piece came from; what did not come was here.
    pub(crate) fn of(&self, piece: PieceIndex) -> CameFrom {
        let sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.peer.contains(piece) {
            CameFrom::Peer
        } else if sets.origin.contains(piece) {
            CameFrom::Origin
        } else {
            CameFrom::Cache
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_arrival_counts() {
        let arrivals = Arrivals::new(2);
        let piece = PieceIndex(1);
        assert_eq!(arrivals.of(piece), CameFrom::Cache);
        arrivals.came(piece, CameFrom::Peer);
        assert_eq!((arrivals.of(piece), arrivals.of(PieceIndex(0))), (CameFrom::Peer, CameFrom::Cache));
        arrivals.came(piece, CameFrom::Origin);
        assert_eq!(arrivals.of(piece), CameFrom::Origin);
    }
}
