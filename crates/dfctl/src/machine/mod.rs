//! The files of the machine that others look after too: how they are read, changed in one step, and put back.
//!
//! `runtime` and `service` say what is to stand where. Here is what both keep to: a file is refused rather than guessed at
//! ([`Refusal`]), is replaced whole or not at all ([`Files`]), a change can be shown before it is made ([`Change`]), and what
//! was done is written down before it is done ([`State`]).

mod change;
mod files;
mod marked;
mod owner;
mod program;
mod state;
pub(crate) mod systemd;

pub(crate) use change::Change;
pub(crate) use files::Files;
pub(crate) use marked::{remove_marked, unlink};
pub(crate) use owner::strangers;
pub(crate) use program::digest_of;
pub(crate) use state::{Recorded, State};

use std::io;
use std::path::Path;

/// Why something is left as it is; said to the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Refusal {
    pub(crate) why: String,
    /// Of what the system said; `InvalidInput` where the words are ours.
    pub(crate) kind: io::ErrorKind,
}

impl Refusal {
    /// Ours.
    pub(crate) const fn new(why: String) -> Self {
        Self { why, kind: io::ErrorKind::InvalidInput }
    }

    /// What the system says about a file.
    pub(crate) fn of(path: &Path, error: &io::Error) -> Self {
        Self { why: format!("{}: {error}", path.display()), kind: error.kind() }
    }
}
