//! The files of a machine, which may be mounted below a directory; without what is ours in them, where that is asked for.

use super::{Refusal, owner};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The largest file that is read: configurations are small.
const FILE_MAX: u64 = 4 << 20;

/// How the name of a file begins that is not written to its end.
pub(super) const HALF: &str = ".dfctl-";

/// The machine's files.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    /// What is to be read in the place of a file: its text, or nothing where there is to be no file.
    instead: BTreeMap<PathBuf, Option<String>>,
}

/// What is wrong with a file, if anything is.
type Fault = fn(&fs::Metadata) -> Option<String>;

impl Files {
    /// The files below `root`, which is `/` on a running machine.
    pub(crate) fn below(root: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(root)?;
        Ok(Self { root, instead: BTreeMap::new() })
    }

    /// The same, with other texts in some places.
    pub(crate) fn with(&self, instead: BTreeMap<PathBuf, Option<String>>) -> Self {
        Self { root: self.root.clone(), instead }
    }

    /// Whether these are the files of the machine that runs this.
    pub(crate) fn of_this_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where a path of the machine's is from here.
    pub(crate) fn place(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether something is there.
    pub(crate) fn exists(&self, path: &Path) -> bool {
        self.place(path).exists()
    }

    /// Whether something is there that is no link out of the root.
    pub(crate) fn is_inside(&self, path: &Path) -> bool {
        fs::canonicalize(self.place(path)).is_ok_and(|place| place.starts_with(&self.root))
    }

    /// Whether something is there, also a link that leads nowhere.
    pub(crate) fn has_entry(&self, path: &Path) -> bool {
        fs::symlink_metadata(self.place(path)).is_ok()
    }

    /// A file's text; nothing if there is none.
    ///
    /// # Errors
    /// If it cannot be read, is no text, or is a link to somewhere else: that is made by another program, which would
    /// undo what is done to it.
    pub(crate) fn read(&self, path: &Path) -> Result<Option<String>, Refusal> {
        if let Some(text) = self.instead.get(path) {
            return Ok(text.clone());
        }
        let refuse = |why: &str| Refusal::new(format!("{}: {why}", path.display()));
        let place = self.place(path);
        self.inside(&place).map_err(|error| Refusal::of(path, &error))?;
        match fs::symlink_metadata(&place) {
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(Refusal::of(path, &error)),
            Ok(meta) if meta.is_symlink() => {
                Err(refuse("it is a symbolic link; change what it is made from"))
            }
            Ok(meta) if !meta.is_file() => Err(refuse("it is no file")),
            Ok(_) => self.open(path, OFlags::NOFOLLOW).map(Some),
        }
    }

    /// The text of a file that is only looked at, wherever it is a link to; nothing if there is none, or it is no file.
    ///
    /// # Errors
    /// If it cannot be read, or is no text.
    pub(crate) fn look(&self, path: &Path) -> Result<Option<String>, Refusal> {
        if !self.place(path).is_file() {
            return Ok(None);
        }
        self.open(path, OFlags::empty()).map(Some)
    }

    fn open(&self, path: &Path, how: OFlags) -> Result<String, Refusal> {
        let refuse = |why: &str| Refusal::new(format!("{}: {why}", path.display()));
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | how;
        let file = rustix::fs::open(self.place(path), flags, Mode::empty());
        let file = file.map_err(|error| Refusal::of(path, &io::Error::from(error)))?;
        let mut bytes = Vec::new();
        let read = fs::File::from(file).take(FILE_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| Refusal::of(path, &error))?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(refuse("it is too large for a configuration"));
        }
        String::from_utf8(bytes).map_err(|_| refuse("it is no UTF-8 text"))
    }

    /// The names in a directory, sorted; none if there is no directory.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn names(&self, dir: &Path) -> Result<Vec<String>, Refusal> {
        let refuse = |error: &io::Error| Refusal::of(dir, error);
        let entries = match fs::read_dir(self.place(dir)) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(refuse(&error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = dir.join(entry.map_err(|error| refuse(&error))?.file_name());
            // A file that is to be read as absent is absent, and so is a directory with nothing else in it.
            let gone = |path: &Path| self.instead.get(path) == Some(&None);
            let emptied =
                self.instead.iter().any(|(file, text)| text.is_none() && file.parent() == Some(&path))
                    && fs::read_dir(self.place(&path)).is_ok_and(|mut inner| {
                        inner.all(|entry| entry.is_ok_and(|entry| gone(&path.join(entry.file_name()))))
                    });
            let name = path.file_name().and_then(|name| name.to_str());
            if !gone(&path) && !emptied {
                names.extend(name.filter(|name| !name.starts_with(HALF)).map(str::to_owned));
            }
        }
        names.sort();
        Ok(names)
    }

    /// The directories above a file that are not there, from the outermost.
    ///
    /// # Errors
    /// If they would be somewhere else than below the root.
    pub(crate) fn missing(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.inside(&self.place(path))?;
        let missing = path.ancestors().skip(1).take_while(|dir| !self.place(dir).exists());
        let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        missing.reverse();
        Ok(missing)
    }

    /// Makes a directory, unless it is there.
    ///
    /// # Errors
    /// If it cannot be made, or would be somewhere else than below the root.
    pub(crate) fn make(&self, dir: &Path) -> io::Result<()> {
        let place = self.place(dir);
        self.inside(&place)?;
        match fs::create_dir(&place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made?,
        }
        // What was made, and not what a link leads to that others have put there since.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = fs::File::from(rustix::fs::open(&place, flags, Mode::empty())?);
        made.set_permissions(fs::Permissions::from_mode(0o755))
    }

    /// What others than this user and root could do to a file with a secret, or to the directory that it is to be in;
    /// nothing if all is well.
    ///
    /// # Errors
    /// If that cannot be seen.
    pub(crate) fn strangers(&self, path: &Path) -> Result<Option<Refusal>, Refusal> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let of_dir: Fault = owner::strangers_above;
        for (path, of) in [(dir, of_dir), (path, owner::strangers)] {
            match fs::metadata(self.place(path)) {
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(Refusal::of(path, &error)),
                Ok(meta) => {
                    if let Some(why) = of(&meta) {
                        return Ok(Some(Refusal::new(format!("{}: {why}", path.display()))));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Has a file have this text, in one step; its mode and owner stay. `mode` is that of a new file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn write(&self, path: &Path, text: &str, mode: u32) -> io::Result<()> {
        self.replace(path, |file, old| {
            file.write_all(text.as_bytes())?;
            if let Some(old) = old {
                std::os::unix::fs::fchown(&*file, Some(old.uid()), Some(old.gid()))?;
            }
            Ok(old.map_or(mode, |old| old.mode() & 0o7777))
        })
    }

    /// Has a file be what `fill` makes of it, which is told what stands there and answers with the mode, in one step.
    pub(super) fn replace(
        &self,
        path: &Path,
        fill: impl FnOnce(&mut fs::File, Option<&fs::Metadata>) -> io::Result<u32>,
    ) -> io::Result<()> {
        let place = self.place(path);
        self.inside(&place)?;
        let dir = place.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::Builder::new().prefix(HALF).tempfile_in(dir)?;
        let old = match fs::symlink_metadata(&place) {
            Ok(meta) if meta.is_symlink() => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link"));
            }
            Ok(meta) => Some(meta),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mode = fill(file.as_file_mut(), old.as_ref())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(&place).map_err(|error| error.error)?;
        fs::File::open(dir)?.sync_all()
    }

    /// Removes a file.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.inside(&self.place(path))?;
        match fs::remove_file(self.place(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes those of the directories that nobody needs any more and that are empty.
    pub(crate) fn remove_unneeded(&self, dirs: &mut Vec<PathBuf>, needed: impl Fn(&Path) -> bool) {
        let (kept, done): (Vec<_>, Vec<_>) = dirs.drain(..).partition(|dir| needed(dir));
        self.remove_empty(&done);
        *dirs = kept;
    }

    /// Removes directories that are empty; the others stay.
    pub(crate) fn remove_empty(&self, dirs: &[PathBuf]) {
        for dir in dirs.iter().rev() {
            self.remove_halves(dir);
            // What cannot be removed is in use.
            let _ = fs::remove_dir(self.place(dir));
        }
    }

    /// Removes what a crash left of files that were being written.
    pub(crate) fn remove_halves(&self, dir: &Path) {
        remove_halves(&self.place(dir));
    }

    /// A directory below the root may be a link out of it, to a file of the machine that looks after the other.
    pub(super) fn inside(&self, place: &Path) -> io::Result<()> {
        let above = place.ancestors().skip(1).find(|dir| fs::symlink_metadata(dir).is_ok());
        let above = above.unwrap_or(Path::new("/"));
        let about = |kind: io::ErrorKind, why: &dyn std::fmt::Display| {
            io::Error::new(kind, format!("{}: {why}", above.display()))
        };
        let dir = fs::canonicalize(above).map_err(|error| about(error.kind(), &error))?;
        if dir.starts_with(&self.root) {
            return Ok(());
        }
        Err(about(io::ErrorKind::InvalidInput, &format_args!("it leads out of {}", self.root.display())))
    }
}

/// Removes what a crash left of files that were being written to a directory of this process's.
pub(super) fn remove_halves(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(HALF.as_bytes()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_neither_written_through_nor_do_they_give_their_mode() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::below(root.path()).unwrap();
        fs::write(root.path().join("other"), "theirs").unwrap();
        symlink("other", root.path().join("link")).unwrap();
        let error = files.write(Path::new("/link"), "ours", 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(fs::read_to_string(root.path().join("link")).unwrap(), "theirs");
        let names: Vec<_> =
            fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn directories_are_made_below_the_root_with_their_mode() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = Files::below(root.path()).unwrap();
        files.make(Path::new("/made")).unwrap();
        assert_eq!(files.mode(Path::new("/made")), Some(0o755));
        symlink(outside.path(), root.path().join("out")).unwrap();
        assert!(files.make(Path::new("/out/made")).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
