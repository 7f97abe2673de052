//! A directory with what was done to the machine's files, and with the files as they were before.
//!
//! Which record that is says whoever keeps one: `runtime::record`, `service::record`.

use super::files::{HALF, remove_halves};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

/// The record's file in its directory.
const NAME: &str = "installed.json";

/// The files as they were, at their paths below this.
const BEFORE: &str = "before";

/// What is kept there.
pub(crate) trait Recorded: DeserializeOwned + Default {
    /// The files and directories that it speaks of.
    fn paths(&self) -> impl Iterator<Item = &Path>;
}

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
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir.parent().unwrap_or(dir))?;
        // Nobody else has to do with it: whoever could open it could hold the lock.
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let lock = File::open(dir)?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // They may hold secrets.
                remove_halves(dir);
                remove_halves_below(&dir.join(BEFORE));
                Ok(Self { dir: dir.to_owned(), _lock: Some(lock) })
            }
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
    /// If it cannot be read, or speaks of what no path of the machine's is.
    pub(crate) fn read<R: Recorded>(&self) -> io::Result<R> {
        let bad = |why: &dyn std::fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", self.file().display()))
        };
        let record: R = match fs::read(self.file()) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| bad(&error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(R::default()),
            Err(error) => return Err(error),
        };
        if let Some(path) = record.paths().find(|path| !is_plain(path)) {
            return Err(bad(&format_args!("{} is no absolute path without `..`", path.display())));
        }
        Ok(record)
    }

    /// Keeps a record, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn write(&self, record: &impl Serialize) -> io::Result<()> {
        let mut file = half_in(&self.dir)?;
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
        let mut file = half_in(dir)?;
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
        remove_halves(&self.dir);
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

/// A file of mode 0600 that is written to its end before it has its name.
fn half_in(dir: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(HALF).tempfile_in(dir)
}

/// Removes what a crash left of the files that are kept, and the directories with nothing in them.
fn remove_halves_below(dir: &Path) {
    remove_halves(dir);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        // Not of a link.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_halves_below(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

/// Whether it is the same place for everybody: absolute, and with no way up in it.
fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::os::unix::fs::PermissionsExt;

    #[derive(Debug, Default, Serialize, Deserialize)]
    struct Paths(Vec<PathBuf>);

    impl Recorded for Paths {
        fn paths(&self) -> impl Iterator<Item = &Path> {
            self.0.iter().map(PathBuf::as_path)
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_no_record() {
        let root = tempfile::tempdir().unwrap();
        let state = State::lock(&root.path().join("above/state"), "test").unwrap();
        for (path, good) in [("/etc/a", true), ("etc/a", false), ("/etc/../a", false), ("/etc/..", false)] {
            state.write(&Paths(vec![path.into()])).unwrap();
            assert_eq!(state.read::<Paths>().is_ok(), good, "{path}");
        }
    }

    #[test]
    fn the_directory_is_its_keepers_alone_and_halves_in_it_go() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("state");
        let state = State::lock(&dir, "test").unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        state.keep(Path::new("/etc/a"), "kept").unwrap();
        drop(state);
        let half = format!("{HALF}abc");
        let halves = [dir.join(&half), dir.join(BEFORE).join("etc").join(&half)];
        let plant = || halves.iter().for_each(|half| fs::write(half, "secret").unwrap());
        plant();
        let state = State::lock(&dir, "test").unwrap();
        assert!(halves.iter().all(|half| !half.exists()));
        assert_eq!(fs::read_to_string(state.kept(Path::new("/etc/a"))).unwrap(), "kept");
        plant();
        state.clear().unwrap();
        assert!(!dir.exists());
    }
}
