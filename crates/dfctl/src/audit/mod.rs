//! `dfctl audit`: the audit log's lines that somebody asks for, from the oldest file to the newest.
//!
//! Read line by line in constant memory; nobody is asked, so it works where no daemon runs. `filter` says which lines,
//! `row` how one looks.

mod filter;
mod row;

pub use filter::{ClientFilter, Filter, Since, StatusFilter};

use crate::Error;
use process::audit::{self, Line};
use std::io::{BufRead, BufReader, BufWriter, Read as _, Write};
use std::path::Path;

/// The longest line in bytes; the daemon's have about 1 KiB.
const LINE_LEN_MAX: u64 = 64 << 10;

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Table,
    /// As they are in the log.
    Json,
}

/// Writes the lines of the log at `file` that `filter` lets pass; how many lines are none of an audit log's.
///
/// # Errors
/// [`Error::Audit`] for a file that cannot be read, or what writing to `out` says.
pub fn run(file: &Path, filter: &Filter, form: Form, out: &mut impl Write) -> Result<u64, Error> {
    let failed = |path: &Path, source| Error::Audit { path: path.to_owned(), source };
    let mut out = BufWriter::new(out);
    let files = audit::open_all(file).map_err(|error| failed(file, error))?;
    if form == Form::Table {
        row::write_head(&mut out)?;
    }
    let mut malformed = 0;
    for (path, file) in files {
        let mut lines = Lines::new(BufReader::new(file));
        while let Some(text) = lines.next().map_err(|error| failed(&path, error))? {
            match serde_json::from_slice::<Line>(text) {
                Ok(line) if filter.passes(&line) => match form {
                    Form::Table => row::write(&line, &mut out)?,
                    Form::Json => {
                        writeln!(out, "{}", audit::escape(&String::from_utf8_lossy(text)))?;
                    }
                },
                Ok(_) => {}
                Err(_) => malformed += 1,
            }
        }
    }
    out.flush()?;
    Ok(malformed)
}

/// Lines of bounded length: what a longer one has beyond it is passed over.
struct Lines<R> {
    source: R,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    const fn new(source: R) -> Self {
        Self { source, line: Vec::new() }
    }

    /// The next line without its end; a line that is too long is cut off, and so no JSON.
    fn next(&mut self) -> std::io::Result<Option<&[u8]>> {
        self.line.clear();
        if self.source.by_ref().take(LINE_LEN_MAX).read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else {
            self.source.skip_until(b'\n')?;
        }
        Ok(Some(&self.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: &str = r#"{"time":"2026-01-01T00:00:00.000Z","event":"lost","lines":3}"#;

    fn all() -> Filter {
        Filter::default()
    }

    #[test]
    fn files_are_read_from_the_oldest_on_and_bad_lines_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.log");
        let line =
            |minute: u32| format!(r#"{{"time":"2026-01-01T00:{minute:02}:00Z","event":"lost","lines":1}}"#);
        std::fs::write(dir.path().join("audit.log.2"), line(1) + "\n").unwrap();
        std::fs::write(dir.path().join("audit.log.1"), format!("{}\ntorn\n{}\n", line(2), line(3))).unwrap();
        std::fs::write(&file, format!("{}\n\n{}", line(4), &LOST[..20])).unwrap();
        std::fs::write(dir.path().join("audit.log.old"), line(5)).unwrap();
        let mut out = Vec::new();
        let malformed = run(&file, &all(), Form::Json, &mut out).unwrap();
        let expected: String = (1..=4).map(|minute| line(minute) + "\n").collect();
        assert_eq!((String::from_utf8(out).unwrap(), malformed), (expected, 3));
    }

    #[test]
    fn a_line_steers_no_terminal() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.log");
        let line = |detail: &str| {
            format!(
                r#"{{"time":"2026-01-01T00:00:00Z","event":"operation","name":"a","by":"b","detail":"{detail}"}}"#
            )
        };
        std::fs::write(&file, line("\u{9b}2J\u{7f}") + "\r\n").unwrap();
        let mut out = Vec::new();
        assert_eq!(run(&file, &all(), Form::Json, &mut out).unwrap(), 0);
        assert_eq!(String::from_utf8(out).unwrap(), line(r"\u009b2J\u007f") + "\r\n");
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let long = b"x".repeat(10 << 16);
        let text = [&long[..], b"\n", LOST.as_bytes(), b"\n", &long[..]].concat();
        let mut lines = Lines::new(&text[..]);
        assert_eq!(lines.next().unwrap().unwrap().len() as u64, LINE_LEN_MAX);
        assert_eq!(lines.next().unwrap().unwrap(), LOST.as_bytes());
        assert_eq!(lines.next().unwrap().unwrap().len() as u64, LINE_LEN_MAX);
        assert!(lines.next().unwrap().is_none());
        assert!(lines.line.capacity() as u64 <= 2 * LINE_LEN_MAX);
    }
}
