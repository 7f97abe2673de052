//! When a download stops waiting for others: how the link stands, whose patience ran out, how the origin has failed.

use crate::readers::{Need, jittered};
use crate::turn::Turn;
use crate::{LinkState, Options};
use std::time::Duration;
use types::{LeaseFailure, Timestamp};

/// A reader that is stuck while other pieces come, of this blob or another, has this many times the patience.
const STUCK_PATIENCE_FACTOR: u32 = 4;
/// And if so few pieces of this blob have come meanwhile that it was not passed over, this many times. Over a
/// thin link a piece takes as long as a reader's patience, and all hosts would turn to an origin that is as thin.
const SLOW_PATIENCE_FACTOR: u32 = 16;
/// A blocked reader's piece is preferred in one choice of four, so it should have come among so many.
const PASSED_OVER: usize = 8;

/// Doublings of the back-off, at most.
const DOUBLINGS_MAX: u32 = 16;

/// How far this host goes without the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It waits for what the scheduler says.
    Together,
    /// A reader lost its patience: one stripe at a time, until peers deliver again.
    Stripes,
    /// All that the readers need.
    All,
}

#[derive(Clone, Debug)]
struct Failing {
    since: Timestamp,
    count: u32,
    retry_at: Timestamp,
    why: LeaseFailure,
}

#[derive(Debug)]
pub(crate) struct Alone {
    link: LinkState,
    /// From when on the link is taken to be of no help; `None` while it is up.
    from: Option<Timestamp>,
    /// The scheduler said that it has no source.
    pub(crate) no_source: bool,
    impatient: bool,
    /// By how much longer than its readers' patience this host waits, so that a crowd does not turn to the origin at once.
    forbearance: Duration,
    /// When a piece came last, or the scheduler was found again.
    progress_at: Timestamp,
    /// When a download of this host got a piece last, or part of one.
    host_moved_at: Timestamp,
    failing: Option<Failing>,
}

impl Alone {
    /// A download that begins without a link does not wait for one.
    pub(crate) fn new(link: LinkState, options: &Options, rng: &mut fastrand::Rng) -> Self {
        let from = (link != LinkState::Up).then_some(Timestamp::ZERO);
        let zero = Timestamp::ZERO;
        Self {
            link,
            from,
            no_source: false,
            impatient: false,
            forbearance: forbearance(options, rng),
            progress_at: zero,
            host_moved_at: zero,
            failing: None,
        }
    }

    /// A client comes to what nobody has waited for: what has failed so far failed for nobody, and it gets the whole time
    /// that is given to an origin. The pauses between attempts stay.
    pub(crate) fn client_comes(&mut self, now: Timestamp) {
        self.no_source = false;
        if let Some(failing) = &mut self.failing {
            failing.since = now;
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.link == LinkState::Up
    }

    /// Whether what is said may be heard, if only later.
    pub(crate) fn has_stream(&self) -> bool {
        self.link != LinkState::Down
    }

    /// A lost link may be back in a moment, with what was under way still good: the origin is spared for one patience.
    /// A silent one has been waited for already.
    pub(crate) fn link(
        &mut self,
        now: Timestamp,
        link: LinkState,
        options: &Options,
        rng: &mut fastrand::Rng,
    ) {
        match link {
            LinkState::Up => {
                self.from = None;
                self.no_source = false;
                self.impatient = false;
                self.progress_at = now;
            }
            LinkState::Silent => self.from = Some(now),
            LinkState::Down => {
                let patience = jittered(options.patience, options.patience_jitter_percent, rng);
                self.from = self.from.or(Some(now + patience));
            }
        }
        self.link = link;
    }

    /// A piece came from a peer, or the source is known to get on.
    pub(crate) fn helped(&mut self, now: Timestamp, options: &Options, rng: &mut fastrand::Rng) {
        self.progress_at = now;
        if std::mem::take(&mut self.impatient) {
            self.forbearance = forbearance(options, rng);
        }
    }

    /// A download of this host got a piece, or part of one.
    pub(crate) fn host_moved(&mut self, at: Timestamp) {
        self.host_moved_at = self.host_moved_at.max(at);
    }

    /// A piece came from the origin, or is about to come.
    pub(crate) fn progressed(&mut self, now: Timestamp) {
        self.progress_at = now;
    }

    /// The origin gave what it was asked.
    pub(crate) fn origin_worked(&mut self) {
        self.failing = None;
    }

    pub(crate) fn origin_failed(
        &mut self,
        now: Timestamp,
        why: LeaseFailure,
        options: &Options,
        rng: &mut fastrand::Rng,
    ) {
        let (since, count) = self.failing.as_ref().map_or((now, 0), |failing| (failing.since, failing.count));
        let full = options
            .origin_backoff
            .saturating_mul(1 << count.min(DOUBLINGS_MAX))
            .min(options.origin_backoff_max);
        let delay = full * rng.u32(50..=100) / 100;
        self.failing = Some(Failing { since, count: count.saturating_add(1), retry_at: now + delay, why });
    }

    /// Whether the origin may be asked now.
    pub(crate) fn may_retry(&self, turn: &mut Turn<'_>) -> bool {
        self.failing.as_ref().is_none_or(|failing| turn.reached(failing.retry_at))
    }

    /// Why the origin is given up, if it has failed for so long and nothing else came.
    pub(crate) fn given_up(&self, turn: &mut Turn<'_>, options: &Options) -> Option<LeaseFailure> {
        let failing = self.failing.as_ref()?;
        let until = failing.since.max(self.progress_at) + options.origin_patience;
        turn.reached(until).then(|| failing.why.clone())
    }

    /// Whether nothing has come for so long that a reader without a right of its own cannot be helped.
    pub(crate) fn is_hopeless(&self, turn: &mut Turn<'_>, since: Timestamp, options: &Options) -> bool {
        turn.reached(since.max(self.progress_at) + options.origin_patience)
    }

    /// What the needs that nothing is done for (`waiting`) allow.
    pub(crate) fn mode(&mut self, turn: &mut Turn<'_>, waiting: &[Need], pieces: u32) -> Mode {
        if self.no_source || self.from.is_some_and(|from| turn.reached(from)) {
            return Mode::All;
        }
        // Of a blob of few pieces, all the others.
        let enough = PASSED_OVER.min(pieces.saturating_sub(1) as usize).max(1);
        for need in waiting {
            let Some(since) = need.since else { continue };
            // While the host's links are busy with other blobs, this one waits for its turn: to read it from the origin
            // would only take the others' place.
            let patience = need.patience + self.forbearance;
            let quiet = turn.reached(since.max(self.progress_at).max(self.host_moved_at) + patience);
            // What comes after a long wait comes in no order: it is given a patience's time to come too.
            let stuck = if need.passed.count >= enough {
                (since + patience * STUCK_PATIENCE_FACTOR).max(need.passed.first + patience)
            } else {
                since + patience * SLOW_PATIENCE_FACTOR
            };
            self.impatient |= quiet || turn.reached(stuck);
        }
        if self.impatient { Mode::Stripes } else { Mode::Together }
    }
}

/// A random delay of at most one patience, distributed so that of a crowd of any size few wait short and most wait long:
/// what the first read from the origin reaches the others before they ask for it too. The distribution, an exponential
/// one cut off at both ends, is that of Nonnenmacher & Biersack, "Scalable feedback for large groups", IEEE/ACM
/// Transactions on Networking 7(3), 1999.
fn forbearance(options: &Options, rng: &mut fastrand::Rng) -> Duration {
    // In steps, of which each has twice as many hosts as the one before; within a step all moments are alike.
    let steps = options.crowd.max(1).next_power_of_two().ilog2();
    if steps == 0 {
        return Duration::ZERO;
    }
    const STEP: u32 = 1024;
    let from_the_end = rng.u64(..).leading_zeros() * STEP + rng.u32(..STEP);
    options.patience * (steps * STEP).saturating_sub(from_the_end) / (steps * STEP)
}
