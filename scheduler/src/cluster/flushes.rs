//! What operators had forgotten of late, for hosts that were not there to hear it.

use super::tokens::about;
use membership::file;
use proto::Forget;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use types::Registry;

/// So many are told apart. A host that has missed more forgets everything.
const KEPT: usize = 64;

/// The longest file that they can be, in bytes.
const FILE_LEN_MAX: u64 = 128 * 1024;

/// Flushes, the last ones; a clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Flushes {
    path: Arc<PathBuf>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// The number of the last one that is not in the list any more.
    before: u64,
    /// In order.
    flushes: Vec<Flush>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Flush {
    number: u64,
    /// Nothing stands for all.
    of: Option<(String, String)>,
}

impl Flush {
    /// A name that makes no sense stands for all.
    fn forget(&self) -> Forget {
        let parsed =
            |(registry, name): &(String, String)| Some((Registry::parse(registry).ok()?, name.clone()));
        Forget { number: self.number, of: self.of.as_ref().and_then(parsed) }
    }
}

impl Flushes {
    /// Those in the file; none if there is no file. Blocks on the disk.
    pub(super) fn load(path: PathBuf) -> io::Result<Self> {
        let kept = match file::read(&path, FILE_LEN_MAX).map_err(|error| about(&path, &error))? {
            Some(content) => serde_json::from_slice(&content).map_err(|error| about(&path, &error.into()))?,
            None => Kept::default(),
        };
        Ok(Self { path: Arc::new(path), kept: Arc::new(Mutex::new(kept)) })
    }

    /// One more, of a repository or of all: what hosts are to be told. Blocks on the disk. It counts even if it could not be
    /// written, which the error says; a restart forgets it then.
    pub(super) fn add(&self, of: Option<(Registry, String)>) -> (Forget, io::Result<()>) {
        let mut kept = self.lock();
        let last = kept.flushes.last().map_or(kept.before, |flush| flush.number);
        // The time, so that a scheduler that has lost its state goes on with larger ones.
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros());
        let number = u64::try_from(now).unwrap_or(0).max(last + 1);
        let named = of.as_ref().map(|(registry, name)| (registry.to_string(), name.clone()));
        kept.flushes.push(Flush { number, of: named });
        if kept.flushes.len() > KEPT {
            kept.before = kept.flushes.remove(0).number;
        }
        let content = serde_json::to_vec_pretty(&*kept).map_err(io::Error::from);
        let written = content.and_then(|content| {
            file::replace(&self.path, &content).map_err(|error| about(&self.path, &error))
        });
        (Forget { number, of }, written)
    }

    /// What a host has missed that has heard of those up to number `heard`.
    pub(crate) fn since(&self, heard: u64) -> Vec<Forget> {
        let kept = self.lock();
        if heard < kept.before {
            let number = kept.flushes.last().map_or(kept.before, |flush| flush.number);
            return vec![Forget { number, of: None }];
        }
        kept.flushes.iter().filter(|flush| flush.number > heard).map(Flush::forget).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Option<(Registry, String)> {
        Some((Registry::parse("registry.test").unwrap(), name.to_owned()))
    }

    #[test]
    fn a_host_hears_what_it_missed_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flushes.json");
        let flushes = Flushes::load(path.clone()).unwrap();
        let (first, written) = flushes.add(of("team/app"));
        written.unwrap();
        let (second, written) = flushes.add(None);
        written.unwrap();
        assert!(second.number > first.number);
        let flushes = Flushes::load(path).unwrap();
        assert_eq!(flushes.since(0), [first.clone(), second.clone()]);
        assert_eq!(flushes.since(first.number), std::slice::from_ref(&second));
        assert_eq!(flushes.since(second.number), []);
        let (third, _) = flushes.add(of("other"));
        assert!(third.number > second.number, "they go on after a restart");
    }

    #[test]
    fn a_host_that_missed_too_many_forgets_everything() {
        let dir = tempfile::tempdir().unwrap();
        let flushes = Flushes::load(dir.path().join("flushes.json")).unwrap();
        let all: Vec<Forget> = (0..=KEPT).map(|n| flushes.add(of(&format!("app{n}"))).0).collect();
        let last = all[KEPT].number;
        assert_eq!(flushes.since(0), [Forget { number: last, of: None }]);
        assert_eq!(
            flushes.since(all[0].number),
            all[1..],
            "and one that missed just those that are kept does not"
        );
    }
}
