//! What was put where: kept on the machine, so that it can be taken out again by whoever comes later.
//!
//! It is written before the files that it speaks of: after a crash in between, what is recorded and not there is passed over.

use super::edit::Edit;
use super::target::Target;
use super::{Runtime, Setting};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The record's file in its directory.
const NAME: &str = "installed.json";

/// The files as they were, at their paths below this.
const BEFORE: &str = "before";

/// What stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// How each runtime was set up.
    pub(super) settings: BTreeMap<Runtime, Setting>,
    /// What was put into which file.
    pub(super) files: BTreeMap<PathBuf, Entry>,
    /// Directories that were made, from the outermost.
    pub(super) directories: Vec<PathBuf>,
    /// What still has to read its configuration again.
    pub(super) pending: BTreeSet<Runtime>,
}

impl Record {
    /// Whether something was done for it.
    pub(super) fn knows(&self, runtime: Runtime) -> bool {
        self.settings.contains_key(&runtime) || self.files.values().any(|entry| entry.runtime == runtime)
    }
}

/// What was put into one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// For whom.
    pub(super) runtime: Runtime,
    /// What.
    pub(super) target: Target,
    /// How.
    pub(super) edit: Edit,
    /// Whether the file was there before.
    pub(super) existed: bool,
    /// What stood there until then, while it may stand there still: a crash can come between this and the file.
    pub(super) former: Option<(Target, Edit)>,
}

/// The directory of the record. While it is held, no other `dfctl` changes it.
#[derive(Debug)]
pub(super) struct State {
    dir: PathBuf,
    _lock: Option<File>,
}

impl State {
    /// The record's directory, made if need be, for this process alone.
    ///
    /// # Errors
    /// If it cannot be made, or another process has it.
    pub(super) fn lock(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
        let lock = File::open(dir)?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: Some(lock) }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(io::Error::new(io::ErrorKind::WouldBlock, "another `dfctl runtime` is at work"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The same, to look only.
    pub(super) fn look(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), _lock: None }
    }

    /// What is recorded; nothing if there is no record.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn read(&self) -> io::Result<Record> {
        match fs::read(self.file()) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", self.file().display()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(error),
        }
    }

    /// Keeps a record, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
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
    pub(super) fn keep(&self, path: &Path, text: &str) -> io::Result<()> {
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
    pub(super) fn forget(&self, path: &Path) {
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
    pub(super) fn clear(&self) -> io::Result<()> {
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
    pub(super) fn file(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// Where the text of a file is kept, for people.
    pub(super) fn kept(&self, path: &Path) -> PathBuf {
        self.dir.join(BEFORE).join(path.strip_prefix("/").unwrap_or(path))
    }
}
