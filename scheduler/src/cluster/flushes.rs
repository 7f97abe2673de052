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
    /// Held while the file is written, which may take long.
    writing: Arc<Mutex<()>>,
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

impl Kept {
    /// The number of the last one; 0 if there was none.
    fn last(&self) -> u64 {
        self.flushes.last().map_or(self.before, |flush| flush.number)
    }
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
        Ok(Self { path: Arc::new(path), writing: Arc::default(), kept: Arc::new(Mutex::new(kept)) })
    }

    /// One more, of a repository or of all: what hosts are to be told, in the order of numbers.
    pub(crate) fn add(&self, of: Option<(Registry, String)>) -> Forget {
        let mut kept = self.lock();
        // The time, so that they are most likely larger than those of a scheduler whose state was lost.
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros());
        let number = u64::try_from(now).unwrap_or(0).max(kept.last() + 1);
        let named = of.as_ref().map(|(registry, name)| (registry.to_string(), name.clone()));
        kept.flushes.push(Flush { number, of: named });
        if kept.flushes.len() > KEPT {
            kept.before = kept.flushes.remove(0).number;
        }
        Forget { number, of }
    }

    /// Writes them down; until then a restart forgets them. Blocks on the disk.
    pub(super) fn save(&self) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = self.lock().clone();
        file::replace(&self.path, &serde_json::to_vec_pretty(&kept)?)
            .map_err(|error| about(&self.path, &error))
    }

    /// What a host has missed that has heard of those up to number `heard`. Everything, if that cannot be told: it has heard of
    /// none, of none that is kept, or of later ones than there were here.
    pub(crate) fn since(&self, heard: u64) -> Vec<Forget> {
        let kept = self.lock();
        let last = kept.last();
        if heard == last {
            Vec::new()
        } else if heard == 0 || heard < kept.before || heard > last {
            vec![Forget { number: last, of: None }]
        } else {
            kept.flushes.iter().filter(|flush| flush.number > heard).map(Flush::forget).collect()
        }
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
        assert_eq!(flushes.since(0), []);
        let (first, second) = (flushes.add(of("team/app")), flushes.add(of("team/other")));
        flushes.save().unwrap();
        assert!(second.number > first.number);
        let flushes = Flushes::load(path).unwrap();
        assert_eq!(flushes.since(first.number), std::slice::from_ref(&second));
        assert_eq!(flushes.since(second.number), []);
        let third = flushes.add(None);
        assert!(third.number > second.number, "they go on after a restart");
        assert_eq!(flushes.since(first.number), [second, third]);
    }

    #[test]
    fn a_host_of_which_it_cannot_be_told_what_it_missed_forgets_everything() {
        let dir = tempfile::tempdir().unwrap();
        let flushes = Flushes::load(dir.path().join("flushes.json")).unwrap();
        let all: Vec<Forget> = (0..=KEPT).map(|n| flushes.add(of(&format!("app{n}")))).collect();
        let everything = [Forget { number: all[KEPT].number, of: None }];
        assert_eq!(flushes.since(all[0].number - 1), everything, "too many");
        assert_eq!(flushes.since(0), everything, "it has heard of none");
        assert_eq!(flushes.since(all[KEPT].number + 1), everything, "it has heard of others");
        assert_eq!(flushes.since(all[0].number), all[1..], "just those that are kept");
    }
}
