//! dockerd with the daemon as its registry mirror, which it uses for Docker Hub's names only.

use super::{COMMAND_LIMIT, PULL_LIMIT};
use crate::machine::Machine;
use crate::mounts::unmount_below;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::netns::Namespace;
use support::poll;
use support::process::{Program, Spec, run};

/// A running dockerd. Dropping it ends it.
#[derive(Debug)]
pub struct Dockerd {
    program: Program,
    namespace: PathBuf,
    dir: PathBuf,
}

impl Dockerd {
    /// Starts it on `host` with a mirror at `mirror` (`http://host:port`). It has no way to Docker Hub itself.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(host: &Namespace, dir: &Path, mirror: &str) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut config = Self::own_configuration(dir);
        config["registry-mirrors"] = serde_json::json!([mirror]);
        let file = dir.join("daemon.json");
        std::fs::write(&file, config.to_string())?;
        let spec = Spec::new("dockerd", "dockerd", dir).arg("--config-file").arg(&file);
        Self::run_in(&spec.in_namespace(host.path()), host.path(), dir)
    }

    /// Starts it on a machine as it is configured there; its directories and sockets are below `dir`, as in
    /// [`own_configuration`](Self::own_configuration).
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_on(machine: &Machine, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        Self::run_in(&machine.inside(Spec::new("dockerd", "dockerd", dir)), machine.network().to_owned(), dir)
    }

    /// A configuration without mirrors.
    #[must_use]
    pub fn own_configuration(dir: &Path) -> serde_json::Value {
        serde_json::json!({
            "data-root": dir.join("root"),
            "exec-root": dir.join("exec"),
            "pidfile": dir.join("pid"),
            "hosts": [format!("unix://{}", socket(dir))],
            "storage-driver": "overlay2",
            "bridge": "none",
            "iptables": false,
            "ip6tables": false,
            "ip-forward": false,
            "userland-proxy": false,
        })
    }

    fn run_in(spec: &Spec, namespace: PathBuf, dir: &Path) -> Result<Self> {
        let program = Program::start(spec)?;
        let mut dockerd = Self { program, namespace, dir: dir.to_owned() };
        let ready = poll::until("dockerd", COMMAND_LIMIT, || {
            dockerd.program.check_running()?;
            Ok(run(&mut dockerd.docker(&["version"]), COMMAND_LIMIT).ok())
        });
        ready.with_context(|| dockerd.program.log_tail())?;
        Ok(dockerd)
    }

    /// Pulls an image; its digest.
    ///
    /// # Errors
    /// If the pull fails.
    pub fn pull(&self, reference: &str) -> Result<String> {
        run(&mut self.docker(&["pull", "--quiet", reference]), PULL_LIMIT)?;
        let format = "{{index .RepoDigests 0}}";
        let digest =
            run(&mut self.docker(&["image", "inspect", "--format", format, reference]), COMMAND_LIMIT)?;
        Ok(digest.trim().split_once('@').context("no digest")?.1.to_owned())
    }

    /// Runs a container of a pulled image to its end; what it printed.
    ///
    /// # Errors
    /// If it does not run, or fails.
    pub fn run(&self, reference: &str, command: &[&str]) -> Result<String> {
        let args = [&["run", "--rm", "--network", "host", reference], command].concat();
        run(&mut self.docker(&args), COMMAND_LIMIT)
    }

    /// The version that it says it is.
    ///
    /// # Errors
    /// If it does not say.
    pub fn version(&self) -> Result<String> {
        Ok(run(&mut self.docker(&["version", "--format", "{{.Server.Version}}"]), COMMAND_LIMIT)?
            .trim()
            .to_owned())
    }

    fn docker(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display()));
        command.arg("docker").arg("--host").arg(format!("unix://{}", socket(&self.dir))).args(args);
        command
    }
}

fn socket(dir: &Path) -> String {
    dir.join("docker.sock").display().to_string()
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the log of dockerd ends with\n{}", self.program.log_tail());
        }
        self.program.stop();
        unmount_below(&self.dir);
    }
}
