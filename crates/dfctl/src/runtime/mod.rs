//! `dfctl runtime`: container runtimes set up to pull through the daemon of their node, and back.
//!
//! The files as they are, less what is ours, and with what is wanted, make the changes, which are shown, recorded and
//! written, in this order (`plan`). What others wrote stays where it is, byte for byte (`edit`); what cannot be done safely
//! is refused, with the reason. No runtime is kept from its registries: while the daemon is away they are asked at once.

mod config_toml;
mod containerd;
mod daemon_json;
mod edit;
mod hosts_toml;
mod plan;
mod record;
mod registries_conf;
mod report;
mod restart;
mod target;

use crate::machine::{Files, State};
use crate::{Error, Output, RuntimeCommand, json};
use plan::Plan;
use process::shutdown::Shutdown;
use record::Record;
use report::{Report, Reports, Standing};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use types::Registry;
use url::Url;

/// Where it is written down what was done, unless `--state` says otherwise.
pub(crate) const STATE: &str = "/var/lib/damselfly-runtime";

/// As the operator types it.
const COMMAND: &str = "dfctl runtime";

/// How often a set-up that is held is looked after: what brings up a node may write its files anew.
const HOLD_INTERVAL: Duration = Duration::from_secs(60);

/// How long a set-up that is to be taken away waits for another `dfctl` that is at work.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What pulls images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// containerd 1.6 and later, also kubelet's.
    Containerd,
    /// podman, CRI-O, buildah and skopeo, which share their configuration.
    #[value(aliases = ["podman", "crio", "cri-o", "buildah", "skopeo"])]
    Containers,
    /// dockerd, for Docker Hub's images.
    #[value(alias = "dockerd")]
    Docker,
}

impl Runtime {
    /// All of them.
    const ALL: [Self; 3] = [Self::Containerd, Self::Containers, Self::Docker];

    /// What tells that it is on a machine.
    const fn marks(self) -> &'static [&'static str] {
        match self {
            Self::Containerd => &["/etc/containerd", "/usr/bin/containerd", "/usr/local/bin/containerd"],
            Self::Containers => &["/etc/containers"],
            Self::Docker => &["/etc/docker", "/usr/bin/dockerd", "/usr/sbin/dockerd"],
        }
    }

    fn is_here(self, files: &Files) -> bool {
        self.marks().iter().any(|mark| files.exists(Path::new(mark)))
    }

    /// As the operator knows it.
    const fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Containers => "containers",
            Self::Docker => "docker",
        }
    }
}

/// How a runtime is set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    /// The daemon's URL, `http://HOST:PORT`.
    mirror: String,
    /// Registries that were named.
    named: Vec<String>,
}

impl Setting {
    fn new(proxy: &Url, registries: &[Registry]) -> Self {
        let mut named: Vec<String> = registries.iter().map(Registry::to_string).collect();
        named.sort();
        named.dedup();
        Self { mirror: proxy.as_str().trim_end_matches('/').to_owned(), named }
    }

    fn registries(&self) -> Vec<Registry> {
        self.named.iter().filter_map(|name| Registry::parse(name).ok()).collect()
    }
}

/// Where the machine's files are, and where it is written down what was done to them.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Where the machine's root directory is: in a container, where it is mounted.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Where to keep what was changed, and the files as they were before; below the root.
    #[arg(long, global = true, value_name = "DIR", default_value = STATE)]
    state: PathBuf,
}

/// Does what the command line says.
pub(crate) async fn run(
    place: &Place,
    command: RuntimeCommand,
    output: Output,
    out: &mut impl Write,
) -> Result<(), Error> {
    let files =
        Files::below(&place.root).map_err(|source| Error::File { path: place.root.clone(), source })?;
    let desk = Desk { files, dir: place.root.join(place.state.strip_prefix("/").unwrap_or(&place.state)) };
    match command {
        RuntimeCommand::Install { runtimes, proxy, registry, dry_run, restart, hold } => {
            let setting = Setting::new(&proxy, &registry);
            let install = Job { runtimes: &runtimes, setting: Some(&setting), dry_run, restart };
            if hold {
                return desk.hold(&install, out, output).await;
            }
            let reports = desk.work(&install).await?;
            reports.write(output, out)?;
            reports.outcome()
        }
        RuntimeCommand::Uninstall { runtimes, dry_run, restart } => {
            let job = Job { runtimes: &runtimes, setting: None, dry_run, restart };
            let reports = desk.work(&job).await?;
            reports.write(output, out)?;
            reports.outcome()
        }
        RuntimeCommand::Status => Ok(desk.status()?.write(output, out)?),
    }
}

/// What is to be done.
struct Job<'a> {
    /// Those that were named; all that are here, if none was.
    runtimes: &'a [Runtime],
    /// How they are to be set up; not any more, if there is none.
    setting: Option<&'a Setting>,
    dry_run: bool,
    restart: bool,
}

/// The machine's files, and the directory of the record.
struct Desk {
    files: Files,
    dir: PathBuf,
}

impl Desk {
    async fn work(&self, job: &Job<'_>) -> Result<Reports, Error> {
        let state = match (job.dry_run, job.setting) {
            (false, Some(_)) => State::lock(&self.dir, COMMAND).map_err(|source| self.broken(source))?,
            // Nothing was ever done here, so there is nothing to be undone, and no trace to be left of the question.
            (false, None) if self.dir.exists() => {
                State::lock(&self.dir, COMMAND).map_err(|source| self.broken(source))?
            }
            _ => State::look(&self.dir),
        };
        let mut record: Record = state.read().map_err(|source| self.broken(source))?;
        let mut reports = Reports::default();
        for runtime in Runtime::ALL {
            let named = job.runtimes.contains(&runtime);
            let concerned = match job.setting {
                Some(_) => job.runtimes.is_empty() && runtime.is_here(&self.files),
                None => job.runtimes.is_empty() && record.settings.contains_key(&runtime),
            };
            if named || concerned {
                reports.0.push(self.one(job, runtime, &state, &mut record).await?);
            }
        }
        if record == Record::default() && !job.dry_run && self.dir.exists() {
            state.clear().map_err(|source| self.broken(source))?;
        }
        Ok(reports)
    }

    async fn one(
        &self,
        job: &Job<'_>,
        runtime: Runtime,
        state: &State,
        record: &mut Record,
    ) -> Result<Report, Error> {
        if job.setting.is_none() && !record.knows(runtime) {
            return Ok(Report::standing(runtime, Standing::NotSetUp));
        }
        let plan = match job.setting {
            Some(setting) => Plan::install(&self.files, record, runtime, setting),
            None => Plan::uninstall(&self.files, record, runtime),
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(refusal) => return Ok(Report::refused(runtime, refusal)),
        };
        let to_be_told = restart::needed(&self.files, runtime, &plan.changes);
        let to_be_told = to_be_told || (job.setting.is_some() && record.pending.contains(&runtime));
        let mut report = Report::of(&plan, to_be_told, job.dry_run);
        if job.dry_run {
            return Ok(report);
        }
        if to_be_told && job.setting.is_some() {
            record.pending.insert(runtime);
        }
        if let Err((path, error)) = plan.carry_out(&self.files, state, record, job.setting) {
            return Ok(Report::failed(&plan, &path, &error));
        }
        if to_be_told && job.restart {
            let told = restart::run(&self.files, runtime).await;
            if told.is_ok() && record.pending.remove(&runtime) {
                state.write(record).map_err(|source| self.broken(source))?;
            }
            report.restarted(told);
        }
        Ok(report)
    }

    /// Looks after a set-up until the process is told to end, and takes it away then.
    async fn hold(&self, install: &Job<'_>, out: &mut impl Write, output: Output) -> Result<(), Error> {
        let shutdown = Shutdown::install()?;
        let mut said = Vec::new();
        loop {
            match self.work(install).await {
                // Nobody may be listening; what is set up is to be taken away all the same.
                Ok(reports) if reports.0.iter().any(|report| report.is_news(&said)) => {
                    let _ = reports.write(output, out).and_then(|()| out.flush());
                    said = reports.0;
                }
                Ok(_) => {}
                Err(error) => json::note(output, &format!("error: {error}; it is tried again")),
            }
            tokio::select! {
                () = shutdown.token().cancelled() => break,
                () = tokio::time::sleep(HOLD_INTERVAL) => {}
            }
        }
        let job = Job { runtimes: install.runtimes, setting: None, dry_run: false, restart: install.restart };
        let deadline = Instant::now() + LOCK_LIMIT;
        let reports = loop {
            match self.work(&job).await {
                // Another dfctl is at work, for a moment.
                Err(Error::File { source, .. })
                    if source.kind() == std::io::ErrorKind::WouldBlock && Instant::now() < deadline =>
                {
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                result => break result?,
            }
        };
        let _ = reports.write(output, out);
        reports.outcome()
    }

    fn status(&self) -> Result<Reports, Error> {
        let state = State::look(&self.dir);
        let record: Record = state.read().map_err(|source| self.broken(source))?;
        let mut reports = Reports::default();
        for runtime in Runtime::ALL {
            let recorded = record.settings.get(&runtime);
            let usual = Setting { mirror: "http://127.0.0.1:6500".to_owned(), named: Vec::new() };
            if recorded.is_none() && !runtime.is_here(&self.files) {
                reports.0.push(Report::standing(runtime, Standing::Absent));
                continue;
            }
            let setting = recorded.unwrap_or(&usual);
            let report = match Plan::install(&self.files, &record, runtime, setting) {
                Err(refusal) => Report::refused(runtime, refusal),
                Ok(plan) => {
                    let standing = match (recorded.is_some(), plan.changes.is_empty()) {
                        (true, true) => Standing::SetUp,
                        (true, false) => Standing::Incomplete,
                        (false, true) if plan.by_others => Standing::ByOthers,
                        (false, _) => Standing::NotSetUp,
                    };
                    let mut report = Report::standing(runtime, standing);
                    report.files = plan.entries.keys().cloned().collect();
                    report.notes = plan.notes;
                    if record.pending.contains(&runtime) {
                        report.still_to_be_told();
                    }
                    report
                }
            };
            reports.0.push(report);
        }
        Ok(reports)
    }

    fn broken(&self, source: std::io::Error) -> Error {
        Error::File { path: self.dir.clone(), source }
    }
}
