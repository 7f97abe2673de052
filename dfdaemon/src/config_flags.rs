//! The command line of `dfdaemon`. A flag wins over the same key in the file.

use bytesize::ByteSize;
use clap::Parser;
use process::telemetry::Format;
use process::traces::{EndpointText, SampleRatio};
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use types::Registry;

/// What `--join` says: not parsed here, since a mistake in it is not to be quoted.
#[derive(Clone)]
pub struct JoinText(pub(crate) String);

impl FromStr for JoinText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for JoinText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinText(…)")
    }
}

/// The registry mirror of a node: container runtimes pull through it, and nodes get layers from each other.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "dfdaemon", version, about)]
pub struct Flags {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Say whether flags and file are good, and end.
    #[arg(long)]
    pub check: bool,

    /// Where container runtimes pull [default: 127.0.0.1:6500].
    #[arg(long, value_name = "ADDRESS", help_heading = "Proxy")]
    pub listen: Option<SocketAddr>,

    /// Let other machines pull through this daemon: listen beyond loopback, without TLS.
    #[arg(long, help_heading = "Proxy")]
    pub insecure_listen: bool,

    /// The registry of requests that name none, as dockerd's [default: docker.io].
    #[arg(long, value_name = "REGISTRY", value_parser = Registry::parse, help_heading = "Proxy")]
    pub upstream: Option<Registry>,

    /// Join the cluster of a scheduler; without it this daemon has a scheduler of its own inside.
    #[arg(
        long,
        value_name = "TOKEN@HOST:PORT",
        env = "DFDAEMON_JOIN",
        hide_env_values = true,
        help_heading = "Cluster"
    )]
    pub join: Option<JoinText>,

    /// The same from a file, which only its owner may read: other users see a command line.
    #[arg(long, value_name = "FILE", conflicts_with = "join", help_heading = "Cluster")]
    pub join_file: Option<PathBuf>,

    /// The projected token of this pod's Kubernetes service account, to join with dfauth1.HASH@HOST:PORT.
    #[arg(long, value_name = "FILE", env = "DFDAEMON_SERVICE_ACCOUNT_TOKEN_FILE", help_heading = "Cluster")]
    pub service_account_token_file: Option<PathBuf>,

    /// A scheduler without joining, http://HOST:PORT; needs --insecure-plain-grpc.
    #[arg(long, value_name = "URL", conflicts_with_all = ["join", "join_file"], help_heading = "Cluster")]
    pub scheduler: Option<http::Uri>,

    /// Where the scheduler inside listens for other daemons to join [default: 127.0.0.1, any port].
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["scheduler", "join", "join_file"], help_heading = "Cluster")]
    pub scheduler_listen: Option<SocketAddr>,

    /// Speak with the scheduler without TLS and without joining: whoever reaches it is a member.
    #[arg(long, help_heading = "Cluster")]
    pub insecure_plain_grpc: bool,

    /// The zone that this host stands in; traffic between zones is kept low.
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub zone: Option<String>,

    /// The rack in the zone.
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub rack: Option<String>,

    /// Bytes per second that this host's network link carries, as in 125MB: reports say how near to it pulls come, and the
    /// scheduler prefers hosts with fast links. On all hosts or on none [default: unknown].
    #[arg(long, value_name = "BYTES", help_heading = "Cluster")]
    pub link_rate: Option<ByteSize>,

    /// Where other daemons connect for control [default: port 6501].
    #[arg(long, value_name = "ADDRESS", help_heading = "Peers")]
    pub control_listen: Option<SocketAddr>,

    /// Where other daemons fetch pieces [default: port 6502].
    #[arg(long, value_name = "ADDRESS", help_heading = "Peers")]
    pub bulk_listen: Option<SocketAddr>,

    /// The address that other daemons reach this host at.
    #[arg(long, value_name = "IP", help_heading = "Peers")]
    pub advertise: Option<IpAddr>,

    /// Pieces uploaded at once, 1 to 64 [default: 4].
    #[arg(long, value_name = "N", help_heading = "Peers")]
    pub upload_slots: Option<u16>,

    /// Bytes per second sent to other daemons at most, as in 100MB [default: no limit].
    #[arg(long, value_name = "BYTES", help_heading = "Peers")]
    pub upload_rate: Option<ByteSize>,

    /// Bytes per second received from other daemons at most [default: no limit].
    #[arg(long, value_name = "BYTES", help_heading = "Peers")]
    pub download_rate: Option<ByteSize>,

    /// The cache's directory [default: /var/lib/damselfly].
    #[arg(long, value_name = "DIR", help_heading = "Cache")]
    pub store: Option<PathBuf>,

    /// Bytes that the cache may hold, as in 50GiB [default: 50GiB].
    #[arg(long, value_name = "BYTES", help_heading = "Cache")]
    pub quota: Option<ByteSize>,

    /// Where health, metrics and status are served [default: 127.0.0.1:6503].
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,

    /// Write who pulled what, and what permitted it, to this file [default: to none].
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,

    /// A collector that takes traces, OTLP by gRPC: http://HOST:PORT or https://HOST:PORT [default: none are made].
    #[arg(long, value_name = "URL", env = "DFDAEMON_TRACES", hide_env_values = true)]
    pub traces: Option<EndpointText>,

    /// Which share of clients' requests begins a trace, 0 to 1 [default: 0.01].
    #[arg(long, value_name = "RATIO", env = "DFDAEMON_TRACES_SAMPLE_RATIO")]
    pub traces_sample_ratio: Option<SampleRatio>,

    /// What is logged, as in info,dfdaemon=debug [default: info].
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,

    /// How it is logged [default: auto].
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<Format>,
}
