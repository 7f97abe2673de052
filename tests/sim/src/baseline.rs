//! What simpler exchanges take on the same links: hosts that know nothing of each other's choices.
//!
//! One host reads the blob from the origin, once. Each other host, whenever a piece has come, goes through the hosts with a slot
//! free in random order and takes from each a random piece of those that it lacks, until its own slots are full. With a piece as
//! long as the blob that is the exchange of whole layers.

use crate::fluid::{FlowId, Fluid, LinkId, Mark};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use types::{PieceIndex, PieceLayout, PieceSet, Timestamp};

/// Before a host that found nothing at all asks again.
const PAUSE: Duration = Duration::from_millis(1);

/// Equal hosts on equal links, and one blob that all want.
#[derive(Clone, Debug)]
pub struct Naive {
    /// How many hosts.
    pub hosts: usize,
    /// The blob.
    pub layout: PieceLayout,
    /// What each link carries, the origin's too, in bytes per second.
    pub rate: u64,
    /// One way.
    pub latency: Duration,
    /// Transfers at once per host, up and down.
    pub slots: usize,
    /// Where all chance comes from.
    pub seed: u64,
}

#[derive(Debug)]
struct Peer {
    up: LinkId,
    down: LinkId,
    held: PieceSet,
    /// Held or on its way.
    have: PieceSet,
    uploads: usize,
    downloads: usize,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A host looks for what it can get.
    Asks { child: usize },
    /// The request has reached the parent.
    Begins { child: usize, parent: usize, piece: PieceIndex },
    /// The last byte has reached the child.
    Came { child: usize, piece: PieceIndex },
}

#[derive(Debug)]
struct Run {
    naive: Naive,
    rng: fastrand::Rng,
    fluid: Fluid,
    peers: Vec<Peer>,
    flows: BTreeMap<FlowId, (usize, Option<usize>, PieceIndex)>,
    steps: BTreeMap<(Timestamp, u64), Step>,
    /// Hosts with a slot to upload.
    ready: BTreeSet<usize>,
}

impl Naive {
    /// When the last host has everything.
    #[must_use]
    pub fn run(&self) -> Duration {
        let mut fluid = Fluid::default();
        let origin = fluid.link(self.rate);
        let count = self.layout.count();
        let peer = |_| Peer {
            up: fluid.link(self.rate),
            down: fluid.link(self.rate),
            held: PieceSet::empty(count),
            have: PieceSet::empty(count),
            uploads: 0,
            downloads: 0,
        };
        let peers: Vec<_> = (0..self.hosts).map(peer).collect();
        let mut run = Run {
            naive: self.clone(),
            rng: fastrand::Rng::with_seed(self.seed),
            fluid,
            peers,
            flows: BTreeMap::new(),
            steps: BTreeMap::new(),
            ready: BTreeSet::new(),
        };
        run.read(origin, PieceIndex(0), Timestamp::ZERO);
        (1..self.hosts).for_each(|child| run.later(Timestamp::ZERO, Step::Asks { child }));
        run.finish(origin).since(Timestamp::ZERO)
    }
}

impl Run {
    fn finish(&mut self, origin: LinkId) -> Timestamp {
        let mut now = Timestamp::ZERO;
        while self.peers.iter().any(|peer| !peer.held.is_full()) {
            let step = self.steps.first_key_value().map(|((at, _), _)| *at);
            let Some(at) = step.into_iter().chain(self.fluid.next_mark()).min() else {
                panic!("hosts without the blob, and nothing under way")
            };
            now = now.max(at);
            while let Some((flow, mark)) = self.fluid.due(now) {
                assert_eq!(mark, Mark::Done, "no flow was to tell of its end before");
                let Some((child, parent, piece)) = self.flows.remove(&flow) else { continue };
                if let Some(parent) = parent {
                    self.peers[parent].uploads -= 1;
                    self.offer(parent);
                } else if piece.0 + 1 < self.naive.layout.count() {
                    self.read(origin, PieceIndex(piece.0 + 1), now);
                }
                self.later(now + self.naive.latency, Step::Came { child, piece });
            }
            while self.steps.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
                if let Some((_, step)) = self.steps.pop_first() {
                    self.take(step, now);
                }
            }
        }
        now
    }

    fn later(&mut self, at: Timestamp, step: Step) {
        let number = self.rng.u64(..);
        self.steps.insert((at, number), step);
    }

    fn read(&mut self, origin: LinkId, piece: PieceIndex, now: Timestamp) {
        let links = vec![origin, self.peers[0].down];
        let flow = self.fluid.start(now, links, u64::MAX, self.naive.layout.range(piece).len(), None);
        self.flows.insert(flow, (0, None, piece));
    }

    fn take(&mut self, step: Step, now: Timestamp) {
        match step {
            Step::Asks { child } => self.ask(child, now),
            Step::Begins { child, parent, piece } => {
                let links = vec![self.peers[parent].up, self.peers[child].down];
                let len = self.naive.layout.range(piece).len();
                let flow = self.fluid.start(now, links, u64::MAX, len, None);
                self.flows.insert(flow, (child, Some(parent), piece));
            }
            Step::Came { child, piece } => {
                let peer = &mut self.peers[child];
                peer.held.insert(piece);
                peer.have.insert(piece);
                self.offer(child);
                if child > 0 {
                    self.peers[child].downloads -= 1;
                    self.ask(child, now);
                }
            }
        }
    }

    fn offer(&mut self, parent: usize) {
        let peer = &self.peers[parent];
        if peer.uploads < self.naive.slots && !peer.held.is_empty() {
            self.ready.insert(parent);
        }
    }

    /// Takes what it can get from whom it finds.
    fn ask(&mut self, child: usize, now: Timestamp) {
        let mut parents: Vec<_> = self.ready.iter().copied().filter(|parent| *parent != child).collect();
        self.rng.shuffle(&mut parents);
        for parent in parents {
            let peer = &self.peers[child];
            if peer.downloads == self.naive.slots || peer.have.is_full() {
                return;
            }
            let mut lacked = self.peers[parent].held.clone();
            lacked.subtract(&self.peers[child].have);
            if lacked.is_empty() {
                continue;
            }
            let Some(piece) = lacked.iter().nth(self.rng.usize(..lacked.len() as usize)) else { continue };
            self.peers[child].have.insert(piece);
            self.peers[child].downloads += 1;
            self.peers[parent].uploads += 1;
            if self.peers[parent].uploads == self.naive.slots {
                self.ready.remove(&parent);
            }
            self.later(now + self.naive.latency, Step::Begins { child, parent, piece });
        }
        if self.peers[child].downloads == 0 {
            self.later(now + PAUSE, Step::Asks { child });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(hosts: usize, pieces: u64, piece_len: u32, slots: usize) -> Duration {
        let layout = PieceLayout::new(pieces * u64::from(piece_len), piece_len).expect("whole pieces");
        Naive { hosts, layout, rate: 1 << 20, latency: Duration::from_millis(1), slots, seed: 1 }.run()
    }

    #[test]
    fn whole_layers_double() {
        // A second each for the origin and for 1 → 2 → 4 → 8 hosts, and two messages for each but the first, which ends with one.
        assert_eq!(naive(8, 1, 1 << 20, 1), Duration::from_millis(4_007));
        // Two at once from each take two seconds a step: 1 → 3 → 9.
        assert_eq!(naive(9, 1, 1 << 20, 2), Duration::from_millis(5_005));
    }

    #[test]
    fn pieces_are_faster_than_whole_layers_and_never_than_a_link() {
        let (pieces, whole) = (naive(20, 64, 1 << 14, 2), naive(20, 1, 1 << 20, 2));
        assert!(pieces < whole / 2 && pieces > Duration::from_secs(1), "{pieces:?} and {whole:?}");
    }
}
