//! The configuration as it is written: the tables and keys of the TOML file, each optional.
//!
//! `config_flags` has the same on the command line; `config_merge` puts the two together. Texts that have a form are
//! parsed here already, so that an error names the key and the line.

use bytesize::ByteSize;
use origin::ResolverOptions;
use process::traces::{Endpoint, SampleRatio};
use serde::{Deserialize, Deserializer, de};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use types::Registry;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) proxy: ProxyTable,
    pub(crate) scheduler: SchedulerTable,
    pub(crate) p2p: P2pTable,
    pub(crate) store: StoreTable,
    pub(crate) origin: origin::Options,
    pub(crate) resolver: ResolverOptions,
    pub(crate) host: HostTable,
    pub(crate) admin: AdminTable,
    pub(crate) audit: AuditTable,
    pub(crate) traces: TracesTable,
    pub(crate) log: LogTable,
}

/// `[proxy]`: where clients pull.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProxyTable {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) insecure_listen: Option<bool>,
    #[serde(deserialize_with = "registry")]
    pub(crate) upstream: Option<Registry>,
    #[serde(deserialize_with = "registries")]
    pub(crate) allow: Option<Vec<Registry>>,
    pub(crate) connections_max: Option<u32>,
    #[serde(with = "humantime_serde")]
    pub(crate) patience: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(crate) linger: Option<Duration>,
}

/// `[scheduler]`: where decisions come from.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SchedulerTable {
    #[serde(deserialize_with = "uri")]
    pub(crate) address: Option<http::Uri>,
    pub(crate) join_file: Option<PathBuf>,
    pub(crate) service_account_token_file: Option<PathBuf>,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) insecure_plain_grpc: Option<bool>,
}

/// `[p2p]`: the exchange with other daemons.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct P2pTable {
    pub(crate) control_listen: Option<SocketAddr>,
    pub(crate) bulk_listen: Option<SocketAddr>,
    pub(crate) advertise: Option<IpAddr>,
    pub(crate) upload_slots: Option<u16>,
    pub(crate) download_slots: Option<u16>,
    pub(crate) upload_rate: Option<ByteSize>,
    pub(crate) download_rate: Option<ByteSize>,
}

/// `[store]`: the cache.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreTable {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) quota: Option<ByteSize>,
    pub(crate) free_floor: Option<ByteSize>,
}

/// `[host]`: where this host stands.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HostTable {
    pub(crate) zone: Option<String>,
    pub(crate) rack: Option<String>,
    pub(crate) link_rate: Option<ByteSize>,
}

/// `[admin]`: health, metrics, status.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdminTable {
    pub(crate) listen: Option<SocketAddr>,
}

/// `[audit]`: who pulled what.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuditTable {
    pub(crate) file: Option<PathBuf>,
    pub(crate) max_size: Option<ByteSize>,
    pub(crate) keep: Option<u32>,
}

/// `[traces]`: where traces go, and how many.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TracesTable {
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) sample_ratio: Option<SampleRatio>,
}

/// `[log]`: what is logged.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogTable {
    pub(crate) filter: Option<String>,
    pub(crate) format: Option<process::telemetry::Format>,
}

fn registry<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Registry>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Registry::parse(&text).map(Some).map_err(de::Error::custom)
}

fn registries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Registry>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parsed: Result<Vec<_>, _> = texts.iter().map(|text| Registry::parse(text)).collect();
    parsed.map(Some).map_err(de::Error::custom)
}

fn uri<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<http::Uri>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(de::Error::custom)
}
