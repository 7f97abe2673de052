//! Possession: from which repositories a blob was once read, and with whose right.
//!
//! That a manifest names a digest proves nothing, so the proxy serves cached bytes under a repository only if they were
//! once read from it, or anonymously. The list is bounded and stored with the blob.

use serde::{Deserialize, Serialize};
use types::Registry;

/// With which right a blob was read from a repository; the stronger is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Possession {
    /// With a credential: a client's own, or one from the configuration.
    Client,
    /// The origin gave it to anyone.
    Anonymous,
}

/// How many repositories are remembered for one blob; the one confirmed longest ago goes first.
pub(crate) const REPOSITORIES_MAX: usize = 64;

/// The longest repository name that is remembered, in bytes: twice what the distribution specification advises.
pub(crate) const REPOSITORY_LEN_MAX: usize = 512;

/// One remembered repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Confirmed {
    registry: String,
    repository: String,
    possession: Possession,
}

/// The repositories of one blob, the last confirmed at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Possessions(Vec<Confirmed>);

impl Possessions {
    /// Remembers that the blob was read from there. What was once read anonymously stays so. Whether the list changed
    /// in more than its order.
    pub(crate) fn allow(&mut self, registry: &Registry, repository: &str, possession: Possession) -> bool {
        if repository.len() > REPOSITORY_LEN_MAX {
            return false;
        }
        let known = self.position(registry, repository).map(|at| self.0.remove(at));
        let before = known.as_ref().map(|confirmed| confirmed.possession);
        let possession = before.map_or(possession, |before| before.max(possession));
        if self.0.len() == REPOSITORIES_MAX {
            self.0.remove(0);
        }
        self.0.push(known.map_or_else(
            || Confirmed {
                registry: registry.as_str().to_owned(),
                repository: repository.to_owned(),
                possession,
            },
            |confirmed| Confirmed { possession, ..confirmed },
        ));
        before != Some(possession)
    }

    /// With which right the blob was read from there, if it was.
    pub(crate) fn get(&self, registry: &Registry, repository: &str) -> Option<Possession> {
        self.position(registry, repository).map(|at| self.0[at].possession)
    }

    /// Whether any repository gave it to anyone.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.0.iter().any(|confirmed| confirmed.possession == Possession::Anonymous)
    }

    fn position(&self, registry: &Registry, repository: &str) -> Option<usize> {
        self.0.iter().position(|c| c.registry == registry.as_str() && c.repository == repository)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stronger_right_stays_and_the_oldest_entry_goes() {
        let registry = Registry::parse("registry.example").unwrap();
        let mut list = Possessions::default();
        assert!(list.allow(&registry, "a/0", Possession::Client));
        assert!(!list.is_anonymous());
        assert!(list.allow(&registry, "a/0", Possession::Anonymous));
        assert!(!list.allow(&registry, "a/0", Possession::Client));
        assert_eq!(list.get(&registry, "a/0"), Some(Possession::Anonymous));
        assert!(list.is_anonymous());
        for i in 1..=REPOSITORIES_MAX {
            assert!(list.allow(&registry, &format!("a/{i}"), Possession::Client));
        }
        assert_eq!(list.0.len(), REPOSITORIES_MAX);
        assert_eq!(list.get(&registry, "a/0"), None);
        assert_eq!(list.get(&registry, "a/1"), Some(Possession::Client));
        assert!(!list.allow(&registry, &"x".repeat(REPOSITORY_LEN_MAX + 1), Possession::Client));
    }
}
