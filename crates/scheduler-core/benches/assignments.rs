//! How many assignments a second one core decides when ten thousand hosts want one blob, and what each host's part in it
//! costs in memory. Both are held against a limit; `cargo bench -p scheduler-core`.

#[path = "../tests/common/crowd.rs"]
mod crowd;

use criterion::{BatchSize, Criterion, Throughput};
use crowd::{Crowd, Shape};
use std::time::Instant;

/// A blob of 1 GiB, messages in batches as a scheduler's loop has them.
const SHAPE: Shape = Shape { hosts: 10_000, pieces: 1_024, zones: 1, slots: 4, together: 64 };
/// Assignments that criterion times together.
const CHUNK: u64 = 100_000;
/// So many rounds of so many are timed. What else the machine does can only make a round slower, so the best is judged;
/// short ones find a quiet moment, and in each every host gets two pieces on average.
const ROUND: u64 = 20_000;
const ROUNDS: usize = 100;
/// What one core must decide at least, in a second: half of what is aimed at.
const LEAST: f64 = 500_000.0;
/// What a host's part in a blob may cost, in bytes.
const MEMORY_MOST: u64 = 1_024;

/// Anonymous memory of this process, in bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line of it");
    let kib = line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    kib.expect("a number") * 1_024
}

fn main() {
    let mut crowd = Crowd::new(SHAPE);
    let before = memory();
    crowd.all_want();
    // Far enough that all hosts hold something and are busy.
    assert!(crowd.go_on(20 * CHUNK));
    let each = (memory() - before).saturating_sub(crowd.queue_bytes() as u64) / u64::from(SHAPE.hosts);
    println!("memory per (host, blob): {each} bytes (≤ {MEMORY_MOST})");
    let mut rates = [0.0; ROUNDS];
    for rate in &mut rates {
        let started = Instant::now();
        assert!(crowd.go_on(ROUND));
        *rate = ROUND as f64 / started.elapsed().as_secs_f64();
    }
    rates.sort_by(f64::total_cmp);
    let (middle, best) = (rates[ROUNDS / 2], rates[ROUNDS - 1]);
    println!(
        "assignments per second: {best:.0} at best (≥ {LEAST:.0}), {middle:.0} in the middle of {ROUNDS} rounds"
    );

    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    let mut group = criterion.benchmark_group("10,000 hosts");
    group.throughput(Throughput::Elements(CHUNK));
    group.bench_function("assignments", |bencher| {
        bencher.iter_batched(|| (), |()| assert!(crowd.go_on(CHUNK)), BatchSize::PerIteration);
    });
    group.finish();
    criterion.final_summary();
    assert!(each <= MEMORY_MOST, "{each} bytes for each host");
    assert!(best >= LEAST, "{best:.0} assignments a second");
}
