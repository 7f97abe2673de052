//! Flags and file → [`Config`]: defaults, limits, and what does not go together.
//!
//! Every error names the flag, or the key and its line, that it came from, and comes before anything is bound.

use crate::config::{
    AdminConfig, AllowRegistries, Config, HostConfig, JoinBy, LogConfig, P2pConfig, ProxyConfig,
    SchedulerConfig, StoreConfig,
};
use crate::config_file::{AuditTable, File, P2pTable, ProxyTable, SchedulerTable, StoreTable, TracesTable};
use crate::config_flags::{Flags, JoinText};
use bytesize::ByteSize;
use membership::{AuthorityHash, AuthorityHashError, TokenError};
use process::audit::Options as AuditLog;
use process::config::{ConfigError, Document};
use process::exit::{Exit, Failure};
use process::traces::{EndpointError, Options as Traces};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use types::{Label, Registry};

const PROXY_PORT: u16 = 6500;
const CONTROL_PORT: u16 = 6501;
const BULK_PORT: u16 = 6502;
const ADMIN_PORT: u16 = 6503;
const SCHEDULER_PORT: u16 = 6510;
/// The longest file with a join token, in bytes.
const JOIN_FILE_LEN_MAX: u64 = 1024;
const CONNECTIONS_MAX: u32 = 1024;
const PATIENCE: Duration = Duration::from_secs(3);
const LINGER: Duration = Duration::from_secs(30);
const LINGER_MAX: Duration = Duration::from_secs(600);
const UPLOAD_SLOTS: u16 = 4;
const DOWNLOAD_SLOTS: u16 = 4;
const STORE_DIR: &str = "/var/lib/damselfly";
const QUOTA: ByteSize = ByteSize::gib(50);
const QUOTA_MIN: ByteSize = ByteSize::mib(64);
const LABEL_LEN_MAX: usize = 128;

/// How long the name of the scheduler may take to be looked up before anything else is begun.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(1);
/// Below it a transfer looks like a stall.
const RATE_MIN: ByteSize = ByteSize::kib(1);

/// A configuration that cannot be used. The program ends with 64.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The file cannot be read or has a mistake.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// A flag, or a default, makes no sense.
    #[error("{key}: {why}")]
    Flag {
        /// The flag, or the key that needs a value.
        key: String,
        /// What is wrong.
        why: String,
    },
}

impl From<MergeError> for Failure {
    fn from(error: MergeError) -> Self {
        match error {
            MergeError::File(error) => error.into(),
            error @ MergeError::Flag { .. } => Self::new(Exit::Usage, error),
        }
    }
}

impl Config {
    /// Reads the file that the flags name, if they do, and puts the two together.
    ///
    /// # Errors
    /// [`MergeError`].
    pub fn load(flags: Flags) -> Result<Self, MergeError> {
        let document = flags.document()?;
        Self::of(flags, document)
    }

    /// Puts flags and the file that they name together.
    ///
    /// # Errors
    /// [`MergeError`].
    pub(crate) fn of(flags: Flags, document: Option<Document>) -> Result<Self, MergeError> {
        let file: File = document.as_ref().map(Document::parse).transpose()?.unwrap_or_default();
        Merge { document }.config(flags, file)
    }
}

impl Flags {
    /// The file that they name, if they do.
    pub(crate) fn document(&self) -> Result<Option<Document>, MergeError> {
        Ok(self.config.as_deref().map(Document::read).transpose()?)
    }
}

/// Where a value comes from, to be named in an error.
#[derive(Clone, Copy)]
enum Place {
    Flag(&'static str),
    /// Of the file, or the default.
    Key(&'static str),
}

struct Merge {
    document: Option<Document>,
}

type Merged<T> = Result<T, MergeError>;

impl Merge {
    fn config(&self, flags: Flags, file: File) -> Merged<Config> {
        file.origin.validate().map_err(|error| self.wrong(Place::Key("origin"), error))?;
        file.resolver.validate().map_err(|error| self.wrong(Place::Key("resolver"), error))?;
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT));
        let scheduler = self.scheduler(&flags, file.scheduler)?;
        Ok(Config {
            proxy: self.proxy(&flags, file.proxy)?,
            p2p: self.p2p(&flags, &file.p2p, &scheduler)?,
            scheduler,
            store: self.store(&flags, file.store)?,
            audit: self.audit(&flags, file.audit)?,
            traces: self.traces(&flags, file.traces)?,
            origin: file.origin,
            resolver: file.resolver,
            host: HostConfig {
                zone: self.label("--zone", flags.zone, "host.zone", file.host.zone)?,
                rack: self.label("--rack", flags.rack, "host.rack", file.host.rack)?,
                link_rate: self.rate(
                    "--link-rate",
                    flags.link_rate,
                    "host.link_rate",
                    file.host.link_rate,
                )?,
            },
            admin: AdminConfig { listen: flags.admin.or(file.admin.listen).unwrap_or(admin) },
            log: LogConfig {
                filter: flags
                    .log
                    .or(file.log.filter)
                    .unwrap_or_else(|| process::telemetry::DEFAULT_FILTER.to_owned()),
                format: flags.log_format.or(file.log.format).unwrap_or_default(),
            },
        })
    }

    fn proxy(&self, flags: &Flags, table: ProxyTable) -> Merged<ProxyConfig> {
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, PROXY_PORT));
        let (listen, place) = pick("--listen", flags.listen, "proxy.listen", table.listen, default);
        let insecure = flags.insecure_listen || table.insecure_listen.unwrap_or(false);
        if !listen.ip().is_loopback() && !insecure {
            let why = format!(
                "{listen} is no loopback address; clients' credentials would travel in the clear \
                               (--insecure-listen allows it)"
            );
            return Err(self.wrong(place, why));
        }
        let docker_hub = Registry::parse(origin::DOCKER_HUB).expect("Docker Hub's name is a registry name");
        let upstream = flags.upstream.clone().or(table.upstream).unwrap_or(docker_hub);
        let connections =
            (table.connections_max.unwrap_or(CONNECTIONS_MAX), Place::Key("proxy.connections_max"));
        let patience = table.patience.unwrap_or(PATIENCE);
        if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&patience) {
            return Err(self.wrong(Place::Key("proxy.patience"), "must be 100 ms to 60 s"));
        }
        let linger = table.linger.unwrap_or(LINGER);
        if linger > LINGER_MAX {
            return Err(self.wrong(Place::Key("proxy.linger"), "must be at most 10 min"));
        }
        Ok(ProxyConfig {
            listen,
            upstream: origin::canonical(&upstream),
            allow: table.allow.map_or(AllowRegistries::Public, AllowRegistries::Only),
            connections_max: self.bounded(connections, 1..=65_536)?,
            patience,
            linger,
        })
    }

    fn scheduler(&self, flags: &Flags, table: SchedulerTable) -> Merged<SchedulerConfig> {
        let (token_file, place) = pick(
            "--service-account-token-file",
            flags.service_account_token_file.clone().map(Some),
            "scheduler.service_account_token_file",
            table.service_account_token_file.clone().map(Some),
            None,
        );
        // A flag for one kind wins over the file's choice of another.
        let chosen = flags.join.is_some() || flags.join_file.is_some();
        let chosen = chosen || flags.scheduler.is_some() || flags.scheduler_listen.is_some();
        let overruled = chosen && matches!(place, Place::Key(_));
        let insecure_plain_grpc = table.insecure_plain_grpc;
        let of_file =
            if chosen { SchedulerTable { insecure_plain_grpc, ..Default::default() } } else { table };
        let config = self.chosen_scheduler(flags, of_file, token_file.as_ref())?;
        let used =
            matches!(config, SchedulerConfig::Remote { join: Some(JoinBy::ServiceAccount { .. }), .. });
        if token_file.is_some() && !used && !overruled {
            return Err(self.wrong(place, "is of use only where this host joins with dfauth1.HASH@HOST:PORT"));
        }
        Ok(config)
    }

    fn chosen_scheduler(
        &self,
        flags: &Flags,
        of_file: SchedulerTable,
        token_file: Option<&PathBuf>,
    ) -> Merged<SchedulerConfig> {
        let insecure = flags.insecure_plain_grpc || of_file.insecure_plain_grpc.unwrap_or(false);
        let choices =
            [of_file.join_file.is_some(), of_file.address.is_some(), of_file.listen.is_some()].map(u8::from);
        if choices.iter().sum::<u8>() > 1 {
            return Err(self.wrong(Place::Key("scheduler"), "only one of join_file, address and listen goes"));
        }
        if let Some(JoinText(text)) = &flags.join {
            return self.join(text, Place::Flag("--join"), token_file);
        }
        let join_file = flags.join_file.as_ref().map(|file| (file, Place::Flag("--join-file")));
        let of_table = of_file.join_file.as_ref().map(|file| (file, Place::Key("scheduler.join_file")));
        if let Some((file, place)) = join_file.or(of_table) {
            let fail = |why: String| self.wrong(place, format!("{}: {why}", file.display()));
            let text =
                membership::file::read(file, JOIN_FILE_LEN_MAX).map_err(|error| fail(error.to_string()))?;
            let text = text.ok_or_else(|| fail("there is no such file".to_owned()))?;
            return self.join(std::str::from_utf8(&text).unwrap_or_default().trim(), place, token_file);
        }
        let address = flags.scheduler.clone().map(|address| (address, Place::Flag("--scheduler")));
        let of_table = of_file.address.map(|address| (address, Place::Key("scheduler.address")));
        if let Some((address, place)) = address.or(of_table) {
            self.scheduler_host(&address, place)?;
            if !insecure {
                let why = "a scheduler without joining: whoever reaches it is a member \
                           (--join takes its token; --insecure-plain-grpc allows it)";
                return Err(self.wrong(place, why));
            }
            return Ok(SchedulerConfig::Remote { address, join: None });
        }
        let given = flags.scheduler_listen.or(of_file.listen);
        let listen = given.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Ok(SchedulerConfig::Embedded { listen, plain: insecure })
    }

    /// `TOKEN@HOST[:PORT]`, or, with the file of a service account's token, `AUTHORITY@HOST[:PORT]`; never quoted.
    fn join(&self, text: &str, place: Place, token_file: Option<&PathBuf>) -> Merged<SchedulerConfig> {
        let form = "must be of the form TOKEN@HOST:PORT";
        let (by, address) = text.rsplit_once('@').ok_or_else(|| self.wrong(place, form))?;
        let join = if by.starts_with(AuthorityHash::PREFIX) {
            let why = "dfauth1.HASH lets nobody in by itself: a service account's token has to be named too \
                       (--service-account-token-file)";
            let token_file = token_file.ok_or_else(|| self.wrong(place, why))?.clone();
            JoinBy::ServiceAccount {
                authority: by.parse().map_err(|error: AuthorityHashError| self.wrong(place, error))?,
                token_file,
            }
        } else {
            JoinBy::Token(by.parse().map_err(|error: TokenError| self.wrong(place, error))?)
        };
        let has_port =
            address.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let address = if has_port { address.to_owned() } else { format!("{address}:{SCHEDULER_PORT}") };
        let address: http::Uri =
            format!("http://{address}").parse().map_err(|_| self.wrong(place, "no HOST:PORT after the @"))?;
        self.scheduler_host(&address, place)?;
        Ok(SchedulerConfig::Remote { address, join: Some(join) })
    }

    fn scheduler_host(&self, address: &http::Uri, place: Place) -> Merged<(String, u16)> {
        let host = address.host().map(|host| host.trim_matches(['[', ']']).to_owned());
        let path = address.path_and_query().is_none_or(|path| path.as_str() == "/");
        match (address.scheme_str(), host, address.port_u16()) {
            (Some("http"), Some(host), Some(port)) if path && !host.is_empty() => Ok((host, port)),
            _ => Err(self.wrong(place, format!("{address} is not of the form http://HOST:PORT"))),
        }
    }

    fn p2p(&self, flags: &Flags, table: &P2pTable, scheduler: &SchedulerConfig) -> Merged<P2pConfig> {
        let default = default_peer_address(scheduler);
        let listen = |flag, of_flag, key, of_file, port| {
            pick(flag, of_flag, key, of_file, SocketAddr::new(default, port))
        };
        let (control_listen, _) = listen(
            "--control-listen",
            flags.control_listen,
            "p2p.control_listen",
            table.control_listen,
            CONTROL_PORT,
        );
        let (bulk_listen, _) =
            listen("--bulk-listen", flags.bulk_listen, "p2p.bulk_listen", table.bulk_listen, BULK_PORT);
        let given = flags.advertise.or(table.advertise);
        if given.is_some_and(|ip| ip.is_unspecified()) {
            let place = flags.advertise.map_or(Place::Key("p2p.advertise"), |_| Place::Flag("--advertise"));
            return Err(self.wrong(place, "must be an address that others can reach"));
        }
        let open = control_listen.ip().is_unspecified() || bulk_listen.ip().is_unspecified();
        let advertise = match given {
            None if open => Some(self.address_towards(scheduler)?),
            given => given,
        };
        let slots =
            pick("--upload-slots", flags.upload_slots, "p2p.upload_slots", table.upload_slots, UPLOAD_SLOTS);
        let download_slots =
            (table.download_slots.unwrap_or(DOWNLOAD_SLOTS), Place::Key("p2p.download_slots"));
        Ok(P2pConfig {
            control_listen,
            bulk_listen,
            advertise,
            upload_slots: self.bounded(slots, 1..=64)?,
            download_slots: self.bounded(download_slots, 1..=256)?,
            upload_rate: self.rate(
                "--upload-rate",
                flags.upload_rate,
                "p2p.upload_rate",
                table.upload_rate,
            )?,
            download_rate: self.rate(
                "--download-rate",
                flags.download_rate,
                "p2p.download_rate",
                table.download_rate,
            )?,
        })
    }

    /// The address by which this host reaches its scheduler, which others can reach as a rule. Nothing is sent.
    fn address_towards(&self, scheduler: &SchedulerConfig) -> Merged<IpAddr> {
        let fail = |why: &dyn fmt::Display| {
            let why = format!("cannot tell by which address others reach this host ({why}); give one");
            self.wrong(Place::Key("p2p.advertise"), why)
        };
        let scheduler = match scheduler {
            SchedulerConfig::Remote { address, .. } => {
                let place = self.scheduler_host(address, Place::Key("scheduler.address"))?;
                first_address(place)
            }
            SchedulerConfig::Embedded { .. } => None,
        };
        // Without a name server yet, or with the scheduler inside: the address of the default route (an address that
        // belongs to nobody, RFC 5737).
        let target = scheduler.unwrap_or(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9)));
        let any: SocketAddr =
            if target.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).and_then(|socket| socket.connect(target).map(|()| socket));
        socket
            .and_then(|socket| socket.local_addr())
            .map(|address| address.ip())
            .map_err(|error| fail(&error))
    }

    fn store(&self, flags: &Flags, table: StoreTable) -> Merged<StoreConfig> {
        let (quota, place) = pick("--quota", flags.quota, "store.quota", table.quota, QUOTA);
        if quota < QUOTA_MIN {
            return Err(self.wrong(place, format!("must be at least {QUOTA_MIN}")));
        }
        Ok(StoreConfig {
            dir: flags.store.clone().or(table.dir).unwrap_or_else(|| PathBuf::from(STORE_DIR)),
            quota_bytes: quota.as_u64(),
            free_floor_bytes: table.free_floor.map(|size| size.as_u64()),
        })
    }

    fn audit(&self, flags: &Flags, table: AuditTable) -> Merged<Option<AuditLog>> {
        let (file, place) =
            pick("--audit", flags.audit.clone().map(Some), "audit.file", table.file.map(Some), None);
        if file.as_ref().is_some_and(|file| file.file_name().is_none()) {
            return Err(self.wrong(place, "must name a file"));
        }
        let max_size = table.max_size.unwrap_or(ByteSize(AuditLog::MAX_BYTES));
        if max_size.as_u64() < AuditLog::MAX_BYTES_MIN {
            let why = format!("must be at least {}", ByteSize(AuditLog::MAX_BYTES_MIN));
            return Err(self.wrong(Place::Key("audit.max_size"), why));
        }
        let keep = (table.keep.unwrap_or(AuditLog::KEEP), Place::Key("audit.keep"));
        let keep = self.bounded(keep, 1..=AuditLog::KEEP_MAX)?;
        Ok(file.map(|file| AuditLog { file, max_bytes: max_size.as_u64(), keep }))
    }

    /// A collector that makes no sense is not quoted.
    fn traces(&self, flags: &Flags, table: TracesTable) -> Merged<Traces> {
        let wrong = |error: EndpointError| self.wrong(Place::Flag("--traces"), error);
        let of_flag = flags.traces.as_ref().map(|text| text.endpoint().map_err(wrong)).transpose()?;
        Ok(Traces {
            endpoint: of_flag.or(table.endpoint),
            sample_ratio: flags.traces_sample_ratio.or(table.sample_ratio).unwrap_or_default(),
        })
    }

    fn label(
        &self,
        flag: &'static str,
        of_flag: Option<String>,
        key: &'static str,
        of_file: Option<String>,
    ) -> Merged<Label> {
        let (name, place) = pick(flag, of_flag, key, of_file, String::new());
        if name.len() > LABEL_LEN_MAX || name.contains(|c: char| c.is_control()) {
            return Err(self.wrong(place, format!("must be a name of at most {LABEL_LEN_MAX} bytes")));
        }
        Ok(Label::new(&name))
    }

    fn rate(
        &self,
        flag: &'static str,
        of_flag: Option<ByteSize>,
        key: &'static str,
        of_file: Option<ByteSize>,
    ) -> Merged<Option<u64>> {
        let (rate, place) = pick(flag, of_flag.map(Some), key, of_file.map(Some), None);
        match rate {
            Some(rate) if rate < RATE_MIN => {
                Err(self
                    .wrong(place, format!("must be at least {RATE_MIN} a second; leave it out for no limit")))
            }
            rate => Ok(rate.map(|rate| rate.as_u64())),
        }
    }

    fn bounded<T: PartialOrd + fmt::Display>(
        &self,
        (value, place): (T, Place),
        range: RangeInclusive<T>,
    ) -> Merged<T> {
        if range.contains(&value) {
            return Ok(value);
        }
        Err(self.wrong(place, format!("must be {} to {}", range.start(), range.end())))
    }

    fn wrong(&self, place: Place, why: impl fmt::Display) -> MergeError {
        match (place, &self.document) {
            (Place::Key(key), Some(document)) => document.wrong(key, why).into(),
            (Place::Key(key) | Place::Flag(key), _) => {
                MergeError::Flag { key: key.to_owned(), why: why.to_string() }
            }
        }
    }
}

/// The flag's value, or the file's, or the default; and where to look for it.
fn pick<T>(
    flag: &'static str,
    of_flag: Option<T>,
    key: &'static str,
    of_file: Option<T>,
    default: T,
) -> (T, Place) {
    match (of_flag, of_file) {
        (Some(value), _) => (value, Place::Flag(flag)),
        (None, Some(value)) => (value, Place::Key(key)),
        (None, None) => (default, Place::Key(key)),
    }
}

/// The first address of a name, if name servers give one soon: the daemon is not to wait for them to serve its node, and
/// the system's resolver may wait for long.
fn first_address(place: (String, u16)) -> Option<SocketAddr> {
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let address = place.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        // Nobody may be waiting any more.
        let _ = send.send(address);
    });
    receive.recv_timeout(LOOK_UP_LIMIT).ok().flatten()
}

/// Daemons meet where their scheduler is: on loopback if it is there, on every address otherwise.
fn default_peer_address(scheduler: &SchedulerConfig) -> IpAddr {
    let local = match scheduler {
        SchedulerConfig::Embedded { listen, .. } => listen.ip().is_loopback(),
        SchedulerConfig::Remote { address, .. } => {
            address.host().is_some_and(|host| is_loopback(host.trim_matches(['[', ']'])))
        }
    };
    IpAddr::V4(if local { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
