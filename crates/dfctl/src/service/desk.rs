//! The order in which services are installed and taken away: what is refused comes before anything is changed, and systemd
//! is told when the files are there, or before they go.

use super::options::{Install, Uninstall};
use super::plan::{Plan, Step, Wanted};
use super::purge;
use super::record::Record;
use super::report::{FileStatus, Report, ServiceStatus, Standing};
use super::{JOIN, Service, join};
use crate::machine::{Files, Refusal, State, systemd};
use crate::{Error, runtime};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Where it is written down what was done.
const STATE: &str = "/var/lib/damselfly-service";

/// As the operator types it.
const COMMAND: &str = "dfctl service";

/// The machine's files, and the directory of the record.
pub(super) struct Desk {
    files: Files,
    /// As the operator wrote it.
    root: PathBuf,
    dir: PathBuf,
}

impl Desk {
    pub(super) fn new(files: Files, root: &Path) -> Self {
        Self { dir: files.place(Path::new(STATE)), root: root.to_owned(), files }
    }

    /// What was done, and whether systemd could be told.
    pub(super) async fn install(&self, options: &Install) -> Result<(Report, Result<(), Error>), Error> {
        let services: BTreeSet<Service> = options.services.iter().copied().collect();
        if options.start {
            self.can_command("--start")?;
        }
        let settings = settings(options, &services)?;
        let wanted = Wanted { services: &services, from: options.from.as_deref(), settings: &settings };
        let record = self.record()?;
        let plan = Plan::install(&self.files, &record, &wanted).map_err(unchanged)?;
        let calls = self.starting(&services, !plan.steps.is_empty(), options.start);
        let mut report = Report::of(&services, &plan, options.dry_run);
        report.commands = calls.iter().map(|call| line(call)).collect();
        if options.dry_run {
            return Ok((report, Ok(())));
        }
        self.carry_out(plan, &record)?;
        let mut result = Ok(());
        if options.start {
            result = command(&calls).await.map_err(Error::Systemd);
            report.commanded = result.is_ok();
        }
        Ok((report, result))
    }

    /// What was done, and whether all that was kept could be removed.
    pub(super) async fn uninstall(&self, options: &Uninstall) -> Result<(Report, Result<(), Error>), Error> {
        let services: BTreeSet<Service> = options.services.iter().copied().collect();
        if options.stop {
            self.can_command("--stop")?;
        }
        let record = self.record()?;
        let mut plan = Plan::uninstall(&self.files, &record, &services).map_err(unchanged)?;
        for other in record.services.difference(&services) {
            plan.notes.push(format!("the {} stays: it is taken away when it is named", other.name()));
        }
        let is_concerned = |service: &Service| options.purge || record.services.contains(service);
        self.is_free(services.iter().copied().filter(is_concerned).collect(), options.stop).await?;
        let mut report = Report::of(&services, &plan, options.dry_run);
        let is_ours =
            |service: &Service| record.services.contains(service) && self.files.exists(&service.unit_path());
        let units: Vec<Service> = services.iter().copied().filter(is_ours).collect();
        let stop = options.stop && !units.is_empty();
        let stopping = if stop { vec![call(&["disable", "--now"], &units)] } else { Vec::new() };
        let reload = self.is_systemds() && !plan.steps.is_empty();
        let reload = if reload { vec![call(&["daemon-reload"], &[])] } else { Vec::new() };
        report.commands = stopping.iter().chain(&reload).map(|call| line(call)).collect();
        if options.dry_run {
            if options.purge {
                report.removed = purge::there(&self.files, &services);
            }
            return Ok((report, Ok(())));
        }
        command(&stopping).await.map_err(Error::Unchanged)?;
        self.carry_out(plan, &record)?;
        let mut result = Ok(());
        if options.stop {
            result = command(&reload).await.map_err(Error::Systemd);
            report.commanded = result.is_ok();
        }
        if options.purge {
            let purged = purge::all(&self.files, &services, &mut report).await;
            result = result.and(purged);
        }
        Ok((report, result))
    }

    pub(super) async fn status(&self) -> Result<Vec<ServiceStatus>, Error> {
        let record = self.record()?;
        let mut all = Vec::new();
        for service in Service::ALL {
            let mut files = Vec::new();
            let whole = service.programs().map(|(_, path)| PathBuf::from(path));
            for path in whole.into_iter().chain([service.unit_path()]) {
                let there = self.files.digest(&path);
                let standing = match record.whole.get(&path) {
                    Some(whole) if matches!(&there, Ok(Some(digest)) if whole.is(digest)) => {
                        Standing::Installed
                    }
                    Some(_) => Standing::Changed,
                    None if there == Ok(None) => Standing::Absent,
                    None => Standing::ByOthers,
                };
                files.push(FileStatus { path, standing });
            }
            let path = PathBuf::from(service.env_file());
            let text = self.files.read(&path);
            let standing = match record.lines.get(&path) {
                Some(lines) => {
                    let text = text.ok().flatten().unwrap_or_default();
                    let whole = lines.lines.values().all(|(line, _)| line.place(&text).is_some());
                    if whole { Standing::Installed } else { Standing::Changed }
                }
                None if text == Ok(None) => Standing::Absent,
                None => Standing::ByOthers,
            };
            files.push(FileStatus { path, standing });
            let active = if self.is_systemds() { Some(is_active(service).await) } else { None };
            let (installed, enabled) = (record.services.contains(&service), self.is_enabled(service));
            all.push(ServiceStatus { service, installed, enabled, active, files });
        }
        Ok(all)
    }

    /// Does what is planned, and records it first.
    fn carry_out(&self, mut plan: Plan, seen: &Record) -> Result<(), Error> {
        if plan.steps.is_empty() && plan.between == *seen && plan.after == *seen {
            return Ok(());
        }
        let failed = |source| Error::File { path: self.dir.clone(), source };
        let above = self.files.missing(&Path::new(STATE).join("installed.json")).map_err(failed)?;
        let state = State::lock(&self.dir, COMMAND).map_err(failed)?;
        if state.read::<Record>().map_err(failed)? != *seen {
            return Err(Error::Unchanged(format!("another `{COMMAND}` was at work meanwhile; try again")));
        }
        for record in [&mut plan.between, &mut plan.after] {
            record.above.extend(above.iter().cloned());
        }
        carry_out(&self.files, &state, plan).map_err(|(path, source)| Error::Half { path, source })
    }

    fn record(&self) -> Result<Record, Error> {
        State::look(&self.dir).read().map_err(|source| Error::File { path: self.dir.clone(), source })
    }

    /// Refuses to have systemd do something where it is not ours to tell.
    fn can_command(&self, flag: &str) -> Result<(), Error> {
        if !self.files.of_this_machine() {
            let why = "the root is another one's, whose systemd cannot be told from here";
            return Err(Error::Unchanged(format!("{flag}: {why}")));
        }
        if !self.is_systemds() {
            return Err(Error::Unchanged(format!("{flag}: systemd does not run here")));
        }
        Ok(())
    }

    /// Whether this machine's systemd looks after the files.
    fn is_systemds(&self) -> bool {
        self.files.of_this_machine() && systemd::runs(&self.files)
    }

    fn is_enabled(&self, service: Service) -> bool {
        self.files.has_entry(&service.enabled_link())
    }

    /// Refuses to take something away that is in use.
    async fn is_free(&self, services: Vec<Service>, stop: bool) -> Result<(), Error> {
        let record = Path::new(runtime::STATE).join("installed.json");
        if services.contains(&Service::Dfdaemon) && self.files.exists(&record) {
            let why =
                "container runtimes are set up to pull through the daemon: `dfctl runtime uninstall` first";
            return Err(Error::Unchanged(why.to_owned()));
        }
        for service in services {
            let unit = service.unit();
            if stop {
                continue;
            }
            if !self.files.of_this_machine() && self.is_enabled(service) {
                let line = line(&self.on_root("disable", &[service]));
                return Err(Error::Unchanged(format!("{unit} is enabled: `{line}` first")));
            }
            let active = self.is_systemds() && is_active(service).await;
            if active || self.is_enabled(service) {
                let why = format!(
                    "{unit} runs, or is enabled: `systemctl disable --now {unit}` first (--stop does it)"
                );
                return Err(Error::Unchanged(why));
            }
        }
        Ok(())
    }

    /// What has systemd start services, where they are new, or start them again, where they were changed.
    fn starting(&self, services: &BTreeSet<Service>, changed: bool, start: bool) -> Vec<Vec<String>> {
        let (enabled, new): (Vec<Service>, Vec<Service>) =
            services.iter().copied().partition(|service| self.is_enabled(*service));
        let mut calls = Vec::new();
        if !self.files.of_this_machine() {
            if !new.is_empty() {
                calls.push(self.on_root("enable", &new));
            }
            return calls;
        }
        if changed || start {
            calls.push(call(&["daemon-reload"], &[]));
        }
        if changed && !enabled.is_empty() {
            calls.push(call(&["try-restart"], &enabled));
        }
        let all: Vec<Service> = services.iter().copied().collect();
        let to_start = if start { all } else { new };
        if !to_start.is_empty() {
            calls.push(call(&["enable", "--now"], &to_start));
        }
        calls
    }

    fn on_root(&self, verb: &str, services: &[Service]) -> Vec<String> {
        call(&[&format!("--root={}", self.root.display()), verb], services)
    }
}

/// The variables that the operator has set.
fn settings(
    options: &Install,
    services: &BTreeSet<Service>,
) -> Result<Vec<(Service, &'static str, String)>, Error> {
    let mut settings = Vec::new();
    if let Some(file) = &options.join_file {
        if !services.contains(&Service::Dfdaemon) {
            return Err(Error::Unchanged("--join-file is the dfdaemon's, which was not named".to_owned()));
        }
        settings.push((Service::Dfdaemon, JOIN, join::read(file)?));
    }
    if let Some(flags) = &options.flags {
        let mut named = services.iter();
        let (Some(service), None) = (named.next(), named.next()) else {
            return Err(Error::Unchanged(
                "--flags are those of one service; install one after the other".to_owned(),
            ));
        };
        settings.push((*service, service.flags(), flags.clone()));
    }
    Ok(settings)
}

/// Carries a plan out; an error says at which file.
fn carry_out(files: &Files, state: &State, plan: Plan) -> Result<(), (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    let Plan { steps, between, mut after, .. } = plan;
    for step in &steps {
        // As it was before anything was put into it.
        if let Step::Text { change, .. } = step
            && let Some(text) = &change.before
            && between.lines.get(&change.path).is_some_and(|lines| lines.existed)
            && !state.kept(&change.path).exists()
        {
            state.keep(&change.path, text).map_err(at(&state.kept(&change.path)))?;
        }
    }
    state.write(&between).map_err(at(&state.file()))?;
    for path in between.whole.keys().chain(between.lines.keys()) {
        files.remove_halves(path.parent().unwrap_or(path));
    }
    let is_written = |dir: &&PathBuf| steps.iter().any(|step| step.writes() && step.path().starts_with(dir));
    for dir in between.directories.iter().filter(is_written) {
        files.make(dir).map_err(at(dir))?;
    }
    for step in &steps {
        let path = step.path();
        match step {
            Step::Text { change, mode } => match &change.after {
                Some(text) => files.write(path, text, *mode),
                None => files.remove(path),
            },
            Step::Copy { from, digest, .. } => files.copy(path, from, digest),
            Step::Remove { .. } => files.remove(path),
        }
        .map_err(at(path))?;
    }
    for path in between.lines.keys().filter(|path| !after.lines.contains_key(*path)) {
        state.forget(path);
    }
    let mut directories = std::mem::take(&mut after.directories);
    files.remove_unneeded(&mut directories, |dir| after.needs(dir));
    after.directories = directories;
    if after.is_empty() {
        state.clear().map_err(at(&state.file()))?;
        files.remove_empty(&after.above);
        return Ok(());
    }
    state.write(&after).map_err(at(&state.file()))
}

fn unchanged(refusal: Refusal) -> Error {
    Error::Unchanged(refusal.0)
}

fn call(words: &[&str], services: &[Service]) -> Vec<String> {
    words.iter().copied().chain(services.iter().map(|service| service.unit())).map(str::to_owned).collect()
}

fn line(call: &[String]) -> String {
    systemd::line(&call.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Has systemd do one after the other.
async fn command(calls: &[Vec<String>]) -> Result<(), String> {
    for call in calls {
        systemd::call(&call.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    }
    Ok(())
}

async fn is_active(service: Service) -> bool {
    systemd::call(&["is-active", "--quiet", service.unit()]).await.is_ok()
}
