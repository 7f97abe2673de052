//! One rollout over links with rates, beside its lower bound: `rollout HOSTS MIB PIECE_KIB GBIT DELAY_US [SEED]`.

use sim::{Links, PIECE_LEN, Settings, World};
use std::time::{Duration, Instant};
use support::bound::{Pieces, Rates, Rollout};

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [hosts, mib, kib, gbit, delay, ref rest @ ..] = numbers[..] else {
        eprintln!("rollout HOSTS MIB PIECE_KIB GBIT DELAY_US [SEED]");
        std::process::exit(64);
    };
    let seed = rest.first().copied().unwrap_or(1);
    let (rate, piece) = (gbit * 125_000_000, kib * 1024);
    let pieces = mib * 1024 / kib;
    let (Ok(piece_len), Ok(count), Ok(host_count)) =
        (u32::try_from(piece), u32::try_from(pieces), usize::try_from(hosts))
    else {
        eprintln!("too large");
        std::process::exit(64);
    };
    let delay = Duration::from_micros(delay);
    let settings = Settings {
        delay: delay..=delay,
        ..Settings::rollout(seed, host_count, vec![count], piece_len, Links::equal(rate, piece_len))
    };
    let started = Instant::now();
    let outcome = World::new(settings).run();
    // The last piece of a simulated blob is short.
    let scale = piece / u64::from(PIECE_LEN);
    let whole = pieces - 1;
    let last = outcome.blob_bytes * scale - whole * piece;
    let bound = Rollout {
        latency: delay,
        ..Rollout::equal(
            Pieces::new([(piece, whole), (last, 1)]),
            rate,
            host_count,
            Rates { up: rate, down: rate },
        )
    }
    .bound();
    let times = |bound: Duration| outcome.took.as_secs_f64() / bound.as_secs_f64();
    println!(
        "{hosts} hosts: {:.3} s, {:.3} × the bound with one source ({:.3} s), {:.3} × any; origin ÷ blob {:.4}; {:?}",
        outcome.took.as_secs_f64(),
        times(bound.once()),
        bound.once().as_secs_f64(),
        times(bound.any()),
        outcome.origin_bytes as f64 / outcome.blob_bytes as f64,
        outcome.counters,
    );
    println!("simulated in {:.1} s", started.elapsed().as_secs_f64());
}
