//! What systemd is told of services, worked out from what it has of them.

use super::Service;
use super::record::Record;
use crate::machine::{Files, systemd};
use std::collections::BTreeSet;

/// The words behind `systemctl`.
pub(super) type Call = Vec<String>;

/// What systemd has of some services.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Those that run.
    pub(super) active: BTreeSet<Service>,
    /// Those that are started with the machine.
    pub(super) enabled: BTreeSet<Service>,
}

impl Live {
    /// Whether it runs, or is started with the machine.
    pub(super) fn has(&self, service: Service) -> bool {
        self.active.contains(&service) || self.enabled.contains(&service)
    }
}

/// Those that are to be stopped before they are taken away: of what runs or is enabled what was installed by us, whatever
/// has become of its unit's file since.
pub(super) fn to_stop(services: &BTreeSet<Service>, record: &Record, live: &Live) -> BTreeSet<Service> {
    services.intersection(&record.services).copied().filter(|service| live.has(*service)).collect()
}

/// What stops them, and has them not started any more.
pub(super) fn stopping(services: &BTreeSet<Service>, files: &Files) -> Vec<Call> {
    // What has no unit's file cannot be disabled, and may run all the same.
    let (whole, bare): (Vec<Service>, Vec<Service>) =
        services.iter().copied().partition(|service| files.exists(&service.unit_path()));
    let mut calls = Vec::new();
    if !whole.is_empty() {
        calls.push(call(&["disable", "--now"], &whole));
    }
    if !bare.is_empty() {
        calls.push(call(&["stop"], &bare));
    }
    calls
}

/// What starts services, and starts those again that are `owed` that and run, or are to run.
pub(super) fn starting(owed: &BTreeSet<Service>, to_start: &BTreeSet<Service>, live: &Live) -> Vec<Call> {
    let mut calls = Vec::new();
    if !owed.is_empty() || !to_start.is_empty() {
        calls.push(call(&["daemon-reload"], &[]));
    }
    let again: Vec<Service> = owed.iter().copied().filter(|service| live.has(*service)).collect();
    if !again.is_empty() {
        calls.push(call(&["try-restart"], &again));
    }
    if !to_start.is_empty() {
        calls.push(call(&["enable", "--now"], &to_start.iter().copied().collect::<Vec<_>>()));
    }
    calls
}

/// Words, and the units of services behind them.
pub(super) fn call(words: &[&str], services: &[Service]) -> Call {
    words.iter().copied().chain(services.iter().map(|service| service.unit())).map(str::to_owned).collect()
}

/// As an operator would type it.
pub(super) fn line(call: &[String]) -> String {
    systemd::line(&call.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Has systemd do one after the other.
///
/// # Errors
/// Why one failed, for the operator.
pub(super) async fn command(calls: &[Call]) -> Result<(), String> {
    for call in calls {
        systemd::call(&call.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    }
    Ok(())
}

/// Whether it runs.
pub(super) async fn is_active(service: Service) -> bool {
    systemd::call(&["is-active", "--quiet", service.unit()]).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(calls: &[Call]) -> Vec<String> {
        calls.iter().map(|call| line(call)).collect()
    }

    #[test]
    fn what_runs_is_stopped_if_it_is_ours_and_its_unit_may_be_gone() {
        let all = BTreeSet::from(Service::ALL);
        let record = Record { services: BTreeSet::from([Service::Dfdaemon]), ..Record::default() };
        let live = Live { active: all.clone(), enabled: BTreeSet::new() };
        let ours = to_stop(&all, &record, &live);
        assert_eq!(ours, record.services, "the other one is not ours");
        assert!(to_stop(&all, &record, &Live::default()).is_empty());
        let root = tempfile::tempdir().unwrap();
        let files = Files::below(root.path()).unwrap();
        assert_eq!(lines(&stopping(&ours, &files)), ["systemctl stop dfdaemon.service"]);
        let unit = files.place(&Service::Dfdaemon.unit_path());
        std::fs::create_dir_all(unit.parent().unwrap()).unwrap();
        std::fs::write(unit, "").unwrap();
        assert_eq!(lines(&stopping(&ours, &files)), ["systemctl disable --now dfdaemon.service"]);
    }

    #[test]
    fn what_is_owed_a_restart_has_it_also_if_it_only_runs() {
        let (none, daemon) = (BTreeSet::new(), BTreeSet::from([Service::Dfdaemon]));
        let runs = Live { active: daemon.clone(), enabled: none.clone() };
        let enabled = Live { active: none.clone(), enabled: daemon.clone() };
        let (reload, again) = ("systemctl daemon-reload", "systemctl try-restart dfdaemon.service");
        let start = "systemctl enable --now dfdaemon.service";
        for live in [&runs, &enabled] {
            assert_eq!(lines(&starting(&daemon, &daemon, live)), [reload, again, start]);
            assert_eq!(lines(&starting(&daemon, &none, live)), [reload, again]);
            assert!(starting(&none, &none, live).is_empty());
        }
        assert_eq!(lines(&starting(&daemon, &daemon, &Live::default())), [reload, start]);
    }
}
