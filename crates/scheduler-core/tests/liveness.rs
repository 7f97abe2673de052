//! Whole runs with seeded delays and faults: everybody finishes, the origin is read once, and twice the same seed is
//! twice the same run.

mod common;

use common::world::{Faults, Setup, World};
use common::{PIECE_LEN, options};
use proptest::prelude::*;
use scheduler_core::Options;
use std::time::Duration;

const SETUP: Setup = Setup {
    hosts: 6,
    zones: 1,
    blobs: 1,
    registries: 1,
    pieces: 40,
    faults: Faults { fetch_fails: 0, origin_fails: 0, deaths: 0, restarts: 0, corruptors: 0, guests: 0 },
};

fn run(seed: u64, setup: Setup, options: Options) -> World {
    let mut world = World::new(seed, setup, options);
    world.run(Duration::from_secs(300));
    world
}

fn quiet() -> Options {
    Options { quiet_period: Duration::from_secs(1), ..options() }
}

#[test]
fn one_host_alone() {
    let world = run(1, Setup { hosts: 1, ..SETUP }, options());
    assert_eq!(world.origin_pieces, [40]);
}

#[test]
fn without_faults_each_byte_leaves_the_origin_once() {
    for (seed, n) in (0..40).zip(0usize..) {
        let setup = Setup { hosts: 2 + n % 20, zones: 1 + n % 4, blobs: 3, ..SETUP };
        let world = run(seed, setup, options());
        assert_eq!(world.origin_pieces, [40; 3], "seed {seed}");
        assert_eq!(world.fallback_pieces, 0, "seed {seed}");
        let counters = world.summary().counters;
        let zones = (setup.zones as u64).min(setup.hosts as u64);
        // With the source's zone served first, each piece enters each other zone once.
        assert_eq!(counters.crossings, 3 * 40 * (zones - 1), "seed {seed} {counters:?}");
        assert_eq!(counters.crossings_again, 0, "seed {seed}");
    }
}

#[test]
fn hosts_without_a_credential_are_served_too() {
    for seed in 0..20 {
        let setup = Setup { faults: Faults { guests: 4, ..SETUP.faults }, ..SETUP };
        let world = run(seed, setup, options());
        assert_eq!(
            (world.origin_pieces.as_slice(), world.fallback_pieces),
            ([40].as_slice(), 0),
            "seed {seed}"
        );
    }
}

#[test]
fn a_restarted_scheduler_goes_on_without_reading_again() {
    for seed in 0..40 {
        let setup = Setup { blobs: 2, pieces: 400, faults: Faults { restarts: 1, ..SETUP.faults }, ..SETUP };
        let world = run(seed, setup, quiet());
        assert_eq!(world.origin_pieces, [400; 2], "seed {seed}");
        assert_eq!(world.fallback_pieces, 0, "seed {seed}");
    }
}

#[test]
fn a_source_that_dies_costs_no_more_than_what_it_was_ahead() {
    for seed in 0..40 {
        let setup = Setup { hosts: 8, pieces: 300, faults: Faults { deaths: 1, ..SETUP.faults }, ..SETUP };
        let world = run(seed, setup, options());
        let ahead = 8 + 2; // as options() says, and what was under way
        assert!(world.origin_pieces[0] <= 300 + ahead, "seed {seed}: {:?}", world.origin_pieces);
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let faults =
        Faults { fetch_fails: 50, origin_fails: 20, deaths: 3, restarts: 1, corruptors: 1, guests: 1 };
    for seed in 0..5 {
        let setup = Setup { hosts: 8, zones: 2, blobs: 2, faults, ..SETUP };
        let traces = [(); 2].map(|()| run(seed, setup, quiet()).trace);
        assert_eq!(traces[0], traces[1], "seed {seed}");
    }
}

fn setups() -> impl Strategy<Value = Setup> {
    let faults = (0..100u32, 0..30u32, 0..6usize, 0..2usize, 0..2usize, 0..2usize);
    let faults = faults.prop_map(|(fetch_fails, origin_fails, deaths, restarts, corruptors, guests)| {
        Faults { fetch_fails, origin_fails, deaths, restarts, corruptors, guests }
    });
    (4..16usize, 1..4usize, 1..4usize, 1..3usize, 1..80u32, faults).prop_map(
        |(hosts, zones, blobs, registries, pieces, faults)| Setup {
            hosts,
            zones,
            blobs,
            registries,
            pieces,
            faults,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everybody_finishes(seed in any::<u64>(), setup in setups(), samples in 1..6usize, ahead in 1..20u64) {
        let options = Options { samples, source_ahead_bytes: ahead * u64::from(PIECE_LEN), ..quiet() };
        run(seed, setup, options);
    }
}
