//! What a run is like: hosts, blobs, speeds, and what goes wrong when.

use crate::blob::PIECE_LEN;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;
use types::{LeaseFailure, PieceIndex, PieceLayout, Priority};

/// Something that goes wrong, or is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A host dies: its connections break, its transfers too.
    HostDies {
        /// Which.
        host: usize,
    },
    /// A dead host starts again, with what it had stored or without, and its clients ask again.
    HostReturns {
        /// Which.
        host: usize,
        /// Whether its disk survived.
        keeps_store: bool,
    },
    /// A host dies and does not come back: nobody waits for its clients.
    HostLeaves {
        /// Which.
        host: usize,
    },
    /// The same of the host that is the source of the first blob at that moment, if one is.
    SourceLeaves,
    /// The host that is the source of the first blob at that moment dies, if one is; it comes back when all is mended.
    SourceDies,
    /// What the host that is the source of the first blob at that moment gets from the origin is wrong from now on, now and
    /// then, until all is mended.
    SourceIsLiedTo,
    /// The clients of the host that is the source of the first blob at that moment leave and come back later.
    SourceClientsLeave {
        /// For how long.
        gone: Duration,
    },
    /// A host's stream to the scheduler breaks, and what is on its way on it is lost; it connects again.
    LinkBreaks {
        /// Which.
        host: usize,
    },
    /// What a host and the scheduler tell each other takes so much longer.
    Delays {
        /// Which host.
        host: usize,
        /// By how much.
        by: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// A zone is cut off from the other zones and from the scheduler; the origin it reaches.
    ZoneParts {
        /// Which.
        zone: usize,
        /// For how long.
        lasts: Duration,
    },
    /// A host says from now on that it holds pieces that it does not, or stops doing so.
    Overclaims {
        /// Which.
        host: usize,
        /// Whether it does.
        overclaims: bool,
    },
    /// A host's links have a part of their rate from now on, or all of it again. Only on links.
    Slows {
        /// Which.
        host: usize,
        /// One in so many parts of it; 1 for all.
        part: u64,
    },
    /// The scheduler loses all it knows. Hosts connect again once it is back.
    SchedulerRestarts {
        /// How long it is gone.
        gone: Duration,
    },
    /// The scheduler hears and says nothing, but its streams stay open.
    SchedulerFreezes {
        /// How long.
        lasts: Duration,
    },
    /// The origin answers every request with this.
    OriginFails {
        /// With what.
        why: LeaseFailure,
        /// How long.
        lasts: Duration,
    },
    /// A host sends wrong bytes from now on, or stops doing so.
    Corrupts {
        /// Which.
        host: usize,
        /// Whether it does.
        corrupts: bool,
    },
    /// What a host gets from the origin is wrong from now on, now and then, or not any more: something on its way changes
    /// it. As a source it computes a false chain.
    OriginLies {
        /// To which host.
        host: usize,
        /// Whether it does.
        lies: bool,
    },
    /// A host loses some of its stored pieces.
    StoreLoses {
        /// Which.
        host: usize,
    },
    /// A host's clients leave and come back later.
    ClientsLeave {
        /// Which.
        host: usize,
        /// For how long.
        gone: Duration,
    },
}

/// Who wants a blob when, and how urgently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The hosts.
    pub hosts: Vec<usize>,
    /// When they begin, after the start.
    pub at: Duration,
    /// How urgently. Those for whom no client waits do not turn to the origin by themselves.
    pub priority: Priority,
}

/// Links with rates. All are in bytes per second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// How many bytes on the links a blob's byte stands for.
    pub scale: u64,
    /// What a host sends at most.
    pub up: u64,
    /// What a host receives at most.
    pub down: u64,
    /// Hosts with other rates, up and down, by their numbers.
    pub others: BTreeMap<usize, (u64, u64)>,
    /// What the origin sends at most.
    pub origin: u64,
    /// What the origin sends at most for one request.
    pub origin_request: u64,
    /// What a zone's boundary lets through in each direction; everything if it has none.
    pub boundary: Option<u64>,
}

impl Links {
    /// Equal hosts and an origin at `rate`, with pieces of `piece_len` bytes.
    #[must_use]
    pub const fn equal(rate: u64, piece_len: u32) -> Self {
        Self {
            scale: (piece_len / PIECE_LEN) as u64,
            up: rate,
            down: rate,
            others: BTreeMap::new(),
            origin: rate,
            origin_request: u64::MAX,
            boundary: None,
        }
    }

    /// What a host sends and receives at most.
    #[must_use]
    pub fn of(&self, host: usize) -> (u64, u64) {
        self.others.get(&host).copied().unwrap_or((self.up, self.down))
    }
}

/// A run. Everything that is left to chance follows from `seed`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where all chance comes from.
    pub seed: u64,
    /// How many hosts.
    pub hosts: usize,
    /// Over how many zones they are spread.
    pub zones: usize,
    /// Over how many racks the hosts of each zone are spread.
    pub racks: usize,
    /// The number of pieces of each blob.
    pub blobs: Vec<u32>,
    /// How long each blob's last piece is; as long as chance will without it.
    pub last_piece: Option<u32>,
    /// Blobs that are not wanted by a client on each host.
    pub visits: BTreeMap<usize, Visit>,
    /// Within which time the clients come, each at a moment of its own.
    pub arrival: Duration,
    /// If not zero, the hosts' clients come one host after the other instead, so far apart.
    pub rolling: Duration,
    /// The time that a message takes, one way.
    pub delay: RangeInclusive<Duration>,
    /// Links with rates; without them each transfer takes the times below, whatever else is sent.
    pub links: Option<Links>,
    /// The time that a piece takes from a peer.
    pub piece_time: RangeInclusive<Duration>,
    /// The time that a piece takes from the origin, per request.
    pub origin_time: RangeInclusive<Duration>,
    /// The time that a piece takes to be hashed and stored.
    pub hash_time: Duration,
    /// Uploads at once per host.
    pub upload_slots: u16,
    /// How long a request waits for an upload slot before it is refused as busy.
    pub slot_patience: Duration,
    /// Downloads at once per host.
    pub download_slots: u16,
    /// One in so many hosts has no right at the origin; 0 for none such.
    pub without_right: usize,
    /// One in so many transfers stalls; 0 for none.
    pub stalls: u32,
    /// Faults, in order of their time after the start.
    pub faults: Vec<(Duration, Fault)>,
    /// The daemons' settings.
    pub download: download_core::Options,
    /// The scheduler's settings.
    pub scheduler: scheduler_core::Options,
    /// After the last fault every download must have ended within this time.
    pub patience: Duration,
    /// How long the scheduler gathers messages before it decides.
    pub turn: Duration,
    /// The scheduler's invariants are checked once in so many of its steps.
    pub check_every: u64,
    /// How often it is noted how far the rollout is; never if zero.
    pub sample_every: Duration,
    /// Whether to print everything.
    pub verbose: bool,
    /// Whether to note everything that happens, and check each download after each of its steps: what takes most of the
    /// time with many hosts. Without it the run has no trace.
    pub thorough: bool,
}

/// How many slots a host needs each way, so that the next transfer on a slot is there when one ends: one and a half round trips
/// go by from the notice to the next first byte, and that must be two thirds of a transfer at most, or the notice would
/// come before the transfer has begun. Two at least.
#[must_use]
pub fn slots_for(rate: u64, round_trip: Duration, piece_len: u64) -> u16 {
    let in_transit = u128::from(rate) * round_trip.as_nanos() * 9 / 4 / 1_000_000_000;
    u16::try_from(in_transit.div_ceil(u128::from(piece_len))).unwrap_or(u16::MAX).max(2)
}

/// A rollout checks the scheduler's invariants once in so many steps, or once in as many as the check takes steps' time.
const CHECK_EVERY: u64 = 4096;

/// What a scheduler's loop takes: the messages that come meanwhile are decided upon together.
const TURN: Duration = Duration::from_micros(50);

/// In bytes per second.
const GIGABIT: u64 = 125_000_000;
/// What a child waits for a parent that sends nothing.
pub(crate) const STALL: Duration = Duration::from_millis(2_100);
/// What a piece has on the links of a random run.
const LINK_PIECE: u32 = 256 << 10;

impl Settings {
    /// A quiet, homogeneous run in which nothing goes wrong. A piece takes 2 ms from a peer and 1 ms from the origin.
    #[must_use]
    pub fn quiet(seed: u64, hosts: usize, blobs: Vec<u32>) -> Self {
        let ms = Duration::from_millis;
        let piece = u64::from(PIECE_LEN);
        Self {
            seed,
            hosts,
            zones: 1,
            racks: 1,
            blobs,
            last_piece: None,
            visits: BTreeMap::new(),
            arrival: ms(20),
            rolling: Duration::ZERO,
            delay: Duration::from_micros(200)..=ms(1),
            links: None,
            piece_time: ms(2)..=ms(2),
            origin_time: ms(1)..=ms(1),
            hash_time: Duration::from_micros(100),
            upload_slots: 2,
            slot_patience: Duration::ZERO,
            download_slots: 2,
            without_right: 0,
            stalls: 0,
            faults: Vec::new(),
            download: download_core::Options {
                stripe_bytes: 4 * piece,
                window_bytes: 16 * piece,
                readahead_bytes: 8 * piece,
                ..download_core::Options::default()
            },
            scheduler: scheduler_core::Options {
                piece_len: Some(PIECE_LEN),
                source_ahead_bytes: 16 * piece,
                source_ahead_min_bytes: 8 * piece,
                ..scheduler_core::Options::default()
            },
            patience: Duration::from_secs(120),
            turn: Duration::ZERO,
            check_every: 1,
            sample_every: Duration::ZERO,
            verbose: false,
            thorough: true,
        }
    }

    /// A rollout of `count` blobs of the same size over links, with the daemons' and the scheduler's own settings. A host
    /// hashes 2 GB/s, as one core with instructions for it does.
    #[must_use]
    pub fn rollout(seed: u64, hosts: usize, layout: PieceLayout, count: usize, links: Links) -> Self {
        let piece_len = layout.piece_len();
        let last = layout.range(PieceIndex(layout.count() - 1)).len().div_ceil(links.scale);
        let (download, scheduler) = (download_core::Options::default(), scheduler_core::Options::default());
        let scaled = |bytes: u64| bytes / links.scale;
        Self {
            arrival: Duration::ZERO,
            hash_time: Duration::from_nanos(u64::from(piece_len) / 2),
            download: download_core::Options {
                stripe_bytes: scaled(download.stripe_bytes),
                window_bytes: scaled(download.window_bytes),
                readahead_bytes: scaled(download.readahead_bytes),
                ..download
            },
            scheduler: scheduler_core::Options {
                piece_len: Some(PIECE_LEN),
                source_ahead_bytes: scaled(scheduler.source_ahead_bytes),
                source_ahead_min_bytes: scaled(scheduler.source_ahead_min_bytes),
                source_rate_min: scaled(scheduler.source_rate_min),
                transfer_rate_min: scaled(scheduler.transfer_rate_min),
                // It has run for long.
                quiet_period: Duration::ZERO,
                ..scheduler
            },
            slot_patience: Duration::from_millis(50),
            turn: TURN,
            check_every: CHECK_EVERY.max(u64::from(layout.count()) * (count * hosts) as u64 / 64),
            thorough: false,
            links: Some(links),
            last_piece: u32::try_from(last).ok(),
            ..Self::quiet(seed, hosts, vec![layout.count(); count])
        }
    }

    /// The same with this latency one way, by which messages come up to a tenth sooner or later, and slots enough for it.
    #[must_use]
    pub fn with_latency(self, delay: Duration) -> Self {
        let links = self.links.as_ref();
        let rate = links.map_or(0, |links| links.up);
        let slots = slots_for(rate, delay * 2, links.map_or(1, |links| links.scale) * u64::from(PIECE_LEN));
        Self { delay: delay * 9 / 10..=delay * 11 / 10, upload_slots: slots, download_slots: slots, ..self }
    }

    /// A number for the zone and rack that a host is in.
    pub(crate) const fn rack(&self, host: usize) -> usize {
        host % (self.zones * self.racks)
    }

    /// A run of a few hosts in which anything may go wrong, as the seed says, for about ten seconds; then all is well again.
    #[must_use]
    pub fn troubled(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x7261_6e64);
        let hosts = rng.usize(1..=9);
        let blobs = (0..rng.usize(1..=3)).map(|_| rng.u32(1..=60)).collect();
        let mut settings = Self::quiet(seed, hosts, blobs).with_trouble(&mut rng);
        settings.faults = (0..rng.usize(0..12)).map(|_| Self::some_fault(&mut rng, hosts)).collect();
        settings.faults.sort_by_key(|(at, _)| *at);
        settings
    }

    /// The same with 2 to 200 hosts, few more often than many, on links in every second run.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x6372_6f77);
        // As many have 2 to 4 hosts as 4 to 8, 8 to 16 …
        let octave = rng.u32(1..=6);
        let hosts = rng.usize(1 << octave..=(2 << octave) + octave as usize * 12).clamp(2, 200);
        // What a run takes grows with pieces times hosts.
        let most = (6_000 / u32::try_from(hosts).unwrap_or(u32::MAX)).clamp(8, 120);
        let blobs: Vec<u32> = (0..rng.usize(1..=4)).map(|_| rng.u32(1..=most)).collect();
        let mut settings = Self::quiet(seed, hosts, blobs).with_trouble(&mut rng);
        let zones = settings.zones;
        settings.racks = fastrand::Rng::with_seed(seed ^ 0x7261_636b).usize(1..=3);
        settings.faults = (0..rng.usize(0..16)).map(|_| Self::any_fault(&mut rng, hosts, zones)).collect();
        settings.bring_back(&mut rng);
        settings.faults.sort_by_key(|(at, _)| *at);
        settings.check_every = (hosts / 8).max(1) as u64;
        settings.download.linger = Duration::from_millis([30_000, 200][rng.usize(..2)]);
        settings.patience += settings.longest_work() * 2;
        settings.download.crowd = u32::try_from(hosts).unwrap_or(u32::MAX);
        if rng.bool() {
            let mut rate = || GIGABIT >> rng.u32(2..7);
            let mut links = Links::equal(rate(), LINK_PIECE);
            links.origin = rate();
            links.others.insert(0, (rate(), rate()));
            links.boundary = Some(rate() * 2);
            let origin = links.origin;
            settings.links = Some(links);
            settings.slot_patience = Duration::from_millis(50);
            // Without a scheduler every host reads everything for itself.
            let all = u64::from(settings.blobs.iter().sum::<u32>()) * u64::from(LINK_PIECE) * hosts as u64;
            settings.patience += Duration::from_secs_f64(all as f64 / origin as f64 * 1.5);
        }
        settings
    }

    /// The same with the first blob preheated on every host: no client waits for it, and it gives way to what clients wait
    /// for.
    #[must_use]
    pub fn preheating(seed: u64) -> Self {
        let mut settings = Self::random(seed);
        let hosts = (0..settings.hosts).collect();
        settings.visits.insert(0, Visit { hosts, at: Duration::ZERO, priority: Priority::Preheat });
        // It begins when the others have ended, at the latest.
        settings.patience *= 2;
        settings
    }

    /// What a host takes at most to get its pieces one after the other on each slot, stalls included.
    fn longest_work(&self) -> Duration {
        let stalls = if self.stalls == 0 { Duration::ZERO } else { STALL / self.stalls };
        let each = *self.piece_time.end() + *self.delay.end() * 3 + self.hash_time + stalls;
        each * self.blobs.iter().sum::<u32>() / u32::from(self.download_slots.min(self.upload_slots))
    }

    fn with_trouble(mut self, rng: &mut fastrand::Rng) -> Self {
        let ms = Duration::from_millis;
        self.zones = rng.usize(1..=3);
        self.arrival = ms(rng.u64(0..=4_000));
        self.delay = Duration::from_micros(100)..=ms([1, 20, 300][rng.usize(..3)]);
        self.piece_time = ms(1)..=ms([2, 50, 400][rng.usize(..3)]);
        self.origin_time = ms(1)..=ms([2, 50, 400][rng.usize(..3)]);
        self.hash_time = Duration::from_micros([10, 1_000, 20_000][rng.usize(..3)]);
        self.upload_slots = rng.u16(1..=4);
        self.download_slots = rng.u16(1..=4);
        self.without_right = [0, 0, 2, 3][rng.usize(..4)];
        self.stalls = [0, 0, 30, 8][rng.usize(..4)];
        self
    }

    /// Half of those that die come back while other things go wrong.
    fn bring_back(&mut self, rng: &mut fastrand::Rng) {
        let mut back = Vec::new();
        for (at, fault) in &self.faults {
            if let Fault::HostDies { host } = fault
                && rng.bool()
            {
                let after = Duration::from_millis(rng.u64(1..4_000));
                back.push((*at + after, Fault::HostReturns { host: *host, keeps_store: rng.bool() }));
            }
        }
        self.faults.extend(back);
    }

    fn some_fault(rng: &mut fastrand::Rng, hosts: usize) -> (Duration, Fault) {
        let host = rng.usize(..hosts);
        let lasts = Duration::from_millis(rng.u64(1..6_000));
        let whys = [LeaseFailure::Throttled, LeaseFailure::Unreachable, LeaseFailure::Refused];
        let fault = match rng.u8(..16) {
            0 | 1 => Fault::HostDies { host },
            2 | 3 => Fault::HostReturns { host, keeps_store: rng.bool() },
            4 | 5 => Fault::LinkBreaks { host },
            6 => Fault::SchedulerRestarts { gone: lasts },
            7 => Fault::SchedulerFreezes { lasts },
            8 | 9 => Fault::OriginFails { why: whys[rng.usize(..3)].clone(), lasts },
            10 | 11 => Fault::Corrupts { host, corrupts: rng.u8(..4) > 0 },
            12 => Fault::StoreLoses { host },
            13 | 14 => Fault::OriginLies { host, lies: rng.u8(..4) > 0 },
            _ => Fault::ClientsLeave { host, gone: lasts },
        };
        (Duration::from_millis(rng.u64(0..10_000)), fault)
    }

    /// One of the kinds above, or of those that few hosts would not have shown.
    fn any_fault(rng: &mut fastrand::Rng, hosts: usize, zones: usize) -> (Duration, Fault) {
        let host = rng.usize(..hosts);
        let lasts = Duration::from_millis(rng.u64(1..6_000));
        let fault = match rng.u8(..13) {
            0 => Fault::SourceDies,
            1 => Fault::Delays { host, by: Duration::from_millis(rng.u64(1..1_500)), lasts },
            2 => Fault::ZoneParts { zone: rng.usize(..zones), lasts },
            3 => Fault::Overclaims { host, overclaims: rng.u8(..4) > 0 },
            4 => Fault::Slows { host, part: [1, 4, 16][rng.usize(..3)] },
            5 => Fault::SourceIsLiedTo,
            6 => Fault::SourceClientsLeave { gone: lasts },
            _ => return Self::some_fault(rng, hosts),
        };
        (Duration::from_millis(rng.u64(0..10_000)), fault)
    }
}
