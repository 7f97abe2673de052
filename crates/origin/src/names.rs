//! The names that a registry's content goes by: repository, tag, reference.
//!
//! Parsed once, where a request or an argument comes in, by the grammar of the OCI distribution specification
//! ("Pulling manifests"); whatever holds one of these types can go into a URL as it is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use types::{Digest, Registry};

/// Docker Hub's name in image references.
pub const DOCKER_HUB: &str = "docker.io";

/// The namespace of Docker Hub's names of one component.
const HUB_NAMESPACE: &str = "library/";

/// Text that is no repository name, tag or reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a repository name by the specification's grammar, or longer than 255 bytes.
    #[error("not a repository name: {0:?}")]
    Repository(String),
    /// Not a tag by the specification's grammar.
    #[error("not a tag: {0:?}")]
    Tag(String),
    /// Looks like a digest but is none that is supported.
    #[error("not a digest: {0:?}")]
    Digest(String),
    /// Not a registry's name.
    #[error("not a registry: {0:?}")]
    Registry(String),
}

/// What of a bad name an error quotes, in characters.
const QUOTED_MAX: usize = 80;

fn quote(text: &str) -> String {
    text.chars().take(QUOTED_MAX).collect()
}

/// A repository's name: components of lower-case letters, digits and separators, joined by slashes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Arc<str>);

impl RepositoryName {
    /// The longest name, in bytes.
    pub const LEN_MAX: usize = 255;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut bytes = text.as_bytes();
    loop {
        let word = bytes.iter().take_while(|b| alphanumeric(**b)).count();
        if word == 0 {
            return false;
        }
        bytes = &bytes[word..];
        if bytes.is_empty() {
            return true;
        }
        let separator = bytes.iter().take_while(|b| !alphanumeric(**b)).count();
        let good = match &bytes[..separator] {
            b"." | b"_" | b"__" => true,
            dashes => dashes.iter().all(|b| *b == b'-'),
        };
        if !good {
            return false;
        }
        bytes = &bytes[separator..];
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() <= Self::LEN_MAX && text.split('/').all(is_component) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Repository(quote(text)))
        }
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepositoryName({})", self.0)
    }
}

/// A repository of a registry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// The registry by the name that image references have for it.
    pub registry: Registry,
    /// The name within the registry.
    pub name: RepositoryName,
}

impl Repository {
    /// A repository under the one name that everybody in the cluster has for it: Docker Hub's other host names become
    /// `docker.io`, and its names of one component get their namespace `library/`.
    #[must_use]
    pub fn new(registry: &Registry, name: RepositoryName) -> Self {
        let registry = canonical(registry);
        let name = if registry.as_str() == DOCKER_HUB && !name.as_str().contains('/') {
            // A name of one component that the namespace makes too long does not exist at Docker Hub.
            format!("{HUB_NAMESPACE}{name}").parse().unwrap_or(name)
        } else {
            name
        };
        Self { registry, name }
    }
}

/// Docker Hub's other host names become `docker.io`; every other registry stays as it is.
#[must_use]
pub fn canonical(registry: &Registry) -> Registry {
    match registry.as_str() {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => {
            Registry::parse(DOCKER_HUB).unwrap_or_else(|_| registry.clone())
        }
        _ => registry.clone(),
    }
}

/// `registry/name`, as in an image reference without tag and digest.
impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({self})")
    }
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagName(Arc<str>);

impl TagName {
    /// The longest tag, in bytes.
    pub const LEN_MAX: usize = 128;

    /// The tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TagName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let good = text.len() <= Self::LEN_MAX
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if good { Ok(Self(text.into())) } else { Err(NameError::Tag(quote(text))) }
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TagName({})", self.0)
    }
}

/// What a manifest is asked by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A mutable name.
    Tag(TagName),
    /// The content's digest.
    Digest(Digest),
}

impl Reference {
    /// The digest, if it is one.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Tag(_) => None,
            Self::Digest(digest) => Some(digest),
        }
    }
}

/// A text with a colon is a digest or nothing; every other is a tag.
impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(':') {
            text.parse().map(Self::Digest).map_err(|_| NameError::Digest(quote(text)))
        } else {
            text.parse().map(Self::Tag)
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// An image as people write it: `nginx`, `ghcr.io/org/app:v1`, `host:5000/app@sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// Where it is.
    pub repository: Repository,
    /// Which one: the digest where there is one, the tag `latest` where there is nothing.
    pub reference: Reference,
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| NameError::Digest(quote(digest)))?))
            }
            None => (text, None),
        };
        // A colon before the last slash belongs to the registry's port.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.parse()?)),
            _ => (rest, None),
        };
        let (registry, name) = match path.split_once('/') {
            Some((host, name)) if host.contains(['.', ':']) || host == "localhost" => (host, name),
            _ => (DOCKER_HUB, path),
        };
        let registry = Registry::parse(registry).map_err(|_| NameError::Registry(quote(registry)))?;
        let reference = match (digest, tag) {
            (Some(digest), _) => Reference::Digest(digest),
            (None, Some(tag)) => Reference::Tag(tag),
            (None, None) => Reference::Tag(TagName("latest".into())),
        };
        Ok(Self { repository: Repository::new(&registry, name.parse()?), reference })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names() {
        for good in ["a", "library/nginx", "a.b_c__d-e---f/0", "x/y/z", &"a".repeat(255)] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a..b",
            "a___b",
            "a._b",
            "-a",
            "a-",
            "a/../b",
            "..",
            "a%2fb",
            "a b",
            "é",
            "a_-b",
            &"a".repeat(256),
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn references() {
        let hex = "ab".repeat(32);
        assert!(matches!(format!("sha256:{hex}").parse(), Ok(Reference::Digest(_))));
        assert!(matches!("v1.0-rc_1".parse(), Ok(Reference::Tag(_))));
        for bad in ["", ".a", "-a", "a/b", "a b", "sha256:zz", "md5:00", "a%20", &"a".repeat(129)] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn docker_hub_has_one_name() {
        for registry in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
            let registry = Registry::parse(registry).unwrap();
            let repository = Repository::new(&registry, "nginx".parse().unwrap());
            assert_eq!(repository.to_string(), "docker.io/library/nginx");
            let repository = Repository::new(&registry, "org/app".parse().unwrap());
            assert_eq!(repository.to_string(), "docker.io/org/app");
        }
    }

    #[test]
    fn images() {
        let hex = "ab".repeat(32);
        for (text, repository, reference) in [
            ("nginx", "docker.io/library/nginx", "latest"),
            ("org/app:v1", "docker.io/org/app", "v1"),
            ("localhost/app", "localhost/app", "latest"),
            ("127.0.0.1:5000/a/b:v2", "127.0.0.1:5000/a/b", "v2"),
            ("ghcr.io/a/b", "ghcr.io/a/b", "latest"),
            (&format!("ghcr.io/a/b:v1@sha256:{hex}"), "ghcr.io/a/b", &format!("sha256:{hex}")),
        ] {
            let image: ImageName = text.parse().unwrap();
            assert_eq!(
                (image.repository.to_string(), image.reference.to_string()),
                (repository.into(), reference.into())
            );
        }
        for bad in ["", ":v1", "a@b", "ghcr.io/", "ghcr.io/A", "a:"] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
    }
}
