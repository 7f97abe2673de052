//! The file, and the older ones beside it: FILE, FILE.1 (the last that was full), up to FILE.keep.
//!
//! The writer task appends; `dfctl audit` opens them all for reading.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Where the log is, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The file that is written to. Made with mode 0600.
    pub file: PathBuf,
    /// Bytes after which the next file is begun.
    pub max_bytes: u64,
    /// Older files that are kept, at least 1.
    pub keep: u32,
}

impl Options {
    /// [`Self::max_bytes`] where nothing is configured.
    pub const MAX_BYTES: u64 = 64 << 20;

    /// The least [`Self::max_bytes`] that can be configured.
    pub const MAX_BYTES_MIN: u64 = 1 << 20;

    /// [`Self::keep`] where nothing is configured.
    pub const KEEP: u32 = 5;

    /// The most [`Self::keep`] that can be configured.
    pub const KEEP_MAX: u32 = 100;
}

/// Lines that could not be written.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// How many, from the end.
    pub(super) lines: u64,
    pub(super) error: io::Error,
}

/// The file that is written to.
#[derive(Debug)]
pub(super) struct Rotating {
    options: Options,
    /// Nothing before the first line and after a failure.
    current: Option<File>,
}

impl Rotating {
    /// Opens nothing yet.
    pub(super) const fn new(options: Options) -> Self {
        Self { options, current: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.options.file
    }

    /// Appends whole lines, each with its end. No line is written in part. Blocks on the disk.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let mut rest = lines;
        while !rest.is_empty() {
            match self.append_some(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) => {
                    self.current = None;
                    let lines = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
                    return Err(Unwritten { lines, error });
                }
            }
        }
        Ok(())
    }

    /// Appends as many lines as the file takes, at least one; their bytes.
    fn append_some(&mut self, lines: &[u8]) -> io::Result<usize> {
        let (_, len) = self.current()?;
        let mut taken = whole_lines(lines, self.options.max_bytes.saturating_sub(len));
        if taken == 0 && len > 0 {
            self.rotate()?;
            taken = whole_lines(lines, self.options.max_bytes);
        }
        if taken == 0 {
            // Longer than a file may be: it gets one of its own.
            taken = lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1);
        }
        let (mut file, len) = self.current()?;
        file.write_all(&lines[..taken]).inspect_err(|_| drop(file.set_len(len)))?;
        Ok(taken)
    }

    /// The file and its length. Opened anew if it is not at its path any more.
    fn current(&mut self) -> io::Result<(&File, u64)> {
        let id = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        let at_path = fs::metadata(&self.options.file).ok();
        if at_path.as_ref().is_some_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let same = |file: &File| file.metadata().is_ok_and(|own| at_path.as_ref().map(id) == Some(id(&own)));
        let file = match self.current.take().filter(same) {
            Some(file) => file,
            None => open(&self.options.file)?,
        };
        let len = file.metadata()?.len();
        Ok((self.current.insert(file), len))
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = |number: u32| numbered(&self.options.file, number);
        self.current = None;
        for number in (1..self.options.keep).rev() {
            match fs::rename(path(number), path(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.options.file, path(1))
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().append(true).create(true).read(true).mode(0o600).open(path)?;
    let len = file.metadata()?.len();
    let mut last = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    // A machine that stopped in the midst of a line.
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

/// The length of the lines that fit into `room` bytes.
fn whole_lines(lines: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(lines.len());
    lines[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

fn numbered(file: &Path, number: u32) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Opens the log at `file` for reading, the oldest of its files first. What is rotated meanwhile is neither missed nor
/// there twice. Blocks on the disk.
///
/// # Errors
/// If `file` cannot be opened, or an older one that is there.
pub fn open_all(file: &Path) -> io::Result<Vec<(PathBuf, File)>> {
    let mut opened: Vec<(PathBuf, File)> = Vec::new();
    // From the newest on: a file that moves on meanwhile is met again, and known by its number on the disk.
    for path in std::iter::once(file.to_owned()).chain(older(file)?) {
        let next = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path != file => continue,
            next => next?,
        };
        let id = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        let known = id(&next)?;
        if !opened.iter().any(|(_, other)| id(other).is_ok_and(|other| other == known)) {
            opened.push((path, next));
        }
    }
    opened.reverse();
    Ok(opened)
}

/// The older files, the newest of them first, and one more in case of a rotation.
fn older(file: &Path) -> io::Result<Vec<PathBuf>> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned() + ".";
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?.file_name();
        numbers.extend(entry.to_string_lossy().strip_prefix(&name).and_then(|n| n.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    numbers.push(numbers.last().map_or(1, |last| last.saturating_add(1)));
    Ok(numbers.into_iter().map(|number| numbered(file, number)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn log(dir: &Path, max_bytes: u64, keep: u32) -> Rotating {
        Rotating::new(Options { file: dir.join("audit.log"), max_bytes, keep })
    }

    fn read(dir: &Path) -> Vec<(String, String)> {
        let opened = open_all(&dir.join("audit.log")).unwrap();
        let texts = opened.into_iter().map(|(path, mut file)| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), text)
        });
        texts.collect()
    }

    fn expected(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn files_are_full_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 8, 2);
        log.append(b"one\ntwo\nthree\nfour\n").unwrap();
        let files =
            expected(&[("audit.log.2", "one\ntwo\n"), ("audit.log.1", "three\n"), ("audit.log", "four\n")]);
        assert_eq!(read(dir.path()), files);
        log.append(b"a line longer than a file\nx\n").unwrap();
        let files = expected(&[
            ("audit.log.2", "four\n"),
            ("audit.log.1", "a line longer than a file\n"),
            ("audit.log", "x\n"),
        ]);
        assert_eq!(read(dir.path()), files);
        let modes = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().mode() & 0o777);
        assert_eq!(modes.collect::<Vec<_>>(), [0o600; 3]);
    }

    #[test]
    fn a_file_is_gone_on_with_and_a_torn_line_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), 100, 1).append(b"one\n").unwrap();
        log(dir.path(), 100, 1).append(b"two\n").unwrap();
        OpenOptions::new().append(true).open(dir.path().join("audit.log")).unwrap().write_all(b"to").unwrap();
        log(dir.path(), 100, 1).append(b"three\n").unwrap();
        assert_eq!(read(dir.path()), expected(&[("audit.log", "one\ntwo\nto\nthree\n")]));
    }

    #[test]
    fn a_file_that_was_taken_away_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 100, 1);
        log.append(b"one\n").unwrap();
        fs::remove_file(dir.path().join("audit.log")).unwrap();
        log.append(b"two\n").unwrap();
        assert_eq!(read(dir.path()), expected(&[("audit.log", "two\n")]));
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir.path().join("missing"), 100, 1);
        assert_eq!(log.append(b"one\ntwo\n").unwrap_err().lines, 2);
        fs::create_dir(dir.path().join("missing")).unwrap();
        log.append(b"three\n").unwrap();
        let mut device = Rotating::new(Options { file: "/dev/full".into(), max_bytes: 100, keep: 1 });
        let error = device.append(b"one\n").unwrap_err();
        assert_eq!((error.lines, error.error.kind()), (1, io::ErrorKind::InvalidInput), "no file");
    }

    #[test]
    fn there_must_be_a_file_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let error = open_all(&dir.path().join("audit.log")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
