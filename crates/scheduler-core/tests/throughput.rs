//! How many assignments a second the core decides when a thousand hosts want one blob. Prints; asserts no speed, which
//! `cargo bench` does.

#[path = "common/crowd.rs"]
mod crowd;

use crowd::{Crowd, Shape};
use std::time::Instant;

fn flash_crowd(hosts: u32, pieces: u32, zones: u32) {
    let mut crowd = Crowd::new(Shape { hosts, pieces, zones, slots: 2, together: 1 });
    let started = Instant::now();
    crowd.all_want();
    // The source, which is one of them, gets nothing from others.
    let all = u64::from(hosts - 1) * u64::from(pieces);
    assert!(crowd.go_on(all), "{} of {all} assigned", crowd.assigned);
    let seconds = started.elapsed().as_secs_f64();
    let summary = crowd.scheduler.summary();
    crowd.scheduler.check_invariants();
    assert_eq!(summary.blobs[0].complete, hosts, "everybody has everything: {summary:?}");
    println!(
        "{hosts} hosts, {zones} zones, {pieces} pieces: {:.0} assignments per second, {} crossings ({} again), {:?}",
        crowd.assigned as f64 / seconds,
        summary.counters.crossings,
        summary.counters.crossings_again,
        summary.counters,
    );
}

#[test]
fn a_thousand_hosts() {
    flash_crowd(1000, 256, 1);
    flash_crowd(1000, 256, 4);
}

#[test]
fn many_pieces() {
    flash_crowd(200, 2048, 1);
}
