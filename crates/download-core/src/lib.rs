//! One blob's download on one host: its decisions, without I/O.
//!
//! [`Download`] is a state machine. Its driver, dfdaemon's download engine or the simulator, tells it what happened and
//! when ([`Event`]), has it plan, and executes what it answers ([`Effect`]). There is no clock, no socket and no randomness in here
//! but a generator with a given seed, so that the same events give the same effects in any process.

mod alone;
mod download;
mod effect;
mod event;
mod hearing;
mod options;
mod pace;
mod peers;
mod proof;
mod readers;
mod reading;
mod source;
mod turn;

pub use download::{Download, Spec};
pub use effect::{Effect, Failure};
pub use event::{Event, FetchId, Fetched, LinkState, ReadId, ReaderId, StoreFailed};
pub use options::Options;
