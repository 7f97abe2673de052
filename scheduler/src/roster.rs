//! Who is connected, and who has been told of it.
//!
//! A host may be assigned a parent only after it was told who that is, so changes of one turn of the driver are sent
//! before the turn's messages.

use crate::outbox::{End, Full, Out, Outbox};
use proto::{Hello, Member, Traffic};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;
use tonic::Status;
use types::{HostId, Label};

/// Which of a host's streams: a later one has a larger number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(pub(crate) u64);

/// A connected host.
#[derive(Debug)]
pub(crate) struct Host {
    stream: StreamId,
    outbox: Outbox,
    pub(crate) member: Member,
    /// Bytes per second that it receives at most; 0 if nobody knows.
    download_rate: u64,
    pub(crate) version: String,
    /// What its node runs, as it says; empty before [`proto::PREHEAT_PROTOCOL`].
    pub(crate) platform: Label,
    /// The version that was agreed on.
    pub(crate) protocol: u32,
    pub(crate) since: Instant,
    pub(crate) traffic: Traffic,
}

/// Connected hosts.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    hosts: BTreeMap<HostId, Host>,
    /// Came, or came back, and not yet named to the others.
    joined: BTreeSet<HostId>,
    /// Gone, and not yet named to the others.
    left: BTreeSet<HostId>,
    /// To be told of everybody.
    fresh: BTreeSet<HostId>,
}

impl Roster {
    /// Takes a host in. A stream that it had before is ended.
    pub(crate) fn join(
        &mut self,
        host: HostId,
        hello: Hello,
        protocol: u32,
        stream: StreamId,
        outbox: Outbox,
        now: Instant,
    ) {
        let member = Member {
            peer_id: hello.peer_id,
            bulk: hello.bulk,
            control: hello.control,
            zone: hello.spec.zone,
            rack: hello.spec.rack,
        };
        let entry = Host {
            stream,
            outbox,
            member,
            download_rate: hello.spec.download_rate,
            version: hello.version,
            platform: Label::new(&hello.platform),
            protocol,
            since: now,
            traffic: Traffic::default(),
        };
        if let Some(before) = self.hosts.insert(host, entry) {
            before.outbox.close(End::Because(Status::aborted("the host has connected again")));
        }
        self.left.remove(&host);
        self.joined.insert(host);
        self.fresh.insert(host);
    }

    /// Takes a host out, if this is still its stream; whether it was.
    pub(crate) fn leave(&mut self, host: HostId, stream: StreamId) -> bool {
        let is_it = self.is_current(host, stream);
        if is_it {
            self.remove(host);
        }
        is_it
    }

    /// Takes a host out and ends its stream.
    pub(crate) fn expel(&mut self, host: HostId, status: Status) {
        if let Some(host) = self.remove(host) {
            host.outbox.close(End::Because(status));
        }
    }

    fn remove(&mut self, host: HostId) -> Option<Host> {
        self.joined.remove(&host);
        self.fresh.remove(&host);
        self.left.insert(host);
        self.hosts.remove(&host)
    }

    /// Ends all streams.
    pub(crate) fn close(&mut self, status: &Status) {
        for host in self.hosts.values() {
            host.outbox.close(End::Because(status.clone()));
        }
        self.hosts.clear();
    }

    /// Bytes per second that a host receives at most, 0 if nobody knows; nothing if this is not its stream at present.
    pub(crate) fn rate(&self, host: HostId, stream: StreamId) -> Option<u64> {
        self.hosts.get(&host).filter(|host| host.stream == stream).map(|host| host.download_rate)
    }

    /// Whether this is the host's stream at present: what an older one says is void.
    pub(crate) fn is_current(&self, host: HostId, stream: StreamId) -> bool {
        self.hosts.get(&host).is_some_and(|h| h.stream == stream)
    }

    pub(crate) fn get(&self, host: HostId) -> Option<&Host> {
        self.hosts.get(&host)
    }

    pub(crate) fn get_mut(&mut self, host: HostId) -> Option<&mut Host> {
        self.hosts.get_mut(&host)
    }

    pub(crate) fn contains(&self, host: HostId) -> bool {
        self.hosts.contains_key(&host)
    }

    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (HostId, &Host)> {
        self.hosts.iter().map(|(id, host)| (*id, host))
    }

    /// Sends something to a host; one that is gone does not get it.
    pub(crate) fn send(&self, host: HostId, out: Out) -> Result<(), Full> {
        self.hosts.get(&host).map_or(Ok(()), |h| h.outbox.push(out))
    }

    /// Names who came and who left to all, and everybody to those who came; gives those that do not read.
    pub(crate) fn introduce(&mut self) -> Vec<HostId> {
        if self.joined.is_empty() && self.left.is_empty() {
            return Vec::new();
        }
        let member = |id: &HostId| self.hosts.get(id).map(|h| h.member.clone());
        let joined: Arc<[Member]> = self.joined.iter().filter_map(member).collect();
        let left: Arc<[HostId]> = self.left.iter().copied().collect();
        let all: Arc<[Member]> = if self.fresh.is_empty() {
            Arc::default()
        } else {
            self.hosts.values().map(|h| h.member.clone()).collect()
        };
        let mut stuck = Vec::new();
        for (id, host) in &self.hosts {
            let out = if self.fresh.contains(id) {
                Out::Members { reset: true, joined: all.clone(), left: Arc::default() }
            } else {
                Out::Members { reset: false, joined: joined.clone(), left: left.clone() }
            };
            if host.outbox.push(out).is_err() {
                stuck.push(*id);
            }
        }
        self.joined.clear();
        self.left.clear();
        self.fresh.clear();
        stuck
    }
}
