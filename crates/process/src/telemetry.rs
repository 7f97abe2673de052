//! What the program says about itself, on standard error: for people on a terminal, JSON lines otherwise.

use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

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
}

/// Sets up logging for the whole process. `filter` is that of `--log`: a level, or directives such as
/// `warn,scheduler=debug`. The environment is not asked, so that a program is configured in one place.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(filter: &str, format: Format) -> Result<(), TelemetryError> {
    let parsed = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    let set = match (format, terminal) {
        (Format::Human, _) | (Format::Auto, true) => builder.with_ansi(terminal).try_init(),
        (Format::Json, _) | (Format::Auto, false) => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|_| TelemetryError::Twice)
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
