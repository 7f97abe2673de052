//! What services kept, removed with them when that is asked for: the daemon's cache, the scheduler's keys and tokens, and
//! directories for logs that are empty.

use super::Service;
use super::report::Report;
use crate::machine::Files;
use crate::{Error, cache};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What every scheduler's state has one of: its key, or its tokens where the key is kept by others.
const MARKS: [&str; 2] = ["ca.key", "tokens.json"];

/// Where a scheduler that runs is spoken to.
const SOCKET: &str = "operator.sock";

/// What there is of it.
pub(super) fn there(files: &Files, services: &BTreeSet<Service>) -> Vec<PathBuf> {
    services.iter().map(|service| PathBuf::from(service.state())).filter(|path| files.exists(path)).collect()
}

/// Removes it all, as far as that goes.
///
/// # Errors
/// If something is not what it is taken for, is in use, or cannot be removed.
pub(super) async fn all(
    files: &Files,
    services: &BTreeSet<Service>,
    report: &mut Report,
) -> Result<(), Error> {
    for &service in services {
        let path = Path::new(service.state());
        if files.exists(path) {
            let place = inside(files, path)?;
            match service {
                Service::Dfdaemon => {
                    cache::remove_dir(&place, Duration::ZERO).await?;
                }
                Service::Scheduler => {
                    scheduler_state(&place).map_err(|source| Error::File { path: place.clone(), source })?;
                }
            }
            report.removed.push(path.to_owned());
        }
        let path = Path::new(service.logs());
        if files.exists(path) {
            let place = inside(files, path)?;
            if empty_dir(&place).map_err(|source| Error::File { path: place.clone(), source })? {
                report.removed.push(path.to_owned());
            } else {
                report.notes.push(format!("{} has logs, which stay", path.display()));
            }
        }
    }
    Ok(())
}

/// Where it is from here.
fn inside(files: &Files, path: &Path) -> Result<PathBuf, Error> {
    let place = files.place(path);
    if files.is_inside(path) {
        return Ok(place);
    }
    let source = io::Error::new(io::ErrorKind::InvalidInput, "it leads out of the root, and stays");
    Err(Error::File { path: place, source })
}

/// Removes a scheduler's state, unless a scheduler has it.
fn scheduler_state(named: &Path) -> io::Result<()> {
    // It may be a link, as systemd makes one for a service with a user of its own.
    let dir = fs::canonicalize(named)?;
    let names: io::Result<Vec<OsString>> = fs::read_dir(&dir)?.map(|entry| Ok(entry?.file_name())).collect();
    let names = names?;
    let is_mark = |name: &OsString| MARKS.iter().any(|mark| name == mark);
    if !names.is_empty() && !names.iter().any(is_mark) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no scheduler's state, and stays"));
    }
    if UnixStream::connect(dir.join(SOCKET)).is_ok() {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "a scheduler has it; stop that first"));
    }
    // What tells that it is one goes last, so that one that is broken off can be begun again.
    for path in names.iter().filter(|name| !is_mark(name)).map(|name| dir.join(name)) {
        let is_dir = fs::symlink_metadata(&path)?.is_dir();
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed?;
    }
    fs::remove_dir_all(&dir)?;
    unlink(named)
}

/// Removes a directory if it is empty; whether it was.
fn empty_dir(named: &Path) -> io::Result<bool> {
    let dir = fs::canonicalize(named)?;
    if fs::read_dir(&dir)?.next().is_some() {
        return Ok(false);
    }
    fs::remove_dir(&dir)?;
    unlink(named)?;
    Ok(true)
}

fn unlink(named: &Path) -> io::Result<()> {
    if named.is_symlink() { fs::remove_file(named) } else { Ok(()) }
}
