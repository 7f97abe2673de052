//! Tickets: what a host shows to its peers, so that they know it for a member without asking the scheduler.
//!
//! ```text
//! ticket    version u8 (1) | key id [8] | peer key [32] | not before u64 | not after u64 | signature [64]
//! ```
//!
//! Times are seconds since 1970, big-endian. The signature is Ed25519 (RFC 8032) over `damselfly ticket\0` and all that
//! stands before it. A ticket is no secret: it is good only for the peer that proves the key it names.

use crate::PeerKey;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use sha2::{Digest as _, Sha256};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DOMAIN: &[u8] = b"damselfly ticket\0";
const VERSION: u8 = 1;
const SIGNED: usize = 1 + 8 + 32 + 8 + 8;

/// How far two hosts' clocks may be apart.
pub const CLOCK_LEEWAY: Duration = Duration::from_secs(300);

/// The public half of the key that signs a cluster's tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketKey(PeerKey);

impl TicketKey {
    /// From its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(PeerKey::from_bytes(bytes))
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    fn id(&self) -> [u8; 8] {
        let hash = Sha256::digest(self.as_bytes());
        std::array::from_fn(|i| hash[i])
    }
}

/// A ticket that was found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Whose it is.
    pub peer: PeerKey,
    /// When it ends, without the leeway.
    pub not_after: SystemTime,
}

/// Why a ticket does not let its bearer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// There is none.
    #[error("no ticket")]
    Absent,
    /// It has not the form of a ticket.
    #[error("a ticket of unknown form")]
    Malformed,
    /// It is of another cluster.
    #[error("a ticket of another cluster")]
    UnknownKey,
    /// Its signature is wrong.
    #[error("a ticket with a false signature")]
    Signature,
    /// It is another peer's.
    #[error("another peer's ticket")]
    AnotherPeer,
    /// Its time has not come: the clocks differ by more than [`CLOCK_LEEWAY`].
    #[error("a ticket from the future: the clocks differ")]
    NotYet,
    /// Its time is over.
    #[error("an expired ticket")]
    Expired,
}

impl Ticket {
    /// A ticket's length in bytes.
    pub const LEN: usize = SIGNED + 64;

    /// Signs a ticket for `peer`, good from `now` for `lifetime`.
    pub(crate) fn issue(
        key: &Ed25519KeyPair,
        peer: &PeerKey,
        now: SystemTime,
        lifetime: Duration,
    ) -> Vec<u8> {
        let mut ticket = Vec::with_capacity(Self::LEN);
        ticket.push(VERSION);
        ticket.extend(public_half(key).id());
        ticket.extend(peer.as_bytes());
        ticket.extend(seconds(now).to_be_bytes());
        ticket.extend(seconds(now + lifetime).to_be_bytes());
        let signature = key.sign(&[DOMAIN, &ticket].concat());
        ticket.extend(signature.as_ref());
        ticket
    }

    /// Reads the ticket that `peer`, who has proved its key, shows at `now`; `keys` are the cluster's.
    ///
    /// # Errors
    /// [`TicketError`]: what is wrong with it.
    pub fn verify(
        bytes: &[u8],
        keys: &[TicketKey],
        peer: &PeerKey,
        now: SystemTime,
    ) -> Result<Self, TicketError> {
        if bytes.is_empty() {
            return Err(TicketError::Absent);
        }
        let (signed, signature) = bytes.split_at_checked(SIGNED).ok_or(TicketError::Malformed)?;
        let (&[version], rest) = signed.split_first_chunk().ok_or(TicketError::Malformed)?;
        let (id, rest) = rest.split_first_chunk::<8>().ok_or(TicketError::Malformed)?;
        let (named, rest) = rest.split_first_chunk::<32>().ok_or(TicketError::Malformed)?;
        let (not_before, not_after) = rest.split_first_chunk::<8>().ok_or(TicketError::Malformed)?;
        let not_after: &[u8; 8] = not_after.try_into().map_err(|_| TicketError::Malformed)?;
        if version != VERSION || signature.len() != Self::LEN - SIGNED {
            return Err(TicketError::Malformed);
        }
        let key = keys.iter().find(|key| key.id() == *id).ok_or(TicketError::UnknownKey)?;
        if !key.0.verifies(&[DOMAIN, signed].concat(), signature) {
            return Err(TicketError::Signature);
        }
        if named != peer.as_bytes() {
            return Err(TicketError::AnotherPeer);
        }
        let time = |bytes| UNIX_EPOCH.checked_add(Duration::from_secs(u64::from_be_bytes(bytes)));
        let (Some(not_before), Some(not_after)) = (time(*not_before), time(*not_after)) else {
            return Err(TicketError::Malformed);
        };
        if now + CLOCK_LEEWAY < not_before {
            return Err(TicketError::NotYet);
        }
        let ticket = Self { peer: *peer, not_after };
        if ticket.is_over(now) { Err(TicketError::Expired) } else { Ok(ticket) }
    }

    /// Whether its time is over at `now`, the leeway included.
    #[must_use]
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.not_after.checked_add(CLOCK_LEEWAY).is_none_or(|end| end <= now)
    }
}

/// The half that others verify with.
pub(crate) fn public_half(key: &Ed25519KeyPair) -> TicketKey {
    let bytes = key.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes");
    TicketKey::from_bytes(bytes)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn key(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn peer() -> PeerKey {
        PeerKey::from_bytes([9; 32])
    }

    #[test]
    fn a_ticket_lets_its_own_peer_in_for_its_time() {
        let ticket = Ticket::issue(&key(1), &peer(), now(), HOUR);
        assert_eq!(ticket.len(), Ticket::LEN);
        let keys = [public_half(&key(2)), public_half(&key(1))];
        let at = |now| Ticket::verify(&ticket, &keys, &peer(), now).map(|ticket| ticket.not_after);
        assert_eq!(at(now()), Ok(now() + HOUR));
        assert_eq!(at(now() - CLOCK_LEEWAY), Ok(now() + HOUR));
        assert_eq!(at(now() - CLOCK_LEEWAY - Duration::from_secs(1)), Err(TicketError::NotYet));
        assert_eq!(at(now() + HOUR + CLOCK_LEEWAY - Duration::from_secs(1)), Ok(now() + HOUR));
        assert_eq!(at(now() + HOUR + CLOCK_LEEWAY), Err(TicketError::Expired));
    }

    #[test]
    fn no_other_ticket_lets_anyone_in() {
        let ticket = Ticket::issue(&key(1), &peer(), now(), HOUR);
        let keys = [public_half(&key(1))];
        let verify = |bytes: &[u8], keys: &[TicketKey], peer| Ticket::verify(bytes, keys, &peer, now());
        assert_eq!(verify(&[], &keys, peer()), Err(TicketError::Absent));
        assert_eq!(verify(&ticket[..120], &keys, peer()), Err(TicketError::Malformed));
        assert_eq!(verify(&[&ticket[..], &[0]].concat(), &keys, peer()), Err(TicketError::Malformed));
        assert_eq!(verify(&ticket, &[], peer()), Err(TicketError::UnknownKey));
        assert_eq!(verify(&ticket, &[public_half(&key(2))], peer()), Err(TicketError::UnknownKey));
        assert_eq!(verify(&ticket, &keys, PeerKey::from_bytes([8; 32])), Err(TicketError::AnotherPeer));
    }

    proptest! {
        /// Whatever bit of a ticket is turned, and whatever bytes come in its place.
        #[test]
        fn a_ticket_that_was_changed_lets_nobody_in(at in 0..Ticket::LEN, bit in 0..8u8, other: Vec<u8>) {
            let mut ticket = Ticket::issue(&key(1), &peer(), now(), HOUR);
            ticket[at] ^= 1 << bit;
            let keys = [public_half(&key(1))];
            prop_assert!(Ticket::verify(&ticket, &keys, &peer(), now()).is_err());
            prop_assert!(Ticket::verify(&other, &keys, &peer(), now()).is_err());
        }
    }
}
