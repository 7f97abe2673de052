//! containerd with a `hosts.toml` that names the daemon as a mirror.

use super::{COMMAND_LIMIT, PULL_LIMIT};
use crate::REGISTRY;
use crate::machine::Machine;
use crate::mounts::unmount_below;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::netns::Namespace;
use support::poll;
use support::process::{Program, Spec, run};

/// A running containerd. Dropping it ends it.
#[derive(Debug)]
pub struct Containerd {
    program: Program,
    namespace: PathBuf,
    dir: PathBuf,
}

impl Containerd {
    /// Starts it on `host`: [`REGISTRY`] is at `server`, with a mirror at `mirror` (both `http://host:port`).
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(host: &Namespace, dir: &Path, mirror: &str, server: &str) -> Result<Self> {
        let hosts =
            format!("server = {server:?}\n\n[host.{mirror:?}]\n  capabilities = [\"pull\", \"resolve\"]\n");
        let config = configuration(dir, &["io.containerd.grpc.v1.cri"]);
        Self::start_with(host, dir, &hosts, &config)
    }

    /// The same with the CRI, for which `server` is `https://host:port` with a certificate of the authority in the file
    /// `ca`. The authority is trusted for tokens too, wherever the mirror says that they are.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_with_cri(
        host: &Namespace,
        dir: &Path,
        mirror: &str,
        server: &str,
        ca: &Path,
    ) -> Result<Self> {
        let hosts = format!(
            "server = {server:?}\nca = {ca:?}\n\n\
             [host.{mirror:?}]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = {ca:?}\n"
        );
        Self::start_with(host, dir, &hosts, &(configuration(dir, &[]) + &cri(dir) + &registries(dir)))
    }

    fn start_with(host: &Namespace, dir: &Path, hosts: &str, configuration: &str) -> Result<Self> {
        let certs = dir.join("certs.d").join(REGISTRY);
        std::fs::create_dir_all(&certs)?;
        std::fs::write(certs.join("hosts.toml"), hosts)?;
        let config = dir.join("config.toml");
        std::fs::write(&config, configuration)?;
        let spec = Spec::new("containerd", "containerd", dir).arg("--config").arg(&config);
        Self::run_in(&spec.in_namespace(host.path()), host.path(), dir)
    }

    /// Starts it on a machine as it is configured there; its directories and sockets are below `dir`, as in
    /// [`own_configuration`](Self::own_configuration).
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_on(machine: &Machine, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        Self::run_in(
            &machine.inside(Spec::new("containerd", "containerd", dir)),
            machine.network().to_owned(),
            dir,
        )
    }

    /// A configuration with the CRI that has no registries.
    #[must_use]
    pub fn own_configuration(dir: &Path) -> String {
        configuration(dir, &[]) + &cri(dir)
    }

    fn run_in(spec: &Spec, namespace: PathBuf, dir: &Path) -> Result<Self> {
        let program = Program::start(spec)?;
        let mut containerd = Self { program, namespace, dir: dir.to_owned() };
        let ready = poll::until("containerd", COMMAND_LIMIT, || {
            containerd.program.check_running()?;
            Ok(run(&mut containerd.ctr(["version"]), COMMAND_LIMIT).ok())
        });
        ready.with_context(|| containerd.program.log_tail())?;
        Ok(containerd)
    }

    /// Where its services are.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    /// A name as `ctr` wants it.
    #[must_use]
    pub fn reference(repository: &str, tag: &str) -> String {
        format!("{REGISTRY}/{repository}:{tag}")
    }

    /// Pulls and unpacks an image; its digest.
    ///
    /// # Errors
    /// If the pull fails.
    pub fn pull(&self, reference: &str) -> Result<String> {
        let certs = self.dir.join("certs.d").display().to_string();
        run(&mut self.ctr(["images", "pull", "--hosts-dir", &certs, reference]), PULL_LIMIT)?;
        let list = run(&mut self.ctr(["images", "list", &format!("name=={reference}")]), COMMAND_LIMIT)?;
        let digest = list.split_whitespace().find(|word| word.starts_with("sha256:"));
        Ok(digest.with_context(|| format!("no digest in {list:?}"))?.to_owned())
    }

    /// Runs a container of a pulled image to its end; what it printed.
    ///
    /// # Errors
    /// If it does not run, or fails.
    pub fn run(&self, reference: &str, command: &[&str]) -> Result<String> {
        let fixed = ["run", "--rm", reference, "test"];
        run(&mut self.ctr(fixed.into_iter().chain(command.iter().copied())), COMMAND_LIMIT)
    }

    fn ctr<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        // The namespace is the container's too: ctr gives it the host's network, which is the caller's.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display()));
        command.arg("ctr").arg("--address").arg(self.socket()).args(args);
        command
    }
}

/// Its directories and sockets are its own; what is not needed, or `unwanted`, is not loaded.
fn configuration(dir: &Path, unwanted: &[&str]) -> String {
    let snapshotters =
        ["aufs", "btrfs", "zfs", "devmapper"].map(|name| format!("io.containerd.snapshotter.v1.{name}"));
    let mut disabled = snapshotters.to_vec();
    disabled.push("io.containerd.internal.v1.opt".to_owned());
    disabled.extend(unwanted.iter().map(|name| (*name).to_owned()));
    let dir = dir.display();
    format!(
        "version = 2\n\
         root = \"{dir}/root\"\n\
         state = \"{dir}/state\"\n\
         disabled_plugins = {disabled:?}\n\
         [grpc]\n\
         address = \"{dir}/containerd.sock\"\n\
         [ttrpc]\n\
         address = \"{dir}/containerd.sock.ttrpc\"\n"
    )
}

const CRI: &str = "plugins.\"io.containerd.grpc.v1.cri\"";

/// The registries' `hosts.toml`, for the CRI.
fn registries(dir: &Path) -> String {
    format!("[{CRI}.registry]\nconfig_path = \"{}/certs.d\"\n", dir.display())
}

/// The CRI. Images need no network of pods, and it starts without one.
fn cri(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "[{CRI}]\n\
         restrict_oom_score_adj = true\n\
         [{CRI}.cni]\n\
         bin_dir = \"{dir}/cni/bin\"\n\
         conf_dir = \"{dir}/cni/conf\"\n"
    )
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the log of containerd ends with\n{}", self.program.log_tail());
        }
        self.program.stop();
        unmount_below(&self.dir);
    }
}
