//! The connected hosts: what they are, their slots, and whom they cannot use at the moment.

use crate::boundary::Window;
use crate::neighbours::Neighbours;
use crate::pace::Pace;
use crate::slab::{HostIx, MemberIx, RackIx, Slab, SwarmIx, TransferIx, ZoneIx};
use crate::sorted::Sorted;
use crate::timers::Alarm;
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;
use types::{HostId, HostSpec, Label, Priority, Timestamp};

/// A pause of a child with one parent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avoid {
    pub(crate) until: Timestamp,
    pub(crate) strikes: u32,
}

/// Parents that a host could not use.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "nearly always empty; a pointer's length fits its cache line")]
pub(crate) struct Avoided(Option<Box<BTreeMap<HostId, Avoid>>>);

impl Avoided {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn get(&self, parent: &HostId) -> Option<&Avoid> {
        self.0.as_ref()?.get(parent)
    }

    pub(crate) fn pauses(&self) -> impl Iterator<Item = Timestamp> + '_ {
        self.0.iter().flat_map(|all| all.values()).map(|avoid| avoid.until)
    }

    pub(crate) fn remove(&mut self, parent: &HostId) {
        self.0.take_if(|all| {
            all.remove(parent);
            all.is_empty()
        });
    }

    /// The entry of a parent, of at most [`AVOID_MAX`].
    fn entry(&mut self, parent: HostId, now: Timestamp) -> &mut Avoid {
        let all = self.0.get_or_insert_default();
        // Old entries are only worth their strikes; without them the map could grow with every host that ever left.
        if all.len() >= AVOID_MAX {
            all.retain(|_, avoid| now < avoid.until);
        }
        if all.len() >= AVOID_MAX {
            all.pop_first();
        }
        all.entry(parent).or_insert(Avoid { until: now, strikes: 0 })
    }
}

/// What belongs together lies together, a cache line each: what many hosts are looked at for as children, what each message
/// needs, what it takes to be a parent.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Host {
    /// Transfers in which it is the child.
    pub(crate) downloads: u32,
    pub(crate) downloads_credited: u32,
    pub(crate) leases: u32,
    download_slots: u16,
    upload_slots: u16,
    /// No downloads before then.
    pub(crate) download_pause: Timestamp,
    pub(crate) avoid: Avoided,
    /// Until when it is not used as a parent, and what it holds does not count.
    pub(crate) muted_until: Option<Timestamp>,
    pub(crate) rack: RackIx,
    pub(crate) zone: ZoneIx,

    pub(crate) id: HostId,
    pub(crate) memberships: Sorted<(SwarmIx, MemberIx), 2>,
    /// The blob last served to here: the next one's turn comes after it.
    pub(crate) filled: Option<SwarmIx>,

    /// Transfers in which it is the parent.
    pub(crate) uploads: SmallVec<[TransferIx; 4]>,
    /// How many of them are nearly done, so that their slot is promised again.
    pub(crate) uploads_credited: u32,
    /// No uploads before then.
    pub(crate) upload_pause: Timestamp,
    /// The memberships of which somebody wants the blob.
    pub(crate) offers: Sorted<SwarmIx, 4>,

    /// To whom it uploaded.
    pub(crate) children: Neighbours,
    /// The blob last served from here.
    pub(crate) fed: Option<SwarmIx>,
    /// The blobs that it wants and does not hold all of.
    pub(crate) wants: Sorted<(Priority, SwarmIx), 2>,
    /// How fast it sent and received of late.
    pub(crate) upload_pace: Pace,
    pub(crate) download_pace: Pace,
    pub(crate) alarm: Alarm,
    pub(crate) spec: Box<HostSpec>,
}

impl Host {
    pub(crate) fn upload_slots(&self) -> usize {
        usize::from(self.upload_slots)
    }

    pub(crate) fn download_slots(&self) -> usize {
        usize::from(self.download_slots)
    }

    /// What it sends and receives at most by its own word, in bytes per second; never 0.
    pub(crate) fn rate(&self) -> u64 {
        let known = |rate: u64| if rate == 0 { u64::MAX } else { rate };
        known(self.spec.upload_rate).min(known(self.spec.download_rate))
    }

    pub(crate) fn can_upload(&self, now: Timestamp) -> bool {
        self.uploads.len() - (self.uploads_credited as usize) < self.upload_slots()
            && self.upload_pause <= now
            && self.muted_until.is_none()
    }

    pub(crate) fn can_download(&self, now: Timestamp) -> bool {
        self.downloads - self.downloads_credited < u32::from(self.download_slots)
            && self.download_pause <= now
    }

    /// It reads from an origin and a client waits for something here: what nobody waits for would take a part of its link.
    pub(crate) fn is_occupied(&self) -> bool {
        self.leases > 0 && self.wants.first().is_some_and(|(priority, _)| *priority == Priority::Waiting)
    }

    /// Whether it can be given a piece of a blob with this priority.
    pub(crate) fn can_take(&self, priority: Priority, now: Timestamp) -> bool {
        self.can_download(now) && (priority == Priority::Waiting || !self.is_occupied())
    }

    /// How long it may say nothing of a lease with this time: all that it reads shares its link.
    pub(crate) fn lease_time(&self, ttl: Duration) -> Duration {
        ttl * self.leases.clamp(1, LEASES_MAX)
    }

    pub(crate) fn avoids(&self, parent: &HostId, now: Timestamp) -> bool {
        self.avoid.get(parent).is_some_and(|avoid| now < avoid.until)
    }

    /// Leaves `parent` alone for a while: from `min` on, twice as long each time, at most `max`. Until when.
    pub(crate) fn avoid(
        &mut self,
        parent: HostId,
        now: Timestamp,
        min: Duration,
        max: Duration,
    ) -> Timestamp {
        let avoid = self.avoid.entry(parent, now);
        avoid.until = now + max.min(min * (1 << avoid.strikes.min(16)));
        avoid.strikes += 1;
        avoid.until
    }
}

/// More slots than so many a host does not get, whatever it says: what comes to it is looked through for each match.
const SLOTS_MAX: u16 = 64;

/// More leases than so many give a source no more time.
const LEASES_MAX: u32 = 4;

/// The most parents that one child leaves alone at a time.
const AVOID_MAX: usize = 256;

/// A zone that hosts are in.
#[derive(Debug)]
struct Zone {
    label: Label,
    hosts: usize,
    /// What crosses its boundary, inwards and outwards.
    inwards: Window,
    outwards: Window,
}

#[derive(Debug, Default)]
pub(crate) struct Hosts {
    slab: Slab<HostIx, Host>,
    /// Only for looking up: its order is not the same in every process. The ids are those of the entries.
    by_id: HashTable<HostIx>,
    hasher: RandomState,
    zones: Slab<ZoneIx, Zone>,
    by_zone: BTreeMap<Label, ZoneIx>,
    /// The hosts of each rack.
    racks: Slab<RackIx, Vec<HostIx>>,
    by_rack: BTreeMap<Label, RackIx>,
}

impl Hosts {
    pub(crate) fn find(&self, id: &HostId) -> Option<HostIx> {
        self.by_id.find(hash_of(&self.hasher, id), |host| self.slab[*host].id == *id).copied()
    }

    pub(crate) fn get(&self, host: HostIx) -> Option<&Host> {
        self.slab.get(host)
    }

    pub(crate) fn get_mut(&mut self, host: HostIx) -> Option<&mut Host> {
        self.slab.get_mut(host)
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (HostIx, &Host)> {
        self.slab.iter()
    }

    /// In order of their ids.
    pub(crate) fn by_id(&self) -> impl Iterator<Item = (HostIx, &Host)> {
        let mut hosts: Vec<_> = self.slab.iter().collect();
        hosts.sort_unstable_by_key(|(_, host)| host.id);
        hosts.into_iter()
    }

    pub(crate) fn join(&mut self, id: HostId, spec: HostSpec) -> HostIx {
        let zone = *self.by_zone.entry(spec.zone.clone()).or_insert_with_key(|label| {
            let (inwards, outwards) = (Window::default(), Window::default());
            self.zones.insert(Zone { label: label.clone(), hosts: 0, inwards, outwards })
        });
        self.zones[zone].hosts += 1;
        let rack = *self.by_rack.entry(spec.rack.clone()).or_insert_with(|| self.racks.insert(Vec::new()));
        let host = self.slab.insert(Host {
            id,
            zone,
            rack,
            upload_slots: spec.upload_slots.min(SLOTS_MAX),
            // A host without a slot to download could never finish.
            download_slots: spec.download_slots.clamp(1, SLOTS_MAX),
            spec: Box::new(spec),
            uploads: SmallVec::new(),
            uploads_credited: 0,
            downloads: 0,
            downloads_credited: 0,
            upload_pace: Pace::default(),
            download_pace: Pace::default(),
            leases: 0,
            memberships: Sorted::default(),
            wants: Sorted::default(),
            offers: Sorted::default(),
            fed: None,
            filled: None,
            upload_pause: Timestamp::ZERO,
            download_pause: Timestamp::ZERO,
            muted_until: None,
            avoid: Avoided::default(),
            children: Neighbours::default(),
            alarm: Alarm::default(),
        });
        let (slab, hasher) = (&self.slab, &self.hasher);
        self.by_id.insert_unique(hash_of(hasher, &id), host, |host| hash_of(hasher, &slab[*host].id));
        self.racks[rack].push(host);
        host
    }

    /// Forgets a host that takes part in nothing any more.
    pub(crate) fn leave(&mut self, host: HostIx) {
        let Some(gone) = self.slab.remove(host) else { return };
        if let Ok(entry) = self.by_id.find_entry(hash_of(&self.hasher, &gone.id), |other| *other == host) {
            entry.remove();
        }
        let zone = &mut self.zones[gone.zone];
        zone.hosts -= 1;
        if zone.hosts == 0 {
            self.by_zone.remove(&zone.label);
            self.zones.remove(gone.zone);
        }
        self.racks[gone.rack].retain(|other| *other != host);
        if self.racks[gone.rack].is_empty() {
            self.by_rack.remove(&gone.spec.rack);
            self.racks.remove(gone.rack);
        }
    }

    /// A few hosts of a rack, itself perhaps among them; none if there is no other rack, so that everybody is as near.
    pub(crate) fn some_of(&self, rack: RackIx, count: usize, rng: &mut fastrand::Rng) -> &[HostIx] {
        let hosts = &self.racks[rack];
        if self.racks.len() == 1 || hosts.is_empty() {
            return &[];
        }
        let start = rng.usize(..hosts.len());
        &hosts[start..hosts.len().min(start + count)]
    }

    /// Whether one more piece may cross now from zone `from` into zone `to`.
    pub(crate) fn may_cross(&self, from: ZoneIx, to: ZoneIx) -> bool {
        self.zones[from].outwards.is_open() && self.zones[to].inwards.is_open()
    }

    /// Whether a piece may cross into zone `to` that several zones could send: room for another is left.
    pub(crate) fn may_cross_again(&self, to: ZoneIx) -> bool {
        self.zones[to].inwards.is_wide_open()
    }

    pub(crate) fn begin_crossing(&mut self, from: ZoneIx, to: ZoneIx) {
        self.zones[from].outwards.enter();
        self.zones[to].inwards.enter();
    }

    /// A piece has crossed in this time, or has not crossed by then; or it was given up early, then without one.
    pub(crate) fn end_crossing(&mut self, from: ZoneIx, to: ZoneIx, took: Option<Duration>) {
        self.zones[from].outwards.leave(took);
        self.zones[to].inwards.leave(took);
    }

    /// How many pieces cross each zone's boundary, inwards and outwards.
    pub(crate) fn crossings(&self) -> impl Iterator<Item = (ZoneIx, u32, u32)> {
        self.zones.iter().map(|(zone, each)| (zone, each.inwards.crossing(), each.outwards.crossing()))
    }
}

/// Of an id's first bytes: it is a hash itself, and nobody knows this process's keys.
fn hash_of(hasher: &RandomState, id: &HostId) -> u64 {
    let first = id.as_bytes().first_chunk().expect("an id has 32 bytes");
    hasher.hash_one(u64::from_le_bytes(*first))
}

impl std::ops::Index<HostIx> for Hosts {
    type Output = Host;

    fn index(&self, host: HostIx) -> &Host {
        &self.slab[host]
    }
}

impl std::ops::IndexMut<HostIx> for Hosts {
    fn index_mut(&mut self, host: HostIx) -> &mut Host {
        &mut self.slab[host]
    }
}
