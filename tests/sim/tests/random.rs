//! A thousand networks in which anything may go wrong: all end well, and every kind of trouble has been there.

use sim::{Seeds, Settings, Sweep, World};
use std::process::Command;

const SEEDS: u64 = 1_000;
/// What must have happened at least, for the thousand to mean something.
const LEAST: u64 = 20;

const FAULTS: &[&str] = &[
    "clients leave",
    "host claims what it does not hold",
    "host corrupts",
    "host dies",
    "host is slow",
    "host returns",
    "link breaks",
    "messages are late",
    "origin cannot be reached",
    "origin lies",
    "origin lies to a source",
    "origin refuses",
    "origin throttles",
    "scheduler freezes",
    "scheduler restarts",
    "source dies",
    "source's clients leave",
    "store loses pieces",
    "zone is cut off",
];

const TAKEOVERS: &[&str] = &[
    "a chain was found false",
    "a scheduler had restarted",
    "a source found its chain false",
    "a source was gone",
    "a source was silent",
    "a source's clients left",
    "an origin could not be reached",
    "an origin refused",
    "an origin sent something else",
    "an origin throttled",
];

#[test]
fn a_thousand_networks_in_which_anything_goes_wrong_end_well() {
    let seeds = Seeds { first: 0, count: SEEDS, make: Settings::random, twice: false, stop: false };
    let sweep = Sweep::over(&seeds, |_| ());
    for (seed, why) in &sweep.failed {
        println!("cargo sim replay {seed}: {}", why.lines().next().unwrap_or_default());
    }
    println!("{:#?}\n{:#?}", sweep.faults, sweep.takeovers);
    assert!(sweep.failed.is_empty() && sweep.runs == SEEDS, "{} failed", sweep.failed.len());
    for (kinds, counted) in [(FAULTS, &sweep.faults), (TAKEOVERS, &sweep.takeovers)] {
        for kind in kinds {
            let count = counted.get(kind).copied().unwrap_or(0);
            assert!(count >= LEAST, "{kind}: {count} times");
        }
        assert!(counted.keys().all(|kind| kinds.contains(kind)), "a kind that is not asked for: {counted:?}");
    }
}

/// What nobody waits for comes too, however often clients' blobs, the scheduler and the origin are in its way.
#[test]
fn preheats_end_in_networks_in_which_anything_goes_wrong() {
    let seeds = Seeds { first: 0, count: SEEDS / 4, make: Settings::preheating, twice: false, stop: false };
    let sweep = Sweep::over(&seeds, |_| ());
    for (seed, why) in &sweep.failed {
        let why = why.lines().next().unwrap_or_default();
        println!("cargo sim replay {seed} --kind preheat: {why}");
    }
    assert!(sweep.failed.is_empty() && sweep.runs == SEEDS / 4, "{} failed", sweep.failed.len());
}

/// Seeds that once found something, named after it.
const FOUND: &[(u64, &str)] = &[
    (
        2_274,
        "a source had claimed the last piece before it was one, and was done as soon as it could be told",
    ),
    (19, "leases of a slow origin lapsed, and everybody read for himself"),
    (5_345, "a right that came as the lingering ended lost its reader"),
    (6_817, "a holder of false pieces told the states of one false chain after the other"),
];

#[test]
fn found_networks() {
    for (seed, what) in FOUND {
        println!("{what}");
        drop(World::new(Settings::random(*seed)).run());
    }
}

/// What happens follows from the seed alone, not from where in memory or when it runs.
#[test]
fn two_processes_see_the_same() {
    for seed in ["1", "7", "1234"] {
        let trace = || {
            let output = Command::new(env!("CARGO_BIN_EXE_sim"))
                .args(["replay", seed, "--quiet"])
                .output()
                .expect("the program runs");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).expect("a number")
        };
        let (first, second) = (trace(), trace());
        assert_eq!(first, second, "seed {seed}");
        assert_eq!(first.trim().len(), 16, "{first}");
    }
}
