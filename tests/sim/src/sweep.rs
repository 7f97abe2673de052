//! Many runs by their seeds: which failed, and what happened in them all together.

use crate::outcome::Outcome;
use crate::settings::Settings;
use crate::world::World;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// What came of many runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// How many runs.
    pub runs: u64,
    /// The seeds of those that failed, and why.
    pub failed: BTreeMap<u64, String>,
    /// How often something went wrong, by its kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often a lease was taken over, by what had ended the one before.
    pub takeovers: BTreeMap<&'static str, u64>,
    /// Pieces that clients read for themselves.
    pub fallback_pieces: u64,
    /// Errors that clients got before they had what they wanted.
    pub errors: u64,
}

impl Sweep {
    /// Runs the settings that `make` gives for each of `count` seeds from `first` on, on as many threads as there are cores. `done`
    /// hears how many have been run.
    pub fn over(first: u64, count: u64, make: fn(u64) -> Settings, done: impl Fn(u64) + Sync) -> Self {
        let next = AtomicU64::new(0);
        let sweep = Mutex::new(Self::default());
        let work = || {
            loop {
                let step = next.fetch_add(1, Ordering::Relaxed);
                if step >= count {
                    return;
                }
                let seed = first.wrapping_add(step);
                let result = catch_unwind(AssertUnwindSafe(|| World::new(make(seed)).run()));
                let mut sweep = sweep.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                match result {
                    Ok(outcome) => sweep.add(&outcome),
                    Err(panic) => {
                        let text = panic.downcast_ref::<String>().map(String::as_str);
                        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
                        sweep.failed.insert(seed, text.to_owned());
                    }
                }
                sweep.runs += 1;
                done(sweep.runs);
            }
        };
        thread::scope(|scope| {
            let threads = thread::available_parallelism().map_or(1, usize::from);
            (0..threads).for_each(|_| drop(scope.spawn(work)));
        });
        sweep.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn add(&mut self, outcome: &Outcome) {
        let into = |all: &mut BTreeMap<&'static str, u64>, new: &BTreeMap<&'static str, u64>| {
            new.iter().for_each(|(kind, count)| *all.entry(kind).or_default() += count);
        };
        into(&mut self.faults, &outcome.faults);
        into(&mut self.takeovers, &outcome.takeovers);
        self.fallback_pieces += outcome.counters.verified_fallback;
        self.errors += outcome.failures.len() as u64;
    }
}
