//! One rollout over links with rates, beside its lower bound: `rollout HOSTS MIB PIECE_KIB GBIT DELAY_US [SEED]`.

use sim::{Links, Settings, World};
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let Some(settings) = settings() else {
        eprintln!("usage: rollout HOSTS MIB PIECE_KIB GBIT DELAY_US [SEED], whole numbers above 0");
        return ExitCode::from(64);
    };
    let started = Instant::now();
    let outcome = World::new(settings.clone()).run();
    let bound = settings.bound(&outcome).expect("it has links");
    let times = |bound: Duration| outcome.took.as_secs_f64() / bound.as_secs_f64();
    println!(
        "{} hosts: {:.3} s, {:.3} × the bound with one source ({:.3} s), {:.3} × any; origin ÷ blob {:.4}",
        settings.hosts,
        outcome.took.as_secs_f64(),
        times(bound.once()),
        bound.once().as_secs_f64(),
        times(bound.any()),
        outcome.origin_bytes as f64 / outcome.blob_bytes as f64,
    );
    println!("{:?}; simulated in {:.1} s", outcome.counters, started.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

/// What the command line asks for, if it makes sense.
fn settings() -> Option<Settings> {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let (seed, [hosts, mib, kib, gbit, delay]) = match numbers[..] {
        [hosts, mib, kib, gbit, delay] => (1, [hosts, mib, kib, gbit, delay]),
        [hosts, mib, kib, gbit, delay, seed] => (seed, [hosts, mib, kib, gbit, delay]),
        _ => return None,
    };
    let piece_len = u32::try_from(kib.checked_mul(1024)?).ok().filter(|len| *len > 0)?;
    let count = u32::try_from(mib.checked_mul(1024)? / kib).ok().filter(|count| *count > 0)?;
    let hosts = usize::try_from(hosts).ok().filter(|hosts| *hosts > 0)?;
    let rate = gbit.checked_mul(125_000_000).filter(|rate| *rate > 0)?;
    let delay = Duration::from_micros(delay);
    let settings = Settings::rollout(seed, hosts, vec![count], piece_len, Links::equal(rate, piece_len));
    Some(Settings { delay: delay..=delay, ..settings })
}
