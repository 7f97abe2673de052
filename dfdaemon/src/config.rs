//! The daemon's configuration, validated: what the rest of the daemon is built from.
//!
//! `config_file` and `config_flags` are the raw forms; `config_merge` turns them into this before anything binds.

use membership::{AuthorityHash, JoinToken};
use origin::ResolverOptions;
use process::telemetry::Format;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use types::{Label, Registry};

/// Everything that the daemon is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients pull.
    pub proxy: ProxyConfig,
    /// The scheduler, of this process or another.
    pub scheduler: SchedulerConfig,
    /// The exchange with other daemons.
    pub p2p: P2pConfig,
    /// The cache on disk.
    pub store: StoreConfig,
    /// The registries.
    pub origin: origin::Options,
    /// Lifetimes of what the origins said; used where no scheduler answers.
    pub resolver: ResolverOptions,
    /// Where this host stands.
    pub host: HostConfig,
    /// Health, metrics, status.
    pub admin: AdminConfig,
    /// The audit log. Default: none. Files of 64 MiB, at least 1 MiB; 5 older ones, 1 to 100.
    pub audit: Option<process::audit::Options>,
    /// Where traces go, and how many. Default: nowhere.
    pub traces: process::traces::Options,
    /// What is logged.
    pub log: LogConfig,
}

/// The registry proxy.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Where it listens. A loopback address, unless `--insecure-listen` was given. Default 127.0.0.1:6500.
    pub listen: SocketAddr,
    /// The registry of a request that names none, as dockerd's. Default docker.io.
    pub upstream: Registry,
    /// Which registries clients may name.
    pub allow: AllowRegistries,
    /// Connections at a time; one more waits in the kernel's queue. Default 1024, at most 65,536.
    pub connections_max: u32,
    /// A reader without progress for this long gets its next range straight from the origin. Default 3 s, 100 ms to
    /// 60 s.
    pub patience: Duration,
    /// A download goes on for this long after its last reader has left. Default 30 s, at most 10 min.
    pub linger: Duration,
}

/// Which registries clients may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowRegistries {
    /// Any public name; addresses and private names only where `[origin.registries]` has them.
    Public,
    /// Only these, and those in `[origin.registries]`.
    Only(Vec<Registry>),
}

/// Where decisions come from.
#[derive(Clone, Debug)]
pub enum SchedulerConfig {
    /// One inside this process.
    Embedded {
        /// Where it listens for others to join. Default 127.0.0.1:0, which is nobody.
        listen: SocketAddr,
        /// gRPC without TLS and without joining, under `--insecure-plain-grpc`.
        plain: bool,
    },
    /// A process of its own.
    Remote {
        /// Its gRPC address, `http://host:port`, whether or not TLS is spoken there.
        address: http::Uri,
        /// By which this host joins. Without anything gRPC is plain, under `--insecure-plain-grpc`.
        join: Option<JoinBy>,
    },
}

/// By which a host joins the cluster of a scheduler.
#[derive(Clone, Debug)]
pub enum JoinBy {
    /// A join token: `--join dfjoin1.HASH.SECRET@HOST:PORT`.
    Token(JoinToken),
    /// A Kubernetes service account's token: `--join dfauth1.HASH@HOST:PORT`.
    ServiceAccount {
        /// Whose cluster it is.
        authority: AuthorityHash,
        /// Where kubelet keeps the token; it is read at each join.
        token_file: PathBuf,
    },
}

impl SchedulerConfig {
    /// Whether whoever reaches the scheduler becomes a member.
    #[must_use]
    pub const fn is_open_to_strangers(&self) -> bool {
        match self {
            Self::Embedded { plain, .. } => *plain,
            Self::Remote { join, .. } => join.is_none(),
        }
    }
}

/// The exchange with other daemons.
#[derive(Clone, Debug)]
pub struct P2pConfig {
    /// Control connections. Default port 6501; on loopback while the scheduler is, else on every address.
    pub control_listen: SocketAddr,
    /// Bulk connections. Default port 6502, on the same address.
    pub bulk_listen: SocketAddr,
    /// The address that others reach this host at. By default the one listened on, and if that is unspecified the one
    /// that the scheduler is reached from.
    pub advertise: Option<IpAddr>,
    /// Pieces uploaded at once. Default 4, 1 to 64.
    pub upload_slots: u16,
    /// Pieces downloaded at once, over all blobs. Default 4, 1 to 256. As many as uploads: with more, each transfer gets a
    /// smaller part of its parent (docs/scheduling.md).
    pub download_slots: u16,
    /// Bytes per second sent to peers at most, at least 1 KiB. Default: no limit.
    pub upload_rate: Option<u64>,
    /// Bytes per second received from peers at most, at least 1 KiB. Default: no limit.
    pub download_rate: Option<u64>,
}

/// The cache.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Its directory; also holds the host's identity and membership, and the state of a scheduler inside. Default /var/lib/damselfly.
    pub dir: PathBuf,
    /// Bytes that it may hold. Default 50 GiB, at least 64 MiB.
    pub quota_bytes: u64,
    /// Bytes that stay free on its file system whatever the quota says. By default a share of the file system that
    /// the store chooses.
    pub free_floor_bytes: Option<u64>,
}

/// Where this host stands.
#[derive(Clone, Debug, Default)]
pub struct HostConfig {
    /// The zone; traffic between zones costs money. Default: the empty zone.
    pub zone: Label,
    /// The rack in it. Default: the empty rack.
    pub rack: Label,
    /// Bytes per second that its network link carries, each way, at least 1 KiB: the bound that reports hold times against.
    /// Default: not known, unless the rates of `p2p` say it.
    pub link_rate: Option<u64>,
}

impl Config {
    /// Bytes per second that this host can send and receive, as far as that is known.
    #[must_use]
    pub fn rates(&self) -> (Option<u64>, Option<u64>) {
        let least = |limit: Option<u64>| limit.into_iter().chain(self.host.link_rate).min();
        (least(self.p2p.upload_rate), least(self.p2p.download_rate))
    }
}

/// Health, metrics, status.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Where it listens. Default 127.0.0.1:6503.
    pub listen: SocketAddr,
}

/// What is logged.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A filter as in `info,dfdaemon=debug`. Default `info`.
    pub filter: String,
    /// In which form. Default: for people on a terminal, JSON otherwise.
    pub format: Format,
}
