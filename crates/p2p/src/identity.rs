//! This host's key. Its public half names the host: peer id and host id follow from it.

use crate::P2pError;
use libp2p::PeerId;
use libp2p::identity::{KeyType, Keypair};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
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
    /// [`P2pError::KeyFile`], [`P2pError::KeyMode`] if others can read the file, [`P2pError::KeyForm`].
    pub fn load_or_create(path: &Path) -> Result<Self, P2pError> {
        let failed = |source| P2pError::KeyFile { path: path.to_owned(), source };
        match File::open(path) {
            Ok(file) => Self::load(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let fresh = Self::generate();
                match fresh.save(path) {
                    Ok(()) => Ok(fresh),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        Self::load(path, File::open(path).map_err(failed)?)
                    }
                    Err(error) => Err(failed(error)),
                }
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn load(path: &Path, file: File) -> Result<Self, P2pError> {
        let failed = |source| P2pError::KeyFile { path: path.to_owned(), source };
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(P2pError::KeyMode { path: path.to_owned(), mode });
        }
        let mut encoded = Vec::new();
        file.take(KEY_FILE_LEN_MAX).read_to_end(&mut encoded).map_err(failed)?;
        match Keypair::from_protobuf_encoding(&encoded) {
            Ok(keypair) if keypair.key_type() == KeyType::Ed25519 => Ok(Self::of(keypair)),
            _ => Err(P2pError::KeyForm { path: path.to_owned() }),
        }
    }

    /// Writes beside `path` and links the whole file into place, so that nobody sees half a key and an existing one is
    /// never replaced.
    fn save(&self, path: &Path) -> io::Result<()> {
        let encoded = self.keypair.to_protobuf_encoding().map_err(io::Error::other)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let _ = fs::remove_file(&beside);
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(&encoded)?;
            file.sync_all()?;
            fs::hard_link(&beside, path)
        })();
        let _ = fs::remove_file(&beside);
        written
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
    use std::os::unix::fs::PermissionsExt;

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
    fn starting_at_once_ends_with_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let identity = Identity::generate();
        identity.save(&path).unwrap();
        let second = Identity::generate().save(&path).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(Identity::load_or_create(&path).unwrap().peer_id(), identity.peer_id());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        Identity::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Identity::load_or_create(&path).unwrap_err();
            assert!(matches!(error, P2pError::KeyMode { mode: m, .. } if m == mode));
            let text = error.to_string();
            assert!(text.contains("set it to 600") && text.contains(&format!("{mode:o}")), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for content in [&b""[..], b"not a key", &[0; 4096]] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = Identity::load_or_create(&path).unwrap_err();
            assert!(matches!(error, P2pError::KeyForm { .. }), "{error}");
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
