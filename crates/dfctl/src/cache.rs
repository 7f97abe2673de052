//! `dfctl cache remove`: a node's cache, when Damselfly is taken away from it.

use crate::machine::remove_marked;
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
    if !is_there(dir).map_err(failed)? {
        return Ok(false);
    }
    // Held until all is gone, so that no daemon begins with a half of it.
    let _lock = hold(dir, wait).await.map_err(failed)?;
    remove_marked(dir, &[LOCK, METADATA]).map_err(failed)?;
    Ok(true)
}

/// Whether there is one.
///
/// # Errors
/// If what is there is something else, or cannot be looked at.
pub(crate) fn is_there(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
        Ok(mut entries) => {
            // Other programs have a file that is called like the lock, but nothing else is left of a cache that was removed
            // nearly to its end.
            let is_rest = entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == LOCK));
            if !is_rest && !dir.join(METADATA).is_file() {
                let why = "it is no cache of a daemon's, and stays";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        }
    }
    Ok(true)
}

/// What keeps daemons from it while it is held; nothing if it has no lock.
///
/// # Errors
/// If a daemon has it for longer than that.
pub(crate) async fn hold(dir: &Path, wait: Duration) -> io::Result<Option<File>> {
    let deadline = Instant::now() + wait;
    let lock = match File::open(dir.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(Some(lock)),
            Err(fs::TryLockError::Error(error)) => return Err(error),
            Err(fs::TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let why = "a daemon has it; stop that first";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
            }
            Err(fs::TryLockError::WouldBlock) => sleep(PAUSE).await,
        }
    }
}
