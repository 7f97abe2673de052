//! The hosts that an operator has removed. They stay out until they are let in again, whatever token they have.

use super::tokens::about;
use membership::file;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use types::HostId;

/// The most removed hosts at once.
const REMOVED_MAX: usize = 65_536;

/// The longest file that they can be, in bytes.
const FILE_LEN_MAX: u64 = 2 * 1024 * 1024;

/// Removed hosts, by the ids that people see; a clone is the same set.
#[derive(Clone, Debug)]
pub(crate) struct Removed {
    path: Arc<PathBuf>,
    hosts: watch::Sender<Arc<BTreeSet<String>>>,
}

impl Removed {
    /// Those in the file; none if there is no file. Blocks on the disk.
    pub(super) fn load(path: PathBuf) -> io::Result<Self> {
        let hosts = match file::read(&path, FILE_LEN_MAX).map_err(|error| about(&path, &error))? {
            Some(content) => serde_json::from_slice(&content).map_err(|error| about(&path, &error.into()))?,
            None => BTreeSet::new(),
        };
        Ok(Self { path: Arc::new(path), hosts: watch::Sender::new(Arc::new(hosts)) })
    }

    pub(super) fn contains(&self, host: HostId) -> bool {
        self.hosts.borrow().contains(&host.to_string())
    }

    /// Waits until the host is removed. Cancel safe.
    pub(crate) async fn removes(&self, host: HostId) {
        let mut hosts = self.hosts.subscribe();
        let id = host.to_string();
        if hosts.wait_for(|hosts| hosts.contains(&id)).await.is_err() {
            // The sender lives in `self`.
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn list(&self) -> Vec<String> {
        self.hosts.borrow().iter().cloned().collect()
    }

    /// Removes a host; whether it was not yet removed. Blocks on the disk. It is out at once, even if the file cannot be
    /// written.
    pub(super) fn add(&self, id: &str) -> io::Result<bool> {
        self.change(|hosts| {
            if hosts.len() >= REMOVED_MAX {
                return Err(io::Error::other(format!("{REMOVED_MAX} hosts are removed already")));
            }
            Ok(hosts.insert(id.to_owned()))
        })
    }

    /// Lets a host in again; whether it was removed. Blocks on the disk.
    pub(super) fn restore(&self, id: &str) -> io::Result<bool> {
        self.change(|hosts| Ok(hosts.remove(id)))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<String>) -> io::Result<bool>) -> io::Result<bool> {
        let mut result = Ok(false);
        self.hosts.send_if_modified(|hosts| {
            let mut next = BTreeSet::clone(hosts);
            result = change(&mut next);
            let changed = matches!(result, Ok(true));
            if changed {
                *hosts = Arc::new(next);
            }
            changed
        });
        if matches!(result, Ok(true)) {
            let hosts = Arc::clone(&self.hosts.borrow());
            file::replace(&self.path, &serde_json::to_vec_pretty(&*hosts)?)
                .map_err(|error| about(&self.path, &error))?;
        }
        result
    }
}
