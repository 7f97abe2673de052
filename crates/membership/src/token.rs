//! Join tokens: `dfjoin1.<hash of the cluster's authority>.<secret>`, both in base64url without padding (RFC 4648,
//! section 5). A host with one knows the scheduler by the hash, and the scheduler knows that it may join by the secret.

use crate::{AuthorityHashError, HostKey, TokenError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "dfjoin1";

/// What a secret's hash is of, before the secret.
const SECRET_DOMAIN: &[u8] = b"damselfly join secret 1\0";

/// What a host signs to prove its key when it joins, before what follows.
const PROOF_DOMAIN: &[u8] = b"damselfly join proof 1\0";

/// The SHA-256 of the authority's public key (its `SubjectPublicKeyInfo`, as in RFC 7469, section 2.4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AuthorityHash([u8; 32]);

impl AuthorityHash {
    /// What [`Self::to_text`] begins with.
    pub const PREFIX: &str = "dfauth1.";

    pub(crate) fn of_public_key(info: &[u8]) -> Self {
        Self(Sha256::digest(info).into())
    }

    /// `dfauth1.HASH`: by it a host that joins without a secret knows the scheduler. It is no secret.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}{self}", Self::PREFIX)
    }
}

impl FromStr for AuthorityHash {
    type Err = AuthorityHashError;

    fn from_str(text: &str) -> Result<Self, AuthorityHashError> {
        text.strip_prefix(Self::PREFIX).and_then(bytes_of).map(Self).ok_or(AuthorityHashError)
    }
}

impl fmt::Display for AuthorityHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for AuthorityHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityHash({self})")
    }
}

/// The secret half of a token: 256 random bits. It shows itself nowhere.
#[derive(Clone)]
pub struct JoinSecret([u8; 32]);

impl JoinSecret {
    /// A new one. Nothing if the system has no randomness to give.
    #[must_use]
    pub fn generate() -> Option<Self> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// From its bytes as they come over the wire; nothing unless there are 32.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().map(Self).ok()
    }

    /// The bytes, for the one message that carries them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the scheduler keeps in its place. A search among hashes takes a time that says nothing of the secret.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(SECRET_DOMAIN, &self.0)
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(…)")
    }
}

/// A secret's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Each kind of secret has a domain, so that the hash of one is never that of another.
    pub(crate) fn of(domain: &[u8], secret: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(domain);
        hash.update(secret);
        Self(hash.finalize().into())
    }

    /// How people call the token: the first six bytes in hexadecimal.
    #[must_use]
    pub fn id(&self) -> String {
        hex::encode(&self.0[..6])
    }

    /// All of it in hexadecimal.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// From [`Self::to_hex`].
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        hex::decode(text).ok()?.try_into().map(Self).ok()
    }
}

/// What lets a host join.
#[derive(Clone)]
pub struct JoinToken {
    /// Whose cluster it is.
    pub authority: AuthorityHash,
    /// What lets a host in.
    pub secret: JoinSecret,
}

impl JoinToken {
    /// The text, for the one place that shows or keeps it.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{PREFIX}.{}.{}", self.authority, URL_SAFE_NO_PAD.encode(self.secret.expose()))
    }

    /// The proof of a host that joins with this token: its signature of [`Self::proof_message`].
    #[must_use]
    pub fn prove(&self, key: &HostKey) -> [u8; 64] {
        prove(key, &self.authority, &self.secret.hash())
    }

    /// What a host that joins signs with its key. It is good for this secret and this cluster alone; whoever repeats it
    /// gets a certificate and a ticket for a key that he does not have.
    #[must_use]
    pub fn proof_message(authority: &AuthorityHash, secret: &SecretHash) -> Vec<u8> {
        [PROOF_DOMAIN, &authority.0, &secret.0].concat()
    }
}

/// A host's signature of what a secret is for.
pub(crate) fn prove(key: &HostKey, authority: &AuthorityHash, secret: &SecretHash) -> [u8; 64] {
    let signature = key.sign(&JoinToken::proof_message(authority, secret));
    signature.try_into().expect("an Ed25519 signature has 64 bytes")
}

fn bytes_of(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.split('.');
        if parts.next() != Some(PREFIX) {
            return Err(TokenError("it does not begin with dfjoin1."));
        }
        let (Some(hash), Some(secret), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(TokenError("it does not have three parts"));
        };
        let hash = bytes_of(hash).ok_or(TokenError("its hash is not 43 characters of base64url"))?;
        let secret = bytes_of(secret).ok_or(TokenError("its secret is not 43 characters of base64url"))?;
        Ok(Self { authority: AuthorityHash(hash), secret: JoinSecret(secret) })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({PREFIX}.{}.…)", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken { authority: AuthorityHash([3; 32]), secret: JoinSecret::generate().unwrap() }
    }

    #[test]
    fn a_token_comes_back_as_it_was_and_shows_no_secret() {
        let sent = token();
        let text = sent.expose();
        let got: JoinToken = text.parse().unwrap();
        assert_eq!(got.authority, sent.authority);
        assert_eq!(got.secret.hash(), sent.secret.hash());
        let secret = text.rsplit('.').next().unwrap();
        assert!(!format!("{sent:?} {:?}", sent.secret).contains(secret));
        assert_eq!(SecretHash::from_hex(&got.secret.hash().to_hex()), Some(got.secret.hash()));
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_quoted() {
        let good = token().expose();
        let secret = good.rsplit('.').next().unwrap();
        for text in [
            "",
            "dfjoin1",
            "dfjoin1..",
            &good[1..],
            &good[..good.len() - 1],
            &format!("{good}="),
            &format!("{good}.x"),
            &good.replace("dfjoin1", "dfjoin2"),
        ] {
            let error = text.parse::<JoinToken>().expect_err(text);
            assert!(!error.to_string().contains(secret), "{error}");
        }
    }

    #[test]
    fn an_authoritys_text_comes_back_as_it_was() {
        let hash = token().authority;
        let text = hash.to_text();
        assert_eq!(text.parse::<AuthorityHash>(), Ok(hash));
        for text in
            ["", "dfauth1", "dfauth1.", &text[..text.len() - 1], &format!("{text}.x"), &token().expose()]
        {
            assert_eq!(text.parse::<AuthorityHash>(), Err(AuthorityHashError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_none(text in "(dfjoin1\\.)?[A-Za-z0-9_.=-]{0,100}") {
            if let Ok(token) = text.parse::<JoinToken>() {
                prop_assert_eq!(token.expose(), text);
            }
        }
    }
}
