//! Having a runtime read its configuration again: only where it must, and only when told.

use super::Runtime;
use super::{containerd, daemon_json};
use crate::machine::{Change, Files, systemd};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;

/// Whether these changes are in force only when a service has read its configuration again.
pub(super) fn needed(files: &Files, runtime: Runtime, changes: &[Change]) -> bool {
    let changed = |path: &str| changes.iter().any(|change| change.path == Path::new(path));
    match runtime {
        Runtime::Containerd => changed(containerd::CONFIG),
        Runtime::Docker => changed(daemon_json::CONFIG),
        // podman and its kin read their files at each pull.
        Runtime::Containers => {
            let crio = ["/etc/crio", "/usr/bin/crio"].iter().any(|path| files.exists(Path::new(path)));
            crio && !changes.is_empty()
        }
    }
}

/// What does that, and nothing where the service does not run: as an operator would type it.
pub(super) fn command(runtime: Runtime) -> String {
    let (verb, service) = words(runtime);
    systemd::line(&[verb, service])
}

/// Containers go on while containerd restarts.
const fn words(runtime: Runtime) -> (&'static str, &'static str) {
    match runtime {
        Runtime::Containerd => ("try-restart", "containerd"),
        Runtime::Containers => ("try-reload-or-restart", "crio"),
        Runtime::Docker => ("try-reload-or-restart", "docker"),
    }
}

/// Does it.
///
/// # Errors
/// Why not, for the operator.
pub(super) async fn run(files: &Files, runtime: Runtime) -> Result<(), String> {
    if !files.of_this_machine() {
        return Err("the service belongs to another root; it cannot be told from here".to_owned());
    }
    if !systemd::runs(files) {
        let line = command(runtime);
        return match runtime {
            Runtime::Docker => reload_docker(files),
            _ => Err(format!("systemd does not run here: instead of `{line}`, do it by hand")),
        };
    }
    let (verb, service) = words(runtime);
    systemd::call(&[verb, service]).await
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
