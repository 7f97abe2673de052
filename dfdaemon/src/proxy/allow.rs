//! Which registries clients may name: the proxy goes nowhere else for them, and preheats go nowhere else either.
//!
//! A first sieve by name. That a public name does not lead to a private address is checked again where the connection
//! is made, by `origin`.

use super::error::ProxyError;
use crate::config::AllowRegistries;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use types::Registry;

/// Last labels of names that have no meaning in public.
const PRIVATE_LABELS: [&str; 6] = ["arpa", "internal", "lan", "local", "localdomain", "localhost"];

/// The registries that clients may name; a clone is the same rule, also after a change.
#[derive(Clone, Debug)]
pub struct Allowed {
    rule: Arc<RwLock<AllowRegistries>>,
    /// Those that the configuration has by name, whatever the rule says.
    named: Arc<BTreeSet<Registry>>,
}

impl Allowed {
    pub fn new(rule: AllowRegistries, named: BTreeSet<Registry>) -> Self {
        Self { rule: Arc::new(RwLock::new(rule)), named: Arc::new(named) }
    }

    /// Another rule from now on.
    pub fn set_rule(&self, rule: AllowRegistries) {
        *self.rule.write().unwrap_or_else(PoisonError::into_inner) = rule;
    }

    /// Whether the proxy goes to `registry` for a client.
    pub fn check(&self, registry: &Registry) -> Result<(), ProxyError> {
        let refuse = |why| Err(ProxyError::RegistryRefused { registry: registry.to_string(), why });
        if self.named.contains(registry) {
            return Ok(());
        }
        match &*self.rule.read().unwrap_or_else(PoisonError::into_inner) {
            AllowRegistries::Only(list) if list.contains(registry) => Ok(()),
            AllowRegistries::Only(_) => refuse("it is not on the list of registries"),
            AllowRegistries::Public => match not_public(registry.as_str()) {
                None => Ok(()),
                Some(why) => refuse(why),
            },
        }
    }
}

/// Why a `host[:port]` is no public name, if it is none.
fn not_public(name: &str) -> Option<&'static str> {
    if name.starts_with('[') {
        return Some("an address must be configured by name");
    }
    let host = name.split_once(':').map_or(name, |(host, _)| host).trim_end_matches('.');
    let Some((_, last)) = host.rsplit_once('.') else {
        return Some("a name without a dot must be configured");
    };
    // What ends in a number is read as an address by many resolvers: 127.1, 0x7f.1.
    if host.parse::<IpAddr>().is_ok() || last.starts_with(|c: char| c.is_ascii_digit()) {
        return Some("an address must be configured by name");
    }
    PRIVATE_LABELS.contains(&last).then_some("a private name must be configured")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(name: &str) -> Registry {
        Registry::parse(name).unwrap()
    }

    #[test]
    fn attack_addresses_and_private_names_are_refused() {
        let named = BTreeSet::from([registry("127.0.0.1:5000"), registry("registry.local")]);
        let allowed = Allowed::new(AllowRegistries::Public, named);
        for good in ["docker.io", "ghcr.io:443", "a.b.example.com", "127.0.0.1:5000", "registry.local"] {
            assert!(allowed.check(&registry(good)).is_ok(), "{good}");
        }
        let bad = [
            "127.0.0.1",
            "127.0.0.1:5001",
            "10.0.0.1",
            "169.254.169.254",
            "127.1",
            "0x7f.1",
            "a.0x7f",
            "[::1]:5000",
            "localhost",
            "localhost.",
            "localhost:5000",
            "app.localhost",
            "registry",
            "metadata.google.internal",
            "x.cluster.local",
        ];
        for bad in bad {
            let refused = allowed.check(&registry(bad)).expect_err(bad);
            assert_eq!((refused.status().as_u16(), refused.code()), (403, "DENIED"), "{bad}");
        }
    }

    #[test]
    fn a_list_and_what_is_configured() {
        let rule = AllowRegistries::Only(vec![registry("ghcr.io")]);
        let allowed = Allowed::new(rule, BTreeSet::from([registry("quay.io")]));
        let same = allowed.clone();
        assert!(allowed.check(&registry("ghcr.io")).is_ok());
        same.set_rule(AllowRegistries::Only(Vec::new()));
        assert!(allowed.check(&registry("ghcr.io")).is_err());
        allowed.set_rule(AllowRegistries::Only(vec![registry("ghcr.io")]));
        assert!(allowed.check(&registry("quay.io")).is_ok());
        assert!(allowed.check(&registry("docker.io")).is_err());
    }
}
