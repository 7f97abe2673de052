//! The node daemon as a program: flags and file, ports, run, stop in good order.

use crate::app;
use crate::config::Config;
use crate::config_flags::Flags;
use process::exit::{self, Exit, Failure};
use process::shutdown::{self, Shutdown};
use process::{telemetry, tls};
use std::process::ExitCode;

/// Runs the program; with what it ends.
#[must_use]
pub fn main() -> ExitCode {
    match exit::parse::<Flags>() {
        Ok(flags) => exit::finish(start(flags)),
        Err(code) => code,
    }
}

fn start(flags: Flags) -> Result<(), Failure> {
    let check = flags.check;
    let config = Config::load(flags)?;
    if check {
        println!("the configuration is good");
        return Ok(());
    }
    telemetry::init(&config.log.filter, config.log.format)?;
    tls::install_provider();
    shutdown::run(run(config))
}

async fn run(config: Config) -> Result<(), Failure> {
    let shutdown = Shutdown::install().map_err(|error| Failure::new(Exit::Unavailable, error))?;
    app::run(config, shutdown.token().clone()).await
}
