//! Which registries are believed when they say that a repository has a blob.
//!
//! A registry that anyone can run could say so of a private blob that it does not have, and the cluster would hand the
//! blob to whoever asked through it. What the large public registries say, and those that the configuration names, is
//! believed; from others a blob is read by each node for itself, past the cache.

use std::collections::BTreeMap;
use types::Registry;

/// Public registries that do not confirm what they do not have.
const WELL_KNOWN: [&str; 15] = [
    "docker.io",
    "ghcr.io",
    "quay.io",
    "gcr.io",
    "k8s.gcr.io",
    "registry.k8s.io",
    "mcr.microsoft.com",
    "public.ecr.aws",
    "registry.gitlab.com",
    "registry.access.redhat.com",
    "registry.redhat.io",
    "docker.elastic.co",
    "nvcr.io",
    "cgr.dev",
    "registry.suse.com",
];

/// The same, for registries that have a name of their own for each customer.
const WELL_KNOWN_SUFFIXES: [&str; 7] = [
    ".gcr.io",
    ".pkg.dev",
    ".azurecr.io",
    ".aliyuncs.com",
    ".tencentcloudcr.com",
    ".amazonaws.com",
    ".jfrog.io",
];

/// The registries that are believed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// Those that the configuration names, and whether it trusts them.
    named: BTreeMap<Registry, bool>,
}

impl Trust {
    /// The well-known ones, and those that the configuration names, unless it says otherwise.
    pub(crate) fn new(origin: &origin::Options) -> Self {
        let named = origin.registries.iter().map(|(name, options)| (name.clone(), !options.untrusted));
        Self { named: named.collect() }
    }

    /// Whether what `registry` says of its blobs is believed.
    pub(crate) fn believes(&self, registry: &Registry) -> bool {
        let name = registry.as_str();
        let well_known = || {
            WELL_KNOWN.contains(&name)
                || WELL_KNOWN_SUFFIXES
                    .iter()
                    .any(|suffix| name.ends_with(suffix) && name.len() > suffix.len())
        };
        self.named.get(registry).copied().unwrap_or_else(well_known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_and_named_registries_are_believed_and_others_are_not() {
        let registry = |name: &str| Registry::parse(name).unwrap();
        let mut options = origin::Options::default();
        for (name, untrusted) in [("registry.test:5000", false), ("partner.test", true), ("quay.io", true)] {
            let particular = origin::RegistryOptions { untrusted, ..origin::RegistryOptions::default() };
            options.registries.insert(registry(name), particular);
        }
        let trust = Trust::new(&options);
        for name in [
            "docker.io",
            "ghcr.io",
            "1234.dkr.ecr.eu-west-1.amazonaws.com",
            "me.azurecr.io",
            "registry.test:5000",
        ] {
            assert!(trust.believes(&registry(name)), "{name}");
        }
        for name in [
            "evil.example",
            "docker.io.evil.example",
            "azurecr.io.evil",
            "registry.test:5001",
            "xdocker.io",
            "partner.test",
            "quay.io",
        ] {
            assert!(!trust.believes(&registry(name)), "{name}");
        }
    }
}
