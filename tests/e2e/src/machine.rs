//! A host with files of its own: `/etc`, `/run` and `/var/lib` as a machine has them, for programs that look for their
//! configuration where it is by default. What is written there is written nowhere else.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::netns::Namespace;
use support::process::{Program, Spec};

/// How long it may take to mount a few directories.
const LIMIT: Duration = Duration::from_secs(20);

/// The machine's own `/etc` lies below the host's; the other two are empty, so that no service manager is met.
const SET_UP: &str = "mount -t overlay overlay -o lowerdir=/etc,upperdir=$0/etc,workdir=$0/work /etc && \
     mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && echo ready && exec sleep 3600";

/// A mount namespace on a host. Dropping it ends it, after what runs in it.
#[derive(Debug)]
pub struct Machine {
    holder: Program,
    network: PathBuf,
}

impl Machine {
    /// Makes one; the directory keeps its files.
    ///
    /// # Errors
    /// If something cannot be mounted.
    pub fn start(host: &Namespace, dir: &Path) -> Result<Self> {
        for name in ["etc", "work"] {
            std::fs::create_dir_all(dir.join(name))?;
        }
        let spec = Spec::new("machine", "unshare", dir)
            .args(["--mount", "--propagation", "private", "sh", "-c", SET_UP])
            .arg(dir)
            .in_namespace(host.path());
        let mut holder = Program::start(&spec)?;
        holder.wait_for_line(LIMIT, |line| (line == "ready").then_some(()))?;
        Ok(Self { holder, network: host.path() })
    }

    /// The file of its network namespace.
    #[must_use]
    pub fn network(&self) -> &Path {
        &self.network
    }

    /// The file of its mount namespace.
    #[must_use]
    pub fn mounts(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/mnt", self.holder.id()))
    }

    /// Has a program run on it.
    #[must_use]
    pub fn inside(&self, spec: Spec) -> Spec {
        spec.in_namespace(&self.network).in_mounts(self.mounts())
    }

    /// A command on it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network.display()));
        command.arg(format!("--mount={}", self.mounts().display())).arg(program);
        command
    }

    /// Where a file of the machine's is for others.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.holder.id()))
    }

    /// Has a file of the machine's have this text.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.file(path);
        std::fs::create_dir_all(file.parent().context("no directory")?)?;
        std::fs::write(&file, text).with_context(|| path.to_owned())
    }

    /// The text of a file of the machine's.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, path: &str) -> Result<String> {
        std::fs::read_to_string(self.file(path)).with_context(|| path.to_owned())
    }

    /// All directories and files below a directory of the machine's, with their modes and bytes.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn tree(&self, path: &str) -> Result<BTreeMap<PathBuf, (u32, Vec<u8>)>> {
        let mut tree = BTreeMap::new();
        let mut ahead = vec![self.file(path)];
        while let Some(dir) = ahead.pop() {
            for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
                let entry = entry?;
                let meta = entry.metadata()?;
                let mut bytes = Vec::new();
                if meta.is_dir() {
                    ahead.push(entry.path());
                } else if meta.is_file() {
                    bytes = std::fs::read(entry.path())?;
                }
                tree.insert(entry.path(), (meta.permissions().mode(), bytes));
            }
        }
        Ok(tree)
    }
}
