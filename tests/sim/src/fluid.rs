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

use std::collections::{BTreeSet, VecDeque};
use types::Timestamp;

const NANOS: u128 = 1_000_000_000;

/// Levels that are found for one change at most, per flow that there is. Levels that take more go round in circles by
/// rounding, and all are found anew from nothing.
const ROUNDS_MAX: usize = 64;

/// A link, in the order in which they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(u32);

/// A flow; the number of one that has ended is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowId {
    serial: u64,
    place: u32,
}

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
    /// The places of the flows over it.
    flows: Vec<u32>,
    /// Its level is to be found anew.
    queued: bool,
}

#[derive(Debug)]
struct Flow {
    id: FlowId,
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
    /// Its rate is to be found anew.
    queued: bool,
}

/// Links and the flows over them.
#[derive(Debug, Default)]
pub struct Fluid {
    links: Vec<Link>,
    flows: Vec<Option<Flow>>,
    free: Vec<u32>,
    count: usize,
    marks: BTreeSet<(Timestamp, FlowId)>,
    next_serial: u64,
    /// Kept for their memory.
    touched: VecDeque<LinkId>,
    changed: Vec<u32>,
    limits: Vec<u64>,
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
    ///
    /// # Panics
    /// If there are more than four thousand million.
    pub fn link(&mut self, rate: u64) -> LinkId {
        let id = LinkId(u32::try_from(self.links.len()).expect("so many links"));
        self.links.push(Link { rate, level: rate, flows: Vec::new(), queued: false });
        id
    }

    /// Gives a link another rate; 0 holds all of its flows up.
    pub fn set_rate(&mut self, now: Timestamp, link: LinkId, rate: u64) {
        self.link_mut(link).rate = rate;
        self.touch(link);
        self.settle(now);
    }

    /// Begins a flow of `bytes` over `links`, never faster than `cap`. It tells that it is nearly done when `nearly` bytes
    /// are left.
    ///
    /// # Panics
    /// If there are more than four thousand million at the same time.
    pub fn start(
        &mut self,
        now: Timestamp,
        links: Vec<LinkId>,
        cap: u64,
        bytes: u64,
        nearly: Option<u64>,
    ) -> FlowId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.flows.push(None);
            u32::try_from(self.flows.len() - 1).expect("so many flows")
        });
        let id = FlowId { serial: self.next_serial, place };
        self.next_serial += 1;
        self.count += 1;
        for link in &links {
            self.link_mut(*link).flows.push(place);
            self.touch(*link);
        }
        let scaled = |bytes: u64| u128::from(bytes) * NANOS;
        let nearly = nearly.map(|nearly| scaled(nearly.min(bytes)));
        let left = scaled(bytes);
        let flow = Flow { id, links, cap, rate: 0, left, since: now, nearly, next: None, queued: false };
        self.flows[place as usize] = Some(flow);
        self.set_mark(place);
        self.settle(now);
        id
    }

    /// Ends a flow before its time; false if there is none such.
    pub fn stop(&mut self, now: Timestamp, id: FlowId) -> bool {
        if self.get(id).is_none() {
            return false;
        }
        let Some(flow) = self.flows[id.place as usize].take() else { return false };
        self.free.push(id.place);
        self.count -= 1;
        if let Some(next) = flow.next {
            self.marks.remove(&(next, id));
        }
        for link in flow.links {
            let flows = &mut self.link_mut(link).flows;
            if let Some(at) = flows.iter().position(|place| *place == id.place) {
                flows.swap_remove(at);
            }
            self.touch(link);
        }
        self.settle(now);
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
        let flow = self.flows[id.place as usize].as_mut()?;
        let mark = flow.mark();
        match mark {
            Mark::NearlyDone => {
                flow.nearly = None;
                self.set_mark(id.place);
            }
            Mark::Done => drop(self.stop(now, id)),
        }
        Some((id, mark))
    }

    /// A flow's rate in bytes per second.
    #[must_use]
    pub fn rate(&self, id: FlowId) -> Option<u64> {
        self.get(id).map(|flow| flow.rate)
    }

    /// The bytes of a flow that have not come, rounded up.
    #[must_use]
    pub fn left(&self, now: Timestamp, id: FlowId) -> Option<u64> {
        let left = self.get(id)?.left_at(now).div_ceil(NANOS);
        u64::try_from(left).ok()
    }

    /// What goes over a link at the moment, in bytes per second.
    #[must_use]
    pub fn used(&self, link: LinkId) -> u64 {
        self.link_at(link).flows.iter().map(|place| self.at(*place).rate).sum()
    }

    /// What a link carries at most.
    #[must_use]
    pub fn link_rate(&self, link: LinkId) -> u64 {
        self.link_at(link).rate
    }

    fn get(&self, id: FlowId) -> Option<&Flow> {
        self.flows.get(id.place as usize)?.as_ref().filter(|flow| flow.id == id)
    }

    /// The flow at a place that a link or the list of changes names.
    fn at(&self, place: u32) -> &Flow {
        self.flows[place as usize].as_ref().expect("links name only flows that there are")
    }

    fn link_at(&self, link: LinkId) -> &Link {
        &self.links[link.0 as usize]
    }

    fn link_mut(&mut self, link: LinkId) -> &mut Link {
        &mut self.links[link.0 as usize]
    }

    fn touch(&mut self, link: LinkId) {
        if !std::mem::replace(&mut self.link_mut(link).queued, true) {
            self.touched.push_back(link);
        }
    }

    /// Finds levels and rates anew after a change at the touched links.
    fn settle(&mut self, now: Timestamp) {
        let mut rounds = ROUNDS_MAX * (self.count + self.touched.len());
        while let Some(link) = self.touched.pop_front() {
            self.link_mut(link).queued = false;
            let level = self.level_of(link);
            let moved = std::mem::replace(&mut self.link_mut(link).level, level) != level;
            for at in 0..self.link_at(link).flows.len() {
                let place = self.link_at(link).flows[at];
                let Some(flow) = &mut self.flows[place as usize] else { continue };
                if !std::mem::replace(&mut flow.queued, true) {
                    self.changed.push(place);
                }
                if moved {
                    for other in &flow.links {
                        let sharing = &mut self.links[other.0 as usize];
                        if *other != link && !std::mem::replace(&mut sharing.queued, true) {
                            self.touched.push_back(*other);
                        }
                    }
                }
            }
            match rounds.checked_sub(1) {
                Some(less) => rounds = less,
                None => {
                    self.fill();
                    break;
                }
            }
        }
        while let Some(place) = self.changed.pop() {
            self.set_rate_of(now, place);
        }
    }

    /// What a link gives to one flow at most, as the levels of the others stand.
    fn level_of(&mut self, link: LinkId) -> u64 {
        let mut limits = std::mem::take(&mut self.limits);
        limits.clear();
        let Link { rate, flows, .. } = self.link_at(link);
        for place in flows {
            let Flow { links, cap, .. } = self.at(*place);
            let others = links.iter().filter(|other| **other != link);
            limits.push(others.map(|other| self.link_at(*other).level).fold(*cap, u64::min));
        }
        limits.sort_unstable();
        let (mut left, mut sharing) = (*rate, limits.len() as u64);
        // If all get what they want: a flow more would get what is left, and no flow is held up.
        let mut level = u64::MAX;
        for limit in &limits {
            if *limit > left / sharing {
                level = left / sharing;
                break;
            }
            left -= limit;
            sharing -= 1;
        }
        self.limits = limits;
        level
    }

    /// All levels from nothing: the link with the least share for its flows is filled first, a flow that can use less
    /// than that before.
    fn fill(&mut self) {
        self.touched.clear();
        let mut left: Vec<(u64, BTreeSet<u32>)> =
            self.links.iter().map(|link| (link.rate, link.flows.iter().copied().collect())).collect();
        for link in &mut self.links {
            (link.level, link.queued) = (u64::MAX, false);
        }
        for (place, flow) in (0..).zip(&mut self.flows) {
            if let Some(flow) = flow.as_mut().filter(|flow| !flow.queued) {
                flow.queued = true;
                self.changed.push(place);
            }
        }
        loop {
            let share = |(rate, flows): &(u64, BTreeSet<u32>)| rate.checked_div(flows.len() as u64);
            let shares = left.iter().enumerate();
            let tight = shares.filter_map(|(link, left)| share(left).map(|share| (share, link))).min();
            let Some((share, link)) = tight else { return };
            let open = left.iter().flat_map(|(_, flows)| flows);
            let (share, filled) = match open.map(|place| (self.at(*place).cap, *place)).min() {
                Some((cap, place)) if cap < share => (cap, BTreeSet::from([place])),
                _ => {
                    self.links[link].level = share;
                    (share, std::mem::take(&mut left[link].1))
                }
            };
            for place in filled {
                for other in &self.at(place).links {
                    let (rate, flows) = &mut left[other.0 as usize];
                    *rate = rate.saturating_sub(share);
                    flows.remove(&place);
                }
            }
        }
    }

    fn set_rate_of(&mut self, now: Timestamp, place: u32) {
        let Some(flow) = &mut self.flows[place as usize] else { return };
        flow.queued = false;
        let levels = flow.links.iter().map(|link| self.links[link.0 as usize].level);
        let rate = levels.fold(flow.cap, u64::min);
        if rate == flow.rate {
            return;
        }
        flow.left = flow.left_at(now);
        (flow.since, flow.rate) = (now, rate);
        self.set_mark(place);
    }

    fn set_mark(&mut self, place: u32) {
        let Some(flow) = &mut self.flows[place as usize] else { return };
        let next = flow.next_mark();
        if let Some(before) = std::mem::replace(&mut flow.next, next) {
            self.marks.remove(&(before, flow.id));
        }
        if let Some(next) = next {
            self.marks.insert((next, flow.id));
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

    fn ids(fluid: &Fluid) -> Vec<FlowId> {
        fluid.flows.iter().flatten().map(|flow| flow.id).collect()
    }

    /// Every flow has what it can use, or a link that is full and on which no flow is faster: that is max-min fair. Rounding may leave a
    /// byte per second per flow unused.
    fn assert_fair(fluid: &Fluid) {
        let rates = |link: &Link| link.flows.iter().map(|place| fluid.at(*place).rate).collect::<Vec<_>>();
        for link in &fluid.links {
            assert!(rates(link).iter().sum::<u64>() <= link.rate, "{link:?} carries {:?}", rates(link));
        }
        for flow in fluid.flows.iter().flatten() {
            let holds_up = |link: &&LinkId| {
                let link = fluid.link_at(**link);
                let rates = rates(link);
                let slack = (link.flows.len() * link.flows.len()) as u64;
                rates.iter().sum::<u64>() + slack >= link.rate
                    && rates.iter().all(|rate| *rate <= flow.rate + slack)
            };
            let could_be_faster = flow.rate < flow.cap && !flow.links.iter().any(|link| holds_up(&link));
            assert!(!could_be_faster, "{flow:?} could be faster");
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
                        let flows = ids(&fluid);
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
                let left = ids(&fluid).into_iter().map(|flow| u128::from(fluid.left(at(now), flow).unwrap()));
                prop_assert!(left.sum::<u128>() <= sent);
            }
            let ids = ids(&fluid);
            let found: Vec<u64> = ids.iter().map(|id| fluid.rate(*id).unwrap()).collect();
            fluid.fill();
            for id in &ids {
                fluid.set_rate_of(at(now), id.place);
            }
            assert_fair(&fluid);
            for (before, after) in found.iter().zip(ids.iter().map(|id| fluid.rate(*id).unwrap())) {
                let rounding = (ids.len() * ids.len()) as u64;
                prop_assert!(before.abs_diff(after) <= rounding, "{} became {}", before, after);
            }
        }
    }
}
