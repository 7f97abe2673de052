//! Exit codes, after `sysexits.h`, and the way an error takes to standard error.

use std::fmt;
use std::process::ExitCode;

/// How a program ends. Scripts and service managers may rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 64: a flag or the configuration is wrong. Starting again will not help.
    Usage,
    /// 65: what came from elsewhere is not what was asked for.
    Data,
    /// 69: something that is needed is not to be had, such as a port that another program holds.
    Unavailable,
    /// 70: a bug.
    Bug,
    /// 73: a directory or file cannot be created or written.
    CannotCreate,
    /// 74: a file cannot be read or written.
    Io,
    /// 77: it is not permitted.
    Denied,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Data => 65,
            Self::Unavailable => 69,
            Self::Bug => 70,
            Self::CannotCreate => 73,
            Self::Io => 74,
            Self::Denied => 77,
        }
    }
}

/// Why a program ends, and with which code.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// What went wrong.
    pub error: anyhow::Error,
}

impl Failure {
    /// A failure that ends the program with `exit`.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }
}

/// The error and its causes on one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<crate::listen::ListenError> for Failure {
    fn from(error: crate::listen::ListenError) -> Self {
        Self::new(Exit::Unavailable, error)
    }
}

impl From<crate::telemetry::TelemetryError> for Failure {
    fn from(error: crate::telemetry::TelemetryError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

/// The program's arguments; `--help`, `--version` and mistakes are printed, and end the program with 0 or 64.
///
/// # Errors
/// The code to end with.
pub fn parse<T: clap::Parser>() -> Result<T, ExitCode> {
    T::try_parse().map_err(|error| {
        // Where standard output or error is closed there is nobody to tell.
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(Exit::Usage.code()) } else { ExitCode::SUCCESS }
    })
}

/// Prints what went wrong, if anything did, and gives the code to end with.
#[must_use]
pub fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::debug!(code = failure.exit.code(), error = ?failure.error, "the program ends");
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_causes() {
        let error = anyhow::anyhow!("no such port").context("cannot listen");
        let failure = Failure::new(Exit::Unavailable, error);
        assert_eq!(failure.to_string(), "cannot listen: no such port");
        assert_eq!(failure.exit.code(), 69);
    }
}
