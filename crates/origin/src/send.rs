//! Requests with their retries, small bodies read whole, and what a status means.

use crate::challenge;
use crate::client::Origin;
use crate::metrics::Kind;
use crate::redirect::{Arrived, Walk, cause_of};
use crate::{Auth, Options, OriginError, Repository};
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::time::Duration;
use types::Registry;

/// The longest time that a body read whole takes: it is small, and an origin that drips is none.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest time that is spent on an error's body.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// One thing to be asked of a registry.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) registry: &'a Registry,
    /// `None` for `/v2/`.
    pub(crate) repository: Option<&'a Repository>,
    /// What follows `/v2/NAME/`, with its query.
    pub(crate) tail: &'a str,
    pub(crate) headers: HeaderMap,
    pub(crate) auth: &'a Auth,
    pub(crate) kind: Kind,
    /// Whether a challenge is what the caller wants, not something to be answered.
    pub(crate) challenge_wanted: bool,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(
        method: Method,
        repository: &'a Repository,
        tail: &'a str,
        auth: &'a Auth,
        kind: Kind,
    ) -> Self {
        // Some registries compress what they send, and the digest is that of what is not.
        let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
        Self {
            method,
            registry: &repository.registry,
            repository: Some(repository),
            tail,
            headers,
            auth,
            kind,
            challenge_wanted: false,
        }
    }

    pub(crate) fn accept(mut self, accept: &[HeaderValue]) -> Self {
        for value in accept {
            self.headers.append(header::ACCEPT, value.clone());
        }
        self
    }
}

/// The pauses between tries: exponential with jitter.
pub(crate) struct Retry {
    pauses: ExponentialBackoff,
    pause_max: Duration,
}

impl Retry {
    pub(crate) fn new(options: &Options) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(options.retry_pause)
            .with_max_delay(options.retry_pause_max)
            .with_max_times(options.retries as usize)
            .with_jitter()
            .build();
        Self { pauses, pause_max: options.retry_pause_max }
    }

    /// Waits before another try; the error back if there is to be none.
    pub(crate) async fn after(&mut self, error: OriginError) -> Result<(), OriginError> {
        let asked = match &error {
            OriginError::Throttled { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        if !error.is_retryable() || asked > self.pause_max {
            return Err(error);
        }
        let Some(pause) = self.pauses.next() else { return Err(error) };
        tracing::debug!(%error, pause_ms = pause.max(asked).as_millis(), "asking the origin again");
        tokio::time::sleep(pause.max(asked)).await;
        Ok(())
    }
}

impl Origin {
    /// Asks until there is a good answer: 2xx, or 416 where a Range was asked for.
    pub(crate) async fn ask(&self, ask: &Ask<'_>) -> Result<reqwest::Response, OriginError> {
        self.tries(ask, None).await.map(|(response, _)| response)
    }

    /// Asks until there is a good answer, read to its end.
    pub(crate) async fn ask_whole(
        &self,
        ask: &Ask<'_>,
        len_max: u64,
    ) -> Result<http::Response<Bytes>, OriginError> {
        let (response, body) = self.tries(ask, Some(len_max)).await?;
        let mut whole = http::Response::new(body);
        *whole.status_mut() = response.status();
        *whole.headers_mut() = response.headers().clone();
        Ok(whole)
    }

    async fn tries(
        &self,
        ask: &Ask<'_>,
        len_max: Option<u64>,
    ) -> Result<(reqwest::Response, Bytes), OriginError> {
        let endpoint = self.endpoint(ask.registry)?;
        let walk = Walk {
            registry: ask.registry,
            endpoint: &endpoint,
            metrics: self.metrics(),
            kind: ask.kind,
            timeout: self.options().response_timeout,
            stall: self.options().stall_timeout,
        };
        let mut retry = Retry::new(self.options());
        let mut again = true;
        loop {
            let (error, away) = match self.authorized(&walk, ask).await {
                Err(error) => (error, false),
                Ok(Arrived { response, away }) => {
                    match self.accepted(&walk, ask, response, len_max, away).await {
                        Ok(done) => return Ok(done),
                        Err(error) => (error, away),
                    }
                }
            };
            // An object store refuses a signature that has lapsed meanwhile: the registry makes a new one.
            if away && again && matches!(error, OriginError::Denied { .. }) {
                again = false;
                continue;
            }
            retry.after(error).await?;
        }
    }

    async fn accepted(
        &self,
        walk: &Walk<'_>,
        ask: &Ask<'_>,
        response: reqwest::Response,
        len_max: Option<u64>,
        away: bool,
    ) -> Result<(reqwest::Response, Bytes), OriginError> {
        let status = response.status();
        let unsatisfiable =
            status == StatusCode::RANGE_NOT_SATISFIABLE && ask.headers.contains_key(header::RANGE);
        if !status.is_success() && !unsatisfiable {
            return Err(refused(response, away).await);
        }
        match len_max {
            None => Ok((response, Bytes::new())),
            Some(_) if ask.method == Method::HEAD => Ok((response, Bytes::new())),
            Some(len_max) => read_whole(walk, response, len_max).await,
        }
    }
}

/// What a status other than a success means.
async fn refused(response: reqwest::Response, away: bool) -> OriginError {
    let status = response.status();
    let challenges = challenge::headers(response.headers());
    // A date instead of seconds, which no registry sends, counts as none.
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let body = refusal(response).await;
    match status.as_u16() {
        401 if !away => OriginError::Unauthorized { challenges, body },
        // A challenge of somebody else's is not for the client.
        401 | 403 => OriginError::Denied { status, body },
        404 => OriginError::NotFound { body },
        429 => OriginError::Throttled { retry_after, body },
        500.. => OriginError::Server { status },
        _ => OriginError::Unexpected { status, body },
    }
}

/// The beginning of an error's body.
pub(crate) async fn refusal(mut response: reqwest::Response) -> Bytes {
    let mut body = BytesMut::new();
    let read = async {
        while body.len() < OriginError::BODY_LEN_MAX
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk);
        }
    };
    // What has come until then is enough.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, read).await;
    body.truncate(OriginError::BODY_LEN_MAX);
    body.freeze()
}

/// A success's body, if it is no longer than `len_max` bytes.
pub(crate) async fn read_whole(
    walk: &Walk<'_>,
    mut response: reqwest::Response,
    len_max: u64,
) -> Result<(reqwest::Response, Bytes), OriginError> {
    if !response.status().is_success() {
        return Err(refused(response, false).await);
    }
    let announced = content_length(response.headers());
    if announced.is_some_and(|len| len > len_max) {
        return Err(OriginError::TooLarge { limit: len_max });
    }
    let mut body = BytesMut::new();
    let read = async {
        loop {
            let chunk = tokio::time::timeout(walk.stall, response.chunk()).await;
            match chunk.map_err(|_| OriginError::Stalled)? {
                Ok(None) => return Ok(()),
                Ok(Some(chunk)) if (body.len() + chunk.len()) as u64 > len_max => {
                    return Err(OriginError::TooLarge { limit: len_max });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(error) => {
                    let got = body.len() as u64;
                    return Err(OriginError::Broken { got, cause: cause_of(error) });
                }
            }
        }
    };
    tokio::time::timeout(WHOLE_TIMEOUT, read).await.unwrap_or(Err(OriginError::Stalled))?;
    walk.metrics.received(walk.registry, walk.kind, body.len() as u64);
    Ok((response, body.freeze()))
}

/// `Content-Length`, if it is there and a number.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}
