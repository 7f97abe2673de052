//! `dfctl cache remove`: a node's cache, when Damselfly is taken away from it.

use crate::{Error, Output, json};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What a daemon holds while it has the cache, and what every cache has.
const LOCK: &str = "lock";
const METADATA: &str = "metadata.redb";

/// Between two looks at whether a daemon still has it.
const PAUSE: Duration = Duration::from_millis(200);

/// What was done, as JSON.
#[derive(Serialize)]
struct Removal<'a> {
    path: &'a Path,
    /// Not, if it was not there.
    removed: bool,
}

/// Removes it, once no daemon has it any more; one that is not there is removed already.
pub(crate) async fn remove(
    dir: &Path,
    wait: Duration,
    output: Output,
    out: &mut impl Write,
) -> Result<(), Error> {
    let removed = remove_dir(dir, wait).await?;
    match (output, removed) {
        (Output::Json, _) => json::write(&Removal { path: dir, removed }, out)?,
        (Output::Table, true) => writeln!(out, "removed {}", dir.display())?,
        (Output::Table, false) => writeln!(out, "there is no {}", dir.display())?,
    }
    Ok(())
}

/// Removes it; whether there was one.
pub(crate) async fn remove_dir(dir: &Path, wait: Duration) -> Result<bool, Error> {
    let failed = |source| Error::File { path: dir.to_owned(), source };
    // It may be a link, as systemd makes one for a service with a user of its own.
    let named = dir;
    let canonical = fs::canonicalize(dir);
    let dir = canonical.as_deref().unwrap_or(named);
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
        Ok(mut entries) => {
            // Other programs have a file that is called like the lock, but nothing else is left of a cache that was removed
            // nearly to its end.
            let is_rest = entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == LOCK));
            if !is_rest && !dir.join(METADATA).is_file() {
                let why = "it is no cache of a daemon's, and stays";
                return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, why)));
            }
        }
    }
    let deadline = Instant::now() + wait;
    // Held until all is gone, so that no daemon begins with a half of it.
    let lock = match File::open(dir.join(LOCK)) {
        Ok(lock) => Some(lock),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    while let Some(lock) = &lock {
        match lock.try_lock() {
            Ok(()) => break,
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            Err(fs::TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let why = "a daemon has it; stop that first";
                return Err(failed(io::Error::new(io::ErrorKind::ResourceBusy, why)));
            }
            Err(fs::TryLockError::WouldBlock) => sleep(PAUSE).await,
        }
    }
    // What tells that it is a cache goes last, so that one that is broken off can be begun again.
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name == LOCK || name == METADATA {
            continue;
        }
        let kind = entry.file_type().map_err(failed)?;
        let removed =
            if kind.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        removed.map_err(failed)?;
    }
    fs::remove_dir_all(dir).map_err(failed)?;
    if named.is_symlink() {
        fs::remove_file(named).map_err(failed)?;
    }
    Ok(true)
}
