//! podman and skopeo, which share a library and so their `registries.conf`, with the daemon as a mirror.
//!
//! They send no `?ns=`: the registry's name stands in the mirror's location.

use super::{COMMAND_LIMIT, PULL_LIMIT};
use crate::REGISTRY;
use crate::machine::Machine;
use crate::mounts::unmount_below;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::netns::Namespace;
use support::process::run;

/// podman's and skopeo's configuration and storage on one host.
#[derive(Debug)]
pub struct Containers {
    namespace: PathBuf,
    dir: PathBuf,
    ca: Option<PathBuf>,
    /// The mount namespace of a machine whose `registries.conf` they read; their own, if there is none.
    mounts: Option<PathBuf>,
}

impl Containers {
    /// Configures both on `host` to use the mirror at `mirror` (`host:port`, plain HTTP), and the registry at `server`
    /// if that fails.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn new(host: &Namespace, dir: &Path, mirror: &str, server: &str) -> Result<Self> {
        Self::configure(host, dir, mirror, server, None)
    }

    /// The same for a registry with a certificate of the authority in the file `ca`, which the whole host trusts.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn with_ca(host: &Namespace, dir: &Path, mirror: &str, server: &str, ca: &Path) -> Result<Self> {
        Self::configure(host, dir, mirror, server, Some(ca.to_owned()))
    }

    fn configure(
        host: &Namespace,
        dir: &Path,
        mirror: &str,
        server: &str,
        ca: Option<PathBuf>,
    ) -> Result<Self> {
        let containers = Self { namespace: host.path(), dir: dir.to_owned(), ca, mounts: None };
        containers.prepare()?;
        let insecure = containers.ca.is_none();
        let registries = format!(
            "unqualified-search-registries = []\n\
             [[registry]]\nprefix = {REGISTRY:?}\nlocation = {server:?}\ninsecure = {insecure}\n\
             [[registry.mirror]]\nlocation = \"{mirror}/{REGISTRY}\"\ninsecure = true\n"
        );
        std::fs::write(dir.join("registries.conf"), registries)?;
        Ok(containers)
    }

    /// On a machine, with its `registries.conf`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn on(machine: &Machine, dir: &Path) -> Result<Self> {
        let (namespace, mounts) = (machine.network().to_owned(), Some(machine.mounts()));
        let containers = Self { namespace, dir: dir.to_owned(), ca: None, mounts };
        containers.prepare()?;
        Ok(containers)
    }

    /// All but the registries.
    fn prepare(&self) -> Result<()> {
        let dir = &self.dir;
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("policy.json"), "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}")?;
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/root\"\nrunroot = \"{0}/run\"\n",
            dir.display()
        );
        std::fs::write(dir.join("storage.conf"), storage)?;
        let containers =
            "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"runc\"\n";
        std::fs::write(dir.join("containers.conf"), containers)?;
        // Nobody is logged in, whatever the machine's own user is.
        std::fs::write(dir.join("auth.json"), "{}")?;
        Ok(())
    }

    /// Pulls with podman; the image's digest.
    ///
    /// # Errors
    /// If the pull fails.
    pub fn podman_pull(&self, repository: &str, tag: &str) -> Result<String> {
        let reference = format!("{REGISTRY}/{repository}:{tag}");
        let policy = self.dir.join("policy.json").display().to_string();
        run(
            &mut self.command("podman", &["pull", "--quiet", "--signature-policy", &policy, &reference]),
            PULL_LIMIT,
        )?;
        let mut inspect =
            self.command("podman", &["image", "inspect", "--format", "{{.Digest}}", &reference]);
        Ok(run(&mut inspect, COMMAND_LIMIT)?.trim().to_owned())
    }

    /// Copies with skopeo into an OCI layout; the image's digest.
    ///
    /// # Errors
    /// If the copy fails.
    pub fn skopeo_copy(&self, repository: &str, tag: &str) -> Result<String> {
        let layout = self.dir.join("layout");
        let source = format!("docker://{REGISTRY}/{repository}:{tag}");
        let target = format!("oci:{}:{tag}", layout.display());
        let registries = self.dir.join("registries.conf").display().to_string();
        let args =
            ["--registries-conf", &registries, "--insecure-policy", "copy", "--quiet", &source, &target];
        run(&mut self.command("skopeo", &args), PULL_LIMIT)?;
        let index: serde_json::Value = serde_json::from_slice(&std::fs::read(layout.join("index.json"))?)?;
        Ok(index["manifests"][0]["digest"].as_str().context("index.json without a digest")?.to_owned())
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display()));
        match &self.mounts {
            Some(mounts) => drop(command.arg(format!("--mount={}", mounts.display()))),
            None => drop(command.env("CONTAINERS_REGISTRIES_CONF", self.dir.join("registries.conf"))),
        }
        command.arg(program).args(args);
        command.env("CONTAINERS_STORAGE_CONF", self.dir.join("storage.conf"));
        command.env("CONTAINERS_CONF", self.dir.join("containers.conf"));
        command.env("REGISTRY_AUTH_FILE", self.dir.join("auth.json"));
        command.envs(self.ca.iter().map(|ca| ("SSL_CERT_FILE", ca)));
        command
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        unmount_below(&self.dir);
    }
}
