//! The configuration read again while the program runs: SIGHUP asks for it.
//!
//! What can change does; for the rest the program goes on as it was started, and says so.

use crate::config::Document;
use crate::exit::{Exit, Failure};
use crate::telemetry::Level;
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A configuration, and the file that it came from, if there is one.
pub type Loaded<C> = (C, Option<Document>);

/// Reads the configuration again whenever SIGHUP asks for it.
pub struct Reloader<C> {
    load: Arc<dyn Fn() -> Result<Loaded<C>, Failure> + Send + Sync>,
    /// What of it is the filter of the log.
    filter: fn(&C) -> &str,
    level: Level,
    /// None at a terminal, where SIGHUP says that it is closed, and ends the program as it ends others.
    hangups: Option<Signal>,
    changes: Watch,
    config: C,
}

impl<C: fmt::Debug> fmt::Debug for Reloader<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<C: Clone + Send + 'static> Reloader<C> {
    /// Listens for SIGHUP from now on, unless standard input is a terminal. The program was started with `loaded`, and `load`
    /// makes the same of flags and file. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the signal cannot be listened for.
    pub fn new(
        (config, document): Loaded<C>,
        load: impl Fn() -> Result<Loaded<C>, Failure> + Send + Sync + 'static,
        (filter, level): (fn(&C) -> &str, Level),
    ) -> io::Result<Self> {
        let terminal = io::stdin().is_terminal();
        let hangups = if terminal { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { load: Arc::new(load), filter, level, hangups, changes: Watch::new(document), config })
    }

    /// Waits until somebody asks. Cancel safe.
    pub async fn asked(&mut self) {
        let heard = match &mut self.hangups {
            Some(hangups) => hangups.recv().await,
            None => None,
        };
        if heard.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Reads the configuration, checks it as at the start, and logs by its filter from now on. Nothing if there is a
    /// mistake in it, which is told: then everything stays as it was.
    pub async fn read(&mut self) -> Option<Loaded<C>> {
        let load = Arc::clone(&self.load);
        // It reads files, and may look up names.
        let read = tokio::task::spawn_blocking(move || load()).await;
        let read = read.map_err(|error| Failure::new(Exit::Bug, error)).flatten();
        let set = read.and_then(|loaded| {
            self.level.set((self.filter)(&loaded.0))?;
            Ok(loaded)
        });
        set.inspect_err(|error| {
            tracing::error!(%error, "the configuration cannot be used; everything stays as it was");
        })
        .ok()
    }

    /// Says what has become of each change in the file. `live` are the keys that were taken over, with what says whether
    /// two configurations have the same value for it.
    pub fn adopted(&mut self, (config, document): Loaded<C>, live: &[Live<C>]) {
        if document.is_none() {
            tracing::warn!(
                "there is no configuration file to read again: flags and variables are read at the start only"
            );
            return;
        }
        let keys: Vec<&str> = live.iter().map(|live| live.key).collect();
        let kept = live.iter().filter(|live| (live.same)(&self.config, &config)).map(|live| live.key);
        self.changes.differences(document, &keys).tell(&kept.collect::<Vec<_>>());
        self.config = config;
    }
}

/// A key that a running program takes over.
#[derive(Clone, Copy, Debug)]
pub struct Live<C> {
    /// As in `log.filter`.
    pub key: &'static str,
    /// Whether two configurations have the same value for it.
    pub same: fn(&C, &C) -> bool,
}

/// What a program was told at its start, and last.
#[derive(Debug)]
struct Watch {
    started: Option<Document>,
    last: Option<Document>,
}

/// What another configuration means for a program that runs, key by key.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    /// Can be taken over now.
    now: Vec<String>,
    /// Are taken over at the next start.
    at_start: Vec<String>,
}

impl Watch {
    fn new(started: Option<Document>) -> Self {
        Self { last: started.clone(), started }
    }

    /// The file is this now. `live` are the keys that a running program can take over.
    fn differences(&mut self, now: Option<Document>, live: &[&str]) -> Changes {
        let is_live = |key: &String| live.contains(&key.as_str());
        let keys = |before: &Option<Document>| Document::differences(before.as_ref(), now.as_ref());
        let changes = Changes {
            now: keys(&self.last).into_iter().filter(is_live).collect(),
            at_start: keys(&self.started).into_iter().filter(|key| !is_live(key)).collect(),
        };
        self.last = now;
        changes
    }
}

impl Changes {
    /// Says what has become of them; `kept` are keys of [`Self::now`] whose values are those that were in force before.
    fn tell(&self, kept: &[&str]) {
        let (kept, applied): (Vec<_>, Vec<_>) =
            self.now.iter().map(String::as_str).partition(|key| kept.contains(key));
        tracing::info!(applied = applied.join(" "), "the configuration was read again");
        if !kept.is_empty() {
            let why = "these keys leave the value in force as it is: a flag gives it, or they mean the same as before";
            tracing::warn!(keys = kept.join(" "), "{why}");
        }
        if !self.at_start.is_empty() {
            tracing::warn!(
                keys = self.at_start.join(" "),
                "these keys are taken over at the next start only"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Option<Document> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.toml");
        std::fs::write(&path, text).unwrap();
        Some(Document::read(&path).unwrap())
    }

    #[test]
    fn each_change_is_told_once_and_what_waits_for_a_start_each_time() {
        let live = ["log.filter", "p2p.rate"];
        let mut watch = Watch::new(document("[log]\nfilter = 'info'\n[proxy]\nlisten = 'a'"));
        let changes = |now: &[&str], at_start: &[&str]| Changes {
            now: now.iter().map(|key| (*key).to_owned()).collect(),
            at_start: at_start.iter().map(|key| (*key).to_owned()).collect(),
        };
        let first = "[log]\nfilter = 'debug'\n[proxy]\nlisten = 'b'\n[origin.registries.'r:1']\nca = 'x'";
        let waits = ["origin.registries.r:1.ca", "proxy.listen"];
        assert_eq!(watch.differences(document(first), &live), changes(&["log.filter"], &waits));
        assert_eq!(watch.differences(document(first), &live), changes(&[], &waits));
        // As it was, and a key that was not there.
        let second = "[log]\nfilter = 'info'\n[proxy]\nlisten = 'a'\n[p2p]\nrate = 1";
        assert_eq!(watch.differences(document(second), &live), changes(&["log.filter", "p2p.rate"], &[]));
        assert_eq!(watch.differences(None, &live), changes(&["log.filter", "p2p.rate"], &["proxy.listen"]));
    }
}
