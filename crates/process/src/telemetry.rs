//! What the program says about itself, on standard error: for people on a terminal, JSON lines otherwise.

use std::io::IsTerminal as _;
use tracing::Level as Severity;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// What is said if nobody chose: everything from INFO on.
pub const DEFAULT_FILTER: &str = "info";

/// In which form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people if standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Telemetry that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter makes no sense.
    #[error("bad log filter {filter:?} (as in: info, or warn,scheduler=debug)")]
    Filter {
        /// What was asked for.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// It was set up before.
    #[error("telemetry is set up twice")]
    Twice,
    /// It has ended.
    #[error("nothing is logged any more")]
    Gone,
}

/// What is logged, to be changed while the program runs.
#[derive(Clone, Debug)]
pub struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// Logs by this filter from now on.
    ///
    /// # Errors
    /// [`TelemetryError::Filter`]; then it stays as it was.
    pub fn set(&self, filter: &str) -> Result<(), TelemetryError> {
        self.0.reload(parse(filter)?).map_err(|_| TelemetryError::Gone)?;
        // What libraries tell by way of `log` is held back there already.
        log::set_max_level(log_level(LevelFilter::current()));
        Ok(())
    }
}

/// Sets up logging for the whole process. `filter` is that of `--log`: a level, or directives such as
/// `warn,scheduler=debug`. The environment is not asked, so that a program is configured in one place.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(filter: &str, format: Format) -> Result<Level, TelemetryError> {
    let (filter, level) = reload::Layer::new(parse(filter)?);
    let terminal = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr);
    let logging = tracing_subscriber::registry().with(filter);
    let set = match (format, terminal) {
        (Format::Human, _) | (Format::Auto, true) => logging.with(lines.with_ansi(terminal)).try_init(),
        (Format::Json, _) | (Format::Auto, false) => {
            logging.with(lines.json().flatten_event(true)).try_init()
        }
    };
    set.map_err(|_| TelemetryError::Twice)?;
    Ok(Level(level))
}

fn log_level(level: LevelFilter) -> log::LevelFilter {
    match level.into_level() {
        None => log::LevelFilter::Off,
        Some(Severity::ERROR) => log::LevelFilter::Error,
        Some(Severity::WARN) => log::LevelFilter::Warn,
        Some(Severity::INFO) => log::LevelFilter::Info,
        Some(Severity::DEBUG) => log::LevelFilter::Debug,
        Some(Severity::TRACE) => log::LevelFilter::Trace,
    }
}

/// The filter that a text stands for.
///
/// # Errors
/// [`TelemetryError::Filter`].
fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(filter).map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_refused() {
        let error = init("scheduler=loud", Format::Auto).expect_err("no such level");
        assert!(error.to_string().contains("scheduler=loud"), "{error}");
    }
}
