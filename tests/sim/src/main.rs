//! The command behind `cargo sim`: rollouts beside their bounds, and troubled networks by their seeds.

mod html;
mod mutants;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sim::paper::{Row, scenarios};
use sim::{Links, Seeds, Settings, Sweep, World};
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use types::PieceLayout;

/// Simulates clusters: the real scheduler and the real downloads on links with rates, in counted time.
#[derive(Debug, Parser)]
#[command(name = "cargo sim", bin_name = "cargo sim")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// In bytes per second.
const MBIT: u64 = 125_000;

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the scenarios by which the scheduler is judged; exits with 1 if one misses its limit
    Paper(Paper),
    /// Run one flash crowd beside its lower bound
    Rollout(Rollout),
    /// Run networks in which anything goes wrong, by their seeds, and count what happened; exits with 1 if one fails
    Random(Random),
    /// Break the cores in one thing after the other, and see that the checkers find each; exits with 1 if not
    Mutants {
        /// Only those with this in their names
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
    /// Run one such network again, and print everything that happens
    Replay {
        /// Its seed
        seed: u64,
        /// Of which kind it is
        #[arg(long, value_enum, default_value_t = Kind::Random)]
        kind: Kind,
        /// Print only the hash of what happens
        #[arg(long)]
        quiet: bool,
    },
}

/// Which runs a seed stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// One to nine hosts
    Few,
    /// Two to two hundred, on links or not, with more kinds of faults
    Random,
    /// The same, with a blob that no client waits for
    Preheat,
}

impl Kind {
    fn settings(self) -> fn(u64) -> Settings {
        match self {
            Self::Few => Settings::troubled,
            Self::Random => Settings::random,
            Self::Preheat => Settings::preheating,
        }
    }
}

#[derive(Debug, Args)]
struct Random {
    /// How many seeds
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Of which kind they are
    #[arg(long, value_enum, default_value_t = Kind::Random)]
    kind: Kind,
    /// Run each twice, and compare
    #[arg(long)]
    twice: bool,
    /// Stop when one has failed
    #[arg(long)]
    stop: bool,
}

#[derive(Debug, Args)]
struct Paper {
    /// Leave out scenarios with more hosts
    #[arg(long, value_name = "HOSTS")]
    hosts_max: Option<usize>,
    /// Run only scenarios with this in their names
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Where all chance comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Rollout {
    /// How many hosts, 1 to 20000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    hosts: u16,
    /// The blob's size in MiB, 1 to 65536
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    mib: u64,
    /// The piece length in KiB, a power of two [default: what the daemons take]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    piece_kib: Option<u32>,
    /// The rate of the origin and of each host, each way, in Mbit/s, 1 to 400000
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=400_000))]
    mbit: u64,
    /// One way, in microseconds
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    latency_us: u64,
    /// Transfers at once per host, up and down, 1 to 64 [default: as many as the latency asks for]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    slots: Option<u16>,
    /// Over how many zones the hosts are spread, 1 to 16
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    zones: u16,
    /// What a zone's boundary lets through each way, in Mbit/s [default: everything]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=400_000))]
    boundary_mbit: Option<u64>,
    /// What the origin sends at most, in Mbit/s [default: as much as a host]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=400_000))]
    origin_mbit: Option<u64>,
    /// Where all chance comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write a page with plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Prints a line. Whoever has read enough, such as `head`, ends the program.
macro_rules! say {
    ($($text:tt)*) => {
        if writeln!(std::io::stdout(), $($text)*).is_err() {
            std::process::exit(0);
        }
    };
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Paper(args) => paper(&args),
        Command::Rollout(args) => rollout(&args),
        Command::Random(args) => random(&args),
        Command::Mutants { only } => match mutants::run(only.as_deref(), |line| say!("{line}")) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        Command::Replay { seed, kind, quiet } => {
            let settings = Settings { verbose: !quiet, ..kind.settings()(seed) };
            let outcome = World::new(settings).run();
            if quiet {
                say!("{:016x}", outcome.trace);
            } else {
                say!("{outcome:#?}");
            }
            ExitCode::SUCCESS
        }
    }
}

fn paper(args: &Paper) -> ExitCode {
    let (chosen, left_out): (Vec<_>, Vec<_>) = scenarios().into_iter().partition(|scenario| {
        args.hosts_max.is_none_or(|max| scenario.hosts <= max)
            && args.only.as_deref().is_none_or(|text| scenario.name.contains(text))
    });
    let mut rows = Vec::new();
    for (done, scenario) in chosen.iter().enumerate() {
        progress(&format!("{done} of {} scenarios, now {}", chosen.len(), scenario.name));
        let new = scenario.run(args.seed);
        progress("");
        if !args.json {
            new.iter().for_each(print);
        }
        rows.extend(new);
    }
    if args.json {
        say!("{}", serde_json::json!({ "seed": args.seed, "scenarios": rows, "left_out": left_out.len() }));
    } else {
        let missed = rows.iter().filter(|row| !row.pass).count();
        say!("{} figures, {missed} beyond their limits; {} scenarios left out", rows.len(), left_out.len());
    }
    if rows.iter().all(|row| row.pass) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(row: &Row) {
    let Row { name, value, limit, pass, detail } = row;
    let limit = limit.map_or_else(|| " ".repeat(8), |limit| format!("≤ {limit:<6}"));
    say!("{} {value:>7.4} {limit} {name} ({detail})", if *pass { "ok  " } else { "MISS" });
}

/// One line on the terminal that the next one replaces.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
        // Only a sign of life.
        drop(std::io::stderr().flush());
    }
}

fn rollout(args: &Rollout) -> ExitCode {
    let size = args.mib << 20;
    let layout = match args.piece_kib {
        Some(kib) => kib.checked_mul(1024).and_then(|len| PieceLayout::new(size, len)),
        None => PieceLayout::for_size(size),
    };
    let Some(layout) = layout else {
        eprintln!("error: --piece-kib must be a power of two");
        return ExitCode::from(2);
    };
    let mut links = Links::equal(args.mbit * MBIT, layout.piece_len());
    links.boundary = args.boundary_mbit.map(|rate| rate * MBIT);
    links.origin = args.origin_mbit.map_or(links.origin, |rate| rate * MBIT);
    let shortest = Duration::from_secs_f64(size as f64 / links.origin.min(links.down) as f64);
    let mut settings = Settings::rollout(args.seed, usize::from(args.hosts), layout, 1, links)
        .with_latency(Duration::from_micros(args.latency_us));
    settings.zones = usize::from(args.zones);
    settings.download.crowd = args.hosts.into();
    settings.patience = shortest * 20 + Duration::from_secs(120);
    if args.html.is_some() {
        settings.sample_every = shortest / 200;
    }
    if let Some(slots) = args.slots {
        (settings.upload_slots, settings.download_slots) = (slots, slots);
    }
    let started = Instant::now();
    let outcome = World::new(settings.clone()).run();
    let bound = settings.bound(&outcome).expect("it has links");
    let times = |bound: Duration| outcome.took.as_secs_f64() / bound.as_secs_f64();
    say!(
        "{} hosts, {} slots: {:.3} s, {:.3} × the bound with one source ({:.3} s), {:.3} × any; origin ÷ blob {:.4}",
        settings.hosts,
        settings.upload_slots,
        outcome.took.as_secs_f64(),
        times(bound.once()),
        bound.once().as_secs_f64(),
        times(bound.any()),
        outcome.origin_bytes as f64 / outcome.blob_bytes as f64,
    );
    if let Some(file) = &args.html {
        let page = html::page(&settings, &outcome, &bound);
        if let Err(error) = page.and_then(|page| Ok(std::fs::write(file, page)?)) {
            eprintln!("error: {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    say!("{:?}; simulated in {:.1} s", outcome.counters, started.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

fn random(args: &Random) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let seeds = Seeds {
        first: args.first,
        count: args.seeds,
        make: args.kind.settings(),
        twice: args.twice,
        stop: args.stop,
    };
    let sweep = Sweep::over(&seeds, |done| {
        if done.is_multiple_of(50) {
            progress(&format!("{done} of {} runs", args.seeds));
        }
    });
    progress("");
    let kind = args.kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    for (seed, why) in &sweep.failed {
        say!("seed {seed}: {}", why.lines().next().unwrap_or_default());
        say!("  again: cargo sim replay {seed} --kind {kind}");
    }
    for (title, counts) in [("faults", &sweep.faults), ("leases taken over, after", &sweep.takeovers)] {
        say!("{title}:");
        counts.iter().for_each(|(kind, count)| say!("{count:>8}  {kind}"));
    }
    say!(
        "{} pieces read by clients for themselves, {} errors to clients",
        sweep.fallback_pieces,
        sweep.errors
    );
    say!("{} of {} runs failed", sweep.failed.len(), sweep.runs);
    if sweep.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
