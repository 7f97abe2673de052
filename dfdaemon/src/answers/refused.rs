//! Why there is no answer, by the origin's word to this daemon or to the scheduler.

use crate::proxy::{ProxyError, Unknown};
use http::HeaderValue;
use origin::OriginError;
use proto::OriginRefusal;

/// The origin's no, as a client sees it, and whether the origin was just out of reach.
pub(super) struct Refused {
    pub(super) error: ProxyError,
    pub(super) unreachable: bool,
}

impl Refused {
    /// Why this is no answer, if it is none.
    pub(super) fn of<T>(answer: &Result<T, Self>) -> Option<&ProxyError> {
        answer.as_ref().err().map(|refused| &refused.error)
    }

    pub(super) fn by_error(error: &OriginError, unknown: Unknown) -> Self {
        let unreachable = matches!(error.fault(), origin::Fault::Network)
            || matches!(error, OriginError::Throttled { .. } | OriginError::Server { .. });
        Self { error: ProxyError::from_origin(error.clone(), unknown), unreachable }
    }

    pub(super) fn by_origin(refusal: OriginRefusal, unknown: Unknown) -> Self {
        let unreachable = refusal.status == 429 || refusal.status >= 500;
        let challenges =
            refusal.challenges.iter().filter_map(|challenge| HeaderValue::from_str(challenge).ok()).collect();
        let retry_after = (!refusal.retry_after.is_zero()).then_some(refusal.retry_after);
        let error = match refusal.status {
            401 => ProxyError::Unauthorized { challenges, body: refusal.body },
            403 => ProxyError::Denied { body: refusal.body },
            404 => ProxyError::NotFound(unknown),
            504 => ProxyError::GatewayTimeout,
            429 | 503 => ProxyError::Unavailable { why: refusal.message, retry_after },
            _ => ProxyError::BadGateway(refusal.message),
        };
        Self { error, unreachable }
    }
}
