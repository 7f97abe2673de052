//! The way in: a client for all origins, and what its requests share.
//!
//! What can be asked stands in `manifest`, `blob` and `forward`.

use crate::authorize::TokenKey;
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, Endpoints};
use crate::memo::{Lifetimes, Memo};
use crate::metrics::Metrics;
use crate::token::Authorization;
use crate::{Options, OptionsError, OriginError, Repository};
use prometheus_client::registry::Registry as MetricsRegistry;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use types::Registry;

/// How many tokens are kept: one per repository and kind of credential.
const TOKENS_MAX: u64 = 4096;

/// A failure to get a token is shared by those who wait for it and then forgotten: the request's own retries pace the
/// next try. A token that has lapsed is worth nothing.
const TOKEN_LIFETIMES: Lifetimes =
    Lifetimes { failure: Duration::ZERO, grace: Duration::ZERO, patience: Duration::ZERO };

/// A client for every origin. Clones share connections, tokens and metrics.
#[derive(Clone)]
pub struct Origin {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    endpoints: Endpoints,
    credentials: Credentials,
    tokens: Memo<TokenKey, Authorization>,
    metrics: Metrics,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let configured: Vec<&str> = self.shared.endpoints.names().map(Registry::as_str).collect();
        f.debug_struct("Origin").field("configured", &configured).finish_non_exhaustive()
    }
}

impl Origin {
    /// Checks the options, reads certificates and sets up the clients. Needs a rustls provider to be installed.
    ///
    /// # Errors
    /// [`OptionsError`].
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        options.validate()?;
        let endpoints = Endpoints::new(&options)?;
        let credentials = Credentials::new(&options)?;
        let metrics = Metrics::new(endpoints.names());
        let tokens = Memo::new(TOKENS_MAX, TOKEN_LIFETIMES);
        Ok(Self { shared: Arc::new(Shared { options, endpoints, credentials, tokens, metrics }) })
    }

    /// Adds this client's metrics to `registry`, their names prefixed with `origin_`.
    pub fn register_metrics(&self, registry: &mut MetricsRegistry) {
        self.shared.metrics.register(registry);
    }

    /// Whether the configuration has a credential for `repository`.
    #[must_use]
    pub fn has_credential(&self, repository: &Repository) -> bool {
        self.shared.credentials.has(&repository.registry, repository.name.as_str())
    }

    /// Whether the configuration has a credential for `repository` that clients without one may use.
    #[must_use]
    pub fn shares_credential(&self, repository: &Repository) -> bool {
        self.endpoint(&repository.registry).is_ok_and(|endpoint| endpoint.share_credential)
            && self.has_credential(repository)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    pub(crate) fn endpoint(&self, registry: &Registry) -> Result<Endpoint, OriginError> {
        self.shared.endpoints.get(registry)
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.shared.credentials
    }

    pub(crate) fn tokens(&self) -> &Memo<TokenKey, Authorization> {
        &self.shared.tokens
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }
}
