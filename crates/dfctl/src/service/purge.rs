//! What services kept, removed with them when that is asked for: the daemon's cache, the scheduler's keys and tokens, and
//! directories for logs that are empty.
//!
//! Whether that can be done is looked at before anything is stopped or taken away ([`check`]), and again when it is done.

use super::Service;
use super::report::Report;
use crate::machine::{Files, Refusal, remove_marked, unlink};
use crate::{Error, cache};
use std::collections::BTreeSet;
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

/// Whether it could all be removed, once the services in `stopping` have ended.
///
/// # Errors
/// If something is not what it is taken for, or is in use.
pub(super) async fn check(
    files: &Files,
    services: &BTreeSet<Service>,
    stopping: &BTreeSet<Service>,
) -> Result<(), Refusal> {
    for &service in services {
        for path in [service.state(), service.logs()].map(Path::new) {
            if files.exists(path) {
                inside(files, path).map_err(|error| Refusal::of(path, &error))?;
            }
        }
        let path = Path::new(service.state());
        if files.exists(path) {
            let place = files.place(path);
            is_state(service, &place).map_err(|error| Refusal::of(path, &error))?;
            if !stopping.contains(&service) {
                is_free(service, &place).await.map_err(|error| Refusal::of(path, &error))?;
            }
        }
    }
    Ok(())
}

/// Removes it all, as far as that goes.
///
/// # Errors
/// As for [`check`], or if something cannot be removed.
pub(super) async fn remove(
    files: &Files,
    services: &BTreeSet<Service>,
    report: &mut Report,
) -> Result<(), Error> {
    for &service in services {
        let path = Path::new(service.state());
        let failed = |source| Error::File { path: files.place(path), source };
        if files.exists(path) {
            let place = inside(files, path).map_err(failed)?;
            match service {
                Service::Dfdaemon => {
                    cache::remove_dir(&place, Duration::ZERO).await?;
                }
                Service::Scheduler => {
                    is_state(service, &place).map_err(failed)?;
                    is_free(service, &place).await.map_err(failed)?;
                    remove_marked(&place, &MARKS).map_err(failed)?;
                }
            }
            report.removed.push(path.to_owned());
        }
        let path = Path::new(service.logs());
        let failed = |source| Error::File { path: files.place(path), source };
        if files.exists(path) {
            if inside(files, path).and_then(|place| empty_dir(&place)).map_err(failed)? {
                report.removed.push(path.to_owned());
            } else {
                report.notes.push(format!("{} has logs, which stay", path.display()));
            }
        }
    }
    Ok(())
}

/// Where it is from here.
fn inside(files: &Files, path: &Path) -> io::Result<PathBuf> {
    if files.is_inside(path) {
        return Ok(files.place(path));
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it leads out of the root, and stays"))
}

/// Refuses what a service of this kind has not written.
fn is_state(service: Service, place: &Path) -> io::Result<()> {
    if service == Service::Dfdaemon {
        return cache::is_there(place).map(drop);
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(place)? {
        names.push(entry?.file_name());
    }
    if names.is_empty() || names.iter().any(|name| MARKS.iter().any(|mark| name == mark)) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no scheduler's state, and stays"))
}

/// Refuses what a service has now.
async fn is_free(service: Service, place: &Path) -> io::Result<()> {
    match service {
        Service::Dfdaemon => cache::hold(place, Duration::ZERO).await.map(drop),
        Service::Scheduler if UnixStream::connect(place.join(SOCKET)).is_ok() => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "a scheduler has it; stop that first"))
        }
        Service::Scheduler => Ok(()),
    }
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
