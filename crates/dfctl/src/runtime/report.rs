//! What was done to each runtime, or would be, in words and as JSON.

use super::Runtime;
use super::plan::Plan;
use super::restart;
use crate::machine::Refusal;
use crate::{Error, Output, json};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How a runtime stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Standing {
    /// It is not on this machine.
    Absent,
    /// It pulls without Damselfly.
    NotSetUp,
    /// It pulls through the daemon.
    SetUp,
    /// It does, and others have set it up.
    ByOthers,
    /// Others have changed what was set up.
    Incomplete,
    /// It cannot be set up safely, or set back.
    Refused,
}

impl Standing {
    const fn words(self) -> &'static str {
        match self {
            Self::Absent => "not here",
            Self::NotSetUp => "not set up",
            Self::SetUp => "set up",
            Self::ByOthers => "set up by other hands",
            Self::Incomplete => "changed by other hands; `dfctl runtime install` sets it up again",
            Self::Refused => "left as it is",
        }
    }
}

/// What was done to one file, or would be.
#[derive(Debug, Serialize)]
struct Changed {
    path: PathBuf,
    /// Where it was only worked out: what stands beside ours may be a secret, and is not to get into logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

/// What makes it read its configuration again.
#[derive(Debug, Serialize)]
struct Needed {
    command: String,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Needed {
    fn of(runtime: Runtime, to_be_told: bool) -> Option<Self> {
        to_be_told.then(|| Self { command: restart::command(runtime), done: false, error: None })
    }
}

/// What was done to one runtime, or would be.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    runtime: Runtime,
    standing: Standing,
    /// Why it was not done, or not wholly.
    refused: Option<String>,
    /// The files with something of ours in them.
    pub(super) files: Vec<PathBuf>,
    changes: Vec<Changed>,
    /// Whether the changes were only worked out.
    dry_run: bool,
    needs: Option<Needed>,
    pub(super) notes: Vec<String>,
}

impl Report {
    pub(super) fn standing(runtime: Runtime, standing: Standing) -> Self {
        Self {
            runtime,
            standing,
            refused: None,
            files: Vec::new(),
            changes: Vec::new(),
            dry_run: false,
            needs: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn refused(runtime: Runtime, refusal: Refusal) -> Self {
        Self { refused: Some(refusal.why), ..Self::standing(runtime, Standing::Refused) }
    }

    /// What was tried, and did not come to its end.
    pub(super) fn failed(plan: &Plan, path: &Path, error: &std::io::Error) -> Self {
        let refused = Some(format!("{}: {error}", path.display()));
        Self { refused, ..Self::standing(plan.runtime, Standing::Incomplete) }
    }

    pub(super) fn of(plan: &Plan, to_be_told: bool, dry_run: bool) -> Self {
        let standing = if plan.entries.is_empty() { Standing::NotSetUp } else { Standing::SetUp };
        Self {
            files: plan.entries.keys().cloned().collect(),
            changes: plan
                .changes
                .iter()
                .map(|change| Changed { path: change.path.clone(), diff: dry_run.then(|| change.diff()) })
                .collect(),
            dry_run,
            needs: Needed::of(plan.runtime, to_be_told),
            notes: plan.notes.clone(),
            ..Self::standing(plan.runtime, standing)
        }
    }

    pub(super) fn restarted(&mut self, result: Result<(), String>) {
        if let Some(needs) = &mut self.needs {
            needs.done = result.is_ok();
            needs.error = result.err();
        }
    }

    /// That it has to be told of changes that were made earlier.
    pub(super) fn still_to_be_told(&mut self) {
        self.needs = Needed::of(self.runtime, true);
    }

    /// Whether there is something to be said that was not said `before`.
    pub(super) fn is_news(&self, before: &[Self]) -> bool {
        let same = |other: &&Self| other.runtime == self.runtime && other.refused == self.refused;
        !self.changes.is_empty() || before.iter().find(same).is_none()
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let name = self.runtime.name();
        match &self.refused {
            Some(why) if self.standing == Standing::Refused => writeln!(out, "{name}: left as it is: {why}")?,
            Some(why) => writeln!(out, "{name}: not done, or not wholly: {why}")?,
            None if self.changes.is_empty() => writeln!(out, "{name}: {}", self.standing.words())?,
            None => {}
        }
        for change in &self.changes {
            match &change.diff {
                Some(diff) => write!(out, "{diff}")?,
                None => writeln!(out, "{name}: changed {}", change.path.display())?,
            }
        }
        for note in &self.notes {
            writeln!(out, "{name}: {note}")?;
        }
        match &self.needs {
            Some(Needed { done: true, .. }) => {
                writeln!(out, "{name}: was told to read its configuration again")
            }
            Some(Needed { error: Some(error), .. }) => writeln!(out, "{name}: not in force yet: {error}"),
            Some(Needed { command, .. }) => {
                writeln!(out, "{name}: in force after `{command}` (--restart does it)")
            }
            None => Ok(()),
        }
    }
}

/// What was done to all runtimes, or would be.
#[derive(Debug, Default)]
pub(super) struct Reports(pub(super) Vec<Report>);

impl Reports {
    pub(super) fn write(&self, output: Output, out: &mut impl Write) -> std::io::Result<()> {
        if output == Output::Json {
            return json::write(&self.0, out);
        }
        if self.0.is_empty() {
            return writeln!(out, "nothing to do: no runtime is set up, or none is here");
        }
        self.0.iter().try_for_each(|report| report.write(out))
    }

    /// Whether all could be done.
    ///
    /// # Errors
    /// The names of those that could not.
    pub(super) fn outcome(&self) -> Result<(), Error> {
        let failed = |report: &&Report| {
            report.refused.is_some() || report.needs.as_ref().is_some_and(|needs| needs.error.is_some())
        };
        let names: Vec<&str> = self.0.iter().filter(failed).map(|report| report.runtime.name()).collect();
        if names.is_empty() { Ok(()) } else { Err(Error::Runtimes(names.join(", "))) }
    }
}
