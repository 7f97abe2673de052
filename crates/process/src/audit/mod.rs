//! The audit log: who did what, when, and what permitted it.
//!
//! What happened ([`Event`]) goes through a bounded queue ([`Log`]) to one task, which adds the client's user, writes it as
//! a JSON line, and rotates the file by its size. Programs tell it through [`Log::tell`], which never waits; `dfctl audit`
//! reads the files back by [`open_all`]. docs/audit.md has the format.

mod file;
mod key;
mod line;
mod log;

pub use file::{Options, open_all};
pub use key::{Key, KeyError};
pub use line::{Event, Kind, Line, Operation, Permit, PermittedBy, Request, Sources, VouchedBy, escape};
pub use log::{Log, Metrics, Writing};
