//! What the scheduler can be told, and what of it makes sense.

use crate::KubernetesOptions;
use bytesize::ByteSize;
use origin::ResolverOptions;
use process::audit::Options as AuditLog;
use process::telemetry::Format;
use process::traces::Endpoint;
use serde::Deserialize;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const STATE_DIR: &str = "/var/lib/damselfly-scheduler";

/// The scheduler's configuration file. Flags of the same names win.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where hosts connect, by gRPC. Default 127.0.0.1:6510; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where operators ask, by HTTP: `/healthz`, `/readyz`, `/metrics`, `/v1/status`. Default 127.0.0.1:6511. An
    /// embedded scheduler has none of its own.
    pub admin: Option<SocketAddr>,
    /// gRPC without TLS: whoever reaches `listen` can say that it is a host, and read and change what is said there. No
    /// state directory then, and no joining. Default no.
    pub insecure_plain_grpc: bool,
    /// The directory of the cluster's keys, tokens and removed hosts. Made with mode 0700 if there is none. Default
    /// /var/lib/damselfly-scheduler.
    pub state: PathBuf,
    /// A directory with the keys `ca.key` and `ticket.key` (PKCS #8), which others have made and keep, as a Secret that is
    /// mounted: none are made in `state` then, and no first token. A `join-token` there is good as long as it is there when
    /// the scheduler starts. Default none.
    pub identity: Option<PathBuf>,
    /// The cluster's name, which hosts are told. Default "damselfly", at most 253 bytes.
    pub cluster: String,
    /// How long hosts' streams and questions get to end when the scheduler stops. Default 5 s, at most 5 min.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// What is said of what happens.
    pub log: LogOptions,
    /// What is kept of who joined and what operators do.
    pub audit: AuditOptions,
    /// Where traces go.
    pub traces: TracesOptions,
    /// Hosts and their streams.
    pub hosts: HostOptions,
    /// Which service accounts of Kubernetes join.
    pub kubernetes: KubernetesOptions,
    /// How pieces and leases are assigned.
    pub scheduling: SchedulingOptions,
    /// The origins: addresses, credentials, time-outs.
    pub origin: origin::Options,
    /// How long answers of origins are good for.
    pub resolver: ResolverOptions,
}

/// What is said of what happens, on standard error.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogOptions {
    /// A level or directives, as in `info` or `warn,scheduler=debug`. Default `info`.
    pub filter: String,
    /// `auto` (JSON unless on a terminal), `human`, or `json`. Default `auto`.
    pub format: Format,
}

/// The audit log: who joined, and what operators do on the socket in the state directory.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditOptions {
    /// Where it is. Default: none is kept.
    pub file: Option<PathBuf>,
    /// The file becomes an older one when it would grow larger. Default 64 MiB, at least 1 MiB.
    pub max_size: ByteSize,
    /// Older files that are kept. Default 5, 1 to 100.
    pub keep: u32,
}

/// Traces: what this scheduler does for requests that a daemon records. It begins none itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracesOptions {
    /// A collector that takes OTLP by gRPC. Default: none, and then none are made.
    pub endpoint: Option<Endpoint>,
}

/// Hosts and their streams.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostOptions {
    /// The most hosts at once; one more is refused. Default 16,384, at most 20,000.
    pub max: u32,
    /// How often hosts are told to ping. Default 1 s, 50 ms to 60 s.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// A host that says nothing for this long is gone. Default 5 s, at least three heartbeats.
    #[serde(with = "humantime_serde")]
    pub silence_timeout: Duration,
    /// How long a new stream may take for its first words. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub hello_timeout: Duration,
}

/// How pieces and leases are assigned; `scheduler-core` explains what follows from each.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulingOptions {
    /// After the start no new lease is given for this long, while hosts say what they hold. Default 1 s, at most 1 min;
    /// 0 where no remote host can be.
    #[serde(with = "humantime_serde")]
    pub quiet_period: Duration,
    /// A source without progress for this long loses its lease. Default 3 s.
    #[serde(with = "humantime_serde")]
    pub lease_ttl: Duration,
    /// A transfer without an answer for this long is given to another parent. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub transfer_timeout: Duration,
    /// How far a source may be ahead of second copies while others wait. Default 16 MiB.
    pub source_ahead: ByteSize,
    /// The seed of what is left to chance. Default: another one at each start.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 6510)),
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 6511))),
            insecure_plain_grpc: false,
            state: PathBuf::from(STATE_DIR),
            identity: None,
            cluster: "damselfly".to_owned(),
            drain_timeout: Duration::from_secs(5),
            log: LogOptions::default(),
            audit: AuditOptions::default(),
            traces: TracesOptions::default(),
            hosts: HostOptions::default(),
            kubernetes: KubernetesOptions::default(),
            scheduling: SchedulingOptions::default(),
            origin: origin::Options::default(),
            resolver: ResolverOptions::default(),
        }
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { filter: process::telemetry::DEFAULT_FILTER.to_owned(), format: Format::Auto }
    }
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { file: None, max_size: ByteSize(AuditLog::MAX_BYTES), keep: AuditLog::KEEP }
    }
}

impl AuditOptions {
    /// The log, if there is to be one.
    pub(crate) fn log(&self) -> Option<AuditLog> {
        let file = self.file.clone()?;
        Some(AuditLog { file, max_bytes: self.max_size.as_u64(), keep: self.keep })
    }
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            max: 16_384,
            heartbeat: Duration::from_secs(1),
            silence_timeout: Duration::from_secs(5),
            hello_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for SchedulingOptions {
    fn default() -> Self {
        let core = scheduler_core::Options::default();
        Self {
            quiet_period: core.quiet_period,
            lease_ttl: core.lease_ttl,
            transfer_timeout: core.transfer_timeout,
            source_ahead: ByteSize(core.source_ahead_bytes),
            seed: None,
        }
    }
}

/// An option whose value makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Its key, as in `hosts.heartbeat`.
    pub key: &'static str,
    /// What it has to be.
    pub why: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.why)
    }
}

impl std::error::Error for Invalid {}

impl Options {
    /// What a daemon's own scheduler starts from: on loopback, any port, plain gRPC, no admin port, and no quiet period,
    /// since nobody was there before. For one that other hosts can join, set `listen`, `state` and the quiet period,
    /// and not `insecure_plain_grpc`.
    #[must_use]
    pub fn embedded() -> Self {
        let mut options = Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            admin: None,
            insecure_plain_grpc: true,
            drain_timeout: Duration::from_secs(1),
            ..Self::default()
        };
        options.scheduling.quiet_period = Duration::ZERO;
        options
    }

    /// Checks what serde cannot.
    ///
    /// # Errors
    /// The first option that makes no sense.
    pub fn validate(&self) -> Result<(), Invalid> {
        check("cluster", "must have 1 to 253 bytes", (1..=253).contains(&self.cluster.len()))?;
        let of_use = self.identity.is_none() || !self.insecure_plain_grpc;
        check("identity", "has no use with insecure_plain_grpc: nobody joins", of_use)?;
        let minutes = |n: u64| Duration::from_secs(60 * n);
        check("drain_timeout", "must be at most 5min", self.drain_timeout <= minutes(5))?;
        let audit = &self.audit;
        let named = audit.file.as_ref().is_none_or(|file| file.file_name().is_some());
        check("audit.file", "must name a file", named)?;
        check("audit.max_size", "must be at least 1MiB", audit.max_size.as_u64() >= AuditLog::MAX_BYTES_MIN)?;
        check("audit.keep", "must be 1 to 100", (1..=AuditLog::KEEP_MAX).contains(&audit.keep))?;
        let hosts = &self.hosts;
        check("hosts.max", "must be 1 to 20000", (1..=20_000).contains(&hosts.max))?;
        let heartbeats = Duration::from_millis(50)..=minutes(1);
        check("hosts.heartbeat", "must be 50ms to 1min", heartbeats.contains(&hosts.heartbeat))?;
        let silence = hosts.heartbeat * 3..=minutes(10);
        let why = "must be three times hosts.heartbeat to 10min";
        check("hosts.silence_timeout", why, silence.contains(&hosts.silence_timeout))?;
        let hello = Duration::from_millis(10)..=minutes(1);
        check("hosts.hello_timeout", "must be 10ms to 1min", hello.contains(&hosts.hello_timeout))?;
        self.kubernetes.validate()?;
        let why = "nobody joins where gRPC is plain (insecure_plain_grpc)";
        let joining = !(self.insecure_plain_grpc && self.kubernetes.is_on());
        check("kubernetes.service_accounts", why, joining)?;
        self.resolver.validate().map_err(|error| Invalid { key: "resolver", why: error.to_string() })?;
        let scheduling = &self.scheduling;
        check("scheduling.quiet_period", "must be at most 1min", scheduling.quiet_period <= minutes(1))?;
        let times = Duration::from_millis(10)..=minutes(10);
        let why = "must be 10ms to 10min";
        check("scheduling.lease_ttl", why, times.contains(&scheduling.lease_ttl))?;
        check("scheduling.transfer_timeout", why, times.contains(&scheduling.transfer_timeout))
    }

    /// The core's options. `first_epoch` is larger than any epoch of an earlier run.
    pub(crate) fn core(&self, first_epoch: u64) -> scheduler_core::Options {
        scheduler_core::Options {
            quiet_period: self.scheduling.quiet_period,
            lease_ttl: self.scheduling.lease_ttl,
            transfer_timeout: self.scheduling.transfer_timeout,
            source_ahead_bytes: self.scheduling.source_ahead.as_u64(),
            hosts_max: self.hosts.max as usize,
            first_epoch,
            ..scheduler_core::Options::default()
        }
    }
}

pub(crate) fn check(key: &'static str, why: &str, good: bool) -> Result<(), Invalid> {
    if good { Ok(()) } else { Err(Invalid { key, why: why.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        Options::default().validate().unwrap();
        Options::embedded().validate().unwrap();
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let mut bad = vec![Options::default(); 8];
        bad[0].cluster.clear();
        bad[1].hosts.max = 0;
        bad[2].hosts.heartbeat = Duration::ZERO;
        bad[3].hosts.silence_timeout = Duration::from_secs(2);
        bad[4].scheduling.lease_ttl = Duration::ZERO;
        bad[5].audit.file = Some("/".into());
        bad[6].audit.max_size = ByteSize(1);
        bad[7].audit.keep = 0;
        let keys: Vec<_> = bad.iter().map(|o| o.validate().expect_err("makes no sense").key).collect();
        let expected = [
            "cluster",
            "hosts.max",
            "hosts.heartbeat",
            "hosts.silence_timeout",
            "scheduling.lease_ttl",
            "audit.file",
            "audit.max_size",
            "audit.keep",
        ];
        assert_eq!(keys, expected);
    }
}
