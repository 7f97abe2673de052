//! Runs troubled networks by their seeds: `replay SEED` prints everything that happens in one, `replay FIRST COUNT` runs
//! many and prints the seeds that fail, with the first line of why.

use sim::{Settings, World};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    match numbers[..] {
        [seed] => {
            let outcome = World::new(Settings { verbose: true, ..Settings::troubled(seed) }).run();
            println!("{outcome:#?}");
            ExitCode::SUCCESS
        }
        [first, count] => sweep(first, count),
        _ => {
            eprintln!("usage: replay SEED | replay FIRST COUNT");
            ExitCode::from(64)
        }
    }
}

fn sweep(first: u64, count: u64) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let mut failed = 0;
    for seed in first..first.saturating_add(count) {
        let result = catch_unwind(AssertUnwindSafe(|| World::new(Settings::troubled(seed)).run()));
        if let Err(panic) = result {
            failed += 1;
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
            println!("{seed}: {}", text.lines().next().unwrap_or_default());
        }
    }
    println!("{failed} of {count} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
