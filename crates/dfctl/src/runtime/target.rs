//! What is put into one file of a runtime's, and taken out of it again, whatever else stands in it.

use super::edit::Edit;
use super::{config_toml, daemon_json, hosts_toml, registries_conf};
use crate::machine::Refusal;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a runtime needs in which file, and what is to be said about it.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) targets: Vec<(PathBuf, Target)>,
    pub(super) notes: Vec<String>,
}

/// What is put into a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Target {
    /// A mirror before all others in a `hosts.toml` of containerd's.
    HostsToml {
        /// Its URL.
        mirror: String,
    },
    /// `config_path` in containerd's configuration.
    ConfigToml {
        /// The table that it stands in, from the outermost.
        table: Vec<String>,
        /// The directory.
        config_path: String,
    },
    /// A file of `registries.conf.d` that is all ours.
    RegistriesConf {
        /// `HOST:PORT` of the mirror.
        mirror: String,
        /// The registries that it mirrors.
        registries: Vec<String>,
    },
    /// A mirror before all others in dockerd's configuration.
    DaemonJson {
        /// Its URL.
        mirror: String,
    },
}

/// A text with what was wanted in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It stands there, though not by our doing.
    Already,
    /// It was put there.
    Done(String, Edit),
}

impl Target {
    /// Puts it into a file's text; `None` is no file.
    pub(super) fn put(&self, text: Option<&str>) -> Result<Put, Refusal> {
        match self {
            Self::HostsToml { mirror } => hosts_toml::put(text, mirror),
            Self::ConfigToml { table, config_path } => config_toml::put(text, table, config_path),
            Self::RegistriesConf { mirror, registries } => registries_conf::put(text, mirror, registries),
            Self::DaemonJson { mirror } => daemon_json::put(text, mirror),
        }
    }

    /// Takes it out of a text that others have changed since; the text as it is if it is not in there.
    pub(super) fn take_out(&self, text: &str, edit: &Edit) -> Result<String, Refusal> {
        if text.trim().is_empty() {
            return Ok(text.to_owned());
        }
        let sound = |text: &str| match self {
            Self::DaemonJson { .. } => daemon_json::parse(text).is_ok(),
            _ => text.parse::<toml_edit::Document<String>>().is_ok(),
        };
        // As it was put in it comes out again exactly; a text that makes no sense, before or after, is not ours to repair.
        if let Some(without) = edit.undo(text).filter(|without| without.trim().is_empty() || sound(without)) {
            return Ok(without);
        }
        match self {
            Self::HostsToml { mirror } => hosts_toml::take_out(text, mirror),
            Self::ConfigToml { table, config_path } => {
                config_toml::take_out(text, table, config_path, &edit.replaced)
            }
            Self::RegistriesConf { mirror, .. } => registries_conf::take_out(text, mirror),
            Self::DaemonJson { mirror } => daemon_json::take_out(text, mirror),
        }
    }
}
