//! One request with its challenge, if there is one: the right header, from the cache or from the registry's realm.

use crate::challenge::{self, Challenge};
use crate::client::Origin;
use crate::credentials::Credential;
use crate::redirect::{Arrived, Walk};
use crate::send::{Ask, refusal};
use crate::token::{self, Authorization};
use crate::{Auth, OriginError, RepositoryName};
use http::StatusCode;
use types::Registry;

/// What a cached header is good for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    registry: Registry,
    /// The scope: a repository, or `/v2/`.
    repository: Option<RepositoryName>,
    who: Who,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Anybody,
    Us,
}

impl Origin {
    /// Asks once. A challenge is answered as `auth` can; the response is the last one, whatever its status.
    pub(crate) async fn authorized(&self, walk: &Walk<'_>, ask: &Ask<'_>) -> Result<Arrived, OriginError> {
        let url = || walk.endpoint.url(ask.repository, ask.tail);
        let who = match ask.auth {
            Auth::Client(secret) => {
                let header = secret.to_header().ok_or(OriginError::Malformed("an Authorization header"))?;
                return walk.follow(&ask.method, url(), &ask.headers, Some(&header)).await;
            }
            Auth::Anonymous => Who::Anybody,
            Auth::Configured => Who::Us,
        };
        let credential = match who {
            Who::Anybody => None,
            Who::Us => {
                let name = ask.repository.map_or("", |repository| repository.name.as_str());
                Some(self.credentials().get(walk.registry, name)?)
            }
        };
        let repository = ask.repository.map(|repository| repository.name.clone());
        let key = TokenKey { registry: walk.registry.clone(), repository, who };
        let held = match &credential {
            Some(Credential::Bearer(token)) => Some(Authorization::fixed(token)?),
            _ => self.tokens().known(&key).await,
        };
        let held = held.map(|authorization| authorization.header);
        let mut arrived = walk.follow(&ask.method, url(), &ask.headers, held.as_ref()).await?;
        if let Some(held) = held.as_ref().filter(|_| refused(&arrived)) {
            self.tokens().forget(&key, |known| known.header == *held).await;
            // A token that has lapsed or does not suffice: the challenge that comes without one says what would.
            if arrived.response.status() != StatusCode::UNAUTHORIZED && who == Who::Anybody {
                arrived = walk.follow(&ask.method, url(), &ask.headers, None).await?;
            }
        }
        if arrived.away || arrived.response.status() != StatusCode::UNAUTHORIZED || ask.challenge_wanted {
            return Ok(arrived);
        }
        let challenges = challenge::headers(arrived.response.headers());
        let body = refusal(arrived.response).await;
        let unauthorized =
            || OriginError::Unauthorized { challenges: challenges.clone(), body: body.clone() };
        let Some(chosen) = challenge::choose(&challenges) else { return Err(unauthorized()) };
        let fetched = self.tokens().get(&key, answer(walk, ask, &chosen, credential.as_ref()));
        let header = match fetched.await {
            Ok(authorization) => authorization.header,
            // The realm's refusal is the registry's: its challenge says what would do.
            Err(error) if error.is_refusal() => return Err(unauthorized()),
            Err(OriginError::Unexpected { .. }) => return Err(unauthorized()),
            Err(error) => return Err(error),
        };
        let arrived = walk.follow(&ask.method, url(), &ask.headers, Some(&header)).await?;
        if refused(&arrived) {
            self.tokens().forget(&key, |known| known.header == header).await;
            let forbidden = arrived.response.status() == StatusCode::FORBIDDEN;
            if who == Who::Anybody || !forbidden {
                return Err(unauthorized());
            }
        }
        Ok(arrived)
    }
}

/// Whether the registry itself, not an object store, says that the credential does not suffice.
fn refused(arrived: &Arrived) -> bool {
    !arrived.away && matches!(arrived.response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// The header that answers `challenge`.
async fn answer(
    walk: &Walk<'_>,
    ask: &Ask<'_>,
    challenge: &Challenge,
    credential: Option<&Credential>,
) -> Result<Authorization, OriginError> {
    match (challenge, credential) {
        (Challenge::Bearer { .. }, _) => {
            token::Request::new(*walk, ask.repository, challenge)?.fetch(credential).await
        }
        (Challenge::Basic, Some(Credential::Password { username, password })) => {
            Authorization::basic(username, password)
        }
        (Challenge::Basic, Some(Credential::Identity { username, token })) => {
            Authorization::basic(username, token)
        }
        (Challenge::Basic, Some(Credential::Bearer(_)) | None) => {
            Err(OriginError::Denied { status: StatusCode::UNAUTHORIZED, body: bytes::Bytes::new() })
        }
    }
}
