//! The command behind `cargo demo`.

use clap::Parser;
use demo::args::Args;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// As a shell reports a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

// One thread: the processes it starts are to die with the thread that started them, and this one lives to the end.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => return failed(&error.into()),
    };
    let report = tokio::select! {
        report = demo::run(&args) => report,
        _ = tokio::signal::ctrl_c() => return ExitCode::from(INTERRUPTED),
        _ = terminate.recv() => return ExitCode::from(INTERRUPTED),
    };
    match report {
        Ok(report) => {
            if args.json {
                println!("{}", serde_json::json!(report));
            } else {
                println!("\n{report}");
            }
            if report.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
