//! A host's own key pair, in the forms that joining and TLS need.

use crate::PeerKey;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::sign::SigningKey;
use rustls_pki_types::PrivatePkcs8KeyDer;
use std::fmt;
use std::sync::Arc;

/// An Ed25519 private key in PKCS #8 is the key's 32 bytes behind this (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// An Ed25519 key pair; a clone shares it. `Debug` shows the public half only.
#[derive(Clone)]
pub struct HostKey {
    pair: Arc<Ed25519KeyPair>,
    tls: Arc<dyn SigningKey>,
    public: PeerKey,
}

impl HostKey {
    /// The pair with this secret half. Nothing if it cannot be used, which no 32 bytes of an Ed25519 key are.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(secret).ok()?;
        let pkcs8 = PrivatePkcs8KeyDer::from([&PKCS8_PREFIX[..], secret].concat());
        let tls = rustls::crypto::aws_lc_rs::sign::any_eddsa_type(&pkcs8).ok()?;
        let public = PeerKey::from_bytes(pair.public_key().as_ref().try_into().ok()?);
        Some(Self { pair: Arc::new(pair), tls, public })
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> PeerKey {
        self.public
    }

    /// The signature of `message`, 64 bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    pub(crate) fn tls(&self) -> Arc<dyn SigningKey> {
        Arc::clone(&self.tls)
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.public.host())
    }
}
