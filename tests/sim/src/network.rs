//! Transfers as flows over links with rates: what a piece takes follows from who else sends at the same time.
//!
//! A piece from a peer crosses the parent's uplink and the child's downlink, and between zones the boundary of each; one
//! from the origin crosses the origin's link in place of the uplink. A blob's byte stands for [`Links::scale`] bytes on
//! the links, so that large blobs cost little memory.

use crate::driver::MOVED_INTERVAL;
use crate::fluid::{FlowId, Fluid, LinkId, Mark};
use crate::host::{Running, Spot};
use crate::settings::Links;
use crate::world::{Happening, World};
use download_core::{Event, FetchId, ReadId};
use std::collections::BTreeMap;
use std::time::Duration;
use types::{Priority, Timestamp};

/// A daemon tells that a piece is nearly there when what is left comes within one and a half round trips and this time.
const DECISION: Duration = Duration::from_micros(200);

/// What a flow carries.
#[derive(Debug)]
pub(crate) enum Cargo {
    /// A piece from the parent and its incarnation.
    Piece { fetch: FetchId, from: (usize, u64), bytes: Vec<u8> },
    /// The next piece of a request to the origin.
    Origin { read: ReadId },
}

/// By what a flow is found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Job {
    Fetch(FetchId),
    Read(ReadId),
}

/// The links of a run and what is on them.
#[derive(Debug)]
pub(crate) struct Network {
    rates: Links,
    fluid: Fluid,
    /// Each host's, up and down.
    hosts: Vec<(LinkId, LinkId)>,
    /// Each zone's boundary, out and in.
    zones: Vec<(LinkId, LinkId)>,
    origin: LinkId,
    flows: BTreeMap<FlowId, (Spot, Cargo)>,
    jobs: BTreeMap<(Spot, Job), FlowId>,
    /// The wake that is in the queue.
    pub(crate) wake_at: Option<Timestamp>,
    /// Bytes of the transfers from one zone to another, those from the origin left out.
    pub(crate) boundary_bytes: u64,
}

impl Cargo {
    const fn job(&self) -> Job {
        match self {
            Self::Piece { fetch, .. } => Job::Fetch(*fetch),
            Self::Origin { read } => Job::Read(*read),
        }
    }
}

impl Network {
    pub(crate) fn new(rates: &Links, hosts: usize, zones: usize) -> Self {
        let mut fluid = Fluid::default();
        let host_links = (0..hosts).map(|host| {
            let (up, down) = rates.of(host);
            (fluid.link(up), fluid.link(down))
        });
        let hosts = host_links.collect();
        let boundaries = rates.boundary.map_or(0, |_| zones);
        let boundary = rates.boundary.unwrap_or(0);
        let zones = (0..boundaries).map(|_| (fluid.link(boundary), fluid.link(boundary))).collect();
        let origin = fluid.link(rates.origin);
        Self {
            rates: rates.clone(),
            fluid,
            hosts,
            zones,
            origin,
            flows: BTreeMap::new(),
            jobs: BTreeMap::new(),
            wake_at: None,
            boundary_bytes: 0,
        }
    }

    fn start(&mut self, now: Timestamp, spot: Spot, zones: usize, len: u64, early: u64, cargo: Cargo) {
        let mut links = vec![self.hosts[spot.host].1];
        let mut cap = u64::MAX;
        let to = spot.host % zones;
        match &cargo {
            Cargo::Piece { from: (parent, _), .. } => {
                links.push(self.hosts[*parent].0);
                let from = parent % zones;
                if from != to {
                    self.boundary_bytes += len;
                    links.extend(self.zones.get(from).map(|zone| zone.0));
                    links.extend(self.zones.get(to).map(|zone| zone.1));
                }
            }
            // The origin is outside all zones, and as near to each.
            Cargo::Origin { .. } => {
                links.push(self.origin);
                cap = self.rates.origin_request;
            }
        }
        let bytes = len * self.rates.scale;
        let job = (spot, cargo.job());
        let flow = self.fluid.start(now, links, cap, bytes, Some(early.min(bytes)));
        self.flows.insert(flow, (spot, cargo));
        self.jobs.insert(job, flow);
    }

    /// What is sent now of what could be, in thousandths: by the origin, by all hosts, by the source.
    pub(crate) fn use_of(&self, source: Option<usize>) -> (u64, u64, u64) {
        let permille = |links: &mut dyn Iterator<Item = LinkId>| {
            let (used, rate) = links.fold((0, 0), |(used, rate), link| {
                (used + self.fluid.used(link), rate + self.fluid.link_rate(link))
            });
            (used * 1000).checked_div(rate).unwrap_or(0)
        };
        let source = source.map(|host| self.hosts[host].0);
        (
            permille(&mut std::iter::once(self.origin)),
            permille(&mut self.hosts.iter().map(|(up, _)| *up)),
            permille(&mut source.into_iter()),
        )
    }

    /// Ends a job's flow, if it has one, and says what it carried.
    fn stop(&mut self, now: Timestamp, spot: Spot, job: Job) -> Option<Cargo> {
        let flow = self.jobs.remove(&(spot, job))?;
        self.fluid.stop(now, flow);
        self.flows.remove(&flow).map(|(_, cargo)| cargo)
    }
}

impl World {
    /// Puts a piece on the links.
    pub(crate) fn carry(&mut self, spot: Spot, len: u64, cargo: Cargo) {
        let round_trip = *self.settings.delay.end() * 2;
        let zones = self.settings.zones;
        if let Cargo::Piece { from: (parent, _), .. } = &cargo
            && self.settings.rack(*parent) != self.settings.rack(spot.host)
        {
            self.outcome.rack_bytes += len;
        }
        let Some(network) = &mut self.network else { return };
        // At an even share of the parent's slots.
        let rate = match &cargo {
            Cargo::Piece { from, .. } => network.rates.of(from.0).0 / u64::from(self.settings.upload_slots),
            Cargo::Origin { .. } => 0,
        };
        let in_time = |time: Duration| {
            u64::try_from(u128::from(rate) * time.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX)
        };
        let early = in_time(round_trip * 3 / 2 + DECISION).min(len * network.rates.scale * 3 / 4);
        let from_peer = matches!(cargo, Cargo::Piece { .. });
        network.start(self.now, spot, zones, len, early, cargo);
        if from_peer && !std::mem::replace(&mut self.hosts[spot.host].watched, true) {
            let happening = Happening::HostMoves { host: spot.host };
            self.queue.push(self.now + MOVED_INTERVAL, happening);
        }
        self.wake_network();
    }

    /// While bytes come to a host from peers, its downloads hear of it now and then, if clients wait for them.
    pub(crate) fn host_moves(&mut self, host: usize) {
        self.hosts[host].watched = false;
        let Some(network) = &self.network else { return };
        let running = |blob: usize| Some((blob, self.hosts[host].places[blob].running.as_ref()?));
        let receives = |(spot, running): &(Spot, &Running)| {
            running.fetches.keys().any(|fetch| network.jobs.contains_key(&(*spot, Job::Fetch(*fetch))))
        };
        let running: Vec<_> = (0..self.blobs.len())
            .filter_map(running)
            .map(|(blob, running)| (Spot { host, blob, serial: running.serial }, running))
            .collect();
        if !running.iter().any(receives) {
            return;
        }
        let awaited = |(_, running): &(Spot, &Running)| running.core.priority() == Priority::Waiting;
        let for_clients = running.iter().any(|one| awaited(one) && receives(one));
        let spots: Vec<_> = running.into_iter().map(|(spot, _)| spot).collect();
        self.hosts[host].watched = true;
        self.queue.push(self.now + MOVED_INTERVAL, Happening::HostMoves { host });
        if !for_clients {
            return;
        }
        for spot in spots {
            self.download_event(spot, Event::HostMoved { at: self.now });
        }
    }

    /// A job is given up: its flow ends, and so does the upload.
    pub(crate) fn uncarry(&mut self, spot: Spot, job: Job) {
        let Some(network) = &mut self.network else { return };
        if let Some(Cargo::Piece { from, .. }) = network.stop(self.now, spot, job) {
            self.upload_ends(from);
        }
        self.wake_network();
    }

    /// All that a host sends and receives breaks off. Its children find out soon.
    pub(crate) fn uncarry_host(&mut self, host: usize) {
        self.uncarry_where(|spot, cargo| match cargo {
            Cargo::Piece { from, fetch, .. } if from.0 == host => Some(Some(*fetch)),
            _ => (spot.host == host).then_some(None),
        });
    }

    /// What crosses between zones that are cut off breaks off. The children find out soon.
    pub(crate) fn uncarry_parted(&mut self) {
        let now = self.now;
        let cut: Vec<bool> = self.parted.iter().map(|until| now < *until).collect();
        self.uncarry_where(|spot, cargo| match cargo {
            Cargo::Piece { from, fetch, .. } => {
                let (from, to) = (from.0 % cut.len(), spot.host % cut.len());
                (from != to && (cut[from] || cut[to])).then_some(Some(*fetch))
            }
            Cargo::Origin { .. } => None,
        });
    }

    /// Ends the flows that `breaks` names; its answer says for whom it comes as news.
    fn uncarry_where(&mut self, breaks: impl Fn(&Spot, &Cargo) -> Option<Option<FetchId>>) {
        let Some(network) = &self.network else { return };
        let mut broken = Vec::new();
        for (spot, cargo) in network.flows.values() {
            if let Some(child_of) = breaks(spot, cargo) {
                broken.push((*spot, child_of, cargo.job()));
            }
        }
        for (spot, fetch, job) in broken {
            self.uncarry(spot, job);
            if let Some(fetch) = fetch {
                let delay = self.delay();
                self.queue.push(self.now + delay, Happening::Unreachable { spot, fetch });
            }
        }
    }

    /// Gives a host's links one in so many parts of their rate.
    pub(crate) fn slow(&mut self, host: usize, part: u64) {
        let Some(network) = &mut self.network else { return };
        let ((up, down), (up_rate, down_rate)) = (network.hosts[host], network.rates.of(host));
        network.fluid.set_rate(self.now, up, up_rate / part.max(1));
        network.fluid.set_rate(self.now, down, down_rate / part.max(1));
        self.wake_network();
    }

    fn wake_network(&mut self) {
        let Some(network) = &mut self.network else { return };
        let Some(at) = network.fluid.next_mark() else { return };
        if network.wake_at.is_none_or(|set| at < set) {
            network.wake_at = Some(at);
            self.queue.push(at.max(self.now), Happening::Flows);
        }
    }

    /// Flows have come to their marks.
    pub(crate) fn flows(&mut self) {
        let now = self.now;
        if let Some(network) = &mut self.network {
            if network.wake_at != Some(now) {
                return;
            }
            network.wake_at = None;
        }
        while let Some((flow, mark)) = self.network.as_mut().and_then(|network| network.fluid.due(now)) {
            self.flow_marks(flow, mark);
        }
        self.wake_network();
    }

    fn flow_marks(&mut self, flow: FlowId, mark: Mark) {
        let Some(network) = &mut self.network else { return };
        if mark == Mark::NearlyDone {
            if let Some((spot, Cargo::Piece { fetch, .. })) = network.flows.get(&flow) {
                let (spot, fetch) = (*spot, *fetch);
                self.piece_nearly_comes(spot, fetch);
            }
            return;
        }
        let Some((spot, cargo)) = network.flows.remove(&flow) else { return };
        network.jobs.remove(&(spot, cargo.job()));
        match cargo {
            // The parent's slot is free when its last byte has left.
            Cargo::Piece { fetch, from, bytes } => {
                self.upload_ends(from);
                let delay = self.delay();
                let bytes = Some(bytes);
                self.queue.push(self.now + delay, Happening::Comes { spot, fetch, from, bytes });
            }
            Cargo::Origin { read } => self.origin_sends(spot, read),
        }
    }
}
