//! Both cores in one network: quiet runs to the byte, single faults with what they may cost, and troubled runs that must
//! end.

use proptest::prelude::*;
use sim::{Fault, Outcome, PIECE_LEN, Settings, World};
use std::time::Duration;
use types::{ByteRange, LeaseFailure};

/// What a takeover may cost: what the source was ahead, and what it had asked for (DESIGN, section 8).
const TAKEOVER: u64 = (16 + 16) * PIECE_LEN as u64;

fn run(settings: Settings) -> Outcome {
    println!("seed {}", settings.seed);
    World::new(settings).run()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_quiet_rollout_reads_each_byte_once() {
    let runs = [
        (1, 1, vec![1]),
        (2, 1, vec![40]),
        (3, 2, vec![40]),
        (4, 8, vec![100]),
        (5, 30, vec![64, 9]),
        (6, 9, vec![2; 5]),
    ];
    for (seed, hosts, blobs) in runs {
        let outcome = run(Settings::quiet(seed, hosts, blobs));
        assert_eq!(outcome.origin_bytes, outcome.blob_bytes, "{hosts} hosts");
        assert_eq!(outcome.through_bytes, 0);
        assert_eq!(outcome.failures, []);
        assert_eq!(outcome.counters.verified_fallback, 0);
    }
}

#[test]
fn a_quiet_rollout_is_near_its_bound() {
    // 128 pieces of 2 ms on two slots each: the ideal is about 128 + 2 * 5 ms after the quiet period (SCHEDULING).
    let after_quiet = |seed| {
        let outcome = run(Settings { arrival: ms(0), ..Settings::quiet(seed, 32, vec![128]) });
        outcome.took - ms(1_000)
    };
    let mut times: Vec<_> = (1..=9).map(after_quiet).collect();
    times.sort_unstable();
    println!("{times:?} after the quiet period");
    // Far from the bound by chance alone, with messages that take up to half of a piece; over links it is nearer.
    assert!(times[4] < ms(450), "the middle of nine");
}

#[test]
fn the_source_spreads_each_piece_and_the_others_multiply_it() {
    let outcome = run(Settings { arrival: ms(0), ..Settings::quiet(8, 16, vec![200]) });
    let most = outcome.uploaded_bytes.iter().max().copied().unwrap_or(0);
    println!("{:?} of {}", outcome.uploaded_bytes, outcome.blob_bytes);
    assert!(most <= outcome.blob_bytes * 5 / 2, "one host uploads {most} of {}", outcome.blob_bytes);
}

#[test]
fn a_source_that_dies_costs_a_bounded_part() {
    for seed in 0..10 {
        // Whoever is the source: every host but two dies for a while, one after the other.
        let dies = |host| (ms(1_030 + 10 * host as u64), Fault::HostDies { host });
        let returns = |host| (ms(9_000), Fault::HostReturns { host, keeps_store: false });
        let mut faults: Vec<_> = (0..4).map(dies).chain((0..4).map(returns)).collect();
        faults.sort_by_key(|(at, _)| *at);
        let outcome = run(Settings { faults, ..Settings::quiet(seed, 6, vec![150]) });
        let most = outcome.blob_bytes + 4 * TAKEOVER;
        assert!(outcome.origin_bytes <= most, "{} of {}", outcome.origin_bytes, outcome.blob_bytes);
        assert_eq!(outcome.failures, []);
    }
}

#[test]
fn a_restarted_scheduler_goes_on_where_the_last_one_was() {
    for seed in 0..10 {
        let faults = vec![(ms(1_040), Fault::SchedulerRestarts { gone: ms(100) })];
        let outcome = run(Settings { faults, ..Settings::quiet(seed, 8, vec![300]) });
        let again = outcome.origin_bytes - outcome.blob_bytes;
        println!("{again} bytes more");
        assert!(again <= TAKEOVER, "{again} bytes read again");
        assert_eq!(outcome.failures, []);
    }
}

#[test]
fn without_a_scheduler_every_host_reads_for_itself_at_once() {
    let faults = vec![(ms(0), Fault::SchedulerRestarts { gone: ms(3_600_000) })];
    let settings = Settings { faults, arrival: ms(0), ..Settings::quiet(3, 4, vec![50]) };
    let outcome = run(settings);
    assert_eq!(outcome.origin_bytes, 4 * outcome.blob_bytes);
    assert!(outcome.took < ms(5_000), "{:?}", outcome.took);
    assert_eq!(outcome.failures, []);
}

#[test]
fn a_silent_scheduler_delays_nobody_by_more_than_the_patience() {
    for seed in 0..10 {
        let faults = vec![(ms(1_020), Fault::SchedulerFreezes { lasts: ms(3_600_000) })];
        let outcome = run(Settings { faults, ..Settings::quiet(seed, 5, vec![100]) });
        assert!(outcome.took < ms(1_020 + 5_000), "{:?}", outcome.took);
        assert_eq!(outcome.failures, []);
    }
}

#[test]
fn a_host_that_corrupts_is_found_and_left() {
    for seed in 0..10 {
        let faults = vec![
            (ms(0), Fault::Corrupts { host: 1, corrupts: true }),
            (ms(20_000), Fault::LinkBreaks { host: 0 }),
        ];
        let outcome = run(Settings { faults, ..Settings::quiet(seed, 8, vec![60]) });
        assert_eq!(outcome.origin_bytes, outcome.blob_bytes, "seed {seed}");
        assert_eq!(outcome.failures, []);
    }
}

#[test]
fn an_origin_that_fails_for_a_while_is_waited_for() {
    for why in [LeaseFailure::Throttled, LeaseFailure::Unreachable] {
        let faults = vec![(ms(1_030), Fault::OriginFails { why, lasts: ms(4_000) })];
        let outcome = run(Settings { faults, ..Settings::quiet(4, 5, vec![80]) });
        assert_eq!(outcome.failures, []);
        println!("{} of {}", outcome.origin_bytes, outcome.blob_bytes);
        assert!(outcome.took < ms(30_000), "{:?}", outcome.took);
    }
}

#[test]
fn a_runtime_that_reads_in_parallel_costs_nothing_more() {
    let mut world = World::new(Settings::quiet(5, 3, vec![200]));
    for part in 1..8 {
        let range = ByteRange::new(part * 8 * u64::from(PIECE_LEN), (part + 1) * 8 * u64::from(PIECE_LEN));
        world.add_client(0, 0, range.unwrap());
    }
    let outcome = world.run();
    assert_eq!(outcome.origin_bytes + outcome.through_bytes, outcome.blob_bytes);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        assert_eq!(run(Settings::troubled(seed)), run(Settings::troubled(seed)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_wrong_it_ends_well(seed: u64) {
        run(Settings::troubled(seed));
    }

    #[test]
    fn a_crowd_that_turns_to_the_origin_little_by_little_ends_well_too(seed: u64) {
        run(crowded(seed));
    }
}

fn crowded(seed: u64) -> Settings {
    let mut settings = Settings::troubled(seed);
    settings.download.crowd = 200;
    settings
}

/// Seeds of troubled runs that once found something, named after it.
const FOUND: &[(u64, &str)] = &[
    (46, "a host wanted again what was on its way to it"),
    (75, "a host that finished in a silence was never heard of again"),
    (709, "a host that had been repaired was not asked any more"),
    (1597, "a source did not tell the states of what it held already"),
    (1970, "a proof was not believed against a false chain"),
    (3882, "a source did not tell the states of what it had begun to read alone"),
    (6741, "a piece was verified in a moment in which it did not count"),
    (215_208, "a child that could not use the other holders was left to wait by the source"),
    (8_084_529_373_710_751_780, "a host blamed its parents for what it had believed before"),
    (17_522_370_736_329_396_581, "a chain of two hosts' states was closed on the word of one"),
    (117_085, "a source was not woken when it had less to read itself"),
    (
        18_261_665_317_963_465_946,
        "a reader kept bytes of a false chain whose pieces had been lost before it was found out",
    ),
    (5_136_064_597_109_187_329, "a source that had left kept a lease that it did not know of"),
    (
        6_168_379_008_443_705_215,
        "a reader kept bytes of a false chain whose pieces were lost after it was found out",
    ),
];

#[test]
fn found_seeds() {
    for (seed, what) in FOUND {
        println!("{what}");
        run(Settings::troubled(*seed));
    }
    println!("a chain was closed on the word of a host that had told only its end");
    run(crowded(993_261_076_924_679_183));
    println!("a client needed what the only host with a right had lost and did not want any more");
    run(crowded(12_185_986_398_887_742_409));
}
