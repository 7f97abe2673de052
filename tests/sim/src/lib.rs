//! A network in memory that drives the real cores: one scheduler, many hosts, an origin, and everything between them that
//! can be late, break, lie or die.
//!
//! A run follows from its [`Settings`] alone: the same settings give the same run, to the last effect. [`World::run`]
//! panics if an invariant of a core breaks, if a host is asked for what it never reported, if a client gets a wrong blob,
//! or if something does not end in a bounded time after the last fault.
//!
//! Time is counted, not waited for. Pieces are 128 bytes, with real bytes and real chains, so that every lie is really
//! found. Links are simple, a piece takes a time and a host has slots; or, with [`Links`], transfers share them fairly.

mod baseline;
mod blob;
mod bound;
mod check;
mod clients;
mod driver;
mod fluid;
mod host;
mod network;
mod outcome;
pub mod paper;
mod queue;
mod settings;
mod store;
mod sweep;
mod trouble;
mod wire;
mod world;

pub use baseline::Naive;
pub use blob::{Blob, PIECE_LEN};
pub use fluid::{FlowId, Fluid, LinkId, Mark};
pub use outcome::{Outcome, Sample};
pub use settings::{Fault, Links, Settings, Visit, slots_for};
pub use sweep::{Seeds, Sweep};
pub use world::World;
