//! A host's public key: what its libp2p peer id stands for, its certificate is made for, and its ticket names.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use std::fmt;
use types::HostId;

/// A peer id of an Ed25519 key is the key itself behind this (libp2p specification, "Peer Ids and Keys": identity
/// multihash of 36 bytes, then the protobuf of key type 1 and 32 bytes of data).
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// An Ed25519 `SubjectPublicKeyInfo` is the key behind this (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey([u8; 32]);

/// Bytes that stand for no Ed25519 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the peer id of an Ed25519 key")]
pub struct PeerKeyError;

impl PeerKey {
    /// From its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key that a libp2p peer id contains.
    ///
    /// # Errors
    /// [`PeerKeyError`] for the peer id of a key of another type, or what is none.
    pub fn of_peer_id(peer_id: &[u8]) -> Result<Self, PeerKeyError> {
        let key = peer_id.strip_prefix(&PEER_ID_PREFIX).ok_or(PeerKeyError)?;
        key.try_into().map(Self).map_err(|_| PeerKeyError)
    }

    /// The key that a certificate is made for. The certificate's signatures are the caller's to check.
    ///
    /// # Errors
    /// [`PeerKeyError`] for a key of another type, or what is no certificate.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, PeerKeyError> {
        let parsed = rustls::server::ParsedCertificate::try_from(certificate).map_err(|_| PeerKeyError)?;
        let info: SubjectPublicKeyInfoDer<'_> = parsed.subject_public_key_info();
        let key = info.as_ref().strip_prefix(&SPKI_PREFIX).ok_or(PeerKeyError)?;
        key.try_into().map(Self).map_err(|_| PeerKeyError)
    }

    /// The libp2p peer id's bytes.
    #[must_use]
    pub fn peer_id(&self) -> Vec<u8> {
        [&PEER_ID_PREFIX[..], &self.0].concat()
    }

    /// The host that has this key.
    #[must_use]
    pub fn host(&self) -> HostId {
        HostId::of_peer_id(&self.peer_id())
    }

    /// Whether the key's owner signed `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl rcgen::PublicKeyData for PeerKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey({})", self.host())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_ids_of_other_keys_are_none() {
        let key = PeerKey([7; 32]);
        let id = key.peer_id();
        assert_eq!(PeerKey::of_peer_id(&id), Ok(key));
        assert_eq!(key.host(), HostId::of_peer_id(&id));
        for cut in 0..id.len() {
            assert_eq!(PeerKey::of_peer_id(&id[..cut]), Err(PeerKeyError), "cut at {cut}");
        }
        assert!(PeerKey::of_peer_id(&[&id[..], &[0]].concat()).is_err());
        // A hash of a longer key, and an identity of another type.
        assert!(PeerKey::of_peer_id(&[&[0x12, 0x20][..], &[7; 32]].concat()).is_err());
        assert!(
            PeerKey::of_peer_id(&[&[0x00, 0x24, 0x08, 0x02, 0x12, 0x20][..], &[7; 32]].concat()).is_err()
        );
    }
}
