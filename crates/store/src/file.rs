//! The cache directory: one file per blob, and the lock that keeps other processes out.
//!
//! ```text
//! dir/lock
//! dir/metadata.redb
//! dir/blobs/sha256/ab/ab01…    preallocated, offsets as in the blob
//! ```
//!
//! The directory is not synced after a file is made: should a power cut lose the entry, the file is missing at the next
//! start and its blob is dropped.

use crate::StoreError;
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;
use std::fs::{DirBuilder, DirEntry, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use types::{Algorithm, Digest};

/// Cached bytes may be private: nobody but the daemon's user reads them.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The directory that the store owns.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
}

/// How full a file system is, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    /// Its size.
    pub(crate) total: u64,
    /// What this process may still use.
    pub(crate) available: u64,
}

impl Directory {
    /// Makes the directory if need be and takes its lock, which lasts as long as the returned file.
    pub(crate) fn claim(root: &Path) -> Result<(Self, File), StoreError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Directory { path, source }
        };
        let existed = root.is_dir();
        make_dir(&root.join("blobs")).map_err(fail(root))?;
        if !existed {
            std::fs::set_permissions(root, Permissions::from_mode(DIR_MODE)).map_err(fail(root))?;
        }
        let path = root.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(fail(&path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok((Self { root: root.to_owned() }, file)),
            Err(Errno::WOULDBLOCK) => Err(StoreError::Locked { path }),
            Err(errno) => Err(fail(&path)(errno.into())),
        }
    }

    /// Where the database is.
    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("metadata.redb")
    }

    /// Where the file of a blob is.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        let encoded = digest.encoded();
        self.root.join("blobs").join(digest.algorithm().name()).join(&encoded[..2]).join(encoded)
    }

    /// Makes the file of a blob of `size` bytes, all of them allocated on the disk.
    pub(crate) fn create(&self, digest: &Digest, size: u64) -> Result<File, StoreError> {
        let path = self.path(digest);
        let make = || {
            make_dir(path.parent().unwrap_or(&self.root))?;
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .mode(FILE_MODE)
                .open(&path)?;
            allocate(&file, size)?;
            Ok(file)
        };
        make().map_err(|source: io::Error| {
            if let Err(error) = self.remove(digest) {
                tracing::warn!(%digest, error = &error as &dyn std::error::Error, "file without space left behind");
            }
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { needed: size },
                _ => StoreError::Directory { path: path.clone(), source },
            }
        })
    }

    /// Opens the file of a blob.
    pub(crate) fn open(&self, digest: &Digest) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path(digest))
    }

    /// The length of a blob's file, in bytes; nothing if there is no such file.
    pub(crate) fn len(&self, digest: &Digest) -> Option<u64> {
        self.path(digest).symlink_metadata().ok().filter(|file| file.is_file()).map(|file| file.len())
    }

    /// Removes the file of a blob, if it is there.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        match std::fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Io { doing: "removing a blob's file", source: error })
            }
            _ => Ok(()),
        }
    }

    /// Removes the files that are no blob's of which `keep` says so; how many. Subdirectories of two levels only, and
    /// only names that a blob could have, so that nothing else is ever touched.
    pub(crate) fn remove_strays(&self, keep: impl Fn(&Digest) -> bool) -> Result<usize, StoreError> {
        let fail = |source| StoreError::Directory { path: self.root.join("blobs"), source };
        let mut removed = 0;
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for dir in entries(&self.root.join("blobs").join(algorithm.name())).map_err(fail)? {
                for file in entries(&dir.path()).map_err(fail)? {
                    let name = format!("{}:{}", algorithm.name(), file.file_name().to_string_lossy());
                    let Ok(digest) = name.parse::<Digest>() else { continue };
                    if !keep(&digest) {
                        self.remove(&digest)?;
                        removed += 1;
                    }
                }
            }
        }
        Ok(removed)
    }

    /// How full the file system is.
    pub(crate) fn space(&self) -> Result<Space, StoreError> {
        let stat = rustix::fs::statvfs(&self.root)
            .map_err(|e| StoreError::io("reading the free space")(e.into()))?;
        Ok(Space { total: stat.f_blocks * stat.f_frsize, available: stat.f_bavail * stat.f_frsize })
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)
}

/// What is in a directory; nothing if it is none.
fn entries(path: &Path) -> io::Result<Vec<DirEntry>> {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.collect(),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(e) => Err(e),
    }
}

/// Allocates `size` bytes, so that a later write does not find the disk full. A file system that cannot (NFS, ZFS) gets
/// a sparse file; there a write may fail with `Full`.
fn allocate(file: &File, size: u64) -> io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    loop {
        return match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
            Err(Errno::INTR) => continue,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(size),
            other => other.map_err(io::Error::from),
        };
    }
}
