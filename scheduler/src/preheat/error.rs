//! Why what an operator wants of preheats is not done, as HTTP and gRPC say it.

use super::book::RUNNING_MAX;
use super::reasons;
use crate::cluster::refusal::Stops;
use axum::http::StatusCode;
use tonic::{Code, Status};

/// What of an unknown id is said again, in characters.
const QUOTED_MAX: usize = 40;

/// Why an image cannot be resolved: whether the same question is worth asking again as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its origin is out of reach, fails, asks to slow down, or takes too long.
    Outage,
    /// Its origin says no, or what it has is no image that hosts can hold: first something has to change.
    Refusal,
}

/// Why not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PreheatError {
    /// The request makes no sense, here and now.
    #[error("{0}")]
    Senseless(String),
    /// What belongs to an image cannot be found out.
    #[error("{image}: {why}")]
    Unresolved {
        /// As it was asked for.
        image: String,
        /// What its origin says, or what its manifest is; cut by [`reasons::readable`], since it may quote that.
        why: String,
        cause: Cause,
    },
    /// As many run as may.
    #[error("{RUNNING_MAX} preheats run already: wait until one has ended, or cancel one")]
    TooMany,
    /// The images of as many are being resolved as may be.
    #[error("too many images are being looked up: try again")]
    Busy,
    /// No such preheat.
    #[error("there is no preheat {0}: a scheduler forgets old ones, and all when it restarts")]
    Unknown(String),
    /// The driver is gone.
    #[error("the scheduler stops")]
    Stops,
}

impl PreheatError {
    /// An image cannot be resolved, for a reason in anybody's words and of any length.
    pub(crate) fn unresolved(image: String, why: &str, cause: Cause) -> Self {
        Self::Unresolved { image, why: reasons::readable(why), cause }
    }

    pub(crate) fn unknown(id: &str) -> Self {
        Self::Unknown(id.chars().filter(|c| !c.is_control()).take(QUOTED_MAX).collect())
    }

    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Senseless(_) | Self::Unresolved { cause: Cause::Refusal, .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::Unresolved { cause: Cause::Outage, .. } => StatusCode::BAD_GATEWAY,
            Self::TooMany | Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Stops => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    const fn code(&self) -> Code {
        match self {
            Self::Senseless(_) => Code::InvalidArgument,
            // The same call does not succeed until the origin has it, so it is not one to repeat.
            Self::Unresolved { cause: Cause::Refusal, .. } => Code::FailedPrecondition,
            Self::TooMany | Self::Busy => Code::ResourceExhausted,
            Self::Unknown(_) => Code::NotFound,
            Self::Unresolved { cause: Cause::Outage, .. } | Self::Stops => Code::Unavailable,
        }
    }
}

impl From<Stops> for PreheatError {
    fn from(_: Stops) -> Self {
        Self::Stops
    }
}

impl From<PreheatError> for Status {
    fn from(error: PreheatError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_manifest_says_is_cut_to_what_people_read() {
        let why = format!("its manifest makes no sense: \u{1b}[2J{}", "€".repeat(1 << 20));
        let said = PreheatError::unresolved("registry.test/app:v1".to_owned(), &why, Cause::Refusal);
        let said = said.to_string();
        let expected = "registry.test/app:v1: its manifest makes no sense: [2J€";
        assert!(said.starts_with(expected) && said.ends_with('€'), "{said}");
        assert!((530..=536).contains(&said.len()), "{} bytes", said.len());
    }

    #[test]
    fn a_no_is_told_from_a_registry_that_is_away() {
        for (cause, status, code) in
            [(Cause::Refusal, 422, Code::FailedPrecondition), (Cause::Outage, 502, Code::Unavailable)]
        {
            let error = PreheatError::unresolved("registry.test/app:v1".to_owned(), "why", cause);
            assert_eq!((error.status().as_u16(), error.code()), (status, code), "{cause:?}");
        }
    }
}
