//! The command behind `cargo run --release --bin bench`, and the processes that it starts.

use bench::args::Args;
use bench::report::Report;
use clap::Parser;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// As a shell reports a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let args = Args::parse();
    // Fails only if there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ended = match &args.role {
        Some(role) => role.run().map(|()| ExitCode::SUCCESS),
        None => measure(&args),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

// One thread: the processes it starts are to die with the thread that started them, and this one lives to the end.
#[tokio::main(flavor = "current_thread")]
async fn measure(args: &Args) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let report = tokio::select! {
        report = bench::run(args) => report?,
        _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(INTERRUPTED)),
        _ = terminate.recv() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    print(args, &report);
    let good = args.no_fail || report.is_good();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(args: &Args, report: &Report) {
    if args.json {
        println!("{}", serde_json::json!(report));
    } else {
        println!("\n{report}");
    }
}
