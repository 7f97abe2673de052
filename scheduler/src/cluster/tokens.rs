//! The join tokens that are good: their hashes, on disk. The secrets themselves are not kept.

use membership::{JoinSecret, SecretHash, file};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most tokens at once.
const TOKENS_MAX: usize = 1024;

/// The longest note, in bytes.
pub(crate) const NOTE_BYTES_MAX: usize = 256;

/// The longest file that a list of tokens can be, in bytes.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewToken {
    /// What it is for, for people.
    pub(crate) note: String,
    /// For how long it is good; without end if not given.
    pub(crate) lifetime: Option<Duration>,
}

/// A token without its secret. Times are seconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    hash: String,
    created: u64,
    expires: Option<u64>,
    note: String,
}

impl Record {
    pub(super) fn new(secret: &JoinSecret, new: NewToken, now: SystemTime) -> Self {
        Self {
            hash: secret.hash().to_hex(),
            created: seconds(now),
            expires: new.lifetime.map(|lifetime| seconds(now).saturating_add(lifetime.as_secs())),
            note: new.note,
        }
    }

    /// How people call it.
    pub(crate) fn id(&self) -> String {
        self.hash().map(|hash| hash.id()).unwrap_or_default()
    }

    pub(crate) const fn created(&self) -> u64 {
        self.created
    }

    pub(crate) const fn expires(&self) -> Option<u64> {
        self.expires
    }

    pub(crate) fn note(&self) -> &str {
        &self.note
    }

    fn hash(&self) -> Option<SecretHash> {
        SecretHash::from_hex(&self.hash)
    }

    fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// The good tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    path: PathBuf,
    fresh: bool,
    /// One that is kept elsewhere.
    mounted: Option<(SecretHash, Record)>,
    good: Mutex<BTreeMap<SecretHash, Record>>,
}

impl Tokens {
    /// Those in the file; none if there is no file. Blocks on the disk.
    pub(super) fn load(path: PathBuf, mounted: Option<Record>) -> io::Result<Self> {
        let content = file::read(&path, FILE_LEN_MAX).map_err(|error| about(&path, &error))?;
        let fresh = content.is_none();
        let records: Vec<Record> = match content {
            Some(content) => serde_json::from_slice(&content).map_err(|error| about(&path, &error.into()))?,
            None => Vec::new(),
        };
        let good = records.into_iter().filter_map(|record| Some((record.hash()?, record)));
        let mounted = mounted.and_then(|record| Some((record.hash()?, record)));
        Ok(Self { fresh, mounted, good: Mutex::new(good.collect()), path })
    }

    /// Whether there was no file: the cluster is new.
    pub(super) const fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// All that have not expired, the oldest first.
    pub(crate) fn list(&self, now: SystemTime) -> Vec<Record> {
        let now = seconds(now);
        let mut all: Vec<_> = self.lock().values().filter(|record| !record.is_over(now)).cloned().collect();
        all.extend(self.mounted.iter().map(|(_, record)| record.clone()));
        all.sort_by_key(|record| (record.created, record.hash.clone()));
        all
    }

    pub(super) fn accepts(&self, hash: SecretHash, now: SystemTime) -> bool {
        let is_mounted = self.mounted.as_ref().is_some_and(|(mounted, _)| *mounted == hash);
        is_mounted || self.lock().get(&hash).is_some_and(|record| !record.is_over(seconds(now)))
    }

    /// Blocks on the disk; what cannot be kept is not good.
    pub(super) fn add(&self, record: Record) -> io::Result<()> {
        let mut good = self.lock();
        let mut next = good.clone();
        next.retain(|_, record| !record.is_over(seconds(SystemTime::now())));
        if next.len() >= TOKENS_MAX {
            return Err(io::Error::other(format!("there are {TOKENS_MAX} tokens already: revoke some")));
        }
        let hash = record.hash().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        next.insert(hash, record);
        self.save(&next)?;
        *good = next;
        Ok(())
    }

    /// Blocks on the disk; the hash of the one that was revoked. After an error it is as good as before.
    pub(super) fn revoke(&self, id: &str) -> io::Result<Option<SecretHash>> {
        if self.mounted.as_ref().is_some_and(|(hash, _)| hash.id() == id) {
            let why = "this token is mounted (--identity): take it away where it is kept, and start the scheduler again";
            return Err(io::Error::other(why));
        }
        let mut good = self.lock();
        let Some(hash) = good.keys().find(|hash| hash.id() == id).copied() else { return Ok(None) };
        let mut next = good.clone();
        next.remove(&hash);
        self.save(&next)?;
        *good = next;
        Ok(Some(hash))
    }

    fn save(&self, records: &BTreeMap<SecretHash, Record>) -> io::Result<()> {
        let records: Vec<_> = records.values().collect();
        file::replace(&self.path, &serde_json::to_vec_pretty(&records)?)
            .map_err(|error| about(&self.path, &error))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SecretHash, Record>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error with the file's name in front.
pub(super) fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
