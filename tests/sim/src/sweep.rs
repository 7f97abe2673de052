//! Many runs by their seeds: which failed, and what happened in them all together.

use crate::outcome::Outcome;
use crate::settings::Settings;
use crate::world::World;
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Which runs.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// The first seed.
    pub first: u64,
    /// How many there are.
    pub count: u64,
    /// What a seed stands for.
    pub make: fn(u64) -> Settings,
    /// Whether each is run twice, and must be the same.
    pub twice: bool,
    /// Whether to stop when one has failed.
    pub stop: bool,
}

impl Seeds {
    fn run(&self, seed: u64) -> Result<Outcome, String> {
        let run =
            || catch_unwind(|| World::new((self.make)(seed)).run()).map_err(|panic| text_of(panic.as_ref()));
        let outcome = run()?;
        if self.twice && run()? != outcome {
            return Err("the same seed gave another run".to_owned());
        }
        Ok(outcome)
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?").to_owned()
}

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
    /// Runs the seeds on as many threads as there are cores. `done` hears how many have been run.
    pub fn over(seeds: &Seeds, done: impl Fn(u64) + Sync) -> Self {
        let next = AtomicU64::new(0);
        let sweep = Mutex::new(Self::default());
        let locked = || sweep.lock().unwrap_or_else(PoisonError::into_inner);
        let work = || {
            loop {
                let step = next.fetch_add(1, Ordering::Relaxed);
                if step >= seeds.count || (seeds.stop && !locked().failed.is_empty()) {
                    return;
                }
                let seed = seeds.first.wrapping_add(step);
                let result = seeds.run(seed);
                let mut sweep = locked();
                match result {
                    Ok(outcome) => sweep.add(&outcome),
                    Err(why) => drop(sweep.failed.insert(seed, why)),
                }
                sweep.runs += 1;
                done(sweep.runs);
            }
        };
        thread::scope(|scope| {
            let threads = thread::available_parallelism().map_or(1, usize::from);
            (0..threads).for_each(|_| drop(scope.spawn(work)));
        });
        sweep.into_inner().unwrap_or_else(PoisonError::into_inner)
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
