//! Programs among the machine's files: known by their digests, copied in one step.

use super::{Files, Refusal};
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use types::{Algorithm, Digest};

/// What is read at once.
const CHUNK_LEN: usize = 1 << 16;

/// The mode of a program: all may run it, its owner alone may change it.
const MODE: u32 = 0o755;

/// The digest of a file of this process's, which has to be one.
///
/// # Errors
/// If it cannot be read, or is no file.
pub(crate) fn digest_of(path: &Path) -> io::Result<Digest> {
    pass(&mut open(path, OFlags::empty())?, |_| Ok(()))
}

impl Files {
    /// The digest of a file, whatever it holds; nothing if there is none.
    ///
    /// # Errors
    /// If it cannot be read, is no file, or is a link to somewhere else, as for [`Files::read`].
    pub(crate) fn digest(&self, path: &Path) -> Result<Option<Digest>, Refusal> {
        let refuse = |error: &io::Error| Refusal::of(path, error);
        let place = self.place(path);
        self.inside(&place).map_err(|error| refuse(&error))?;
        match fs::symlink_metadata(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refuse(&error)),
            Ok(meta) if meta.is_symlink() => {
                let why = "it is a symbolic link; change what it is made from";
                return Err(refuse(&io::Error::new(io::ErrorKind::InvalidInput, why)));
            }
            Ok(_) => {}
        }
        let digest = open(&place, OFlags::NOFOLLOW).and_then(|mut file| pass(&mut file, |_| Ok(())));
        digest.map(Some).map_err(|error| refuse(&error))
    }

    /// The permissions of a file; nothing if there is none.
    pub(crate) fn mode(&self, path: &Path) -> Option<u32> {
        fs::metadata(self.place(path)).ok().map(|meta| meta.mode() & 0o7777)
    }

    /// Whether anybody can run what is there, also behind a link that does not lead out.
    pub(crate) fn is_program(&self, path: &Path) -> bool {
        let runs = |meta: fs::Metadata| meta.is_file() && meta.mode() & 0o111 == 0o111;
        self.is_inside(path) && fs::metadata(self.place(path)).is_ok_and(runs)
    }

    /// Whether a program that was copied has the mode that it was copied with.
    pub(crate) fn has_program_mode(&self, path: &Path) -> bool {
        self.mode(path) == Some(MODE)
    }

    /// Has a file be a program: a copy of `from`, which has this digest.
    ///
    /// # Errors
    /// If it cannot be written, or `from` is not what it was.
    pub(crate) fn copy(&self, path: &Path, from: &Path, digest: &Digest) -> io::Result<()> {
        let mut from = open(from, OFlags::empty())?;
        self.replace(path, |file, _| {
            if pass(&mut from, |bytes| file.write_all(bytes))? != *digest {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it changed while it was copied"));
            }
            Ok(MODE)
        })
    }
}

fn open(path: &Path, how: OFlags) -> io::Result<File> {
    // Not blocking: it may be a pipe that nobody writes to.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | how;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"))
    }
}

/// Reads a file to its end, passing its bytes on; their digest.
fn pass(file: &mut File, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_LEN];
    loop {
        let length = match file.read(&mut chunk) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        hasher.update(&chunk[..length]);
        to(&chunk[..length])?;
    }
    Digest::new(Algorithm::Sha256, &hasher.finalize()).map_err(io::Error::other)
}
