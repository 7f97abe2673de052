//! Debian packages that tests need: looked for, and installed where that is possible.

use crate::process::run;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The limit for installing.
const INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// The limit for asking what is installed.
const QUERY_LIMIT: Duration = Duration::from_secs(20);

/// Installs those of `packages` that are missing, saying so on standard error.
///
/// # Errors
/// If there is no dpkg, or something is missing and cannot be installed.
pub fn ensure_installed(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {}", missing.join(" "));
    let mut update = Command::new("apt-get");
    run(update.args(["update", "-qq"]), INSTALL_LIMIT)?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").args([
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
    ]);
    run(install.args(missing), INSTALL_LIMIT)?;
    Ok(())
}

/// Whether dpkg knows `package` as installed.
#[must_use]
pub fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${Status}", package]);
    run(&mut query, QUERY_LIMIT).is_ok_and(|status| status == "install ok installed")
}

/// Downloads `packages` into `dir`; the file of each, in the same order. What is there already is kept.
///
/// # Errors
/// If one cannot be downloaded.
pub fn download(packages: &[&str], dir: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir)?;
    let find = |package: &str| -> Option<PathBuf> {
        let start = format!("{package}_");
        let entries = std::fs::read_dir(dir).ok()?.flatten();
        let mut found: Vec<PathBuf> = entries
            .filter(|entry| {
                entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| name.starts_with(&start) && name.ends_with(".deb"))
            })
            .map(|entry| entry.path())
            .collect();
        found.sort();
        found.pop()
    };
    let missing: Vec<&str> = packages.iter().copied().filter(|package| find(package).is_none()).collect();
    if !missing.is_empty() {
        let mut download = Command::new("apt-get");
        download.args(["-o", "APT::Sandbox::User=root", "download", "-qq"]).args(missing).current_dir(dir);
        if run(&mut download, INSTALL_LIMIT).is_err() {
            // The lists may be missing, or older than what the archive has.
            run(Command::new("apt-get").args(["update", "-qq"]), INSTALL_LIMIT)?;
            run(&mut download, INSTALL_LIMIT)?;
        }
    }
    packages.iter().map(|package| find(package).with_context(|| format!("no file of {package}"))).collect()
}
