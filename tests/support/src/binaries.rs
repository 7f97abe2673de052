//! Damselfly's own programs, built once for those who start them.

use anyhow::{Context, Result, ensure};
use cargo_metadata::Message;
use std::ffi::OsString;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The directory with programs that are built already; where it is set, nothing is built.
pub const BIN_DIR_VARIABLE: &str = "DAMSELFLY_BIN_DIR";

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The scheduler.
    pub scheduler: PathBuf,
    /// The node's daemon.
    pub dfdaemon: PathBuf,
    /// The operator's command line.
    pub dfctl: PathBuf,
}

/// How the programs are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// With assertions.
    Dev,
    /// For measurements.
    Release,
}

impl Profile {
    /// That of the caller itself.
    #[must_use]
    pub const fn of_caller() -> Self {
        if cfg!(debug_assertions) { Self::Dev } else { Self::Release }
    }
}

/// A build of the workspace that is yet to be told what to build.
fn cargo_build(profile: Profile) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Without packages, so that the whole workspace decides on features, as it did for the caller: `cargo demo`.
    command.args(["build", "--locked", "--message-format=json-render-diagnostics"]);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    // `cargo run` describes the caller's package in them; ring's build script would take that for a change.
    let of_package = |name: &OsString| {
        name.to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
    };
    for name in std::env::vars_os().map(|(name, _)| name).filter(of_package) {
        command.env_remove(name);
    }
    if profile == Profile::Release {
        command.arg("--release");
    }
    command
}

/// Runs a build; the programs that it made, by name.
fn executables(mut command: Command) -> Result<Vec<(String, PathBuf)>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cargo")?;
    let output = BufReader::new(child.stdout.take().context("no pipe")?);
    let mut built = Vec::new();
    for message in Message::parse_stream(output) {
        if let Message::CompilerArtifact(artifact) = message?
            && let Some(path) = artifact.executable
        {
            built.push((artifact.target.name, path.into_std_path_buf()));
        }
    }
    ensure!(child.wait()?.success(), "the programs do not build");
    Ok(built)
}

impl Binaries {
    /// Builds the three programs, or takes them from [`BIN_DIR_VARIABLE`]. Cargo's own messages go to standard error.
    ///
    /// # Errors
    /// If they do not build.
    pub fn build(profile: Profile) -> Result<Self> {
        if let Some(dir) = std::env::var_os(BIN_DIR_VARIABLE).map(PathBuf::from) {
            return Self::find(|name| Some(dir.join(name)).filter(|path| path.exists()));
        }
        let mut command = cargo_build(profile);
        command.args(["--bin", "scheduler", "--bin", "dfdaemon", "--bin", "dfctl"]);
        let built = executables(command)?;
        Self::find(|name| built.iter().find(|(built, _)| built == name).map(|(_, path)| path.clone()))
    }

    /// The same programs, but for a daemon whose bulk connections are not secured, to be compared with the real one:
    /// `dfdaemon-plain-bulk`.
    ///
    /// # Errors
    /// If it does not build.
    pub fn with_plain_bulk(&self, profile: Profile) -> Result<Self> {
        const NAME: &str = "dfdaemon-plain-bulk";
        if let Some(dir) = std::env::var_os(BIN_DIR_VARIABLE).map(PathBuf::from) {
            return Ok(Self { dfdaemon: dir.join(NAME), ..self.clone() });
        }
        let mut command = cargo_build(profile);
        command.args(["--bin", NAME, "--features", "dfdaemon/insecure-plain-bulk"]);
        command.env("DAMSELFLY_MEASURES_PLAIN_BULK", "yes");
        let built = executables(command)?;
        let (_, dfdaemon) =
            built.into_iter().find(|(name, _)| name == NAME).context("no daemon was built")?;
        Ok(Self { dfdaemon, ..self.clone() })
    }

    fn find(path_of: impl Fn(&str) -> Option<PathBuf>) -> Result<Self> {
        let find = |name: &str| path_of(name).with_context(|| format!("no program called {name}"));
        Ok(Self { scheduler: find("scheduler")?, dfdaemon: find("dfdaemon")?, dfctl: find("dfctl")? })
    }
}
