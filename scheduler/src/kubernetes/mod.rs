//! Tokens of Kubernetes service accounts: which of them let a host join, as the API server says.
//!
//! Strangers cause the questions, so that these are few: an address has a small share of them, a token that was refused
//! is not asked about again for a while, and a question that let nobody in stays a part of its address's share for a
//! moment. [`TokenReviews`] decides; [`api`] asks.

mod api;
mod options;

pub use options::{KubernetesOptions, ServiceAccount};

use crate::Invalid;
use api::{ApiError, ApiServer, Review};
use membership::{Places, SecretHash, ServiceAccountToken};
use moka::sync::Cache;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tonic::Status;

/// Questions at once, and those of one address.
const QUESTIONS_MAX: usize = 16;
const QUESTIONS_PER_ADDRESS_MAX: u32 = 4;

/// How long a question waits for its turn; with the answer's time it is less than a host waits to join.
const TURN_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a question that let nobody in still counts as one of its address's.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// How many refused tokens are remembered, and for how long. A token can become good: a pod's may be known to one API
/// server a little later than to another.
const REFUSED_MAX: u64 = 4096;
const REFUSED_LIFETIME: Duration = Duration::from_secs(10);

/// The longest name of a pod or a node that is believed, in bytes.
const NAME_BYTES_MAX: usize = 253;

const POD: &str = "authentication.kubernetes.io/pod-name";
const NODE: &str = "authentication.kubernetes.io/node-name";

/// Whose token it was, for the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `NAMESPACE/NAME`
    pub(crate) account: String,
    /// Where the API server says it.
    pub(crate) pod: Option<String>,
    pub(crate) node: Option<String>,
}

/// Why the token does not let its owner in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error(
        "Kubernetes does not accept the service account's token: it has expired, its pod is gone, or it is of another \
         cluster or projected for another audience than the scheduler's"
    )]
    NotAuthenticated,
    #[error("the service account's token is not projected for the scheduler's audience")]
    Audience,
    #[error("the token is of a service account that may not join this cluster")]
    Account,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
enum ReviewError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("too many service accounts' tokens are asked about at once")]
    Busy,
    #[error("the Kubernetes API server cannot be asked about the service account's token: {0}")]
    Api(#[from] ApiError),
}

impl From<ReviewError> for Status {
    fn from(error: ReviewError) -> Self {
        let why = error.to_string();
        match error {
            ReviewError::Refused(Refused::Account) => Self::permission_denied(why),
            ReviewError::Refused(_) => Self::unauthenticated(why),
            ReviewError::Busy => Self::resource_exhausted(why),
            ReviewError::Api(_) => Self::unavailable(why),
        }
    }
}

/// Which service accounts join, and what was found out of their tokens.
#[derive(Debug)]
pub(crate) struct TokenReviews {
    api: Arc<ApiServer>,
    judge: Judge,
    turns: Arc<Semaphore>,
    places: Places<IpAddr>,
    refused: Cache<SecretHash, Refused>,
}

impl TokenReviews {
    /// Nothing if no service account joins.
    pub(crate) async fn new(options: &KubernetesOptions) -> Result<Option<Arc<Self>>, Invalid> {
        if !options.is_on() {
            return Ok(None);
        }
        let judge = Judge { accounts: options.service_accounts.clone(), audience: options.audience.clone() };
        let options = options.clone();
        let api = tokio::task::spawn_blocking(move || ApiServer::new(&options)).await;
        let api = api.map_err(|error| Invalid { key: "kubernetes", why: error.to_string() })??;
        Ok(Some(Arc::new(Self {
            api: Arc::new(api),
            judge,
            turns: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            places: Places::new(QUESTIONS_PER_ADDRESS_MAX),
            refused: Cache::builder().max_capacity(REFUSED_MAX).time_to_live(REFUSED_LIFETIME).build(),
        })))
    }

    /// Whose token it is that somebody at `from` has, if it lets him in. A question that was begun is ended, and
    /// counted, whether or not he waits for it.
    pub(crate) async fn review(
        self: &Arc<Self>,
        token: &ServiceAccountToken,
        from: IpAddr,
    ) -> Result<Identity, Status> {
        let hash = token.hash();
        if let Some(refused) = self.refused.get(&hash) {
            return Err(ReviewError::Refused(refused).into());
        }
        let place = self.places.take(membership::row(from)).ok_or(ReviewError::Busy)?;
        let turn = tokio::time::timeout(TURN_TIMEOUT, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| ReviewError::Busy)?;
        let (this, token) = (Arc::clone(self), token.clone());
        let asking = tokio::spawn(async move {
            let answer = this.api.review(&token, &this.judge.audience).await;
            drop(turn);
            let judged = answer.map_err(ReviewError::Api).and_then(|answer| Ok(this.judge.judge(&answer)?));
            if let Err(ReviewError::Refused(refused)) = judged {
                this.refused.insert(hash, refused);
            }
            if judged.is_err() {
                tokio::spawn(async move {
                    tokio::time::sleep(FAILURE_PAUSE).await;
                    drop(place);
                });
            }
            judged
        });
        Ok(asking.await.map_err(|error| Status::internal(error.to_string()))??)
    }
}

/// What an answer means.
#[derive(Debug)]
struct Judge {
    accounts: Vec<ServiceAccount>,
    audience: String,
}

impl Judge {
    fn judge(&self, review: &Review) -> Result<Identity, Refused> {
        if !review.authenticated {
            return Err(Refused::NotAuthenticated);
        }
        // An API server that knows nothing of audiences names none.
        if !review.audiences.contains(&self.audience) {
            return Err(Refused::Audience);
        }
        let account = self.accounts.iter().find(|account| account.username() == review.user.username);
        let name = |key: &str| {
            let name = review.user.extra.get(key)?.first()?;
            let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
            ((1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(good)).then(|| name.clone())
        };
        Ok(Identity {
            account: account.ok_or(Refused::Account)?.to_string(),
            pod: name(POD),
            node: name(NODE),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn judge() -> Judge {
        let account = |text: &str| ServiceAccount::try_from(text.to_owned()).unwrap();
        Judge {
            accounts: vec![account("images/damselfly"), account("b/c")],
            audience: "damselfly".to_owned(),
        }
    }

    fn review(username: &str, audiences: &[&str], extra: &[(&str, &str)]) -> Review {
        let extra: BTreeMap<_, _> =
            extra.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()])).collect();
        Review {
            authenticated: true,
            audiences: audiences.iter().map(|audience| (*audience).to_owned()).collect(),
            user: api::User { username: username.to_owned(), extra },
        }
    }

    const DAEMON: &str = "system:serviceaccount:images:damselfly";

    #[test]
    fn a_pod_of_one_of_the_accounts_is_let_in() {
        let extra = [(POD, "damselfly-x7k2p"), (NODE, "node-1.example"), ("other", "thing")];
        let identity = judge().judge(&review(DAEMON, &["api", "damselfly"], &extra)).unwrap();
        let (pod, node) = (Some("damselfly-x7k2p".to_owned()), Some("node-1.example".to_owned()));
        assert_eq!(identity, Identity { account: "images/damselfly".to_owned(), pod, node });
        // What could steer a terminal is no name.
        let extra = [(POD, "a\u{1b}[2J"), (NODE, "")];
        let identity = judge().judge(&review(DAEMON, &["damselfly"], &extra)).unwrap();
        assert_eq!((identity.pod, identity.node), (None, None));
    }

    #[test]
    fn attack_an_answer_that_is_not_quite_a_yes_lets_nobody_in() {
        let judged = |review: &Review| judge().judge(review).unwrap_err();
        let no = Review { authenticated: false, ..review(DAEMON, &["damselfly"], &[]) };
        assert_eq!(judged(&no), Refused::NotAuthenticated);
        assert_eq!(judged(&Review::default()), Refused::NotAuthenticated);
        for audiences in [&[][..], &["https://kubernetes.default.svc"], &["damselfly2"], &["Damselfly"]] {
            assert_eq!(judged(&review(DAEMON, audiences, &[])), Refused::Audience, "{audiences:?}");
        }
        for other in [
            "",
            "images/damselfly",
            "system:serviceaccount:images:damselfly2",
            "system:serviceaccount:images:damselfl",
            "system:serviceaccount:other:damselfly",
            "system:serviceaccount:b:damselfly",
            "system:serviceaccount:images:damselfly:x",
            "x:system:serviceaccount:images:damselfly",
            "system:node:images:damselfly",
            "SYSTEM:serviceaccount:images:damselfly",
        ] {
            assert_eq!(judged(&review(other, &["damselfly"], &[])), Refused::Account, "{other}");
        }
    }
}
