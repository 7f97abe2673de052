//! The command line of `dfctl service`.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A program that systemd runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Service {
    /// The daemon of a node.
    Dfdaemon,
    /// The scheduler of a cluster.
    #[value(alias = "damselfly-scheduler")]
    Scheduler,
}

/// Where the machine is.
#[derive(Clone, Debug, clap::Args)]
pub struct Machine {
    /// Where the machine's root directory is: of an image that is built, or in a container, where it is mounted.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub(super) root: PathBuf,
}

/// What to do with services.
#[derive(Debug, clap::Subcommand)]
pub enum ServiceCommand {
    /// Put the unit, the programs and the settings where systemd takes them; what others wrote stays.
    Install(Install),
    /// Take them away again: the files are as they were before, with what others changed since.
    Uninstall(Uninstall),
    /// Show which services are there, and what belongs to them.
    Status,
}

/// What is to be there.
#[derive(Debug, clap::Args)]
pub struct Install {
    /// Which.
    #[arg(value_name = "SERVICE", default_value = "dfdaemon")]
    pub(super) services: Vec<Service>,
    /// A directory with the programs as they were built, which are copied to /usr/bin [default: they are there].
    #[arg(long, value_name = "DIR")]
    pub(super) from: Option<PathBuf>,
    /// A file with TOKEN@HOST:PORT, which only its owner may read: the daemon joins that scheduler's cluster.
    #[arg(long, value_name = "FILE")]
    pub(super) join_file: Option<PathBuf>,
    /// Flags for the program, as in '--listen 10.0.0.1:6510'; no secrets: other users see a command line.
    #[arg(long, value_name = "FLAGS", value_parser = flags, allow_hyphen_values = true)]
    pub(super) flags: Option<String>,
    /// Show what would change, without secrets, and change nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Have systemd start it, now and whenever the machine starts.
    #[arg(long)]
    pub(super) start: bool,
}

/// What is to be gone.
#[derive(Debug, clap::Args)]
pub struct Uninstall {
    /// Which.
    #[arg(value_name = "SERVICE", default_value = "dfdaemon")]
    pub(super) services: Vec<Service>,
    /// Show what would change, without secrets, and change nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Have systemd stop it before.
    #[arg(long)]
    pub(super) stop: bool,
    /// Remove what it kept too: the daemon's cache, or the scheduler's keys and tokens.
    #[arg(long)]
    pub(super) purge: bool,
}

/// Flags as they can stand in a file of systemd's without quotes.
fn flags(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(|c| c.is_control() || ['"', '\'', '\\'].contains(&c)) {
        return Err(
            "flags are one line without quotes and backslashes; others go into a file (--config)".to_owned()
        );
    }
    for flag in ["--join", "--join-file"] {
        let is_it =
            |word: &str| word.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
        if text.split_whitespace().any(is_it) {
            return Err(format!(
                "{flag} does not go into the flags: other users see them, and the service cannot read root's files; \
                 `dfctl service install --join-file FILE` takes what a daemon joins by"
            ));
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_systemd_takes_as_they_are() {
        assert_eq!(flags(" --listen 10.0.0.1:6510 ").as_deref(), Ok("--listen 10.0.0.1:6510"));
        assert!(flags("--join-files x").is_ok());
        for text in [
            "",
            " ",
            "--zone 'a b'",
            "--zone \"a\"",
            "--zone a\\",
            "--a\n--b",
            "--join T@h:1",
            "--join=T@h:1",
            "--zone a --join-file /etc/damselfly/join",
            "--join-file=/etc/damselfly/join",
        ] {
            let why = flags(text).unwrap_err();
            assert!(!text.contains("--join") || why.contains("install --join-file FILE"), "{text}: {why}");
        }
    }
}
