//! The hosts that an operator has removed. Their keys open nothing until they are let in again, whatever token they have.

use super::tokens::about;
use membership::file;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// Held while the file is written.
    writing: Arc<Mutex<()>>,
    hosts: watch::Sender<Arc<BTreeSet<String>>>,
}

impl Removed {
    /// Those in the file; none if there is no file. Blocks on the disk.
    pub(super) fn load(path: PathBuf) -> io::Result<Self> {
        let hosts = match file::read(&path, FILE_LEN_MAX).map_err(|error| about(&path, &error))? {
            Some(content) => serde_json::from_slice(&content).map_err(|error| about(&path, &error.into()))?,
            None => BTreeSet::new(),
        };
        Ok(Self { path: Arc::new(path), writing: Arc::default(), hosts: watch::Sender::new(Arc::new(hosts)) })
    }

    pub(crate) fn contains(&self, host: HostId) -> bool {
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

    /// Removes a host; whether it was not yet removed. Blocks on the disk. It is out at once; an error says that it will be
    /// let in again after a restart, and calling again tries again.
    pub(super) fn add(&self, id: &str) -> io::Result<bool> {
        self.change(|hosts| {
            if hosts.len() >= REMOVED_MAX && !hosts.contains(id) {
                return Err(io::Error::other(format!("{REMOVED_MAX} hosts are removed already")));
            }
            Ok(hosts.insert(id.to_owned()))
        })
    }

    /// Lets a host in again; whether it was removed. Blocks on the disk. An error says that it will be out again after a
    /// restart.
    pub(super) fn restore(&self, id: &str) -> io::Result<bool> {
        self.change(|hosts| Ok(hosts.remove(id)))
    }

    /// Changes the set, and writes it even if it is as it was: a former write may have failed.
    fn change(&self, change: impl FnOnce(&mut BTreeSet<String>) -> io::Result<bool>) -> io::Result<bool> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = BTreeSet::clone(&self.hosts.borrow());
        let changed = change(&mut next)?;
        let content = serde_json::to_vec_pretty(&next)?;
        self.hosts.send_replace(Arc::new(next));
        file::replace(&self.path, &content).map_err(|error| about(&self.path, &error))?;
        Ok(changed)
    }
}
