//! This host's key. Its public half names the host: peer id and host id follow from it.

use crate::P2pError;
use libp2p::PeerId;
use libp2p::identity::{KeyType, Keypair};
use membership::{HostKey, file};
use std::fmt;
use std::io;
use std::path::Path;
use types::HostId;

/// An encoded ed25519 key pair has 68 bytes; a longer file is none.
const KEY_FILE_LEN_MAX: u64 = 128;

/// An ed25519 key pair. Cloning shares it; `Debug` shows the public half only.
#[derive(Clone)]
pub struct Identity {
    keypair: Keypair,
    peer_id: PeerId,
    host_id: HostId,
}

impl Identity {
    /// A new key, kept nowhere.
    #[must_use]
    pub fn generate() -> Self {
        Self::of(Keypair::generate_ed25519())
    }

    /// The key in the file at `path`; a new one is written there, readable by its owner alone, if there is none.
    ///
    /// Blocks on the disk. Two processes that start at once on an empty directory end up with the same key.
    ///
    /// # Errors
    /// [`P2pError::KeyFile`], also if others can read the file; [`P2pError::KeyForm`].
    pub fn load_or_create(path: &Path) -> Result<Self, P2pError> {
        let failed = |source| P2pError::KeyFile { path: path.to_owned(), source };
        let make = || Self::generate().keypair.to_protobuf_encoding().map_err(io::Error::other);
        let encoded = file::read_or_create(path, KEY_FILE_LEN_MAX, make).map_err(failed)?;
        Self::decode(path, &encoded)
    }

    fn decode(path: &Path, encoded: &[u8]) -> Result<Self, P2pError> {
        match Keypair::from_protobuf_encoding(encoded) {
            Ok(keypair) if keypair.key_type() == KeyType::Ed25519 => Ok(Self::of(keypair)),
            _ => Err(P2pError::KeyForm { path: path.to_owned() }),
        }
    }

    fn of(keypair: Keypair) -> Self {
        let peer_id = keypair.public().to_peer_id();
        Self { keypair, peer_id, host_id: HostId::of_peer_id(&peer_id.to_bytes()) }
    }

    /// The libp2p peer id's bytes.
    #[must_use]
    pub fn peer_id_bytes(&self) -> Vec<u8> {
        self.peer_id.to_bytes()
    }

    /// The hash of the peer id.
    #[must_use]
    pub const fn host_id(&self) -> HostId {
        self.host_id
    }

    /// The libp2p peer id.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The key in the forms that joining a cluster needs; nothing if it cannot be used for them, which no Ed25519 key is.
    #[must_use]
    pub fn host_key(&self) -> Option<HostKey> {
        let pair = self.keypair.clone().try_into_ed25519().ok()?;
        HostKey::from_secret(pair.secret().as_ref().try_into().ok()?)
    }

    pub(crate) const fn keypair(&self) -> &Keypair {
        &self.keypair
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.peer_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let made = Identity::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let found = Identity::load_or_create(&path).unwrap();
        assert_eq!(made.peer_id_bytes(), found.peer_id_bytes());
        assert_eq!(made.host_id(), HostId::of_peer_id(&found.peer_id_bytes()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing left beside it");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        Identity::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::load_or_create(&path).unwrap_err();
        let P2pError::KeyFile { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains("mode 640") && source.to_string().contains("set it to 600"));
    }

    #[test]
    fn a_certificate_is_for_the_same_key_as_the_peer_id() {
        let identity = Identity::generate();
        let key = identity.host_key().unwrap().public();
        assert_eq!(key.peer_id(), identity.peer_id_bytes());
        assert_eq!(key.host(), identity.host_id());
    }

    #[test]
    fn what_is_no_key_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for content in [&b""[..], b"not a key", &[0; 4096]] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = Identity::load_or_create(&path).unwrap_err();
            assert!(matches!(error, P2pError::KeyForm { .. } | P2pError::KeyFile { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        let missing = dir.path().join("missing/key");
        let error = Identity::load_or_create(&missing).unwrap_err();
        assert!(matches!(error, P2pError::KeyFile { .. }), "{error}");
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = Identity::generate();
        assert_eq!(format!("{identity:?}"), format!("Identity({})", identity.peer_id()));
    }
}
