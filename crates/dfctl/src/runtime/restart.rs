//! Having a runtime read its configuration again: only where it must, and only when told.

use super::Runtime;
use super::files::Files;
use super::plan::Change;
use super::{containerd, daemon_json};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// How long a service may take to start again.
const LIMIT: Duration = Duration::from_secs(90);

/// Present while systemd runs the machine.
const SYSTEMD: &str = "/run/systemd/system";

/// What makes a service read its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Again {
    /// A new start. Containers go on.
    Restart(&'static str),
    /// A signal.
    Reload(&'static str),
}

impl Again {
    /// What these changes need to be in force.
    pub(super) fn after(files: &Files, runtime: Runtime, changes: &[Change]) -> Option<Self> {
        let changed = |path: &str| changes.iter().any(|change| change.path == Path::new(path));
        match runtime {
            Runtime::Containerd => changed(containerd::CONFIG).then_some(Self::Restart("containerd")),
            Runtime::Docker => changed(daemon_json::CONFIG).then_some(Self::Reload("docker")),
            // podman and its kin read their files at each pull.
            Runtime::Containers => {
                let crio = ["/etc/crio", "/usr/bin/crio"].iter().any(|path| files.exists(Path::new(path)));
                (crio && !changes.is_empty()).then_some(Self::Reload("crio"))
            }
        }
    }

    /// As an operator would type it.
    pub(super) fn command(self) -> String {
        let (verb, service) = self.words();
        format!("systemctl {verb} {service}")
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Restart(service) => ("restart", service),
            Self::Reload(service) => ("reload", service),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// Why not, for the operator.
    pub(super) async fn run(self, files: &Files) -> Result<(), String> {
        if !files.of_this_machine() {
            return Err("the service belongs to another root; it cannot be told from here".to_owned());
        }
        if !files.exists(Path::new(SYSTEMD)) {
            return match self {
                Self::Reload("docker") => reload_docker(files),
                _ => {
                    Err(format!("systemd does not run here: instead of `{}`, do it by hand", self.command()))
                }
            };
        }
        let (verb, service) = self.words();
        let mut command = tokio::process::Command::new("systemctl");
        command.args([verb, service]).stdin(Stdio::null()).kill_on_drop(true);
        match tokio::time::timeout(LIMIT, command.output()).await {
            Err(_) => Err(format!("`{}` took longer than {} s", self.command(), LIMIT.as_secs())),
            Ok(Err(error)) => Err(format!("`{}`: {error}", self.command())),
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => {
                let why = String::from_utf8_lossy(&output.stderr);
                Err(format!("`{}` failed ({}): {}", self.command(), output.status, why.trim()))
            }
        }
    }
}

/// dockerd takes new mirrors on SIGHUP.
fn reload_docker(files: &Files) -> Result<(), String> {
    let config = files.read(Path::new(daemon_json::CONFIG)).ok().flatten().unwrap_or_default();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap_or_default();
    let file = config["pidfile"].as_str().unwrap_or("/run/docker.pid").to_owned();
    let text = std::fs::read_to_string(&file).map_err(|error| format!("dockerd's {file}: {error}"))?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw).ok_or_else(|| format!("{file} has no pid"))?;
    let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
    if name.trim() != "dockerd" {
        return Err(format!("{file} names process {}, which is no dockerd", pid.as_raw_nonzero()));
    }
    kill_process(pid, Signal::HUP).map_err(|error| format!("dockerd, {}: {error}", pid.as_raw_nonzero()))
}
