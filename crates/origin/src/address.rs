//! Where a registry may be, and the resolver that sees to it.
//!
//! A name comes from a client (`?ns=`), from a registry (a redirect, a token's realm) or from the configuration. Only
//! the last may lead into the cluster's own network. The address is checked where the connection is made, so that a
//! name that resolves differently the second time gains nothing.

use crate::OriginError;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use url::{Host, Url};

/// Which addresses a registry, and what it names, may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Public addresses, found by name.
    Public,
    /// Also private and loopback addresses, and literals of them: the configuration says so.
    Private,
}

/// Where clouds keep their machines' secrets outside the link-local range: Azure, Alibaba, AWS over IPv6.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

impl Place {
    /// Whether a connection to `ip` may be made.
    pub(crate) fn allows(self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.allows_v4(ip),
            IpAddr::V6(ip) => match embedded(ip) {
                Some(inner) => self.allows_v4(inner),
                None => self.allows_v6(ip),
            },
        }
    }

    fn allows_v4(self, ip: Ipv4Addr) -> bool {
        let [a, b, c, _] = ip.octets();
        let never = a == 0 || ip.is_link_local() || a >= 224 || METADATA_V4.contains(&ip);
        let local = ip.is_private()
            || ip.is_loopback()
            || ip.is_documentation()
            || (a == 100 && (64..128).contains(&b))
            || (a, b, c) == (192, 0, 0)
            || (a == 198 && (18..20).contains(&b));
        !never && (self == Self::Private || !local)
    }

    fn allows_v6(self, ip: Ipv6Addr) -> bool {
        let first = ip.segments()[0];
        let never = ip.is_unspecified() || ip.is_multicast() || first & 0xffc0 == 0xfe80 || ip == METADATA_V6;
        let local = ip.is_loopback()
            || first & 0xfe00 == 0xfc00
            || first & 0xffc0 == 0xfec0
            || (first, ip.segments()[1]) == (0x2001, 0xdb8);
        !never && (self == Self::Private || !local)
    }

    /// Checks what a URL shows without asking DNS: an address in it does not pass the resolver.
    pub(crate) fn check(self, url: &Url) -> Result<(), OriginError> {
        let allowed = match url.host() {
            Some(Host::Domain(_)) => true,
            Some(Host::Ipv4(ip)) => self == Self::Private && self.allows(ip.into()),
            Some(Host::Ipv6(ip)) => self == Self::Private && self.allows(ip.into()),
            None => false,
        };
        if allowed {
            Ok(())
        } else {
            Err(OriginError::ForbiddenAddress { host: url.host_str().unwrap_or_default().into() })
        }
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// The host has no address that may be used.
#[derive(Debug, thiserror::Error)]
#[error("{host} has no address that is allowed")]
pub(crate) struct Forbidden {
    pub(crate) host: String,
}

/// The system's resolver, its answers cut down to what the place allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckedDns(pub(crate) Place);

impl Resolve for CheckedDns {
    fn resolve(&self, name: Name) -> Resolving {
        let place = self.0;
        Box::pin(async move {
            let host = name.as_str();
            let found = tokio::net::lookup_host((host, 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| place.allows(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Box::new(Forbidden { host: host.into() }) as Box<dyn Error + Send + Sync>);
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (ip, public, private) in [
            ("1.1.1.1", true, true),
            ("2606:4700::1111", true, true),
            ("10.0.0.1", false, true),
            ("127.0.0.1", false, true),
            ("192.168.1.1", false, true),
            ("172.16.0.1", false, true),
            ("172.32.0.1", true, true),
            ("100.64.0.1", false, true),
            ("::1", false, true),
            ("fd12::1", false, true),
            ("::ffff:10.0.0.1", false, true),
            ("64:ff9b::7f00:1", false, true),
            ("2002:0a00:0001::1", false, true),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("168.63.129.16", false, false),
            ("100.100.100.200", false, false),
            ("fd00:ec2::254", false, false),
            ("fe80::1", false, false),
            ("0.0.0.0", false, false),
            ("::", false, false),
            ("224.0.0.1", false, false),
            ("255.255.255.255", false, false),
            ("ff02::1", false, false),
        ] {
            let address: IpAddr = ip.parse().unwrap();
            assert_eq!(
                (Place::Public.allows(address), Place::Private.allows(address)),
                (public, private),
                "{ip}"
            );
        }
    }

    #[test]
    fn literals_in_urls() {
        for (url, public, private) in [
            ("https://ghcr.io/v2/", true, true),
            ("https://1.1.1.1/v2/", false, true),
            ("https://[::1]:5000/v2/", false, true),
            ("https://0x7f000001/", false, true),
            ("https://2130706433/", false, true),
            ("http://169.254.169.254/latest", false, false),
        ] {
            let url: Url = url.parse().unwrap();
            assert_eq!(
                (Place::Public.check(&url).is_ok(), Place::Private.check(&url).is_ok()),
                (public, private),
                "{url}"
            );
        }
    }

    #[tokio::test]
    async fn a_name_for_a_local_address_is_refused() {
        let error = CheckedDns(Place::Public).resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert_eq!(error.downcast_ref::<Forbidden>().unwrap().host, "localhost");
        assert!(CheckedDns(Place::Private).resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
