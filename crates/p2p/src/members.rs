//! Which peers the scheduler has named: the allow-list of both listeners and the address book of the dialer.
//!
//! The daemon's scheduler link writes it, everything here reads it.

use crate::{MemberError, Tickets};
use libp2p::PeerId;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::HostId;

/// A peer that the scheduler has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The hash of its peer id.
    pub host: HostId,
    /// Its libp2p peer id's bytes.
    pub peer_id: Vec<u8>,
    /// Where it speaks control.
    pub control: Option<SocketAddr>,
    /// Where it sends pieces.
    pub bulk: SocketAddr,
}

/// A member with what hangs on its membership.
struct Entry {
    member: Member,
    /// Cancelled when the member is removed: its connections close.
    gone: CancellationToken,
}

/// The members, shared: a clone is the same set.
#[derive(Clone)]
pub struct Members {
    inner: Arc<Inner>,
}

struct Inner {
    tickets: Tickets,
    entries: RwLock<BTreeMap<HostId, Entry>>,
    /// Wakes those who wait for an introduction.
    changed: watch::Sender<()>,
}

impl Members {
    /// How many members there are at most.
    pub const MAX: usize = 16_384;

    /// Nobody yet, and nobody needs a ticket.
    #[must_use]
    pub fn new() -> Self {
        Self::with_tickets(Tickets::unneeded())
    }

    /// Nobody yet; a member also has to show what `tickets` ask for.
    #[must_use]
    pub fn with_tickets(tickets: Tickets) -> Self {
        let (entries, changed) = (RwLock::default(), watch::Sender::new(()));
        Self { inner: Arc::new(Inner { tickets, entries, changed }) }
    }

    /// What members show each other.
    pub(crate) fn tickets(&self) -> &Tickets {
        &self.inner.tickets
    }

    /// Takes a member in, or its new addresses if it is one already. Connections to it stay.
    ///
    /// # Errors
    /// [`MemberError`]; nothing changes then.
    pub fn insert(&self, member: Member) -> Result<(), MemberError> {
        let host = member.host;
        if PeerId::from_bytes(&member.peer_id).is_err() {
            return Err(MemberError::PeerId { host });
        }
        if HostId::of_peer_id(&member.peer_id) != host {
            return Err(MemberError::Identity { host });
        }
        let mut entries = self.write();
        if let Some(entry) = entries.get_mut(&host) {
            entry.member = member;
        } else if entries.len() >= Self::MAX {
            return Err(MemberError::Full { max: Self::MAX });
        } else {
            entries.insert(host, Entry { member, gone: CancellationToken::new() });
        }
        drop(entries);
        self.inner.changed.send_replace(());
        Ok(())
    }

    /// Takes a member out and closes the connections with it; whether it was one.
    pub fn remove(&self, host: HostId) -> bool {
        let Some(entry) = self.write().remove(&host) else { return false };
        entry.gone.cancel();
        self.inner.changed.send_replace(());
        true
    }

    /// The member with this id.
    #[must_use]
    pub fn get(&self, host: HostId) -> Option<Member> {
        self.read().get(&host).map(|entry| entry.member.clone())
    }

    /// Whether the peer with this id is a member.
    #[must_use]
    pub fn contains_peer(&self, peer_id: &[u8]) -> bool {
        self.read().contains_key(&HostId::of_peer_id(peer_id))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cancelled when `host` is removed; nothing if it is no member.
    pub(crate) fn gone(&self, host: HostId) -> Option<CancellationToken> {
        self.read().get(&host).map(|entry| entry.gone.clone())
    }

    /// The member and the token of its removal.
    pub(crate) fn entry(&self, host: HostId) -> Option<(Member, CancellationToken)> {
        self.read().get(&host).map(|entry| (entry.member.clone(), entry.gone.clone()))
    }

    /// Waits until `host` is a member; the token of its removal. Cancel safe; the caller sets the time limit.
    pub(crate) async fn introduced(&self, host: HostId) -> CancellationToken {
        let mut changed = self.inner.changed.subscribe();
        loop {
            if let Some(gone) = self.gone(host) {
                return gone;
            }
            if changed.changed().await.is_err() {
                // The sender lives in `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Wakes after every change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.inner.changed.subscribe()
    }

    // A panic cannot leave the map half-changed, so a poisoned lock is still good.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<HostId, Entry>> {
        self.inner.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<HostId, Entry>> {
        self.inner.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Members {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Members({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    fn member() -> Member {
        let identity = Identity::generate();
        Member {
            host: identity.host_id(),
            peer_id: identity.peer_id_bytes(),
            control: None,
            bulk: SocketAddr::from(([127, 0, 0, 1], 1)),
        }
    }

    #[test]
    fn a_member_is_found_by_host_and_by_peer_until_removed() {
        let members = Members::new();
        let one = member();
        members.insert(one.clone()).unwrap();
        assert_eq!(members.get(one.host), Some(one.clone()));
        assert!(members.contains_peer(&one.peer_id));
        assert!(!members.contains_peer(&member().peer_id));

        let gone = members.gone(one.host).unwrap();
        let moved = Member { bulk: SocketAddr::from(([127, 0, 0, 1], 2)), ..one.clone() };
        members.insert(moved.clone()).unwrap();
        assert_eq!(members.get(one.host), Some(moved));
        assert!(!gone.is_cancelled(), "a new address is no removal");

        assert!(members.remove(one.host));
        assert!(gone.is_cancelled());
        assert!(!members.remove(one.host));
        assert!(members.is_empty());
    }

    #[test]
    fn false_identities_are_refused() {
        let members = Members::new();
        let (one, other) = (member(), member());
        let stolen = Member { peer_id: other.peer_id, ..one };
        let host = stolen.host;
        assert_eq!(members.insert(stolen), Err(MemberError::Identity { host }));
        let garbage = Member { peer_id: vec![1, 2, 3], host: HostId::of_peer_id(&[1, 2, 3]), ..member() };
        assert!(matches!(members.insert(garbage), Err(MemberError::PeerId { .. })));
        assert!(members.is_empty());
    }

    #[tokio::test]
    async fn an_introduction_wakes_who_waits() {
        let members = Members::new();
        let (one, other) = (member(), member());
        let waiting = tokio::spawn({
            let (members, host) = (members.clone(), one.host);
            async move { members.introduced(host).await }
        });
        members.insert(other).unwrap();
        members.insert(one).unwrap();
        assert!(!waiting.await.unwrap().is_cancelled());
    }
}
