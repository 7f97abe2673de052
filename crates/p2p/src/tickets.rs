//! What members show each other: this host's own ticket, and the keys that verify those of others.
//!
//! The daemon sets both when it joins and each time it renews; both listeners and the dialer read them.

use libp2p::PeerId;
use membership::{PeerKey, Ticket, TicketError, TicketKey};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

/// Tickets, ours and how to verify others'; a clone is the same.
#[derive(Clone, Debug)]
pub struct Tickets(Option<Arc<RwLock<State>>>);

#[derive(Debug, Default)]
struct State {
    own: Vec<u8>,
    keys: Vec<TicketKey>,
}

impl Tickets {
    /// Nobody needs one: where daemons take each other's word, under a flag that says so.
    #[must_use]
    pub const fn unneeded() -> Self {
        Self(None)
    }

    /// Everybody needs one; until [`Self::set`] nobody has one.
    #[must_use]
    pub fn needed() -> Self {
        Self(Some(Arc::default()))
    }

    /// From now on this host shows `own`, and `keys` verify what others show. Nothing happens where none is needed.
    pub fn set(&self, own: Vec<u8>, keys: Vec<TicketKey>) {
        if let Some(state) = &self.0 {
            *state.write().unwrap_or_else(PoisonError::into_inner) = State { own, keys };
        }
    }

    /// What to show; empty if there is nothing yet, or nobody needs it.
    pub(crate) fn own(&self) -> Vec<u8> {
        let read =
            |state: &Arc<RwLock<State>>| state.read().unwrap_or_else(PoisonError::into_inner).own.clone();
        self.0.as_ref().map(read).unwrap_or_default()
    }

    /// Whether a peer that has proved its id may go on with what it shows.
    ///
    /// # Errors
    /// What is wrong with its ticket.
    pub(crate) fn check(&self, peer: &PeerId, shown: &[u8]) -> Result<Admitted, TicketError> {
        let Some(state) = &self.0 else { return Ok(Admitted(None)) };
        let key = PeerKey::of_peer_id(&peer.to_bytes()).map_err(|_| TicketError::AnotherPeer)?;
        let state = state.read().unwrap_or_else(PoisonError::into_inner);
        Ticket::verify(shown, &state.keys, &key, SystemTime::now()).map(|ticket| Admitted(Some(ticket)))
    }
}

/// A peer that may go on, for as long as its ticket is good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted(Option<Ticket>);

impl Admitted {
    /// Whether the ticket's time is over.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_some_and(|ticket| ticket.is_over(SystemTime::now()))
    }
}
