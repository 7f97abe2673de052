//! The scheduler's decisions: which host reads a blob from its origin, and which host gets which piece from whom.
//!
//! A state machine without I/O, clock or randomness of its own: a driver (the gRPC server, or a simulator) tells it
//! what happened with [`Scheduler::handle`], carries out the [`Effect`]s, and comes back at
//! [`Scheduler::next_deadline`]. The same events with the same seed give the same effects.

mod options;
mod summary;

pub use options::Options;
pub use summary::{BlobSummary, Counters, HostSummary, Summary};

use types::{HostId, HostMessage, HostSpec, SchedulerMessage, Timestamp};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A host connected. Everything known of it from before is forgotten.
    HostJoined {
        /// Which.
        host: HostId,
        /// What it is.
        spec: HostSpec,
    },
    /// A host's stream ended, or it went silent.
    HostLeft {
        /// Which.
        host: HostId,
    },
    /// A host said something.
    Message {
        /// Which.
        host: HostId,
        /// What.
        message: HostMessage,
    },
    /// Time has passed: the answer to [`Scheduler::next_deadline`].
    Tick,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell a host.
    Send {
        /// Which.
        host: HostId,
        /// What.
        message: SchedulerMessage,
    },
}

/// The state machine.
#[derive(Debug)]
pub struct Scheduler {
    options: Options,
}

impl Scheduler {
    /// A scheduler that knows of nothing; `seed` decides what is left to chance.
    #[must_use]
    pub fn new(options: Options, seed: u64) -> Self {
        let _ = seed;
        Self { options }
    }

    /// Takes in one event at time `now`, which never goes back, and appends what is to be done to `effects`.
    pub fn handle(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        let _ = (now, event, effects, &self.options);
    }

    /// When [`Event::Tick`] is due at the latest, if no other event comes first. Before the first event it is
    /// [`Timestamp::ZERO`]: a driver ticks once at its start, which begins the quiet period.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    /// Checks what must always hold.
    ///
    /// # Panics
    /// If it does not, saying what broke. For tests and simulations.
    pub fn check_invariants(&self) {}

    /// The state for status and metrics.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary::default()
    }
}
