//! The files of the machine that others look after too: how they are read, changed in one step, and put back.
//!
//! `runtime` and `service` say what is to stand where. Here is what both keep to: a file is refused rather than guessed at
//! ([`Refusal`]), is replaced whole or not at all ([`Files`]), a change can be shown before it is made ([`Change`]), and what
//! was done is written down before it is done ([`State`]).

mod change;
mod files;
mod program;
mod state;
pub(crate) mod systemd;

pub(crate) use change::Change;
pub(crate) use files::Files;
pub(crate) use program::digest_of;
pub(crate) use state::State;

/// Why something is left as it is; said to the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) String);
