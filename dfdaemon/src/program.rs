//! The node daemon as a program: flags and file, ports, run, stop in good order.

use crate::app;
use crate::config::Config;
use crate::config_flags::Flags;
use process::exit::{self, Exit, Failure};
use process::reload::{Loaded, Reloader};
use process::shutdown::{self, Shutdown};
use process::{telemetry, tls, traces};
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
    let loaded = load(&flags)?;
    if flags.check {
        println!("the configuration is good");
        return Ok(());
    }
    let config = loaded.0.clone();
    let level = telemetry::init(&config.log.filter, config.log.format)?;
    tls::install_provider();
    shutdown::run(async {
        let unavailable = |error| Failure::new(Exit::Unavailable, error);
        let shutdown = Shutdown::install().map_err(unavailable)?;
        let filter: fn(&Config) -> &str = |config| &config.log.filter;
        let reloader = Reloader::new(loaded, move || load(&flags), (filter, level)).map_err(unavailable)?;
        let (version, zone) = (env!("CARGO_PKG_VERSION"), config.host.zone.as_str());
        let traces = traces::start("dfdaemon", version, Some(zone), &config.traces)?;
        let ended = app::run(config, reloader, shutdown.token().clone()).await;
        traces.stopped().await;
        ended
    })
}

fn load(flags: &Flags) -> Result<Loaded<Config>, Failure> {
    let document = flags.document()?;
    Ok((Config::of(flags.clone(), document.clone())?, document))
}
