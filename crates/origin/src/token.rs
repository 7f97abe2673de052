//! Tokens: an answer to a bearer challenge (the distribution specification's "Token Authentication").

use crate::challenge::Challenge;
use crate::credentials::Credential;
use crate::memo::Lapses;
use crate::metrics::Kind;
use crate::redirect::Walk;
use crate::send::read_whole;
use crate::{OriginError, Repository, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use std::time::Duration;
use url::Url;
use url::form_urlencoded::Serializer;

/// How long a token lives that does not say so.
const LIFETIME_DEFAULT: u64 = 60;

/// The longest time that a token is used, whatever it says.
const LIFETIME_MAX: Duration = Duration::from_secs(3600);

/// How long before its end a token is renewed; at most a quarter of its life.
const MARGIN: Duration = Duration::from_secs(15);

/// The largest answer of a token endpoint, in bytes. Tokens themselves have a few thousand.
const ANSWER_LEN_MAX: u64 = 64 * 1024;

/// The longest token that is kept, in bytes.
const TOKEN_LEN_MAX: usize = 16 * 1024;

/// What a client of the OAuth2 endpoint calls itself.
const CLIENT_ID: &str = "damselfly";

/// An Authorization header that answers a challenge.
#[derive(Clone, Debug)]
pub(crate) struct Authorization {
    pub(crate) header: HeaderValue,
    lifetime: Duration,
}

impl Lapses for Authorization {
    fn lifetime(&self) -> Duration {
        self.lifetime
    }
}

/// How long a password is sent before it is read from its file again.
const PASSWORD_LIFETIME: Duration = Duration::from_secs(300);

impl Authorization {
    /// The `Basic` scheme (RFC 7617).
    pub(crate) fn basic(username: &str, password: &Secret) -> Result<Self, OriginError> {
        let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
        Self::sensitive(&format!("Basic {pair}"), PASSWORD_LIFETIME)
    }

    /// The `Bearer` scheme (RFC 6750).
    pub(crate) fn bearer(token: &str, lifetime: Duration) -> Result<Self, OriginError> {
        Self::sensitive(&format!("Bearer {token}"), lifetime)
    }

    fn sensitive(text: &str, lifetime: Duration) -> Result<Self, OriginError> {
        let mut header = HeaderValue::from_str(text)
            .map_err(|_| OriginError::Malformed("a token that no header can carry"))?;
        header.set_sensitive(true);
        Ok(Self { header, lifetime })
    }

    /// The token in the answer of a token endpoint.
    pub(crate) fn of_answer(body: &[u8]) -> Result<Self, OriginError> {
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|_| OriginError::Malformed("a token endpoint's answer that is not JSON of its form"))?;
        let given = |token: Option<String>| token.filter(|token| !token.is_empty());
        let token = given(answer.token)
            .or_else(|| given(answer.access_token))
            .filter(|token| token.len() <= TOKEN_LEN_MAX)
            .ok_or(OriginError::Malformed(
                "a token endpoint's answer without a token of reasonable length",
            ))?;
        let seconds = match answer.expires_in {
            Some(serde_json::Value::Number(number)) => number.as_u64(),
            Some(serde_json::Value::String(text)) => text.parse().ok(),
            _ => None,
        };
        let life =
            Duration::from_secs(seconds.filter(|s| *s > 0).unwrap_or(LIFETIME_DEFAULT)).min(LIFETIME_MAX);
        Self::bearer(&token, life - MARGIN.min(life / 4))
    }

    /// A token from the configuration, to be sent as it is.
    pub(crate) fn fixed(token: &Secret) -> Result<Self, OriginError> {
        Self::bearer(token.expose(), PASSWORD_LIFETIME)
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<serde_json::Value>,
}

/// Where tokens come from, and for what.
pub(crate) struct Request<'a> {
    walk: Walk<'a>,
    realm: Url,
    service: Option<String>,
    scopes: Vec<String>,
}

impl<'a> Request<'a> {
    /// What `challenge` asks for.
    pub(crate) fn new(
        walk: Walk<'a>,
        repository: Option<&Repository>,
        challenge: &Challenge,
    ) -> Result<Self, OriginError> {
        let Challenge::Bearer { realm, service, scope } = challenge else {
            return Err(OriginError::Malformed("no bearer challenge"));
        };
        let realm: Url = realm.parse().map_err(|_| OriginError::Malformed("a realm that is no URL"))?;
        if !realm.username().is_empty() || realm.password().is_some() {
            return Err(OriginError::Malformed("a realm with a password in it"));
        }
        let scopes = match (scope, repository) {
            (Some(scope), _) => scope.split_whitespace().map(str::to_owned).collect(),
            (None, Some(repository)) => vec![format!("repository:{}:pull", repository.name)],
            (None, None) => Vec::new(),
        };
        Ok(Self { walk: Walk { kind: Kind::Token, ..walk }, realm, service: service.clone(), scopes })
    }

    /// A token for `credential`, or an anonymous one.
    pub(crate) async fn fetch(&self, credential: Option<&Credential>) -> Result<Authorization, OriginError> {
        match credential {
            None => self.get(None).await,
            Some(Credential::Bearer(token)) => Authorization::fixed(token),
            Some(Credential::Password { username, password }) => {
                self.get(Some((username, Authorization::basic(username, password)?))).await
            }
            Some(Credential::Identity { username, token }) => match self.post(token).await {
                Ok(authorization) => Ok(authorization),
                // An endpoint without OAuth2 says so in one of these ways.
                Err(error) if no_oauth(&error) => {
                    let username = if username.is_empty() { "<token>" } else { username };
                    self.get(Some((username, Authorization::basic(username, token)?))).await
                }
                Err(error) => Err(error),
            },
        }
    }

    async fn get(&self, user: Option<(&str, Authorization)>) -> Result<Authorization, OriginError> {
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(self.service.iter().map(|service| ("service", service)));
            query.extend_pairs(self.scopes.iter().map(|scope| ("scope", scope)));
            if let Some((username, _)) = &user {
                query.append_pair("account", username);
            }
        }
        let authorization = user.map(|(_, authorization)| authorization.header);
        let arrived = self.walk.follow(&Method::GET, url, &HeaderMap::new(), authorization.as_ref()).await?;
        self.parse(arrived.response).await
    }

    /// RFC 6749, section 6, as registries have it.
    async fn post(&self, refresh_token: &Secret) -> Result<Authorization, OriginError> {
        let form = self.form(refresh_token);
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]);
        let response = self.walk.hop(&Method::POST, &self.realm, headers, Some(form)).await?;
        self.parse(response).await
    }

    fn form(&self, refresh_token: &Secret) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
        form.extend_pairs(self.service.iter().map(|service| ("service", service)));
        form.append_pair("scope", &self.scopes.join(" "))
            .append_pair("refresh_token", refresh_token.expose());
        form.finish()
    }

    async fn parse(&self, response: reqwest::Response) -> Result<Authorization, OriginError> {
        let (_, body) = read_whole(&self.walk, response, ANSWER_LEN_MAX).await?;
        Authorization::of_answer(&body)
    }
}

/// Whether a token endpoint does not know OAuth2: 400, 401, 404 or 405.
fn no_oauth(error: &OriginError) -> bool {
    match error {
        OriginError::Unauthorized { .. } | OriginError::NotFound { .. } => true,
        OriginError::Unexpected { status, .. } => matches!(status.as_u16(), 400 | 405),
        _ => false,
    }
}
