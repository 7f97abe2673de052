//! Both cores in one network: quiet runs to the byte, and troubled ones that must end.

use proptest::prelude::*;
use sim::{Fault, Outcome, PIECE_LEN, Settings, World};
use std::time::Duration;
use types::{ByteRange, LeaseFailure};

fn run(settings: Settings) -> Outcome {
    println!("seed {}", settings.seed);
    World::new(settings).run()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_quiet_rollout_reads_each_byte_once() {
    for (seed, hosts, blobs) in
        [(1, 1, vec![1]), (2, 1, vec![40]), (3, 2, vec![40]), (4, 8, vec![100]), (5, 30, vec![64, 9])]
    {
        let outcome = run(Settings::quiet(seed, hosts, blobs));
        assert_eq!(outcome.origin_bytes, outcome.blob_bytes, "{hosts} hosts");
        assert_eq!(outcome.through_bytes, 0);
        assert_eq!(outcome.failures, []);
        assert_eq!(outcome.counters.verified_fallback, 0);
    }
}

#[test]
fn a_quiet_rollout_is_near_its_bound() {
    // 32 hosts, 128 pieces of 2 ms with two slots: each host uploads a piece a millisecond at best. See SCHEDULING.
    let outcome = run(Settings { arrival: ms(0), ..Settings::quiet(7, 32, vec![128]) });
    let after_quiet = outcome.took - ms(1_000);
    assert!(after_quiet < ms(600), "it took {after_quiet:?} after the quiet period");
}
