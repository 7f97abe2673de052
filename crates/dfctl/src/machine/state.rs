//! A directory with what was done to the machine's files, and with the files as they were before.
//!
//! Which record that is says whoever keeps one: `runtime::record`, `service::record`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The record's file in its directory.
const NAME: &str = "installed.json";

/// The files as they were, at their paths below this.
const BEFORE: &str = "before";

/// The directory of the record. While it is held, no other `dfctl` changes it.
#[derive(Debug)]
pub(crate) struct State {
    dir: PathBuf,
    _lock: Option<File>,
}

impl State {
    /// The record's directory, made if need be, for this process alone; `whose` is the command that keeps it.
    ///
    /// # Errors
    /// If it cannot be made, or another process has it.
    pub(crate) fn lock(dir: &Path, whose: &str) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
        let lock = File::open(dir)?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: Some(lock) }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let why = format!("another `{whose}` is at work");
                Err(io::Error::new(io::ErrorKind::WouldBlock, why))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The same, to look only.
    pub(crate) fn look(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), _lock: None }
    }

    /// What is recorded; nothing if there is no record.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn read<R: DeserializeOwned + Default>(&self) -> io::Result<R> {
        match fs::read(self.file()) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", self.file().display()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(R::default()),
            Err(error) => Err(error),
        }
    }

    /// Keeps a record, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn write(&self, record: &impl Serialize) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        serde_json::to_writer_pretty(&mut file, record)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(self.file()).map_err(|error| error.error)?;
        File::open(&self.dir)?.sync_all()
    }

    /// Keeps a file's text as it was before anything was put into it; where that is now.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn keep(&self, path: &Path, text: &str) -> io::Result<()> {
        let place = self.kept(path);
        let dir = place.parent().unwrap_or(&self.dir);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // Of mode 0600: it may hold secrets, whatever the mode of the file itself.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&place).map(drop).map_err(|error| error.error)
    }

    /// Forgets the text that was kept.
    pub(crate) fn forget(&self, path: &Path) {
        let kept = self.kept(path);
        let _ = fs::remove_file(&kept);
        for dir in kept.ancestors().skip(1).take_while(|dir| *dir != self.dir) {
            if fs::remove_dir(dir).is_err() {
                break;
            }
        }
    }

    /// Leaves no trace, if nothing is recorded any more.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match fs::remove_file(self.file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match fs::remove_dir_all(self.dir.join(BEFORE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // What others keep there stays.
        let _ = fs::remove_dir(&self.dir);
        Ok(())
    }

    /// Where the record is.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// Where the text of a file is kept, for people.
    pub(crate) fn kept(&self, path: &Path) -> PathBuf {
        self.dir.join(BEFORE).join(path.strip_prefix("/").unwrap_or(path))
    }
}
