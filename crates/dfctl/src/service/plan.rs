//! What has to change for services to be on the machine, or no longer: worked out whole before anything is written, and
//! refused whole if a part of it cannot be done safely.

use super::env_file::{self, Put};
use super::record::{Lines, Record, Whole};
use super::{JOIN, Service};
use crate::machine::{Change, Files, Refusal, digest_of};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use types::Digest;

/// One file that changes.
#[derive(Debug)]
pub(super) enum Step {
    /// A unit, or a file with settings; `mode` is that of a new one.
    Text { change: Change, mode: u32 },
    /// A program that is copied; `before` is what is there.
    Copy { path: PathBuf, from: PathBuf, digest: Digest, before: Option<Digest> },
    /// A program that goes, and is this one.
    Remove { path: PathBuf, before: Digest },
}

impl Step {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Text { change, .. } => &change.path,
            Self::Copy { path, .. } | Self::Remove { path, .. } => path,
        }
    }

    /// Whether the file is there afterwards.
    pub(super) fn writes(&self) -> bool {
        match self {
            Self::Text { change, .. } => change.after.is_some(),
            Self::Copy { .. } => true,
            Self::Remove { .. } => false,
        }
    }

    /// Whether the file is as it was when this was planned.
    ///
    /// # Errors
    /// If that cannot be seen.
    pub(super) fn is_due(&self, files: &Files) -> Result<bool, Refusal> {
        match self {
            Self::Text { change, .. } => Ok(files.read(&change.path)? == change.before),
            Self::Copy { path, before, .. } => Ok(files.digest(path)? == *before),
            Self::Remove { path, before } => Ok(files.digest(path)?.as_ref() == Some(before)),
        }
    }
}

/// What is wanted.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) services: &'a BTreeSet<Service>,
    /// Where the programs are that are to be copied.
    pub(super) from: Option<&'a Path>,
    /// The variables to be set, with their values.
    pub(super) settings: &'a [(Service, &'static str, String)],
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// In this order.
    pub(super) steps: Vec<Step>,
    /// What is recorded before anything is done.
    pub(super) between: Record,
    /// What is recorded when all is done.
    pub(super) after: Record,
    /// What is to be said about it.
    pub(super) notes: Vec<String>,
}

impl Plan {
    /// For services to be there. The unit comes last: what it names is there by then.
    ///
    /// # Errors
    /// If that cannot be done safely.
    pub(super) fn install(files: &Files, record: &Record, wanted: &Wanted<'_>) -> Result<Self, Refusal> {
        let mut draft = Draft::new(files, record);
        for &service in wanted.services {
            if let Some(unit) = service.packaged_units().into_iter().find(|unit| files.exists(unit)) {
                return Err(about(
                    &unit,
                    "a package has brought this unit; its programs are to be started by it",
                ));
            }
            let known = draft.steps.len();
            draft.programs(service, wanted.from)?;
            draft.settings(service, wanted.settings)?;
            draft.unit(service)?;
            draft.record.services.insert(service);
            // dfctl is no part of what runs.
            let (_, dfctl) = service.programs()[1];
            if draft.steps[known..].iter().any(|step| step.path() != Path::new(dfctl)) {
                draft.record.pending.insert(service);
            }
        }
        for step in &draft.steps {
            let missing = files.missing(step.path()).map_err(|error| Refusal::of(step.path(), &error))?;
            for dir in missing {
                if !draft.record.directories.contains(&dir) {
                    draft.record.directories.push(dir);
                }
            }
        }
        let Draft { steps, record: between, notes, .. } = draft;
        Ok(Self { steps, after: between.clone().settled(), between, notes })
    }

    /// For services to be there no longer. The unit goes first.
    ///
    /// # Errors
    /// If that cannot be done safely.
    pub(super) fn uninstall(
        files: &Files,
        record: &Record,
        services: &BTreeSet<Service>,
    ) -> Result<Self, Refusal> {
        let mut draft = Draft::new(files, record);
        for &service in services {
            draft.without(service)?;
            draft.record.services.remove(&service);
            draft.record.pending.remove(&service);
        }
        // What is recorded stays so until it is gone.
        Ok(Self { steps: draft.steps, between: record.clone(), after: draft.record, notes: draft.notes })
    }
}

/// A plan that is being worked out.
struct Draft<'a> {
    files: &'a Files,
    record: Record,
    steps: Vec<Step>,
    notes: Vec<String>,
}

impl<'a> Draft<'a> {
    fn new(files: &'a Files, record: &Record) -> Self {
        Self { files, record: record.clone(), steps: Vec::new(), notes: Vec::new() }
    }

    /// The programs of a service: copied, or there already.
    fn programs(&mut self, service: Service, from: Option<&Path>) -> Result<(), Refusal> {
        for (name, path) in service.programs() {
            let path = Path::new(path);
            match from {
                Some(dir) => self.program(service, path, &dir.join(name))?,
                None if path != service.program() || self.files.is_program(path) => {}
                None => {
                    let why = "it is not there, or not everybody can run it: --from DIR copies it from where it was built";
                    return Err(about(path, why));
                }
            }
        }
        Ok(())
    }

    fn program(&mut self, service: Service, path: &Path, from: &Path) -> Result<(), Refusal> {
        // Two services have it in common.
        if self.steps.iter().any(|step| step.path() == path)
            && let Some(whole) = self.record.whole.get_mut(path)
        {
            whole.services.insert(service);
            return Ok(());
        }
        let digest = digest_of(from).map_err(|error| Refusal::of(from, &error))?;
        let there = self.files.digest(path)?;
        let is_done = match (&there, self.record.whole.get(path)) {
            (Some(there), None) if *there == digest => {
                if !self.files.is_program(path) {
                    return Err(about(
                        path,
                        "it is there already, but not everybody can run it: set its mode to 755",
                    ));
                }
                self.note(format!("{} is there already, by other hands, and stays theirs", path.display()));
                return Ok(());
            }
            (Some(_), None) => {
                let why = "it is there already, and was not put there by `dfctl service install`: take it away, or leave \
                           --from out";
                return Err(about(path, why));
            }
            (Some(there), Some(whole)) if !whole.is(there) && *there != digest => {
                return Err(about(
                    path,
                    "others have put another one there since: take it away, or leave --from out",
                ));
            }
            (there, _) => there.as_ref() == Some(&digest) && self.files.has_program_mode(path),
        };
        self.own(service, path, &digest);
        if !is_done {
            let (path, from) = (path.to_owned(), from.to_owned());
            self.steps.push(Step::Copy { path, from, digest, before: there });
        }
        Ok(())
    }

    /// The lines of a service in its file with settings.
    fn settings(
        &mut self,
        service: Service,
        wanted: &[(Service, &'static str, String)],
    ) -> Result<(), Refusal> {
        let path = Path::new(service.env_file());
        let before = self.files.read(path)?;
        let mut text = before.clone().unwrap_or_default();
        let existed = before.is_some();
        let mut lines = self.record.lines.get(path).cloned().unwrap_or_else(|| Lines {
            service,
            existed,
            lines: BTreeMap::new(),
        });
        for (_, key, value) in wanted.iter().filter(|(whose, ..)| *whose == service) {
            env_file::check(&text, key).map_err(|refusal| about(path, &refusal.why))?;
            let line = match lines.line_in(&text, key).cloned() {
                Some(line) if line.says(key, value) => (line, None),
                Some(line) => {
                    let (after, new) = line.exchange(&text, key, value);
                    text = after;
                    (new, Some(line))
                }
                None => {
                    // What others wrote behind it is in force: it goes, and theirs is exchanged for the new one.
                    let overruled = lines.overruled_in(&text, key).cloned();
                    let without =
                        overruled.as_ref().map_or_else(|| text.clone(), |line| line.take_out(&text));
                    match env_file::put(&without, key, value).map_err(|refusal| about(path, &refusal.why))? {
                        Put::Already => {
                            self.notes.push(format!("{} has {key} already, by other hands", path.display()));
                            if overruled.is_none() {
                                lines.lines.remove(*key);
                            }
                            continue;
                        }
                        Put::Done(after, line) => {
                            text = after;
                            (line, overruled)
                        }
                    }
                }
            };
            lines.lines.insert((*key).to_owned(), line);
        }
        if lines.lines.is_empty() {
            self.record.lines.remove(path);
            return Ok(());
        }
        // The secret would be theirs too.
        if lines.lines.contains_key(JOIN)
            && let Some(refusal) = self.files.strangers(path)?
        {
            return Err(refusal);
        }
        self.record.lines.insert(path.to_owned(), lines);
        // One that was taken away stays away, unless there is something to be put into it.
        let after = Some(text).filter(|text| existed || !text.is_empty());
        self.text(path, before, after, 0o600);
        Ok(())
    }

    fn unit(&mut self, service: Service) -> Result<(), Refusal> {
        let path = service.unit_path();
        let digest = Digest::sha256(service.unit_text().as_bytes());
        let before = self.files.read(&path)?;
        let there = before.as_ref().map(|text| Digest::sha256(text.as_bytes()));
        match (&there, self.record.whole.get(&path)) {
            (Some(there), None) if *there == digest => {
                self.note(format!("{} is there already, by other hands, and stays theirs", path.display()));
                return Ok(());
            }
            (Some(_), None) => {
                let why = "it is there already, and was not put there by `dfctl service install`: another tool may look \
                           after it; if none does, take it away";
                return Err(about(&path, why));
            }
            (Some(there), Some(whole)) if !whole.is(there) && *there != digest => {
                return Err(about(&path, &changed(service)));
            }
            _ => {}
        }
        self.own(service, &path, &digest);
        self.text(&path, before, Some(service.unit_text().to_owned()), 0o644);
        Ok(())
    }

    /// What is recorded for a service goes, if it is there as it was put there.
    fn without(&mut self, service: Service) -> Result<(), Refusal> {
        let unit = service.unit_path();
        // The unit first: nothing may name what is not there any more.
        let mut whole: Vec<PathBuf> = self.record.whole.keys().cloned().collect();
        whole.sort_by_key(|path| *path != unit);
        for path in whole {
            let Some(entry) = self.record.whole.get_mut(&path) else { continue };
            if !entry.services.remove(&service) || !entry.services.is_empty() {
                continue;
            }
            let there = self.files.digest(&path)?;
            let is_ours = there.as_ref().is_none_or(|there| entry.is(there));
            if path == unit {
                let before = self.files.read(&path)?;
                if !is_ours {
                    return Err(about(&path, &changed(service)));
                }
                self.text(&path, before, None, 0o644);
            } else if !is_ours {
                self.notes.push(format!("{} is another one than was put there, and stays", path.display()));
            } else if let Some(before) = there {
                self.steps.push(Step::Remove { path: path.clone(), before });
            }
            self.record.whole.remove(&path);
        }
        let path = Path::new(service.env_file());
        if let Some(lines) = self.record.lines.remove(path) {
            let before = self.files.read(path)?;
            let after = before.as_ref().map(|text| lines.take_out(text));
            let after = after.filter(|text| lines.existed || !text.trim().is_empty());
            if after.is_some() && !lines.existed {
                self.notes.push(format!("{} has lines of others, and stays", path.display()));
            }
            self.text(path, before, after, 0o600);
        }
        Ok(())
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn own(&mut self, service: Service, path: &Path, digest: &Digest) {
        let new = || Whole::new(service, digest);
        let whole = self.record.whole.entry(path.to_owned()).or_insert_with(new);
        whole.services.insert(service);
        whole.exchange(digest);
    }

    fn text(&mut self, path: &Path, before: Option<String>, after: Option<String>, mode: u32) {
        if before != after {
            self.steps.push(Step::Text { change: Change { path: path.to_owned(), before, after }, mode });
        }
    }
}

fn about(path: &Path, why: &str) -> Refusal {
    Refusal::new(format!("{}: {why}", path.display()))
}

fn changed(service: Service) -> String {
    format!(
        "others have changed it since it was put there: take it away, and put what was changed into \
         `systemctl edit {}`, which stays",
        service.unit()
    )
}
