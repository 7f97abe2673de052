//! Why a scheduler does not start.

use crate::Invalid;
use process::exit::{Exit, Failure};
use process::listen::ListenError;
use std::path::PathBuf;

/// Why a scheduler does not start. None of these is worth a retry without a change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option makes no sense.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// What is said of the origins makes no sense, or a file named there cannot be read.
    #[error("origin.{0}")]
    Origin(#[source] origin::OptionsError),
    /// The state directory cannot be used.
    #[error("cannot use the state directory {} (--state)", path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The cluster's keys cannot be used.
    #[error(transparent)]
    Authority(#[from] membership::AuthorityError),
    /// A port cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error {
            Error::Invalid(_) | Error::Origin(_) => Exit::Usage,
            Error::State { ref source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                Exit::Unavailable
            }
            Error::State { .. } | Error::Authority(_) => Exit::CannotCreate,
            Error::Listen(_) => Exit::Unavailable,
        };
        Self::new(exit, error)
    }
}
