//! What was done for services, or would be, in words and as JSON; what there is of them.

use super::Service;
use super::env_file::without_secrets;
use super::plan::{Plan, Step};
use crate::{Output, json};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What was done to one file, or would be.
#[derive(Debug, Serialize)]
struct Changed {
    path: PathBuf,
    /// Where it was only worked out; without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

/// What was done, or would be.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    services: BTreeSet<Service>,
    changes: Vec<Changed>,
    /// Whether the changes were only worked out.
    dry_run: bool,
    /// What has systemd do its part.
    pub(super) commands: Vec<String>,
    /// Whether that was done.
    pub(super) commanded: bool,
    /// What the services kept, and was removed with them.
    pub(super) removed: Vec<PathBuf>,
    pub(super) notes: Vec<String>,
}

impl Report {
    pub(super) fn of(services: &BTreeSet<Service>, plan: &Plan, dry_run: bool) -> Self {
        let changed =
            |step: &Step| Changed { path: step.path().to_owned(), diff: dry_run.then(|| diff(step)) };
        Self {
            services: services.clone(),
            changes: plan.steps.iter().map(changed).collect(),
            dry_run,
            commands: Vec::new(),
            commanded: false,
            removed: Vec::new(),
            notes: plan.notes.clone(),
        }
    }

    pub(super) fn write(&self, output: Output, out: &mut impl Write) -> io::Result<()> {
        if output == Output::Json {
            return json::write(self, out);
        }
        if self.changes.is_empty() && self.removed.is_empty() {
            writeln!(out, "nothing to change")?;
        }
        for change in &self.changes {
            match &change.diff {
                Some(diff) => write!(out, "{diff}")?,
                None => writeln!(out, "changed {}", change.path.display())?,
            }
        }
        for path in &self.removed {
            let word = if self.dry_run { "would remove" } else { "removed" };
            writeln!(out, "{word} {}", path.display())?;
        }
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        let word = if self.commanded { "done" } else { "next" };
        self.commands.iter().try_for_each(|command| writeln!(out, "{word}: {command}"))
    }
}

fn diff(step: &Step) -> String {
    match step {
        Step::Text { change, .. } if Service::ALL.iter().any(|s| change.path == Path::new(s.env_file())) => {
            change.diff_shown(without_secrets)
        }
        Step::Text { change, .. } => change.diff(),
        Step::Copy { path, from, .. } => {
            format!("Binary files {} and {} differ\n", path.display(), from.display())
        }
        Step::Remove { path, .. } => format!("Binary files {} and /dev/null differ\n", path.display()),
    }
}

/// How a file of a service's stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Standing {
    /// It is not there.
    Absent,
    /// It is there as it was installed, or with what was put into it.
    Installed,
    /// It is there by other hands.
    ByOthers,
    /// Others have changed it since it was installed, or taken it away.
    Changed,
}

impl Standing {
    const fn words(self) -> &'static str {
        match self {
            Self::Absent => "not there",
            Self::Installed => "installed",
            Self::ByOthers => "there by other hands",
            Self::Changed => "installed, and changed or taken away by other hands",
        }
    }
}

/// One file of a service's.
#[derive(Debug, Serialize)]
pub(super) struct FileStatus {
    pub(super) path: PathBuf,
    pub(super) standing: Standing,
}

/// What there is of a service.
#[derive(Debug, Serialize)]
pub(super) struct ServiceStatus {
    pub(super) service: Service,
    pub(super) installed: bool,
    /// Whether it is started with the machine.
    pub(super) enabled: bool,
    /// Whether it runs; nothing where that cannot be known.
    pub(super) active: Option<bool>,
    pub(super) files: Vec<FileStatus>,
}

/// Writes what there is of all services.
pub(super) fn write_status(all: &[ServiceStatus], output: Output, out: &mut impl Write) -> io::Result<()> {
    if output == Output::Json {
        return json::write(&all, out);
    }
    for status in all {
        let installed = if status.installed { "installed" } else { "not installed" };
        let enabled = if status.enabled { ", enabled" } else { "" };
        let active = match status.active {
            Some(true) => ", running",
            Some(false) if status.installed => ", not running",
            _ => "",
        };
        writeln!(out, "{}: {installed}{enabled}{active}", status.service.name())?;
        for file in &status.files {
            writeln!(out, "  {}: {}", file.path.display(), file.standing.words())?;
        }
    }
    Ok(())
}
