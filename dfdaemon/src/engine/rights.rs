//! With which rights this host could read a blob from its origin: one for each client that asked, the best one used.
//!
//! A right that everybody has comes before one that the configuration gives, and that before a client's own, which ends
//! with the client's token. The engine asks here when it starts a read from the origin.

use origin::{Auth, Repository};
use std::time::{Duration, Instant};
use types::Credential;

/// How long a client's own token is taken to last: its real life is known to its issuer alone.
pub(crate) const CLIENT_RIGHT_LIFE: Duration = Duration::from_secs(60);

/// Rights kept for one blob; with more the weakest goes.
const RIGHTS_MAX: usize = 16;

/// One way to read a blob from its origin.
#[derive(Clone, Debug)]
pub struct Right {
    /// The repository that it is read from.
    pub repository: Repository,
    /// What is sent to the origin.
    pub auth: Auth,
    /// When the right was shown to hold.
    pub since: Instant,
}

impl Right {
    /// The kind of right, and how long it lasts from `now` on.
    #[must_use]
    pub fn credential(&self, now: Instant) -> Credential {
        match &self.auth {
            Auth::Anonymous => Credential::Anonymous,
            Auth::Configured => Credential::Configured,
            Auth::Client(_) => {
                let age = now.saturating_duration_since(self.since);
                Credential::Client { remaining: CLIENT_RIGHT_LIFE.saturating_sub(age) }
            }
        }
    }

    /// Smaller is better.
    fn rank(&self) -> u8 {
        match &self.auth {
            Auth::Anonymous => 0,
            Auth::Configured => 1,
            Auth::Client(_) => 2,
        }
    }
}

/// The rights to one blob.
#[derive(Debug, Default)]
pub(crate) struct Rights(Vec<Right>);

impl Rights {
    /// Adds a right that was just shown to hold.
    pub(crate) fn add(&mut self, right: Right) {
        self.0.push(right);
        // Among equals the newest first: its client is the likeliest to be there still.
        self.0.sort_by_key(|right| (right.rank(), std::cmp::Reverse(right.since)));
        self.0.truncate(RIGHTS_MAX);
    }

    /// The best right.
    pub(crate) fn best(&self) -> Option<&Right> {
        self.0.first()
    }

    /// What to tell the scheduler.
    pub(crate) fn credential(&self, now: Instant) -> Credential {
        self.best().map_or(Credential::None, |right| right.credential(now))
    }

    /// Forgets the best right: the origin refused it.
    pub(crate) fn refused(&mut self) {
        if !self.0.is_empty() {
            self.0.remove(0);
        }
    }
}
