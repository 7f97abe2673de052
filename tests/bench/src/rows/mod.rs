//! The rows, group by group; each module's `measure` gives those of one.

pub mod cold;
pub mod memory;
pub mod scheduler;
pub mod security;
pub mod transport;
pub mod verification;
pub mod warm;

use crate::args::Args;
use anyhow::{Context, Result};
use std::path::Path;
use std::sync::OnceLock;
use support::binaries::{Binaries, Profile};
use tempfile::TempDir;

/// What all measurements share.
#[derive(Debug)]
pub struct Scene {
    quick: bool,
    dir: TempDir,
    binaries: OnceLock<Binaries>,
}

impl Scene {
    /// A directory below `target`, which is on a disk where `/tmp` may be in memory.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(args: &Args) -> Result<Self> {
        let target = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target"));
        std::fs::create_dir_all(target).with_context(|| target.display().to_string())?;
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(target.canonicalize()?)?;
        Ok(Self { quick: args.quick, dir, binaries: OnceLock::new() })
    }

    /// A directory for files that are removed at the end.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `full`, or `quick` if that is asked for.
    #[must_use]
    pub const fn size<T: Copy>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// The programs, built at the first call, with the benchmark's own profile.
    ///
    /// # Errors
    /// If they do not build.
    pub fn binaries(&self) -> Result<&Binaries> {
        if self.binaries.get().is_none() {
            eprintln!("  looking for the programs, or building them");
            let built = Binaries::build(Profile::of_caller())?;
            return Ok(self.binaries.get_or_init(|| built));
        }
        self.binaries.get().context("built above")
    }
}

/// Bytes as a count of gigabytes (10⁹).
fn gigabytes(bytes: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a figure for people, of bytes below 2^52")]
    {
        bytes as f64 / 1e9
    }
}

/// Bytes as a count of megabytes (10⁶).
fn megabytes(bytes: u64) -> f64 {
    gigabytes(bytes) * 1000.0
}
