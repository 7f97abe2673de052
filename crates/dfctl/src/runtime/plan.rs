//! What has to change for a runtime to pull through the daemon, or no longer to: worked out whole before anything is written.

use super::record::{Entry, Record};
use super::target::{Put, Wanted};
use super::{Runtime, Setting, containerd, daemon_json, registries_conf};
use crate::machine::{Change, Files, Refusal, State};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// The mode of a file that was not there.
const MODE: u32 = 0o644;

/// What is to be done for one runtime.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) runtime: Runtime,
    pub(super) changes: Vec<Change>,
    /// What is recorded when it is done.
    pub(super) entries: BTreeMap<PathBuf, Entry>,
    /// What is to be said about it.
    pub(super) notes: Vec<String>,
    /// Whether something that is wanted is there by other hands.
    pub(super) by_others: bool,
    /// The files without what is ours.
    pub(super) without: BTreeMap<PathBuf, Option<String>>,
}

impl Plan {
    /// For the runtime to pull through the daemon.
    ///
    /// # Errors
    /// If that cannot be done safely.
    pub(super) fn install(
        files: &Files,
        record: &Record,
        runtime: Runtime,
        setting: &Setting,
    ) -> Result<Self, Refusal> {
        if !runtime.is_here(files) {
            return Err(Refusal::new(format!(
                "it is not here: there is none of {}",
                runtime.marks().join(", ")
            )));
        }
        let mut plan = Self::bare(files, record, runtime)?;
        let theirs = files.with(plan.without.clone());
        let Wanted { targets, notes } = runtime.wanted(&theirs, setting)?;
        plan.notes = notes;
        for (path, target) in targets {
            let about = |refusal: Refusal| Refusal::new(format!("{}: {refusal}", path.display()));
            let now = files.read(&path)?;
            let recorded = record.files.get(&path).filter(|entry| entry.target == target);
            // Where it stands undisturbed it stays, whatever others wrote before or behind it.
            if let (Some(entry), Some(text)) = (recorded, &now)
                && entry.edit.undo(text).is_some()
            {
                plan.keep(&path, Entry { former: None, ..entry.clone() }, now);
                continue;
            }
            let without = theirs.read(&path)?;
            match target.put(without.as_deref()).map_err(about)? {
                Put::Already => {
                    plan.by_others = true;
                    plan.notes.push(format!("{} has it already, by other hands", path.display()));
                }
                Put::Done(after, edit) => {
                    let existed = without.is_some();
                    let former =
                        record.files.get(&path).map(|entry| (entry.target.clone(), entry.edit.clone()));
                    let entry = Entry { runtime, target, edit, existed, former };
                    plan.without.insert(path.clone(), without);
                    plan.keep(&path, entry, Some(after));
                }
            }
        }
        plan.compare(files)
    }

    /// For the runtime to pull as it did before.
    ///
    /// # Errors
    /// If that cannot be done safely.
    pub(super) fn uninstall(files: &Files, record: &Record, runtime: Runtime) -> Result<Self, Refusal> {
        Self::bare(files, record, runtime)?.compare(files)
    }

    /// Each file that was changed for the runtime, with nothing of ours in it.
    fn bare(files: &Files, record: &Record, runtime: Runtime) -> Result<Self, Refusal> {
        let mut without = BTreeMap::new();
        for (path, entry) in record.files.iter().filter(|(_, entry)| entry.runtime == runtime) {
            let text = bare(files, path, entry)
                .map_err(|refusal| Refusal::new(format!("{}: {refusal}", path.display())))?;
            without.insert(path.clone(), text);
        }
        let changes = without
            .iter()
            .map(|(path, text)| Change { path: path.clone(), before: None, after: text.clone() })
            .collect();
        Ok(Self { runtime, changes, entries: BTreeMap::new(), notes: Vec::new(), by_others: false, without })
    }

    fn keep(&mut self, path: &Path, entry: Entry, after: Option<String>) {
        self.entries.insert(path.to_owned(), entry);
        self.changes.retain(|change| change.path != path);
        self.changes.push(Change { path: path.to_owned(), before: None, after });
    }

    /// Leaves what does not change out.
    fn compare(mut self, files: &Files) -> Result<Self, Refusal> {
        for change in &mut self.changes {
            change.before = files.read(&change.path)?;
        }
        self.changes.retain(|change| change.before != change.after);
        Ok(self)
    }

    /// Does it, and records it first.
    ///
    /// # Errors
    /// If something cannot be written: with the path.
    pub(super) fn carry_out(
        &self,
        files: &Files,
        state: &State,
        record: &mut Record,
        setting: Option<&Setting>,
    ) -> Result<(), (PathBuf, io::Error)> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        // The outermost first.
        let mut missing = BTreeSet::new();
        for (path, entry) in &self.entries {
            missing.extend(files.missing(path).map_err(at(path))?);
            if record.files.get(path) != Some(entry)
                && let Some(Some(text)) = self.without.get(path)
            {
                state.keep(path, text).map_err(at(&state.kept(path)))?;
            }
            record.files.insert(path.clone(), entry.clone());
        }
        for dir in &missing {
            if !record.directories.contains(dir) {
                record.directories.push(dir.clone());
            }
        }
        if let Some(setting) = setting {
            record.settings.insert(self.runtime, setting.clone());
        }
        state.write(record).map_err(at(&state.file()))?;
        for dir in &missing {
            files.make(dir).map_err(at(dir))?;
        }
        for change in &self.changes {
            match &change.after {
                Some(text) => files.write(&change.path, text, MODE),
                None => files.remove(&change.path),
            }
            .map_err(at(&change.path))?;
        }
        for path in self.entries.keys() {
            if let Some(entry) = record.files.get_mut(path) {
                entry.former = None;
            }
        }
        // What was recorded before and is not wanted now is gone.
        let gone: Vec<PathBuf> = record
            .files
            .iter()
            .filter(|(path, entry)| entry.runtime == self.runtime && !self.entries.contains_key(*path))
            .map(|(path, _)| path.clone())
            .collect();
        for path in &gone {
            record.files.remove(path);
            state.forget(path);
        }
        if setting.is_none() {
            record.settings.remove(&self.runtime);
            // Whoever takes Damselfly away is told what remains to be done; nothing is to remain here.
            record.pending.remove(&self.runtime);
        }
        let Record { files: recorded, directories, .. } = record;
        files.remove_unneeded(directories, |dir| recorded.keys().any(|path| path.starts_with(dir)));
        let result = if *record == Record::default() { state.clear() } else { state.write(record) };
        result.map_err(at(&state.file()))
    }
}

impl Runtime {
    /// What is wanted in which file, and what is to be said about it.
    fn wanted(self, files: &Files, setting: &Setting) -> Result<Wanted, Refusal> {
        let mirror = &setting.mirror;
        match self {
            Self::Containerd => containerd::wanted(files, mirror, &setting.registries()),
            Self::Containers => {
                let location = mirror.strip_prefix("http://").unwrap_or(mirror);
                registries_conf::wanted(files, location, &setting.registries())
            }
            Self::Docker => daemon_json::wanted(files, mirror),
        }
    }
}

/// A file's text with nothing of ours in it; nothing where there would be no file.
fn bare(files: &Files, path: &Path, entry: &Entry) -> Result<Option<String>, Refusal> {
    let Some(text) = files.read(path)? else { return Ok(None) };
    let mut without = entry.target.take_out(&text, &entry.edit)?;
    if let Some((target, edit)) = &entry.former {
        without = target.take_out(&without, edit)?;
    }
    Ok(Some(without).filter(|text| entry.existed || !text.trim().is_empty()))
}
