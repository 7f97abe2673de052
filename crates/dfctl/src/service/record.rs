//! What was put where for services, so that whoever comes later can take it away again.
//!
//! It is written before the files that it speaks of: what is recorded and not there is passed over, and what stood there
//! until then is known as ours too.

use super::Service;
use super::env_file::Line;
use crate::machine::Recorded;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use types::Digest;

/// What stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// The services that were installed.
    pub(super) services: BTreeSet<Service>,
    /// Files that are all ours: units and programs.
    pub(super) whole: BTreeMap<PathBuf, Whole>,
    /// Files with lines of ours in them.
    pub(super) lines: BTreeMap<PathBuf, Lines>,
    /// Directories that were made, from the outermost.
    pub(super) directories: Vec<PathBuf>,
    /// Directories that were made for this record.
    pub(super) above: Vec<PathBuf>,
    /// The services that still have to be started again, or for the first time, with what was changed.
    #[serde(default)]
    pub(super) pending: BTreeSet<Service>,
}

impl Recorded for Record {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let files = self.whole.keys().chain(self.lines.keys());
        files.chain(&self.directories).chain(&self.above).map(PathBuf::as_path)
    }
}

/// A file that is all ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whole {
    /// For whom; it goes with the last of them.
    pub(super) services: BTreeSet<Service>,
    /// What it is, as text, and then what it was until now while it may be that still.
    digests: Vec<String>,
}

/// A file with lines of ours in it, by the variables that they set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lines {
    /// For whom.
    pub(super) service: Service,
    /// Whether the file was there before.
    pub(super) existed: bool,
    /// Each with what stood there of ours until now, while that may stand there still.
    pub(super) lines: BTreeMap<String, (Line, Option<Line>)>,
}

impl Record {
    /// Whether nothing of ours is on the machine.
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty()
            && self.whole.is_empty()
            && self.lines.is_empty()
            && self.directories.is_empty()
    }

    /// Whether a file of ours is to be below a directory.
    pub(super) fn needs(&self, dir: &Path) -> bool {
        self.whole.keys().chain(self.lines.keys()).any(|path| path.starts_with(dir))
    }

    /// The same, when all is where it is to be.
    pub(super) fn settled(mut self) -> Self {
        for whole in self.whole.values_mut() {
            whole.digests.truncate(1);
        }
        for lines in self.lines.values_mut() {
            for (_, former) in lines.lines.values_mut() {
                *former = None;
            }
        }
        self
    }
}

impl Whole {
    pub(super) fn new(service: Service, digest: &Digest) -> Self {
        Self { services: BTreeSet::from([service]), digests: vec![digest.to_string()] }
    }

    /// Whether what has this digest was put there by us.
    pub(super) fn is(&self, digest: &Digest) -> bool {
        self.digests.contains(&digest.to_string())
    }

    /// It is to be another one.
    pub(super) fn exchange(&mut self, digest: &Digest) {
        let digest = digest.to_string();
        self.digests.retain(|former| *former != digest);
        self.digests.insert(0, digest);
    }
}

impl Lines {
    /// A file's text with nothing of ours in it.
    pub(super) fn take_out(&self, text: &str) -> String {
        let mut lines = Vec::new();
        for (key, (line, former)) in &self.lines {
            match former {
                // The newer one was put in as the last of its key, if that was reached.
                Some(former) if former.looks_like(line) => {
                    lines.push(if line.is_in_force(text, key) { line } else { former });
                }
                former => lines.extend(std::iter::once(line).chain(former)),
            }
        }
        let mut text = text.to_owned();
        // From the last to the first, so that each finds behind it what stood there when it was put in.
        loop {
            let there = lines.iter().enumerate().filter_map(|(at, line)| Some((line.place(&text)?, at)));
            let Some((_, at)) = there.max() else { return text };
            text = lines.swap_remove(at).take_out(&text);
        }
    }

    /// The line for a variable that is in force in a text.
    pub(super) fn line_in(&self, text: &str, key: &str) -> Option<&Line> {
        let (line, former) = self.lines.get(key)?;
        std::iter::once(line).chain(former).find(|line| line.is_in_force(text, key))
    }

    /// The line for a variable that stands in a text, while one of others behind it is in force.
    pub(super) fn overruled_in(&self, text: &str, key: &str) -> Option<&Line> {
        let (line, former) = self.lines.get(key)?;
        former.iter().chain(std::iter::once(line)).find(|line| line.place(text).is_some())
    }
}
