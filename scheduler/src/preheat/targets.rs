//! Which hosts a preheat is for: all that are connected, those of some zones, or some by their ids.

use super::error::PreheatError;
use crate::cluster::operator::host_id;
use proto::{LABEL_BYTES_MAX, PREHEAT_PROTOCOL};
use std::collections::BTreeSet;
use types::{HostId, Label};

/// The most zones that can be named.
pub(crate) const ZONES_MAX: usize = 256;

/// The most hosts that can be named.
pub(crate) const HOSTS_MAX: usize = 4096;

/// What is the matter with a host that is to get no order.
pub(crate) const OLDER: &str = "speaks an older protocol; it needs a newer dfdaemon";

/// A connected host.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) host: HostId,
    pub(crate) zone: Label,
    /// As the host says it.
    pub(crate) platform: Label,
    /// The version that was agreed on.
    pub(crate) protocol: u32,
}

impl Candidate {
    fn is_able(&self) -> bool {
        self.protocol >= PREHEAT_PROTOCOL
    }
}

/// Which hosts are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Targets {
    /// All.
    All,
    /// Those of these zones.
    Zones(BTreeSet<String>),
    /// Those of these ids.
    Hosts(BTreeSet<String>),
}

impl Targets {
    /// As an operator names them.
    ///
    /// # Errors
    /// [`PreheatError::Senseless`].
    pub(crate) fn parse(zones: &[String], hosts: &[String]) -> Result<Self, PreheatError> {
        let senseless = |why: String| Err(PreheatError::Senseless(why));
        if !zones.is_empty() && !hosts.is_empty() {
            return senseless("name zones or hosts, not both".to_owned());
        }
        if zones.len() > ZONES_MAX || hosts.len() > HOSTS_MAX {
            return senseless(format!("at most {ZONES_MAX} zones or {HOSTS_MAX} hosts can be named"));
        }
        if zones.iter().any(|zone| zone.len() > LABEL_BYTES_MAX) {
            return senseless(format!("a zone has at most {LABEL_BYTES_MAX} bytes"));
        }
        let ids = hosts.iter().map(|id| host_id(id)).collect::<Result<BTreeSet<String>, String>>();
        let ids = ids.map_err(PreheatError::Senseless)?;
        Ok(match (zones, hosts) {
            ([], []) => Self::All,
            (zones, []) => Self::Zones(zones.iter().cloned().collect()),
            _ => Self::Hosts(ids),
        })
    }

    /// Those among the connected hosts that are meant and can be told.
    ///
    /// # Errors
    /// [`PreheatError::Senseless`] if nobody is, or one that was named is not; it says which.
    pub(crate) fn choose(&self, mut connected: Vec<Candidate>) -> Result<Vec<Candidate>, PreheatError> {
        if connected.is_empty() {
            return Err(PreheatError::Senseless("no host is connected".to_owned()));
        }
        match self {
            Self::All => {}
            Self::Zones(zones) => {
                connected.retain(|host| zones.contains(host.zone.as_str()));
                let name = |zone: &str| match zone {
                    "" => "no zone".to_owned(),
                    zone => format!("zone {}", printable(zone)),
                };
                let at = |host: &Candidate| host.zone.to_string();
                missing(zones, &connected, at, |zone| format!("no host of {} is connected", name(zone)))?;
                let able = able(&connected);
                missing(zones, &able, at, |zone| format!("every host of {} {OLDER}", name(zone)))?;
            }
            Self::Hosts(ids) => {
                let at = |host: &Candidate| host.host.to_string();
                connected.retain(|host| ids.contains(&at(host)));
                missing(ids, &connected, at, |id| format!("host {id} is not connected"))?;
                missing(ids, &able(&connected), at, |id| format!("host {id} {OLDER}"))?;
            }
        }
        let able = able(&connected);
        if able.is_empty() {
            return Err(PreheatError::Senseless(format!("every connected host {OLDER}")));
        }
        Ok(able)
    }
}

fn able(hosts: &[Candidate]) -> Vec<Candidate> {
    hosts.iter().filter(|host| host.is_able()).cloned().collect()
}

/// An error that names the first of the named that no host is of, if there is one.
fn missing(
    named: &BTreeSet<String>,
    hosts: &[Candidate],
    at: impl Fn(&Candidate) -> String,
    why: impl Fn(&str) -> String,
) -> Result<(), PreheatError> {
    let there: BTreeSet<String> = hosts.iter().map(at).collect();
    named.difference(&there).next().map_or(Ok(()), |name| Err(PreheatError::Senseless(why(name))))
}

/// A zone's name is whatever somebody wrote.
fn printable(zone: &str) -> String {
    zone.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u8, zone: &str, protocol: u32) -> Candidate {
        let (host, zone) = (HostId::of_peer_id(&[n]), Label::new(zone));
        Candidate { host, zone, platform: Label::new("linux/amd64"), protocol }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn parse(zones: &[&str], hosts: &[&str]) -> Result<Targets, PreheatError> {
        Targets::parse(&texts(zones), &texts(hosts))
    }

    fn chosen(zones: &[&str], hosts: &[&str], connected: &[Candidate]) -> Result<Vec<HostId>, String> {
        let chosen = parse(zones, hosts).and_then(|targets| targets.choose(connected.to_vec()));
        let chosen = chosen.map_err(|error| error.to_string())?;
        Ok(chosen.iter().map(|candidate| candidate.host).collect())
    }

    #[test]
    fn hosts_are_all_or_those_that_are_named() {
        let all = [host(1, "a", 2), host(2, "b", 2), host(3, "a", 2)];
        let [one, two, three] = all.each_ref().map(|candidate| candidate.host);
        assert_eq!(chosen(&[], &[], &all), Ok(vec![one, two, three]));
        assert_eq!(chosen(&["a"], &[], &all), Ok(vec![one, three]));
        let id = two.to_string().to_uppercase();
        assert_eq!(chosen(&[], &[id.as_str()], &all), Ok(vec![two]));
    }

    #[test]
    fn who_is_not_there_or_too_old_is_named() {
        let all = [host(1, "a", 2), host(2, "a", 1), host(3, "old", 1), host(4, "", 1)];
        let [new, old] = [1, 2].map(|n| HostId::of_peer_id(&[n]));
        assert_eq!(chosen(&[], &[], &all), Ok(vec![new]), "no target by default");
        assert_eq!(chosen(&["a"], &[], &all), Ok(vec![new]));
        let (none, id): (&[&str], _) = (&[], old.to_string());
        let needs = "speaks an older protocol; it needs a newer dfdaemon";
        for (zones, hosts, connected, expected) in [
            (&["a", "c"][..], none, &all[..], "no host of zone c is connected".to_owned()),
            (&["c\u{7}"], none, &all, "no host of zone c is connected".to_owned()),
            (&["old"], none, &all, format!("every host of zone old {needs}")),
            (&[""], none, &all, format!("every host of no zone {needs}")),
            (none, &["0123456789abcdef"], &all, "host 0123456789abcdef is not connected".to_owned()),
            (none, &[id.as_str()], &all, format!("host {id} {needs}")),
            (none, none, &all[1..], format!("every connected host {needs}")),
            (none, none, &[], "no host is connected".to_owned()),
            (&["a"], &["0123456789abcdef"], &all, "name zones or hosts, not both".to_owned()),
        ] {
            assert_eq!(chosen(zones, hosts, connected), Err(expected));
        }
        assert!(parse(&[], &["node-7"]).is_err() && parse(&["z"; ZONES_MAX + 1], &[]).is_err());
    }
}
