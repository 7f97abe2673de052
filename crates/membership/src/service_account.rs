//! A Kubernetes service account's token, which can let a host join in place of a join token's secret. Kubelet lays it
//! into a pod and renews it there; whether it is good, the scheduler asks the API server.

use crate::token::prove;
use crate::{AuthorityHash, HostKey, SecretHash, ServiceAccountTokenError, file};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What a token's hash is of, before the token.
const TOKEN_DOMAIN: &[u8] = b"damselfly service account token 1\0";

/// The token. It shows itself nowhere; a clone shares it.
#[derive(Clone)]
pub struct ServiceAccountToken(Arc<str>);

impl ServiceAccountToken {
    /// The longest token, in bytes; those of Kubernetes have one or two thousand.
    pub const BYTES_MAX: usize = 8192;

    /// From its bytes as they come over the wire: visible ASCII characters, 1 to [`Self::BYTES_MAX`] of them.
    ///
    /// # Errors
    /// [`ServiceAccountTokenError`]
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ServiceAccountTokenError> {
        if bytes.is_empty() {
            return Err(ServiceAccountTokenError("it is empty"));
        }
        if bytes.len() > Self::BYTES_MAX {
            return Err(ServiceAccountTokenError("it has more than 8192 bytes"));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if bytes.iter().all(u8::is_ascii_graphic) => Ok(Self(text.into())),
            _ => Err(ServiceAccountTokenError("it has other characters than visible ASCII ones")),
        }
    }

    /// The one in a file, with white space around it or not. Blocks on the disk.
    ///
    /// # Errors
    /// What the system says, or `InvalidData`.
    pub fn read(path: &Path) -> io::Result<Self> {
        let content = file::read_mounted(path, Self::BYTES_MAX as u64)?;
        Self::from_bytes(content.trim_ascii())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// The token itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// By which it can be known again without being kept.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(TOKEN_DOMAIN, self.0.as_bytes())
    }

    /// The proof of a host that joins this authority's cluster with this token, as [`crate::JoinToken::prove`].
    #[must_use]
    pub fn prove(&self, authority: &AuthorityHash, key: &HostKey) -> [u8; 64] {
        prove(key, authority, &self.hash())
    }
}

impl fmt::Debug for ServiceAccountToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceAccountToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::JoinSecret;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_token_is_read_whatever_its_mode_and_shows_itself_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert_eq!(ServiceAccountToken::read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        for mode in [0o600, 0o644] {
            std::fs::write(&path, "eyJhbGciOiJSUzI1NiJ9.e30.c2ln\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let token = ServiceAccountToken::read(&path).unwrap();
            assert_eq!(token.expose(), "eyJhbGciOiJSUzI1NiJ9.e30.c2ln");
            assert!(!format!("{token:?}").contains("eyJ"));
        }
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let long = "a".repeat(ServiceAccountToken::BYTES_MAX + 1);
        for bytes in [&b""[..], b" \n", b"two words", b"a\r\nb", "gr\u{fc}n".as_bytes(), long.as_bytes()] {
            std::fs::write(&path, bytes).unwrap();
            let error = ServiceAccountToken::read(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(!error.to_string().contains("aaaa") && !error.to_string().contains("two"), "{error}");
            assert!(ServiceAccountToken::from_bytes(bytes).is_err());
        }
        assert!(ServiceAccountToken::from_bytes(&long.as_bytes()[1..]).is_ok());
    }

    #[test]
    fn its_hash_is_never_that_of_a_join_tokens_secret() {
        let secret = JoinSecret::from_bytes(&[b'a'; 32]).unwrap();
        let token = ServiceAccountToken::from_bytes(&[b'a'; 32]).unwrap();
        assert_ne!(secret.hash(), token.hash());
    }
}
