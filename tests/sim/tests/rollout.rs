//! Rollouts over links with rates: near their bound, never faster than it, and whole whatever goes wrong.

use proptest::prelude::*;
use sim::{Links, Settings, World};
use std::time::Duration;
use types::PieceLayout;

/// 1 Gbit/s in bytes per second.
const GIGABIT: u64 = 125_000_000;
/// What a piece has on the links.
const PIECE: u32 = 2 << 20;
/// Pieces of the blob: 256 MiB.
const COUNT: u32 = 128;
const LATENCY: Duration = Duration::from_micros(200);

fn settings(seed: u64, hosts: usize) -> Settings {
    let links = Links::equal(GIGABIT, PIECE);
    let layout = PieceLayout::new(u64::from(COUNT) * u64::from(PIECE), PIECE).expect("whole pieces");
    Settings { delay: LATENCY..=LATENCY, ..Settings::rollout(seed, hosts, layout, 1, links) }
}

/// Runs it, and says how much longer it took than the bound.
fn ratio(settings: &Settings) -> f64 {
    let outcome = World::new(settings.clone()).run();
    let bound = settings.bound(&outcome).expect("it has links");
    assert_eq!((outcome.origin_bytes, outcome.through_bytes), (outcome.blob_bytes, 0), "read once");
    assert!(outcome.took >= bound.once(), "{:?} is faster than the bound {bound:?}", outcome.took);
    assert_eq!(outcome.completed.iter().max(), Some(&outcome.took));
    let ratio = outcome.took.as_secs_f64() / bound.once().as_secs_f64();
    println!(
        "seed {}, {} hosts: {ratio:.3} × the bound of {:?}",
        settings.seed,
        settings.hosts,
        bound.once()
    );
    ratio
}

/// What is aimed at is 1.02; this is what may not get worse on the way.
#[test]
fn a_crowd_is_near_its_bound() {
    for hosts in [2, 10, 50] {
        assert!(ratio(&settings(1, hosts)) <= 1.15);
    }
}

#[test]
fn one_host_takes_what_the_origin_takes() {
    assert!(ratio(&settings(1, 1)) <= 1.01);
}

#[test]
fn a_slow_host_keeps_nobody_else_waiting() {
    let without = World::new(settings(3, 20)).run();
    let mut with = settings(3, 20);
    let links = with.links.as_mut().unwrap();
    links.others.insert(7, (GIGABIT / 10, GIGABIT / 10));
    let with = World::new(with).run();
    let others = (0..20).filter(|host| *host != 7).map(|host| with.completed[host]).max().unwrap();
    println!("{others:?} with, {:?} without a slow host, which took {:?}", without.took, with.completed[7]);
    assert!(others < without.took * 2 && others < with.completed[7]);
}

#[test]
fn what_is_sent_between_zones_is_counted() {
    let mut settings = settings(4, 12);
    settings.zones = 3;
    settings.links.as_mut().unwrap().boundary = Some(GIGABIT / 10);
    let outcome = World::new(settings).run();
    let crossed = outcome.boundary_bytes as f64 / outcome.blob_bytes as f64;
    println!("{crossed:.2} blobs crossed between three zones");
    assert!((2.0..2.1).contains(&crossed), "once into each of the two other zones");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| World::new(Settings { thorough: true, ..settings(seed, 5) }).run();
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).trace, run(6).trace);
}

/// A troubled run over links of some rates.
fn over_links(seed: u64) -> Settings {
    let mut settings = Settings::troubled(seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut links = Links::equal(0, PIECE);
    let mut rate = || GIGABIT >> rng.u32(0..5);
    (links.up, links.down, links.origin) = (rate(), rate(), rate());
    links.others.insert(0, (rate(), rate()));
    links.boundary = Some(rate());
    settings.links = Some(links);
    settings.slot_patience = Duration::from_millis(50);
    // What must end in any case may take its time: the origin may be the slowest of all.
    settings.patience = Duration::from_secs(600);
    settings
}

/// Far from what it should be (docs/scheduling.md); that it ends is all that is asked so far.
#[test]
fn several_blobs_through_a_slow_origin_come_in_the_end() {
    let outcome = World::new(over_links(8_970_349_317_080_730_322)).run();
    let read = outcome.origin_bytes as f64 / outcome.blob_bytes as f64;
    println!("{:?}, {read:.2} times the bytes from the origin", outcome.took);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever goes wrong, over links of any rates everybody gets the right bytes in a bounded time.
    #[test]
    fn whatever_goes_wrong_over_links_it_ends_well(seed: u64) {
        println!("seed {seed}");
        let _ = World::new(over_links(seed)).run();
    }
}

/// The scenarios that a test has time for; the rest is the business of `cargo sim paper`.
#[test]
fn small_scenarios_are_within_their_limits() {
    for scenario in sim::paper::scenarios().into_iter().filter(|scenario| scenario.hosts <= 150) {
        for row in scenario.run(1) {
            println!("{row:?}");
            assert!(row.pass, "{row:?}");
        }
    }
}

/// A piece takes a second, or four beside three others: longer than a reader's patience.
#[test]
fn over_thin_links_few_turn_to_the_origin() {
    for (hosts, rate) in [(100, 1_000_000), (20, 500_000)] {
        let layout = PieceLayout::new(32 << 20, 1 << 20).expect("a layout");
        let links = Links::equal(rate, layout.piece_len());
        let mut settings = Settings::rollout(1, hosts, layout, 1, links).with_latency(LATENCY);
        (settings.upload_slots, settings.download_slots) = (4, 4);
        settings.download.crowd = u32::try_from(hosts).expect("few");
        settings.patience = Duration::from_secs(600);
        let outcome = World::new(settings).run();
        let ratio = outcome.origin_bytes as f64 / outcome.blob_bytes as f64;
        println!(
            "{hosts} hosts at {rate} bytes/s: {ratio:.3} of the blob from the origin in {:?}",
            outcome.took
        );
        assert!(ratio < 1.5, "{hosts} hosts read {ratio:.3} times the blob from the origin");
    }
}
