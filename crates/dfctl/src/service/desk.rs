//! The order in which services are installed and taken away: what is refused comes before anything is changed, and systemd
//! is told when the files are there, or before they go. What is planned upon is looked at under the lock (`hands`).

use super::calls::{self, Call, Live, call, command, line};
use super::env_file::Line;
use super::options::{Install, Uninstall};
use super::plan::{Plan, Wanted};
use super::record::Record;
use super::report::{FileStatus, Report, ServiceStatus, Standing};
use super::{JOIN, Service, hands, join, purge};
use crate::machine::{Files, State, systemd};
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
        let above = self.above()?;
        let state = if options.dry_run { State::look(&self.dir) } else { self.lock()? };
        let record = self.record(&state)?;
        let mut plan = match Plan::install(&self.files, &record, &wanted) {
            Ok(plan) => plan,
            Err(refusal) => {
                // Of a question that was refused nothing remains.
                if !options.dry_run && record.is_empty() {
                    let _ = state.clear();
                    self.files.remove_empty(&above);
                }
                return Err(refusal.into());
            }
        };
        for record in [&mut plan.between, &mut plan.after] {
            record.above.extend(above.iter().cloned());
        }
        let live = self.live(&services).await;
        let owed: BTreeSet<Service> = services.intersection(&plan.after.pending).copied().collect();
        let to_start = if options.start { services.clone() } else { &services - &live.enabled };
        let calls = self.starting(&owed, &to_start, &live);
        let mut report = Report::of(&services, &plan, options.dry_run);
        report.commands = calls.iter().map(|call| line(call)).collect();
        if options.dry_run {
            return Ok((report, Ok(())));
        }
        hands::carry_out(&self.files, &state, &plan, &record)?;
        let mut kept = hands::settle(&self.files, &state, plan)?;
        let mut result = Ok(());
        if options.start {
            result = command(&calls).await.map_err(Error::Systemd);
            report.commanded = result.is_ok();
            if result.is_ok() && !owed.is_empty() {
                kept.pending = &kept.pending - &owed;
                result = state.write(&kept).map_err(|source| self.broken(source));
            }
        }
        Ok((report, result))
    }

    /// What was done, and whether all that was kept could be removed.
    pub(super) async fn uninstall(&self, options: &Uninstall) -> Result<(Report, Result<(), Error>), Error> {
        let services: BTreeSet<Service> = options.services.iter().copied().collect();
        if options.stop {
            self.can_command("--stop")?;
        }
        self.above()?;
        // Where nothing was ever done there is nothing to be undone, and no trace to be left of the question.
        let is_new = !self.dir.exists();
        let state = if options.dry_run || is_new { State::look(&self.dir) } else { self.lock()? };
        let record = self.record(&state)?;
        let mut plan = Plan::uninstall(&self.files, &record, &services)?;
        for other in record.services.difference(&services) {
            plan.notes.push(format!("the {} stays: it is taken away when it is named", other.name()));
        }
        let live = self.live(&services).await;
        let to_stop = if options.stop { calls::to_stop(&services, &record, &live) } else { BTreeSet::new() };
        let is_concerned = |service: &Service| options.purge || record.services.contains(service);
        let concerned: BTreeSet<Service> = services.iter().copied().filter(is_concerned).collect();
        self.is_free(&concerned, &to_stop, &live)?;
        if options.purge {
            purge::check(&self.files, &services, &to_stop).await?;
        }
        let mut report = Report::of(&services, &plan, options.dry_run);
        let stopping = calls::stopping(&to_stop, &self.files);
        let reload = self.is_systemds() && !plan.steps.is_empty();
        let reload = if reload { vec![call(&["daemon-reload"], &[])] } else { Vec::new() };
        report.commands = stopping.iter().chain(&reload).map(|call| line(call)).collect();
        if options.dry_run {
            if options.purge {
                report.removed = purge::there(&self.files, &services);
            }
            return Ok((report, Ok(())));
        }
        command(&stopping).await.map_err(Error::Stop)?;
        hands::carry_out(&self.files, &state, &plan, &record)?;
        // The files are gone, whether or not that can be written down: what is asked for beside that is done all the same.
        let mut result = hands::settle(&self.files, &state, plan).map(drop);
        if options.stop {
            let reloaded = command(&reload).await.map_err(Error::Reload);
            report.commanded = reloaded.is_ok();
            result = result.and(reloaded);
        }
        if options.purge {
            let purged = purge::remove(&self.files, &services, &mut report).await;
            result = result.and(purged);
        }
        Ok((report, result))
    }

    pub(super) async fn status(&self) -> Result<Vec<ServiceStatus>, Error> {
        let record = self.record(&State::look(&self.dir))?;
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
                    let in_force =
                        |(key, (line, _)): (&String, &(Line, Option<Line>))| line.is_in_force(&text, key);
                    let whole = lines.lines.iter().all(in_force);
                    if whole { Standing::Installed } else { Standing::Changed }
                }
                None if text == Ok(None) => Standing::Absent,
                None => Standing::ByOthers,
            };
            files.push(FileStatus { path, standing });
            let active = if self.is_systemds() { Some(calls::is_active(service).await) } else { None };
            let (installed, enabled) = (record.services.contains(&service), self.is_enabled(service));
            all.push(ServiceStatus { service, installed, enabled, active, files });
        }
        Ok(all)
    }

    /// The directories that are not there, of those that the record is to be in.
    fn above(&self) -> Result<Vec<PathBuf>, Error> {
        self.files.missing(&Path::new(STATE).join("installed.json")).map_err(|source| self.broken(source))
    }

    fn lock(&self) -> Result<State, Error> {
        State::lock(&self.dir, COMMAND).map_err(|source| self.broken(source))
    }

    fn record(&self, state: &State) -> Result<Record, Error> {
        state.read().map_err(|source| self.broken(source))
    }

    fn broken(&self, source: io::Error) -> Error {
        Error::File { path: self.dir.clone(), source }
    }

    /// Refuses to have systemd do something where it is not ours to tell.
    fn can_command(&self, flag: &str) -> Result<(), Error> {
        if !self.files.of_this_machine() {
            let why = "the root is another one's, whose systemd cannot be told from here";
            return Err(Error::unchanged(format!("{flag}: {why}")));
        }
        if !self.is_systemds() {
            return Err(Error::unchanged(format!("{flag}: systemd does not run here")));
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

    /// What systemd has of services, as far as that can be known from here.
    async fn live(&self, services: &BTreeSet<Service>) -> Live {
        let mut live = Live::default();
        for &service in services {
            if self.is_enabled(service) {
                live.enabled.insert(service);
            }
            if self.is_systemds() && calls::is_active(service).await {
                live.active.insert(service);
            }
        }
        live
    }

    /// Refuses to take something away that is in use, but for what is stopped before.
    fn is_free(
        &self,
        services: &BTreeSet<Service>,
        to_stop: &BTreeSet<Service>,
        live: &Live,
    ) -> Result<(), Error> {
        let record = Path::new(runtime::STATE).join("installed.json");
        if services.contains(&Service::Dfdaemon) && self.files.exists(&record) {
            let why =
                "container runtimes are set up to pull through the daemon: `dfctl runtime uninstall` first";
            return Err(Error::unchanged(why));
        }
        let mut others = services.difference(to_stop).copied();
        let Some(service) = others.find(|service| live.has(*service)) else { return Ok(()) };
        let unit = service.unit();
        if !self.files.of_this_machine() {
            let line = line(&self.on_root("disable", &[service]));
            return Err(Error::unchanged(format!("{unit} is enabled: `{line}` first")));
        }
        Err(Error::unchanged(format!(
            "{unit} runs, or is enabled: `systemctl disable --now {unit}` first (--stop does it for what `{COMMAND} \
             install` has put there)"
        )))
    }

    /// What has systemd start services, and start them again where that is owed.
    fn starting(&self, owed: &BTreeSet<Service>, to_start: &BTreeSet<Service>, live: &Live) -> Vec<Call> {
        if self.files.of_this_machine() {
            return calls::starting(owed, to_start, live);
        }
        let new: Vec<Service> = to_start.difference(&live.enabled).copied().collect();
        if new.is_empty() { Vec::new() } else { vec![self.on_root("enable", &new)] }
    }

    fn on_root(&self, verb: &str, services: &[Service]) -> Call {
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
            return Err(Error::unchanged("--join-file is the dfdaemon's, which was not named"));
        }
        settings.push((Service::Dfdaemon, JOIN, join::read(file)?));
    }
    if let Some(flags) = &options.flags {
        let mut named = services.iter();
        let (Some(service), None) = (named.next(), named.next()) else {
            return Err(Error::unchanged("--flags are those of one service; install one after the other"));
        };
        settings.push((*service, service.flags(), flags.clone()));
    }
    Ok(settings)
}
