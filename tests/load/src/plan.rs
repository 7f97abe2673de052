//! Who is where, how fast, and what happens to whom when: all of it from the seed.

use crate::args::{Args, Arrival};
use ::report::bound::{Pieces, Rates, Rollout, UNLIMITED};
use std::time::Duration;

/// By what a slow peer's rate is divided.
const SLOW: u64 = 10;

/// One peer's part.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Which of the processes it runs in.
    pub process: usize,
    /// Its zone.
    pub zone: String,
    /// Bytes per second each way, if they are limited.
    pub rate: Option<u64>,
    /// When its client begins, after the common start.
    pub begins: Duration,
    /// Whether and when it dies.
    pub fate: Fate,
}

/// Whether and when a peer dies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// It does not.
    Lives,
    /// When its client has received this share of the image.
    Dies(f64),
}

/// All peers' parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The peers.
    pub peers: Vec<Peer>,
    /// Whether, besides those whose fate it is, a source dies.
    pub a_source_dies: bool,
}

impl Plan {
    /// What the arguments say.
    #[must_use]
    pub fn new(args: &Args) -> Self {
        let mut random = fastrand::Rng::with_seed(args.seed.into());
        let count = usize::from(args.peers);
        let mut order: Vec<usize> = (0..count).collect();
        random.shuffle(&mut order);
        let slow = &order[..share(count, args.slow)];
        let rate = args.rate.map(|rate| rate.as_u64());
        let mut peers: Vec<Peer> = (0..count)
            .map(|i| Peer {
                process: i % usize::from(args.processes),
                zone: zone(args.zones, i),
                rate: rate.map(|rate| if slow.contains(&i) { (rate / SLOW).max(1024) } else { rate }),
                begins: begins(args, i, &mut random),
                fate: Fate::Lives,
            })
            .collect();
        random.shuffle(&mut order);
        let deaths = share(count, args.kill);
        // One of them is found when it is known who is a source.
        for victim in &order[..deaths.saturating_sub(1)] {
            peers[*victim].fate = Fate::Dies(0.1 + 0.8 * random.f64());
        }
        Self { peers, a_source_dies: deaths > 0 }
    }

    /// How fast it could be, if that is defined: all rates limited, everybody there from the start, nobody dying.
    #[must_use]
    pub fn bound(&self, args: &Args, blob_sizes: impl IntoIterator<Item = u64>) -> Option<Duration> {
        if args.arrival != Arrival::Flash || args.kill > 0 {
            return None;
        }
        args.rate?;
        let rates =
            |rate: Option<u64>| Rates { up: rate.unwrap_or(UNLIMITED), down: rate.unwrap_or(UNLIMITED) };
        let rollout = Rollout {
            pieces: Pieces::of_blobs(blob_sizes),
            origin_rate: args.origin_rate().unwrap_or(UNLIMITED),
            hosts: self.peers.iter().map(|peer| rates(peer.rate)).collect(),
            sites: Vec::new(),
            latency: Duration::ZERO,
        };
        Some(rollout.bound().once())
    }
}

/// `percent` of `count`, at least one if there are any percent.
fn share(count: usize, percent: u8) -> usize {
    (count * usize::from(percent)).div_ceil(100)
}

/// The empty zone if there is one zone only, as in a cluster without zones.
fn zone(zones: u8, peer: usize) -> String {
    if zones == 1 { String::new() } else { format!("zone-{}", peer % usize::from(zones) + 1) }
}

fn begins(args: &Args, peer: usize, random: &mut fastrand::Rng) -> Duration {
    match args.arrival {
        Arrival::Flash => Duration::ZERO,
        Arrival::Staggered => args.over.mul_f64(random.f64()),
        #[allow(clippy::cast_precision_loss, reason = "at most 2000 peers")]
        Arrival::Rolling => args.over.mul_f64(peer as f64 / f64::from(args.peers)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn plan(args: &[&str]) -> (Args, Plan) {
        let args = Args::parse_from(["load", "--peers", "50"].iter().chain(args));
        let plan = Plan::new(&args);
        assert_eq!(plan, Plan::new(&args), "the same seed gives the same plan");
        (args, plan)
    }

    fn deaths(plan: &Plan) -> usize {
        plan.peers.iter().filter(|peer| peer.fate != Fate::Lives).count()
    }

    #[test]
    fn shares_are_kept() {
        let (_, plan) = plan(&["--kill", "10", "--slow", "20", "--rate", "10MiB", "--zones", "3"]);
        assert_eq!((deaths(&plan), plan.a_source_dies), (4, true));
        assert_eq!(plan.peers.iter().filter(|peer| peer.rate == Some(1 << 20)).count(), 10);
        assert_eq!(plan.peers.iter().filter(|peer| peer.zone == "zone-1").count(), 17);
        assert_eq!(plan.peers.iter().filter(|peer| peer.process == 3).count(), 12);
    }

    #[test]
    fn arrivals_stay_within_their_time() {
        let (_, rolling) = plan(&["--arrival", "rolling", "--over", "5s"]);
        assert_eq!(rolling.peers[10].begins, Duration::from_secs(1));
        let (_, staggered) = plan(&["--arrival", "staggered", "--over", "5s"]);
        assert!(staggered.peers.iter().all(|peer| peer.begins < Duration::from_secs(5)));
        let (_, flash) = plan(&[]);
        assert!(flash.peers.iter().all(|peer| peer.begins.is_zero() && peer.fate == Fate::Lives));
    }

    #[test]
    fn a_bound_needs_rates() {
        let (args, free) = plan(&[]);
        assert_eq!(free.bound(&args, [1 << 20]), None);
        let (args, limited) = plan(&["--rate", "1MiB"]);
        let bound = limited.bound(&args, [10 << 20]).unwrap();
        // Ten seconds of the origin, and the last of the pieces of half a second doubles six times.
        assert_eq!(bound, Duration::from_secs(10 + 3));
        let (args, deadly) = plan(&["--rate", "1MiB", "--kill", "10"]);
        assert_eq!(deadly.bound(&args, [10 << 20]), None);
    }
}
