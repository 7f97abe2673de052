//! Why a scheduler does not start.

use crate::Invalid;
use process::exit::{Exit, Failure};
use process::listen::ListenError;

/// Why a scheduler does not start. None of these is worth a retry without a change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option makes no sense.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// What is said of the origins makes no sense, or a file named there cannot be read.
    #[error("origin.{0}")]
    Origin(#[source] origin::OptionsError),
    /// A port cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error {
            Error::Invalid(_) | Error::Origin(_) => Exit::Usage,
            Error::Listen(_) => Exit::Unavailable,
        };
        Self::new(exit, error)
    }
}
