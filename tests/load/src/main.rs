//! The command behind `cargo load`, and each of the processes that it starts.

use anyhow::Context as _;
use clap::Parser as _;
use load::args::Args;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// As a shell reports a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let mut args = Args::parse();
    let result = match args.role.take() {
        Some(role) => load::roles::run(role).map(|()| ExitCode::SUCCESS),
        None => measure(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

// The processes it starts are to die with the thread that started them: this one, which lives to the end.
#[tokio::main]
async fn measure(args: &Args) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut ended = tokio::select! {
        ended = load::run(args) => ended?,
        _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(INTERRUPTED)),
        _ = terminate.recv() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let report = &ended.report;
    if let Some(file) = &args.html {
        let page = report.to_html().map_err(|error| anyhow::anyhow!("{error}"))?;
        std::fs::write(file, page).with_context(|| file.display().to_string())?;
    }
    if args.json {
        println!("{}", serde_json::json!(report));
    } else {
        println!("\n{report}");
    }
    let code = if report.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if !args.linger.is_zero() {
        let linger = humantime::format_duration(args.linger);
        eprintln!("daemons and scheduler stay for {linger}; Ctrl-C ends that");
        tokio::select! {
            () = tokio::time::sleep(args.linger) => {}
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        ended.check()?;
    }
    Ok(code)
}
