//! The limits of the peer-to-peer side. The daemon fills them from its configuration.

use crate::P2pError;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Addresses, rates and bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the control listener binds; port 0 lets the system choose. Default `127.0.0.1:0`.
    pub control_listen: SocketAddr,
    /// Where the bulk listener binds; port 0 lets the system choose. Default `127.0.0.1:0`.
    pub bulk_listen: SocketAddr,
    /// The address that others are told, if it is not the one listened on. Needed when listening on an unspecified
    /// address. Default none.
    pub advertise: Option<IpAddr>,
    /// How many pieces are uploaded at once. Default 4, 1 to 1,024. Each holds one piece in memory.
    pub upload_slots: u16,
    /// Bytes per second uploaded at most, all children together. Default no limit; at least 1,024.
    pub upload_rate_bytes_per_second: Option<u64>,
    /// Bytes per second downloaded at most, all parents together. Default no limit; at least 1,024.
    pub download_rate_bytes_per_second: Option<u64>,
    /// Bulk connections in each direction at most. Default 512, at least 1. The one that has been idle for longest
    /// gives way to a new one; with none idle, an inbound connection is closed at once and a fetch waits.
    pub connections_max: u16,
    /// Bulk connections with one peer in each direction at most. Default 8, at least 1.
    pub connections_per_peer_max: u16,
    /// Inbound connections in their handshake at most. Default 64, at least 1; a quarter of them from one address. Up to
    /// 512 more wait for theirs, those of each address in turn.
    pub handshakes_max: u16,
    /// How long to wait for a TCP connection. Default 2 s: in a cluster a host that does not answer by then is down.
    pub dial_timeout: Duration,
    /// How long the TLS handshake may take after that, in either direction. Default 3 s.
    pub handshake_timeout: Duration,
    /// How long a transfer may go without progress. Default 5 s.
    pub stall_timeout: Duration,
    /// How long a transfer of one piece may take in all, the wait for rate limits included. Default 120 s: 16 MiB at
    /// 140 kB/s.
    pub transfer_timeout: Duration,
    /// After how long an unused connection is closed. Default 60 s. The listening side waits twice as long, so that the
    /// side that knows closes first.
    pub idle_timeout: Duration,
    /// How long an unknown peer's request waits for its introduction, which may be on its way. Default 1 s, at most 1 s.
    pub introduction_grace: Duration,
    /// How long a request waits for an upload slot before it is refused as busy. Default 50 ms.
    pub upload_slot_patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let any_port = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self {
            control_listen: any_port,
            bulk_listen: any_port,
            advertise: None,
            upload_slots: 4,
            upload_rate_bytes_per_second: None,
            download_rate_bytes_per_second: None,
            connections_max: 512,
            connections_per_peer_max: 8,
            handshakes_max: 64,
            dial_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(3),
            stall_timeout: Duration::from_secs(5),
            transfer_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(60),
            introduction_grace: Duration::from_secs(1),
            upload_slot_patience: Duration::from_millis(50),
        }
    }
}

/// The slowest rate that can be configured, in bytes per second: below it a transfer looks like a stall.
const RATE_MIN: u64 = 1024;

impl Options {
    /// Checks every limit.
    ///
    /// # Errors
    /// [`P2pError::Option`] names the first that is out of bounds.
    pub fn validate(&self) -> Result<(), P2pError> {
        let bad = |option, why| Err(P2pError::Option { option, why });
        if !(1..=1024).contains(&self.upload_slots) {
            return bad("upload_slots", "must be 1 to 1024");
        }
        if self.upload_rate_bytes_per_second.is_some_and(|rate| rate < RATE_MIN) {
            return bad("upload_rate_bytes_per_second", "must be at least 1024");
        }
        if self.download_rate_bytes_per_second.is_some_and(|rate| rate < RATE_MIN) {
            return bad("download_rate_bytes_per_second", "must be at least 1024");
        }
        for (option, value) in [
            ("connections_max", self.connections_max),
            ("connections_per_peer_max", self.connections_per_peer_max),
            ("handshakes_max", self.handshakes_max),
        ] {
            if value == 0 {
                return bad(option, "must be at least 1");
            }
        }
        for (option, value) in [
            ("dial_timeout", self.dial_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("stall_timeout", self.stall_timeout),
            ("transfer_timeout", self.transfer_timeout),
            ("idle_timeout", self.idle_timeout),
        ] {
            if value.is_zero() || value > Duration::from_secs(3600) {
                return bad(option, "must be more than zero and at most an hour");
            }
        }
        if self.introduction_grace > Duration::from_secs(1) {
            return bad("introduction_grace", "must be at most 1 s");
        }
        if self.upload_slot_patience > self.stall_timeout / 2 {
            return bad("upload_slot_patience", "must be at most half of stall_timeout");
        }
        if self.advertise.is_some_and(|ip| ip.is_unspecified()) {
            return bad("advertise", "must be an address that others can reach");
        }
        for (option, address) in [("control_listen", self.control_listen), ("bulk_listen", self.bulk_listen)]
        {
            if address.ip().is_unspecified() && self.advertise.is_none() {
                return bad(option, "an unspecified address needs `advertise`");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_good() {
        Options::default().validate().unwrap();
    }

    #[test]
    fn each_limit_is_checked_and_named() {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        type Break = fn(&mut Options);
        let cases: [(&str, Break); 12] = [
            ("upload_slots", |o| o.upload_slots = 0),
            ("upload_slots", |o| o.upload_slots = 1025),
            ("upload_rate_bytes_per_second", |o| o.upload_rate_bytes_per_second = Some(0)),
            ("download_rate_bytes_per_second", |o| o.download_rate_bytes_per_second = Some(1023)),
            ("connections_max", |o| o.connections_max = 0),
            ("connections_per_peer_max", |o| o.connections_per_peer_max = 0),
            ("handshakes_max", |o| o.handshakes_max = 0),
            ("dial_timeout", |o| o.dial_timeout = Duration::ZERO),
            ("idle_timeout", |o| o.idle_timeout = Duration::MAX),
            ("introduction_grace", |o| o.introduction_grace = Duration::from_secs(2)),
            ("upload_slot_patience", |o| o.upload_slot_patience = Duration::from_secs(3)),
            ("advertise", |o| o.advertise = Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
        ];
        for (name, break_it) in cases {
            let mut options = Options::default();
            break_it(&mut options);
            let error = options.validate().unwrap_err();
            assert!(matches!(error, P2pError::Option { option, .. } if option == name), "{name}: {error}");
        }
        let mut options = Options { bulk_listen: any, ..Options::default() };
        assert!(options.validate().unwrap_err().to_string().contains("needs `advertise`"));
        options.advertise = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        options.validate().unwrap();
    }
}
