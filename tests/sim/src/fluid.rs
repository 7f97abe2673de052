//! How transfers at the same time share links: max-min fair, which long TCP flows come near to.
//!
//! A flow crosses some links and has one rate, at which no other flow could be faster without one that is as slow or slower
//! becoming slower still (Bertsekas & Gallager 1992, "Data Networks", 6.5.2). Every link has a *level*, the most that it gives to
//! one flow: `Σ min(level, what the flow's other links give) = the link's rate`. A flow's rate is the least level on its way;
//! at that link it is among the fastest, which is what makes rates max-min fair, and there is one such set of rates.
//!
//! When a flow comes or goes, the levels of its links are found anew, then those of links that share a flow with one whose
//! level has changed, until none changes (as switches do it among themselves in Charny, Clark & Jain 1995). A change
//! rarely goes far, so that ten thousand hosts cost little more per flow than ten.
//!
//! Time is in nanoseconds, amounts in bytes, rates in bytes per second, all whole numbers. Levels round down, and a flow
//! ends when its last byte is there, so that nothing is faster than the links allow.

use std::collections::{BTreeMap, BTreeSet};
use types::Timestamp;

const NANOS: u128 = 1_000_000_000;

/// Levels that are found for one change at most, per flow that there is. Levels that take more go round in circles by
/// rounding, and all are found anew from nothing.
const ROUNDS_MAX: usize = 64;

/// A link, in the order in which they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(usize);

/// A flow; the number of one that has ended is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowId(u64);

/// What happens to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// No more bytes are left than it was to tell of.
    NearlyDone,
    /// The last byte has come.
    Done,
}

#[derive(Debug)]
struct Link {
    rate: u64,
    /// What it gives to one flow at most; more than its rate where nobody is held up by it.
    level: u64,
    flows: BTreeSet<FlowId>,
}

#[derive(Debug)]
struct Flow {
    links: Vec<LinkId>,
    /// The most that it can use.
    cap: u64,
    rate: u64,
    /// Bytes left at `since`, times 10⁹: what one byte per second brings in a nanosecond is 1.
    left: u128,
    since: Timestamp,
    /// Told once when no more than this is left, in the same unit.
    nearly: Option<u128>,
    /// Its entry in `marks`.
    next: Option<Timestamp>,
}

/// Links and the flows over them.
#[derive(Debug, Default)]
pub struct Fluid {
    links: Vec<Link>,
    flows: BTreeMap<FlowId, Flow>,
    marks: BTreeSet<(Timestamp, FlowId)>,
    next_flow: u64,
}

impl Flow {
    fn left_at(&self, now: Timestamp) -> u128 {
        self.left.saturating_sub(u128::from(self.rate) * now.since(self.since).as_nanos())
    }

    fn mark(&self) -> Mark {
        if self.nearly.is_some() { Mark::NearlyDone } else { Mark::Done }
    }

    /// When its next mark comes if its rate stays; never without a rate.
    fn next_mark(&self) -> Option<Timestamp> {
        let until = self.left.saturating_sub(self.nearly.unwrap_or(0));
        let nanos = match (until, self.rate) {
            (0, _) => 0,
            (_, 0) => return None,
            (until, rate) => until.div_ceil(u128::from(rate)),
        };
        let nanos = u64::try_from(nanos).ok()?;
        self.since.as_nanos().checked_add(nanos).map(Timestamp::from_nanos)
    }
}

impl Fluid {
    /// A link of this rate in bytes per second.
    pub fn link(&mut self, rate: u64) -> LinkId {
        self.links.push(Link { rate, level: rate, flows: BTreeSet::new() });
        LinkId(self.links.len() - 1)
    }

    /// Gives a link another rate; 0 holds all of its flows up.
    pub fn set_rate(&mut self, now: Timestamp, link: LinkId, rate: u64) {
        self.links[link.0].rate = rate;
        self.settle(now, [link].into());
    }

    /// Begins a flow of `bytes` over `links`, never faster than `cap`. It tells that it is nearly done when `nearly` bytes
    /// are left.
    pub fn start(
        &mut self,
        now: Timestamp,
        links: Vec<LinkId>,
        cap: u64,
        bytes: u64,
        nearly: Option<u64>,
    ) -> FlowId {
        let id = FlowId(self.next_flow);
        self.next_flow += 1;
        for link in &links {
            self.links[link.0].flows.insert(id);
        }
        let touched = links.iter().copied().collect();
        let scaled = |bytes: u64| u128::from(bytes) * NANOS;
        let nearly = nearly.map(|nearly| scaled(nearly.min(bytes)));
        let left = scaled(bytes);
        self.flows.insert(id, Flow { links, cap, rate: 0, left, since: now, nearly, next: None });
        self.set_mark(id);
        self.settle(now, touched);
        id
    }

    /// Ends a flow before its time; false if there is none such.
    pub fn stop(&mut self, now: Timestamp, id: FlowId) -> bool {
        let Some(flow) = self.flows.remove(&id) else { return false };
        if let Some(next) = flow.next {
            self.marks.remove(&(next, id));
        }
        for link in &flow.links {
            self.links[link.0].flows.remove(&id);
        }
        self.settle(now, flow.links.into_iter().collect());
        true
    }

    /// When [`Self::due`] has something to tell.
    #[must_use]
    pub fn next_mark(&self) -> Option<Timestamp> {
        self.marks.first().map(|(at, _)| *at)
    }

    /// One mark that has come by `now`; a flow that is done is gone.
    pub fn due(&mut self, now: Timestamp) -> Option<(FlowId, Mark)> {
        let (at, id) = *self.marks.first()?;
        if at > now {
            return None;
        }
        let flow = self.flows.get_mut(&id)?;
        let mark = flow.mark();
        match mark {
            Mark::NearlyDone => {
                flow.nearly = None;
                self.set_mark(id);
            }
            Mark::Done => drop(self.stop(now, id)),
        }
        Some((id, mark))
    }

    /// A flow's rate in bytes per second.
    #[must_use]
    pub fn rate(&self, id: FlowId) -> Option<u64> {
        self.flows.get(&id).map(|flow| flow.rate)
    }

    /// The bytes of a flow that have not come, rounded up.
    #[must_use]
    pub fn left(&self, now: Timestamp, id: FlowId) -> Option<u64> {
        let left = self.flows.get(&id)?.left_at(now).div_ceil(NANOS);
        u64::try_from(left).ok()
    }

    /// Finds levels and rates anew after a change at these links.
    fn settle(&mut self, now: Timestamp, mut touched: BTreeSet<LinkId>) {
        let mut flows: BTreeSet<FlowId> = BTreeSet::new();
        let mut rounds = ROUNDS_MAX * (self.flows.len() + touched.len());
        while let Some(link) = touched.pop_first() {
            let level = self.level_of(link);
            flows.extend(&self.links[link.0].flows);
            if std::mem::replace(&mut self.links[link.0].level, level) != level {
                let sharing = self.links[link.0].flows.iter().flat_map(|flow| &self.flows[flow].links);
                touched.extend(sharing.filter(|other| **other != link));
            }
            match rounds.checked_sub(1) {
                Some(less) => rounds = less,
                None => {
                    self.fill();
                    flows = self.flows.keys().copied().collect();
                    break;
                }
            }
        }
        for id in flows {
            self.set_rate_of(now, id);
        }
    }

    /// What a link gives to one flow at most, as the levels of the others stand.
    fn level_of(&self, link: LinkId) -> u64 {
        let Link { rate, flows, .. } = &self.links[link.0];
        let elsewhere = |flow: &FlowId| {
            let Flow { links, cap, .. } = &self.flows[flow];
            let others = links.iter().filter(|other| **other != link);
            others.map(|other| self.links[other.0].level).fold(*cap, u64::min)
        };
        let mut limits: Vec<u64> = flows.iter().map(elsewhere).collect();
        limits.sort_unstable();
        let (mut left, mut sharing) = (*rate, limits.len() as u64);
        for limit in limits {
            if limit > left / sharing {
                return left / sharing;
            }
            left -= limit;
            sharing -= 1;
        }
        // All get what they want: a flow more would get what is left, and no flow is held up.
        u64::MAX
    }

    /// All levels from nothing: the link with the least share for its flows is filled first, a flow that can use less
    /// than that before.
    fn fill(&mut self) {
        let mut left: Vec<(u64, BTreeSet<FlowId>)> =
            self.links.iter().map(|link| (link.rate, link.flows.clone())).collect();
        for link in &mut self.links {
            link.level = u64::MAX;
        }
        loop {
            let share = |(rate, flows): &(u64, BTreeSet<FlowId>)| rate.checked_div(flows.len() as u64);
            let shares = left.iter().enumerate();
            let tight = shares.filter_map(|(link, left)| share(left).map(|share| (share, link))).min();
            let Some((share, link)) = tight else { return };
            let open = left.iter().flat_map(|(_, flows)| flows);
            let (share, filled) = match open.map(|flow| (self.flows[flow].cap, *flow)).min() {
                Some((cap, flow)) if cap < share => (cap, BTreeSet::from([flow])),
                _ => {
                    self.links[link].level = share;
                    (share, std::mem::take(&mut left[link].1))
                }
            };
            for flow in filled {
                for other in &self.flows[&flow].links {
                    let (rate, flows) = &mut left[other.0];
                    *rate = rate.saturating_sub(share);
                    flows.remove(&flow);
                }
            }
        }
    }

    fn set_rate_of(&mut self, now: Timestamp, id: FlowId) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let rate = flow.links.iter().map(|link| self.links[link.0].level).fold(flow.cap, u64::min);
        if rate == flow.rate {
            return;
        }
        flow.left = flow.left_at(now);
        (flow.since, flow.rate) = (now, rate);
        self.set_mark(id);
    }

    fn set_mark(&mut self, id: FlowId) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let next = flow.next_mark();
        if let Some(before) = std::mem::replace(&mut flow.next, next) {
            self.marks.remove(&(before, id));
        }
        if let Some(next) = next {
            self.marks.insert((next, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn one_flow_gets_its_slowest_link() {
        let mut fluid = Fluid::default();
        let (fast, slow) = (fluid.link(1000), fluid.link(100));
        let flow = fluid.start(at(0), vec![fast, slow], u64::MAX, 50, Some(10));
        assert_eq!((fluid.rate(flow), fluid.next_mark()), (Some(100), Some(at(400))));
        assert_eq!(fluid.due(at(399)), None);
        assert_eq!(fluid.due(at(400)), Some((flow, Mark::NearlyDone)));
        assert_eq!((fluid.left(at(400), flow), fluid.next_mark()), (Some(10), Some(at(500))));
        assert_eq!(fluid.due(at(500)), Some((flow, Mark::Done)));
        assert_eq!((fluid.due(at(900)), fluid.next_mark(), fluid.rate(flow)), (None, None, None));
    }

    #[test]
    fn what_one_flow_cannot_use_the_others_get() {
        let mut fluid = Fluid::default();
        let (up, slow, down) = (fluid.link(900), fluid.link(100), fluid.link(5000));
        let held_up = fluid.start(at(0), vec![up, slow], u64::MAX, 1000, None);
        let others = [0, 1].map(|_| fluid.start(at(0), vec![up, down], u64::MAX, 1000, None));
        assert_eq!(fluid.rate(held_up), Some(100));
        assert_eq!(others.map(|flow| fluid.rate(flow)), [Some(400); 2]);
        // A second later 600 bytes of each are left; alone, one gets 800 of the link.
        assert!(fluid.stop(at(1000), others[0]) && !fluid.stop(at(1000), others[0]));
        assert_eq!((fluid.rate(others[1]), fluid.left(at(1000), others[1])), (Some(800), Some(600)));
        assert_eq!(fluid.next_mark(), Some(at(1750)));
        fluid.set_rate(at(1000), up, 0);
        assert_eq!((fluid.rate(held_up), fluid.next_mark()), (Some(0), None), "held up");
        fluid.set_rate(at(2000), up, 300);
        assert_eq!((fluid.rate(held_up), fluid.rate(others[1])), (Some(100), Some(200)));
        assert_eq!(fluid.next_mark(), Some(at(5000)), "600 bytes at 200 a second");
    }

    /// Every flow has what it can use, or a link that is full and on which no flow is faster: that is max-min fair. Rounding may leave a
    /// byte per second per flow unused.
    fn assert_fair(fluid: &Fluid) {
        let rates = |link: &Link| link.flows.iter().map(|flow| fluid.flows[flow].rate).collect::<Vec<_>>();
        for link in &fluid.links {
            assert!(rates(link).iter().sum::<u64>() <= link.rate, "{link:?} carries {:?}", rates(link));
        }
        for (id, flow) in &fluid.flows {
            let holds_up = |link: &&LinkId| {
                let link = &fluid.links[link.0];
                let rates = rates(link);
                let slack = (link.flows.len() * link.flows.len()) as u64;
                rates.iter().sum::<u64>() + slack >= link.rate
                    && rates.iter().all(|rate| *rate <= flow.rate + slack)
            };
            let could_be_faster = flow.rate < flow.cap && !flow.links.iter().any(|link| holds_up(&link));
            assert!(!could_be_faster, "{id:?} {flow:?} could be faster");
        }
    }

    proptest! {
        /// Over any network, whatever comes and goes, rates are fair, and found from nothing they are the same but for
        /// rounding.
        #[test]
        fn rates_are_always_fair(
            rates in prop::collection::vec(1_000u64..1_000_000, 2..12),
            steps in prop::collection::vec((any::<u64>(), 1u64..5_000_000, 0u64..2_000), 1..60),
        ) {
            let mut fluid = Fluid::default();
            let links: Vec<_> = rates.iter().map(|rate| fluid.link(*rate)).collect();
            let (mut now, mut sent) = (0, 0u128);
            for (chance, bytes, pause) in steps {
                now += pause;
                while let Some((_, mark)) = fluid.due(at(now)) {
                    prop_assert_eq!(mark, Mark::Done);
                }
                let mut rng = fastrand::Rng::with_seed(chance);
                match rng.u8(..6) {
                    0 => {
                        let flows: Vec<_> = fluid.flows.keys().copied().collect();
                        if let Some(flow) = rng.choice(&flows) {
                            prop_assert!(fluid.stop(at(now), *flow));
                        }
                    }
                    1 => fluid.set_rate(at(now), *rng.choice(&links).unwrap(), rng.u64(1_000..1_000_000)),
                    _ => {
                        let mut over = links.clone();
                        rng.shuffle(&mut over);
                        over.truncate(rng.usize(1..=4.min(links.len())));
                        let cap = if rng.bool() { u64::MAX } else { rng.u64(500..500_000) };
                        fluid.start(at(now), over, cap, bytes, None);
                        sent += u128::from(bytes);
                    }
                }
                assert_fair(&fluid);
                let left = fluid.flows.keys().map(|flow| u128::from(fluid.left(at(now), *flow).unwrap()));
                prop_assert!(left.sum::<u128>() <= sent);
            }
            let found: Vec<u64> = fluid.flows.values().map(|flow| flow.rate).collect();
            fluid.fill();
            let ids: Vec<_> = fluid.flows.keys().copied().collect();
            for id in &ids {
                fluid.set_rate_of(at(now), *id);
            }
            assert_fair(&fluid);
            for (before, after) in found.iter().zip(ids.iter().map(|id| fluid.flows[id].rate)) {
                let rounding = (ids.len() * ids.len()) as u64;
                prop_assert!(before.abs_diff(after) <= rounding, "{} became {}", before, after);
            }
        }
    }
}
