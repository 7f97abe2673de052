//! The lower bound: how fast a rollout could be at all, whoever decided who sends what to whom.
//!
//! One function, [`Rollout::bound`], for the demo, the load test and the simulator: each divides the time that it took by
//! it. All hosts want all blobs and begin at the same moment with nothing; [`Rollout::alone`] is for one that begins
//! later.
//!
//! Everything is an integer: bytes, bytes per second, nanoseconds in `u128`. Every division rounds down, so that a bound
//! is never above the true one and `makespan >= bound` can be asserted to the nanosecond.
//!
//! # Fluid
//!
//! Bytes as a fluid that flows as soon as its first drop is there (Kumar & Ross 2006, "Peer-assisted file distribution").
//! With F bytes, an origin of rate o, and hosts that send at u and receive at d, no schedule is faster than the largest of
//!
//! - `F / min d`: each host has to receive everything;
//! - for every set S of hosts into which at most c bytes per second can flow from outside: `F / c`, since everything has to
//!   get in once, and `|S|·F / (c + Σu over S)`, since every byte that a host of S receives came from outside or from S.
//!
//! The set of all hosts, with c = o, gives `F/o` and `N·F/(o + Σu)`; each zone and rack is such a set, with c what its
//! boundary lets in, or what all others can send if that is less.
//!
//! # Discrete
//!
//! Hosts forward whole pieces (Mundinger, Weber & Weiss 2008, "Optimal scheduling of peer-to-peer file dissemination"):
//! nobody sends on what it does not have yet. Whatever the order, the origin has sent all pieces of P bytes or more after
//! `ΣP/o` at the earliest, and the last of these has one holder then. A holder makes one more every `P/u`, so that there are
//! at most `2^k` after `k·P/u`; with a latency ℓ per hop the k-th copy that a holder sends is there after `k·P/u + ℓ`, and
//! the holders at a time are counted exactly. Pieces of several lengths give one bound for each length as the least P; the
//! largest counts. The fastest u of all hosts is taken: the bound then holds for unequal hosts too, though it is tight for
//! equal ones only.
//!
//! There are two of them. In [`Bound::discrete`] the origin goes on sending copies of that last piece, one each `P/o`:
//! with all rates equal, `(P/u)·(K + ⌊log2 N⌋)` for K pieces. In [`Bound::discrete_once`] the origin sends each byte once,
//! to a source, as Damselfly does: `K·P/o + ⌈log2 N⌉·P/u`. The first holds for any program, the second only for one whose
//! origin bytes ÷ F are 1.

use std::collections::BTreeMap;
use std::time::Duration;
use types::PieceLayout;

/// A rate without a limit.
pub const UNLIMITED: u64 = u64::MAX;

const NANOS: u128 = 1_000_000_000;

/// What a host can send and receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Bytes per second that it sends, or [`UNLIMITED`].
    pub up: u64,
    /// Bytes per second that it receives, or [`UNLIMITED`].
    pub down: u64,
}

/// Hosts behind a common boundary: a zone, a rack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The hosts, by their places in [`Rollout::hosts`].
    pub hosts: Vec<usize>,
    /// Bytes per second that its boundary lets in, those of the origin included.
    pub inflow: u64,
}

/// The pieces of all blobs: how many of which length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces(BTreeMap<u64, u64>);

impl Pieces {
    /// So many of each length in bytes.
    #[must_use]
    pub fn new(counts: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut pieces = Self::default();
        for (len, count) in counts {
            pieces.add(len, count);
        }
        pieces
    }

    /// The pieces of blobs of these sizes, as every host cuts them.
    ///
    /// # Panics
    /// If one is larger than any blob may be.
    #[must_use]
    pub fn of_blobs(sizes: impl IntoIterator<Item = u64>) -> Self {
        let mut pieces = Self::default();
        for size in sizes {
            let layout = PieceLayout::for_size(size).expect("a blob of a size that blobs have");
            let len = u64::from(layout.piece_len());
            pieces.add(len, size / len);
            pieces.add(size % len, 1);
        }
        pieces
    }

    fn add(&mut self, len: u64, count: u64) {
        if len > 0 && count > 0 {
            *self.0.entry(len).or_default() += count;
        }
    }

    /// The bytes of all, F.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(len, count)| len * count).sum()
    }

    /// Each length, with the bytes of the pieces that are as long or longer.
    fn thresholds(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().rev().scan(0, |sum, (len, count)| {
            *sum += len * count;
            Some((*len, *sum))
        })
    }
}

/// What is distributed to whom over what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// The pieces that every host wants.
    pub pieces: Pieces,
    /// Bytes per second that the origin sends, o, or [`UNLIMITED`].
    pub origin_rate: u64,
    /// The hosts, all of which want everything.
    pub hosts: Vec<Rates>,
    /// Zones and racks whose boundaries limit what gets in; none if nothing does.
    pub sites: Vec<Site>,
    /// One way, from the origin or from host to host, at the least.
    pub latency: Duration,
}

/// What no way of distribution can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Bytes as a fluid. Latencies are left out.
    pub fluid: Duration,
    /// Whole pieces, of which the origin may send several copies.
    pub discrete: Duration,
    /// Whole pieces, of which the origin sends one copy.
    pub discrete_once: Duration,
}

impl Bound {
    /// The largest that holds for a program that reads each byte from the origin once.
    #[must_use]
    pub fn once(&self) -> Duration {
        self.fluid.max(self.discrete_once)
    }

    /// The largest that holds for any program.
    #[must_use]
    pub fn any(&self) -> Duration {
        self.fluid.max(self.discrete)
    }
}

impl Rollout {
    /// `count` equal hosts without boundaries or latency.
    #[must_use]
    pub fn equal(pieces: Pieces, origin_rate: u64, count: usize, rates: Rates) -> Self {
        Self { pieces, origin_rate, hosts: vec![rates; count], sites: Vec::new(), latency: Duration::ZERO }
    }

    /// The bounds for all hosts, from their common start to the last byte of the last.
    #[must_use]
    pub fn bound(&self) -> Bound {
        if self.hosts.is_empty() || self.pieces.0.is_empty() {
            return Bound { fluid: Duration::ZERO, discrete: Duration::ZERO, discrete_once: Duration::ZERO };
        }
        let longest = |of: fn(&Spread) -> u128| {
            duration(self.spreads().map(|spread| spread.released + of(&spread)).max().unwrap_or(0))
        };
        Bound {
            fluid: duration(self.fluid()),
            discrete: longest(|spread| spread.with_origin()),
            discrete_once: longest(|spread| spread.by_one_source()),
        }
    }

    /// The bound for one host that may begin when others have everything: it receives everything, at most at its own rate
    /// and at most what all others together send.
    ///
    /// # Panics
    /// If there is no such host.
    #[must_use]
    pub fn alone(&self, host: usize) -> Duration {
        let bytes = u128::from(self.pieces.bytes());
        let others = u128::from(self.origin_rate) + self.up(|other| other != host);
        duration(
            nanos(bytes, u128::from(self.hosts[host].down)).max(nanos(bytes, others))
                + self.latency.as_nanos(),
        )
    }

    fn up(&self, of: impl Fn(usize) -> bool) -> u128 {
        (0..).zip(&self.hosts).filter(|(i, _)| of(*i)).map(|(_, rates)| u128::from(rates.up)).sum()
    }

    fn fluid(&self) -> u128 {
        let bytes = u128::from(self.pieces.bytes());
        let slowest = self.hosts.iter().map(|rates| rates.down).min().unwrap_or(UNLIMITED);
        let (origin, all) = (u128::from(self.origin_rate), self.up(|_| true));
        let into = |count: usize, inflow: u128, inside: u128| {
            nanos(bytes, inflow).max(nanos(bytes * count as u128, inflow + inside))
        };
        let sites = self.sites.iter().filter(|site| !site.hosts.is_empty()).map(|site| {
            let inside = site.hosts.iter().map(|host| u128::from(self.hosts[*host].up)).sum();
            into(site.hosts.len(), u128::from(site.inflow).min(origin + all - inside), inside)
        });
        let of_all = into(self.hosts.len(), origin, all);
        sites.chain([nanos(bytes, u128::from(slowest)), of_all]).max().unwrap_or(0)
    }

    /// How the last piece of each length, or of a greater one, spreads.
    fn spreads(&self) -> impl Iterator<Item = Spread> {
        let fastest = self.hosts.iter().map(|rates| rates.up).max().unwrap_or(UNLIMITED);
        self.pieces.thresholds().map(move |(len, bytes)| Spread {
            released: nanos(bytes.into(), self.origin_rate.into()),
            hosts: self.hosts.len() as u128,
            again: nanos(len.into(), self.origin_rate.into()),
            copy: nanos(len.into(), fastest.into()),
            latency: self.latency.as_nanos(),
        })
    }
}

/// One piece on its way to all hosts, from the moment that the origin has sent it. Times in nanoseconds.
struct Spread {
    /// When that is.
    released: u128,
    hosts: u128,
    /// How long the origin takes for one more copy.
    again: u128,
    /// How long a host takes for a copy.
    copy: u128,
    latency: u128,
}

impl Spread {
    /// When all hosts have it, if the origin sends it once.
    fn by_one_source(&self) -> u128 {
        self.least(|time| time.checked_sub(self.latency).map_or(0, |time| self.holders(time)))
    }

    /// When all hosts have it, if the origin goes on sending it.
    fn with_origin(&self) -> u128 {
        if self.again == 0 {
            return self.latency;
        }
        self.least(|time| {
            let arrivals = (0..).map_while(|i| time.checked_sub(self.latency + i * self.again));
            let mut holders = 0;
            for since in arrivals {
                holders += self.holders(since);
                if holders >= self.hosts {
                    break;
                }
            }
            holders
        })
    }

    /// The least time at which `holders` are as many as there are hosts.
    fn least(&self, holders: impl Fn(u128) -> u128) -> u128 {
        let (mut low, mut high) = (0, self.latency.max(1));
        while holders(high) < self.hosts {
            (low, high) = (high + 1, high * 2);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if holders(middle) < self.hosts { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// How many can have it `time` after the first, no more than there are hosts.
    ///
    /// The way to a holder has m hops; on each, the sender's k-th copy takes k·copy + latency. So it is there after
    /// K·copy + m·latency, where K is the sum of the k, and there are C(K−1, m−1) such ways.
    fn holders(&self, time: u128) -> u128 {
        if self.copy == 0 {
            return if time >= self.latency { self.hosts } else { 1 };
        }
        let mut count = 1;
        for sum in 1..=time / self.copy {
            let hops_max = (time - sum * self.copy).checked_div(self.latency).unwrap_or(sum).min(sum);
            let mut ways = 1;
            for hops in 1..=hops_max {
                count += ways;
                if count >= self.hosts {
                    return self.hosts;
                }
                ways = ways * (sum - hops) / hops;
            }
        }
        count
    }
}

/// How long `bytes` take, rounded down; no time without a limit.
fn nanos(bytes: u128, rate: u128) -> u128 {
    bytes * NANOS / rate.max(1)
}

fn duration(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { up: 100, down: 100 };

    fn ten_second_pieces() -> Pieces {
        Pieces::new([(10, 100)])
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn equal_hosts_have_both_discrete_bounds() {
        // 100 pieces of a tenth of a second each; hosts, ⌊log2 N⌋, ⌈log2 N⌉.
        for (count, floor, ceil) in
            [(1, 0, 0), (2, 1, 1), (3, 1, 2), (4, 2, 2), (5, 2, 3), (8, 3, 3), (1000, 9, 10), (1024, 10, 10)]
        {
            let bound = Rollout::equal(ten_second_pieces(), 100, count, RATES).bound();
            assert_eq!(bound.fluid, millis(10_000), "{count}");
            assert_eq!(bound.discrete, millis(10_000 + 100 * floor), "{count}");
            assert_eq!(bound.discrete_once, millis(10_000 + 100 * ceil), "{count}");
            assert_eq!((bound.any(), bound.once()), (bound.discrete, bound.discrete_once));
        }
    }

    #[test]
    fn slow_uploads_bind_when_the_origin_is_fast() {
        let slow = Rates { up: 10, down: 1000 };
        let bound = Rollout::equal(ten_second_pieces(), 1000, 5, slow).bound();
        // 5·1000 bytes at 1000 + 5·10 bytes per second.
        assert_eq!(bound.fluid.as_nanos(), 5_000_000_000_000 / 1050);
        // Each piece is out after a second; from one source the last copy comes after three doublings of a second each,
        // and the origin makes the four others in four hundredths.
        assert_eq!(bound.discrete_once, millis(1000 + 3000));
        assert_eq!(bound.discrete, millis(1000 + 40));
    }

    #[test]
    fn one_host_is_bound_by_its_own_link() {
        let bound = Rollout::equal(ten_second_pieces(), 100, 1, Rates { up: 100, down: 50 }).bound();
        assert_eq!((bound.fluid, bound.discrete_once), (millis(20_000), millis(10_000)));
        let slow = Rates { up: 100, down: 10 };
        let mixed =
            Rollout { hosts: vec![RATES, slow], ..Rollout::equal(ten_second_pieces(), 100, 0, RATES) };
        assert_eq!(mixed.bound().fluid, millis(100_000));
        assert_eq!((mixed.alone(0), mixed.alone(1)), (millis(10_000), millis(100_000)));
    }

    #[test]
    fn a_boundary_binds_what_is_behind_it() {
        let mut rollout = Rollout::equal(ten_second_pieces(), 100, 6, RATES);
        let (near, far) = (vec![0, 1, 2], vec![3, 4, 5]);
        rollout.sites =
            vec![Site { hosts: near, inflow: UNLIMITED }, Site { hosts: far.clone(), inflow: 20 }];
        // Everything has to come in once: 1000 bytes at 20 a second.
        assert_eq!(rollout.bound().fluid, millis(50_000));
        // Three hosts that hardly send: 3·1000 bytes at 40 + 3·1 a second.
        for host in &far {
            rollout.hosts[*host].up = 1;
        }
        rollout.sites[1].inflow = 40;
        assert_eq!(rollout.bound().fluid.as_nanos(), 3_000_000_000_000 / 43);
        // A boundary wider than all that is outside: the origin's 100 and three times 100.
        rollout.sites[1].inflow = 1_000_000;
        assert_eq!(
            rollout.bound().fluid,
            duration(nanos(1000, 100).max(nanos(3000, 403)).max(nanos(6000, 403)))
        );
    }

    #[test]
    fn each_hop_takes_its_latency() {
        let with = |count, latency| {
            let rollout = Rollout { latency, ..Rollout::equal(ten_second_pieces(), 100, count, RATES) };
            let bound = rollout.bound();
            (bound.discrete.as_millis(), bound.discrete_once.as_millis())
        };
        // To the source, then a copy and its hop. The origin's second copy comes a tenth after the first.
        assert_eq!(with(2, millis(10)), (10_110, 10_010 + 110));
        // Four: two generations; with the origin's help one host forwards a copy of each first copy.
        assert_eq!(with(4, millis(10)).1, 10_010 + 220);
        // Three with a latency beyond a copy: the source sends twice, 100 + 100 + 1000, rather than let its child forward.
        assert_eq!(with(3, millis(1000)).1, 11_000 + 1200);
    }

    #[test]
    fn the_last_piece_counts_for_what_it_is() {
        // A single byte beside ten pieces of 100: it may be the last to leave the origin, and then the others have left.
        let pieces = Pieces::new([(100, 10), (1, 1)]);
        assert_eq!(pieces.bytes(), 1001);
        let bound = Rollout::equal(pieces, 100, 4, RATES).bound();
        assert_eq!(bound.discrete_once, millis(10_000 + 2 * 1000));
        // Two pieces of 100 and ninety of 10: either 2 s and two doublings of 1 s, or 11 s and two of 0.1 s.
        let bound = Rollout::equal(Pieces::new([(100, 2), (10, 90)]), 100, 4, RATES).bound();
        assert_eq!(bound.discrete_once, millis(11_000 + 200));
    }

    #[test]
    fn blobs_are_cut_as_hosts_cut_them() {
        let pieces = Pieces::of_blobs([0, 1, 1 << 20, (1 << 20) + 5, 32 << 20]);
        assert_eq!(pieces, Pieces::new([(512 << 10, 4), (1, 1), (5, 1), (1 << 20, 32)]));
    }

    #[test]
    fn without_limits_nothing_binds() {
        let rates = Rates { up: UNLIMITED, down: UNLIMITED };
        let mut rollout = Rollout::equal(ten_second_pieces(), UNLIMITED, 50, rates);
        let nothing =
            Bound { fluid: Duration::ZERO, discrete: Duration::ZERO, discrete_once: Duration::ZERO };
        assert_eq!(rollout.bound(), nothing);
        rollout.origin_rate = 100;
        assert_eq!(rollout.bound().once(), millis(10_000));
        assert_eq!(Rollout::equal(ten_second_pieces(), 100, 0, RATES).bound(), nothing);
        assert_eq!(Rollout::equal(Pieces::default(), 100, 5, RATES).bound(), nothing);
    }

    #[test]
    fn large_rollouts_fit() {
        let rates = Rates { up: 1_250_000_000, down: 1_250_000_000 };
        let pieces = Pieces::of_blobs([20 << 30]);
        let rollout = Rollout { latency: millis(1), ..Rollout::equal(pieces, 12_500_000_000, 10_000, rates) };
        let bound = rollout.bound();
        assert!(bound.fluid > Duration::from_secs(17) && bound.discrete_once > bound.discrete, "{bound:?}");
    }
}
