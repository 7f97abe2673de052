//! Which registries are believed when they say that a repository has a blob.
//!
//! A registry that anyone can run could say so of a private blob that it does not have, and the cluster would hand the
//! blob to whoever asked through it. What the large public registries say, and those that the configuration names, is
//! believed; from others a blob is read by each node for itself, past the cache.

use std::collections::BTreeSet;
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
    named: BTreeSet<Registry>,
}

impl Trust {
    /// The well-known ones, and those that the configuration names.
    pub(crate) fn new(named: impl IntoIterator<Item = Registry>) -> Self {
        Self { named: named.into_iter().collect() }
    }

    /// Whether what `registry` says of its blobs is believed.
    pub(crate) fn believes(&self, registry: &Registry) -> bool {
        let name = registry.as_str();
        self.named.contains(registry)
            || WELL_KNOWN.contains(&name)
            || WELL_KNOWN_SUFFIXES.iter().any(|suffix| name.ends_with(suffix) && name.len() > suffix.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_and_named_registries_are_believed_and_others_are_not() {
        let registry = |name: &str| Registry::parse(name).unwrap();
        let trust = Trust::new([registry("registry.test:5000")]);
        for name in [
            "docker.io",
            "ghcr.io",
            "1234.dkr.ecr.eu-west-1.amazonaws.com",
            "me.azurecr.io",
            "registry.test:5000",
        ] {
            assert!(trust.believes(&registry(name)), "{name}");
        }
        for name in
            ["evil.example", "docker.io.evil.example", "azurecr.io.evil", "registry.test:5001", "xdocker.io"]
        {
            assert!(!trust.believes(&registry(name)), "{name}");
        }
    }
}
