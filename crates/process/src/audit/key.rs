//! The key under which credentials are hashed: the same credential has the same hash for as long as the key file is
//! there, and without the file nobody can try passwords against a hash.

use aws_lc_rs::{hmac, rand};
use membership::file;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of a key: those of the hash's output (RFC 2104, section 3).
const LEN: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made, or others could read it.
    #[error("cannot use the audit log's key {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no key.
    #[error("{} is no key of an audit log: it must have {LEN} bytes", path.display())]
    Form {
        /// Which file.
        path: PathBuf,
    },
}

/// The key. `Debug` does not show it.
pub struct Key(hmac::Key);

impl Key {
    /// The key in the file at `path`; a new one is written there, readable by its owner alone, if there is none. Blocks
    /// on the disk.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        let bytes = file::read_or_create(path, LEN as u64, make).map_err(failed)?;
        if bytes.len() != LEN {
            return Err(KeyError::Form { path: path.to_owned() });
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The first 16 hexadecimal digits of the credential's HMAC-SHA-256.
    #[must_use]
    pub fn hash(&self, credential: &str) -> String {
        let tag = hmac::sign(&self.0, credential.as_bytes());
        tag.as_ref()
            .iter()
            .take(8)
            .fold(String::with_capacity(16), |text, byte| text + &format!("{byte:02x}"))
    }
}

fn make() -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; LEN];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(bytes)
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn a_key_is_made_once_and_hashes_alike_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.key");
        let made = Key::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let found = Key::load_or_create(&path).unwrap();
        let hash = made.hash("Bearer a");
        assert_eq!((hash.len(), found.hash("Bearer a")), (16, hash.clone()));
        assert_ne!(made.hash("Bearer b"), hash);
        let other = Key::load_or_create(&dir.path().join("other.key")).unwrap();
        assert_ne!(other.hash("Bearer a"), hash, "not without the key");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing left beside them");
    }

    /// RFC 4231, test case 1, with its key padded by zeros, which HMAC does itself.
    #[test]
    fn the_hash_is_hmac_sha_256() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.key");
        let mut key = [0; LEN];
        key[..20].fill(0x0b);
        std::fs::write(&path, key).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Key::load_or_create(&path).unwrap().hash("Hi There"), "b0344c61d8db3853");
    }

    #[test]
    fn what_is_no_secret_key_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.key");
        Key::load_or_create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Key::load_or_create(&path).unwrap_err();
        let KeyError::File { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains("mode 640"), "{source}");
        std::fs::write(&path, "short").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = Key::load_or_create(&path).unwrap_err();
        assert!(matches!(error, KeyError::Form { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        let error = Key::load_or_create(&dir.path().join("missing/audit.key")).unwrap_err();
        assert!(matches!(error, KeyError::File { .. }), "{error}");
    }
}
