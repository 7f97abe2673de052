//! A program under test as a child process: its own directory and log, an end by its process id, its log's tail when
//! something goes wrong.
//!
//! Called by the demo and the end-to-end tests, for Damselfly's own programs and for registries and runtimes.

use crate::{poll, usage};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long a program may take to end after SIGTERM before it gets SIGKILL.
pub const GRACE: Duration = Duration::from_secs(10);

/// How many lines of a log are shown with a failure.
const TAIL_LINES: usize = 40;

/// What to start and how.
#[derive(Debug)]
pub struct Spec {
    name: String,
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    namespace: Option<PathBuf>,
    mounts: Option<PathBuf>,
    dir: PathBuf,
}

impl Spec {
    /// `program`, called `name` in messages, with `dir` as its working directory and the place of its log.
    pub fn new(name: impl Into<String>, program: impl Into<OsString>, dir: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            namespace: None,
            mounts: None,
            dir: dir.into(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Runs it in the network namespace of this file.
    #[must_use]
    pub fn in_namespace(mut self, path: impl Into<PathBuf>) -> Self {
        self.namespace = Some(path.into());
        self
    }

    /// Runs it in the mount namespace of this file.
    #[must_use]
    pub fn in_mounts(mut self, path: impl Into<PathBuf>) -> Self {
        self.mounts = Some(path.into());
        self
    }

    fn command(&self) -> Command {
        let mut words: Vec<&OsStr> = Vec::new();
        let option = |name: &str, path: &Option<PathBuf>| {
            path.as_ref().map(|path| {
                let mut option = OsString::from(name);
                option.push(path);
                option
            })
        };
        let enter = [option("--net=", &self.namespace), option("--mount=", &self.mounts)];
        if enter.iter().any(Option::is_some) {
            words.push(OsStr::new("nsenter"));
            words.extend(enter.iter().flatten().map(OsString::as_os_str));
        }
        if Path::new(SETPRIV).exists() {
            words.extend(["setpriv", "--pdeathsig", "KILL"].map(OsStr::new));
        }
        words.push(&self.program);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(&self.args).envs(self.env.iter().map(|(k, v)| (k, v)));
        command.current_dir(&self.dir).stdin(Stdio::null());
        // A terminal's Ctrl-C must reach the parent alone, which then ends its children in order.
        command.process_group(0);
        command
    }
}

/// Executes a program with a parent-death signal, so that a killed test leaves no child. The signal comes when the
/// *thread* that started the child ends, so programs are started from a thread that lives as long as they do.
const SETPRIV: &str = "/usr/bin/setpriv";

/// A running program. Dropping it ends it.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
    /// Programs take a second SIGTERM for impatience and end without order.
    asked_to_stop: bool,
}

impl Program {
    /// Starts it with both outputs in `<dir>/<name>.log`, appended to when it is started again.
    ///
    /// # Errors
    /// If the directory or the log cannot be written, or the program cannot be started.
    pub fn start(spec: &Spec) -> Result<Self> {
        std::fs::create_dir_all(&spec.dir).with_context(|| spec.dir.display().to_string())?;
        let log = spec.dir.join(format!("{}.log", spec.name));
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| log.display().to_string())?;
        let child = spec
            .command()
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {}", spec.name))?;
        Ok(Self { name: spec.name.clone(), child, log, ended: None, asked_to_stop: false })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id. Where it was started through `nsenter` or `setpriv`, these became it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its outputs go.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Fails, with the log's tail, if it has ended.
    ///
    /// # Errors
    /// If it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self.exit_status() {
            bail!("{} ended with {status}; its log ends with\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// Waits until a line of its log makes `find` return something.
    ///
    /// # Errors
    /// If no line does within `limit`, or the program ends.
    pub fn wait_for_line<T>(&mut self, limit: Duration, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        let what = format!("a line in the log of {}", self.name);
        let found = poll::until(&what, limit, || {
            // Looked at before the log, so that a program's last words are read.
            let running = self.check_running();
            let text = std::fs::read(&self.log)?;
            match String::from_utf8_lossy(&text).lines().find_map(&find) {
                None => running.map(|()| None),
                found => Ok(found),
            }
        });
        found.with_context(|| format!("the log of {} ends with\n{}", self.name, self.log_tail()))
    }

    /// Waits until GET of `url` answers 200. Must be called where `url` can be reached.
    ///
    /// # Errors
    /// If that does not happen within `limit`, or the program ends.
    pub async fn wait_for_ok(&mut self, url: &str, limit: Duration) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
        let start = std::time::Instant::now();
        loop {
            self.check_running()?;
            if client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if start.elapsed() > limit {
                bail!("{} does not answer at {url}; its log ends with\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(poll::INTERVAL).await;
        }
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            // It may end in between: then there is nobody to tell, and the id is still ours until it is waited for.
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks it to read its configuration again (SIGHUP).
    pub fn hang_up(&mut self) {
        self.signal(Signal::HUP);
    }

    /// Ends it at once, as a crash does (SIGKILL).
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended = self.child.wait().ok().or(self.ended);
    }

    /// Stops it from running without ending it (SIGSTOP).
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it run again (SIGCONT).
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to end (SIGTERM) without waiting; once, however often this is called.
    pub fn ask_to_stop(&mut self) {
        if !std::mem::replace(&mut self.asked_to_stop, true) {
            self.signal(Signal::TERM);
        }
        // A frozen one could not hear it.
        self.thaw();
    }

    /// Asks it to end (SIGTERM), and ends it with SIGKILL after [`GRACE`]; how it ended.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.ask_to_stop();
        if poll::until("end", GRACE, || Ok(self.exit_status())).is_err() {
            self.kill();
        }
        self.ended
    }

    /// The anonymous memory that it has now, in bytes; nothing if it has ended.
    #[must_use]
    pub fn anonymous_memory(&self) -> Option<u64> {
        usage::anonymous_memory(self.id())
    }

    /// CPU seconds, user and system, used so far; nothing if it has ended.
    #[must_use]
    pub fn cpu_seconds(&self) -> Option<f64> {
        usage::cpu_seconds(self.id())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs `command` to its end within `limit`; its standard output.
///
/// # Errors
/// If it cannot be started, fails (its standard error is in the message), or takes longer.
pub fn run(command: &mut Command, limit: Duration) -> Result<String> {
    let what = format!("{command:?}");
    let mut bounded = Command::new("timeout");
    bounded.arg("--kill-after=5").arg(format!("{}", limit.as_secs_f64()));
    bounded.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(key, value),
            None => bounded.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        bounded.current_dir(dir);
    }
    let output = bounded.stdin(Stdio::null()).output().with_context(|| format!("cannot start {what}"))?;
    if !output.status.success() {
        let code = output.status.code();
        let why =
            if code == Some(124) { format!("took longer than {limit:?}") } else { output.status.to_string() };
        bail!(
            "{what}: {why}\n{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
