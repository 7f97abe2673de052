//! Who takes part: hosts, where they stand, and the registries that they pull from.

use sha2::Digest as _;
use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// A host: the SHA-256 of its libp2p peer id's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId([u8; 32]);

/// Bytes that are no host id.
#[derive(Debug, thiserror::Error)]
#[error("a host id has 32 bytes, not {got}")]
pub struct HostIdError {
    got: usize,
}

impl HostId {
    /// The host whose libp2p peer id has these bytes.
    #[must_use]
    pub fn of_peer_id(peer_id: &[u8]) -> Self {
        Self(sha2::Sha256::digest(peer_id).into())
    }

    /// From its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for HostId {
    type Error = HostIdError;

    fn try_from(bytes: &[u8]) -> Result<Self, HostIdError> {
        bytes.try_into().map(Self).map_err(|_| HostIdError { got: bytes.len() })
    }
}

/// The first eight bytes in hexadecimal: enough to tell the hosts of a cluster apart.
impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..8]))
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostId({self})")
    }
}

/// The name of a zone or rack; hosts without one share the empty label.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Arc<str>);

impl Label {
    /// A label with this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A registry's name as in an image reference: host and optional port, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Registry(Arc<str>);

/// Text that is no registry name.
#[derive(Debug, thiserror::Error)]
#[error("not a registry name: {name:?} ({why})")]
pub struct RegistryError {
    name: String,
    why: &'static str,
}

impl Registry {
    /// The longest name: a DNS name of 253 bytes and a port.
    pub const LEN_MAX: usize = 260;

    /// Parses `host[:port]`; upper case is folded, as in DNS. IPv6 addresses stand in brackets.
    ///
    /// # Errors
    /// If the text is empty, too long, or has a character that no host name has.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let fail = |why| RegistryError { name: text.chars().take(Self::LEN_MAX).collect(), why };
        if text.is_empty() || text.len() > Self::LEN_MAX {
            return Err(fail("empty or too long"));
        }
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((v6, "")) => (v6, None),
            Some((v6, rest)) => {
                (v6, Some(rest.strip_prefix(':').ok_or_else(|| fail("text after the bracket"))?))
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if port.is_some_and(|p| p.parse::<u16>().is_err() || p.starts_with('+')) {
            return Err(fail("the port is no number"));
        }
        if bracketed.is_some() {
            host.parse::<Ipv6Addr>().map_err(|_| fail("no IPv6 address in the brackets"))?;
            return Ok(Self(text.to_ascii_lowercase().into()));
        }
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if host.is_empty() || !host.bytes().all(good) || host.starts_with(['-', '.']) {
            return Err(fail("a character that no host name has"));
        }
        if host.contains("..") {
            return Err(fail("nothing between two dots"));
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which lease, chain or assignment: a later one has a larger number, and a lapsed one gives no right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
