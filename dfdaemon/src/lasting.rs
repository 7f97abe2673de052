//! Answers of origins that outlast the process: what a tag stood for, which manifests a repository has, and which
//! repositories anyone could read.
//!
//! A node that restarts with a warm cache while the origin is away goes on serving what was permitted, for the
//! configured grace. Kept in one small file, written whole and renamed into place; no secret is in it.

use origin::{Reference, Repository};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use types::Digest;

/// Answers of each kind that are kept; the oldest go.
const ENTRIES_MAX: usize = 4096;

/// The longest file that is read, in bytes: larger it is none of ours.
const FILE_LEN_MAX: u64 = 8 * 1024 * 1024;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Answers {
    /// By `registry/name:tag`.
    tags: BTreeMap<String, Tag>,
    /// By `registry/name@digest`: when it was last confirmed, in seconds since 1970. That a repository is open does not
    /// mean that it has what somebody asks of it.
    #[serde(default)]
    manifests: BTreeMap<String, u64>,
    /// By `registry/name`: when anyone could last read it, in seconds since 1970.
    open: BTreeMap<String, u64>,
    /// The number of the last flush of the scheduler's that was carried out.
    #[serde(default)]
    flushed: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tag {
    digest: String,
    confirmed: u64,
}

/// The lasting answers.
#[derive(Debug)]
pub(crate) struct Lasting {
    path: PathBuf,
    grace: Duration,
    answers: Mutex<(Answers, bool)>,
}

impl Lasting {
    /// Reads the file, if there is one. One that cannot be understood is as good as none.
    pub(crate) fn load(path: PathBuf, grace: Duration) -> Self {
        let answers = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, path = %path.display(), "earlier answers of origins cannot be read");
            }
            Answers::default()
        });
        Self { path, grace, answers: Mutex::new((answers, false)) }
    }

    /// An origin gave this to anyone just now.
    pub(crate) fn confirm(&self, repository: &Repository, reference: &Reference, digest: &Digest) {
        let now = unix_now();
        let mut guard = self.lock();
        let (answers, dirty) = &mut *guard;
        if let Reference::Tag(tag) = reference {
            let key = format!("{repository}:{tag}");
            answers.tags.insert(key, Tag { digest: digest.to_string(), confirmed: now });
            trim(&mut answers.tags, |tag| tag.confirmed);
        }
        answers.manifests.insert(format!("{repository}@{digest}"), now);
        trim(&mut answers.manifests, |confirmed| *confirmed);
        answers.open.insert(repository.to_string(), now);
        trim(&mut answers.open, |confirmed| *confirmed);
        *dirty = true;
    }

    /// The origin does not give it to anyone any more.
    pub(crate) fn deny(&self, repository: &Repository) {
        let mut guard = self.lock();
        guard.1 |= guard.0.open.remove(&repository.to_string()).is_some();
    }

    /// All that is known of this repository, or of all, counts no more.
    pub(crate) fn forget(&self, of: Option<&Repository>) {
        let mut guard = self.lock();
        let (answers, dirty) = &mut *guard;
        *dirty = true;
        let Some(repository) = of else {
            *answers = Answers { flushed: answers.flushed, ..Answers::default() };
            return;
        };
        let name = repository.to_string();
        answers.open.remove(&name);
        // A tag has no colon in it, and no digest has an at sign.
        answers.tags.retain(|key, _| key.rsplit_once(':').is_none_or(|(of, _)| of != name));
        answers.manifests.retain(|key, _| key.split_once('@').is_none_or(|(of, _)| of != name));
    }

    /// The flush of this number has been carried out, and all before it.
    pub(crate) fn heard_of_flush(&self, number: u64) {
        let mut guard = self.lock();
        (guard.0.flushed, guard.1) = (number, true);
    }

    /// The number of the last flush.
    pub(crate) fn flushed(&self) -> u64 {
        self.lock().0.flushed
    }

    /// What `reference` stood for, if that was confirmed within the grace.
    pub(crate) fn tag(&self, repository: &Repository, reference: &Reference) -> Option<Digest> {
        let guard = self.lock();
        match reference {
            Reference::Digest(digest) => {
                let confirmed = guard.0.manifests.get(&format!("{repository}@{digest}"))?;
                self.fresh(*confirmed).then_some(*digest)
            }
            Reference::Tag(tag) => {
                let known = guard.0.tags.get(&format!("{repository}:{tag}"))?;
                self.fresh(known.confirmed).then(|| known.digest.parse().ok())?
            }
        }
    }

    /// Whether anyone could read the repository, within the grace.
    pub(crate) fn was_open(&self, repository: &Repository) -> bool {
        self.lock().0.open.get(&repository.to_string()).is_some_and(|confirmed| self.fresh(*confirmed))
    }

    fn fresh(&self, confirmed: u64) -> bool {
        unix_now().saturating_sub(confirmed) <= self.grace.as_secs()
    }

    /// Writes the file if anything changed. Blocks on the disk.
    pub(crate) fn save(&self) {
        let text = {
            let mut guard = self.lock();
            if !std::mem::take(&mut guard.1) {
                return;
            }
            serde_json::to_vec(&guard.0)
        };
        let saved = text.map_err(io::Error::from).and_then(|text| write(&self.path, &text));
        if let Err(error) = saved {
            tracing::warn!(%error, path = %self.path.display(), "answers of origins cannot be kept");
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Answers, bool)> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes room for the next entry where there are too many: the one confirmed longest ago goes.
fn trim<V>(entries: &mut BTreeMap<String, V>, confirmed: impl Fn(&V) -> u64) {
    if entries.len() > ENTRIES_MAX {
        let oldest = entries.iter().min_by_key(|(_, value)| confirmed(value)).map(|(key, _)| key.clone());
        oldest.map(|key| entries.remove(&key));
    }
}

fn read(path: &Path) -> io::Result<Answers> {
    if std::fs::metadata(path)?.len() > FILE_LEN_MAX {
        return Err(io::Error::other("too long"));
    }
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path)
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> Repository {
        Repository::new(&types::Registry::parse("registry.test").unwrap(), "app".parse().unwrap())
    }

    #[test]
    fn answers_outlast_the_process_until_they_are_denied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers.json");
        let (repository, tag) = (repository(), "v1".parse().unwrap());
        let digest = Digest::sha256(b"manifest");
        let another = Reference::Digest(Digest::sha256(b"another"));
        let first = Lasting::load(path.clone(), Duration::from_secs(3600));
        first.confirm(&repository, &tag, &digest);
        first.save();
        let second = Lasting::load(path, Duration::from_secs(3600));
        assert_eq!(second.tag(&repository, &tag), Some(digest));
        assert_eq!(second.tag(&repository, &Reference::Digest(digest)), Some(digest));
        assert_eq!(second.tag(&repository, &another), None, "open, but nobody saw this one there");
        assert!(second.was_open(&repository));
        second.deny(&repository);
        assert!(!second.was_open(&repository));
    }

    #[test]
    fn what_is_forgotten_does_not_count_again_when_a_repository_is_open_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers.json");
        let (app, tag) = (repository(), "v1".parse().unwrap());
        let other = Repository::new(&app.registry, "app/v1".parse().unwrap());
        let (digest, another) = (Digest::sha256(b"manifest"), "v2".parse().unwrap());
        let lasting = Lasting::load(path.clone(), Duration::from_secs(3600));
        for repository in [&app, &other] {
            lasting.confirm(repository, &tag, &digest);
        }
        lasting.forget(Some(&app));
        lasting.confirm(&app, &another, &Digest::sha256(b"another"));
        lasting.save();
        let lasting = Lasting::load(path, Duration::from_secs(3600));
        assert!(lasting.was_open(&app) && lasting.tag(&app, &another).is_some());
        assert_eq!((lasting.tag(&app, &tag), lasting.tag(&app, &Reference::Digest(digest))), (None, None));
        assert_eq!(lasting.tag(&other, &tag), Some(digest), "another's stays");
        lasting.heard_of_flush(7);
        lasting.forget(None);
        assert!(!lasting.was_open(&other) && lasting.tag(&other, &tag).is_none());
        assert_eq!(lasting.flushed(), 7);
    }

    #[test]
    fn answers_lapse_with_the_grace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers.json");
        let long_ago = unix_now() - 100;
        let digest = Digest::sha256(b"manifest");
        let text = format!(
            r#"{{"tags":{{"registry.test/app:v1":{{"digest":"{digest}","confirmed":{long_ago}}}}},"open":{{"registry.test/app":{long_ago}}}}}"#
        );
        std::fs::write(&path, text).unwrap();
        let within = Lasting::load(path.clone(), Duration::from_secs(200));
        assert!(
            within.was_open(&repository())
                && within.tag(&repository(), &"v1".parse().unwrap()) == Some(digest)
        );
        let beyond = Lasting::load(path, Duration::from_secs(50));
        assert!(
            !beyond.was_open(&repository()) && beyond.tag(&repository(), &"v1".parse().unwrap()).is_none()
        );
    }

    #[test]
    fn a_file_that_makes_no_sense_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers.json");
        std::fs::write(&path, b"{]").unwrap();
        let lasting = Lasting::load(path, Duration::from_secs(1));
        assert!(!lasting.was_open(&repository()));
    }
}
