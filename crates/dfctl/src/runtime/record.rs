//! What was put where: kept on the machine, so that it can be taken out again by whoever comes later.
//!
//! It is written before the files that it speaks of: after a crash in between, what is recorded and not there is passed over.

use super::edit::Edit;
use super::target::Target;
use super::{Runtime, Setting};
use crate::machine::Recorded;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// How each runtime was set up.
    pub(super) settings: BTreeMap<Runtime, Setting>,
    /// What was put into which file.
    pub(super) files: BTreeMap<PathBuf, Entry>,
    /// Directories that were made, from the outermost.
    pub(super) directories: Vec<PathBuf>,
    /// What still has to read its configuration again.
    pub(super) pending: BTreeSet<Runtime>,
}

impl Record {
    /// Whether something was done for it.
    pub(super) fn knows(&self, runtime: Runtime) -> bool {
        self.settings.contains_key(&runtime) || self.files.values().any(|entry| entry.runtime == runtime)
    }
}

impl Recorded for Record {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().chain(&self.directories).map(PathBuf::as_path)
    }
}

/// What was put into one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// For whom.
    pub(super) runtime: Runtime,
    /// What.
    pub(super) target: Target,
    /// How.
    pub(super) edit: Edit,
    /// Whether the file was there before.
    pub(super) existed: bool,
    /// What stood there until then, while it may stand there still: a crash can come between this and the file.
    pub(super) former: Option<(Target, Edit)>,
}
