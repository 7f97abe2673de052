//! Files that only their owner may read: keys, tokens, credentials.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file at `path`, of at most `len_max` bytes; nothing if there is none. Blocks on the disk.
///
/// # Errors
/// `PermissionDenied` with what to do if others than its owner may read or write it, `InvalidData` if it is longer, or
/// what the system says.
pub fn read(path: &Path, len_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mode = file.metadata()?.mode() & 0o777;
    if mode & 0o077 != 0 {
        let why = format!("it has mode {mode:03o}: others could read it; set it to 600");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    bounded(file, len_max).map(Some)
}

/// The file at `path`, of at most `len_max` bytes, whatever its mode: that of a file in a pod is kubelet's choice.
/// Blocks on the disk.
///
/// # Errors
/// `InvalidData` if it is longer, or what the system says.
pub fn read_mounted(path: &Path, len_max: u64) -> io::Result<Vec<u8>> {
    bounded(File::open(path)?, len_max)
}

fn bounded(file: File, len_max: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(len_max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > len_max {
        let why = format!("it has more than {len_max} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(content)
}

/// The file at `path`, of at most `len_max` bytes; one with what `make` makes is written if there is none. Two processes
/// that start at once on an empty directory end up with the same content. Blocks on the disk.
///
/// # Errors
/// Those of [`read`], of `make`, or what the system says.
pub fn read_or_create(
    path: &Path,
    len_max: u64,
    make: impl FnOnce() -> io::Result<Vec<u8>>,
) -> io::Result<Vec<u8>> {
    if let Some(content) = read(path, len_max)? {
        return Ok(content);
    }
    let fresh = make()?;
    match create(path, &fresh) {
        Ok(()) => Ok(fresh),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read(path, len_max)?.ok_or_else(|| io::ErrorKind::NotFound.into())
        }
        Err(error) => Err(error),
    }
}

/// Writes a new file with mode 0600, whole or not at all. Blocks on the disk.
///
/// # Errors
/// `AlreadyExists`, and the one that is there is kept; or what the system says.
pub fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    // A link, unlike a rename, does not replace what is there.
    beside(path, content, |written| fs::hard_link(written, path))
}

/// Writes a file with mode 0600 in place of what is there, whole or not at all. Blocks on the disk.
///
/// # Errors
/// What the system says.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    beside(path, content, |written| fs::rename(written, path))
}

fn beside(path: &Path, content: &[u8], place: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let written = PathBuf::from(name);
    let _ = fs::remove_file(&written);
    let placed = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&written)?;
        file.write_all(content)?;
        file.sync_all()?;
        place(&written)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()
    })();
    let _ = fs::remove_file(&written);
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_created_stays_and_what_is_replaced_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert_eq!(read(&path, 10).unwrap(), None);
        create(&path, b"one").unwrap();
        assert_eq!(create(&path, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(&path, 3).unwrap().unwrap(), b"one");
        replace(&path, b"three").unwrap();
        assert_eq!(read(&path, 10).unwrap().unwrap(), b"three");
        assert_eq!(read(&path, 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let found = read_or_create(&path, 10, || panic!("it is there")).unwrap();
        assert_eq!(found, b"three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing left beside it");
        let other = dir.path().join("other");
        assert_eq!(read_or_create(&other, 10, || Ok(b"made".to_vec())).unwrap(), b"made");
        assert_eq!(read(&other, 10).unwrap().unwrap(), b"made");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, b"one").unwrap();
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&path, 10).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            assert!(error.to_string().contains(&format!("mode {mode:o}")), "{error}");
            assert!(error.to_string().contains("set it to 600"), "{error}");
        }
    }
}
