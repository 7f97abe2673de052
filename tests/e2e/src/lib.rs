//! Real runtimes, a real registry and real daemons, each host in a network namespace of its own.
//!
//! The tests in `tests/e2e` say what is to happen; this library sets the scene. They need root and Debian's packages
//! (`packages`, which `tests/run` reads as well); where those cannot be had, they are skipped and say so.
//!
//! `bad_input`, `permission` and `sharing` need neither: their daemons run [`inside`] the tests' own process, but for the tests of
//! `sharing`'s `traces`, which start the programs. `pages` starts nothing.

pub mod cluster;
pub mod debian;
pub mod gate;
pub mod inside;
pub mod machine;
pub mod mounts;
pub mod runtime;
pub mod silent;
pub mod uploads;

use std::sync::{Mutex, MutexGuard, PoisonError};
use support::packages::ensure_installed;
use support::skip::{is_root, skipped};

/// The registry's name for clients: none of them asks DNS for it, all are told where it is.
pub const REGISTRY: &str = "registry.test";

/// The Debian packages that the tests need.
#[must_use]
pub fn packages() -> Vec<&'static str> {
    include_str!("../packages").lines().collect()
}

/// One test at a time: they measure, and the machine is small.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Makes way for `test`, or says why it is skipped.
pub fn begin(test: &str) -> Option<MutexGuard<'static, ()>> {
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_root() {
        skipped(test, "network namespaces need root");
        return None;
    }
    if let Err(error) = ensure_installed(&packages()) {
        skipped(test, &format!("{error:#}"));
        return None;
    }
    Some(guard)
}
