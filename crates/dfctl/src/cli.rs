//! The command line, parsed as far as it can be without asking anybody.

use crate::audit::Filter;
use crate::node_labels::NodeLabels;
use crate::preheat::{Preheat, PreheatsCommand};
use crate::runtime::{Place, Runtime};
use crate::service::{Machine, ServiceCommand};
use clap::{Parser, Subcommand, ValueEnum};
use origin::{ImageName, NameError, Reference};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use types::{Platform, Registry};
use url::Url;

/// Where a scheduler that was told nothing else has its operator's socket.
pub(crate) const OPERATOR_SOCKET: &str = "/var/lib/damselfly-scheduler/operator.sock";

/// How often `top` may ask: more would be a load, less would be no live view.
const INTERVAL_MIN: Duration = Duration::from_millis(200);
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Looks after a Damselfly daemon.
#[derive(Debug, Parser)]
#[command(name = "dfctl", version, about, after_help = crate::exit::HELP)]
pub struct Cli {
    /// The daemon's admin address.
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:6503", value_parser = address)]
    pub daemon: Url,

    /// In which form results are written.
    #[arg(short, long, global = true, value_name = "FORM", default_value = "table")]
    pub output: Output,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show hosts, blobs, and from where bytes came.
    Status,
    /// Watch hosts and rollouts as they go on, until q; where the output is no terminal, print one picture as text.
    Top {
        /// From one question to the next, 200ms to 1min.
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
        interval: Duration,
        /// Print one picture as text, of one interval, and end. Hosts tell what they moved every 2s: 10s says more than 1s.
        #[arg(long)]
        once: bool,
    },
    /// Pull an image through the daemon and check every byte; fills the daemon's cache and stores nothing else.
    Pull {
        /// As in alpine, ghcr.io/org/app:v1, host:5000/app@sha256:….
        image: Image,
        /// Where the daemon serves container runtimes.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:6500", value_parser = address)]
        proxy: Url,
        /// Which of an image's platforms, OS/ARCH[/VARIANT].
        #[arg(long, value_name = "PLATFORM", default_value_t = Platform::of_this_machine())]
        platform: Platform,
    },
    /// Make, list and revoke join tokens, on the scheduler's machine.
    Token {
        /// The scheduler's operator socket, in its state directory.
        #[arg(long, global = true, value_name = "PATH", default_value = OPERATOR_SOCKET)]
        socket: PathBuf,
        /// What to do.
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Put a host out of the cluster, or let it in again, on the scheduler's machine.
    Host {
        /// The scheduler's operator socket, in its state directory.
        #[arg(long, global = true, value_name = "PATH", default_value = OPERATOR_SOCKET)]
        socket: PathBuf,
        /// What to do.
        #[command(subcommand)]
        command: HostCommand,
    },
    /// Have the cluster ask the registry anew what a tag means, before the answer's lifetime is over.
    Refresh {
        /// As in alpine:3.20.
        image: Image,
    },
    /// Have the whole cluster ask the registries anew who may read what, on the scheduler's machine: after somebody's right
    /// has ended. A host that is not connected hears of it as soon as it is again: until then it goes by what it knows, for
    /// five minutes at most, and while the registry is out of reach too, for the grace.
    Flush {
        /// The scheduler's operator socket, in its state directory.
        #[arg(long, value_name = "PATH", default_value = OPERATOR_SOCKET)]
        socket: PathBuf,
        /// Of one repository, as in ghcr.io/org/app [default: of all].
        repository: Option<Image>,
    },
    /// Have hosts hold images before anybody asks for them, on the scheduler's machine. Each host reads them by its own
    /// right, as for a client without a secret, and keeps them in its cache no longer than others.
    Preheat(Preheat),
    /// Show preheats, or end one, on the scheduler's machine.
    Preheats {
        /// The scheduler's operator socket, in its state directory.
        #[arg(long, global = true, value_name = "PATH", default_value = OPERATOR_SOCKET)]
        socket: PathBuf,
        /// What to do.
        #[command(subcommand)]
        command: PreheatsCommand,
    },
    /// Have this machine's container runtimes pull through the daemon, or no longer.
    Runtime {
        #[command(flatten)]
        place: Place,
        /// What to do.
        #[command(subcommand)]
        command: RuntimeCommand,
    },
    /// Have systemd run the daemon or the scheduler on this machine, or no longer.
    Service {
        #[command(flatten)]
        machine: Machine,
        /// What to do.
        #[command(subcommand)]
        command: ServiceCommand,
    },
    /// Look after the cache of this node's daemon.
    Cache {
        /// What to do.
        #[command(subcommand)]
        command: CacheCommand,
    },
    /// Put a Kubernetes node's zone and rack, from its labels, into the daemon's configuration.
    NodeLabels(NodeLabels),
    /// Do nothing until SIGTERM, or for a time: for a container that has to stay.
    Hold {
        /// For how long, as in 60s [default: until SIGTERM].
        #[arg(value_parser = time)]
        time: Option<Duration>,
    },
    /// Print what a shell needs to complete dfctl's words.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write dfctl's man pages into a directory.
    Man {
        /// Which; made if there is none.
        dir: PathBuf,
    },
    /// Show who pulled what, and what permitted it, from the daemon's audit log and the older files beside it.
    Audit {
        /// The log, as in the daemon's [audit] or --audit.
        #[arg(long, value_name = "FILE", default_value = "/var/log/damselfly/audit.log")]
        file: PathBuf,
        #[command(flatten)]
        filter: Filter,
        /// As `-o json`, which came later.
        #[arg(long, hide = true)]
        json: bool,
    },
}

impl Command {
    /// Why it takes no `-o json`, for those that have no result.
    pub(crate) fn without_json(&self) -> Option<&'static str> {
        match self {
            Self::Top { .. } => {
                Some("`dfctl top` takes no -o json: `dfctl status -o json` has the same numbers, at one time")
            }
            Self::Hold { .. } => Some("`dfctl hold` has no result, so it takes no -o json"),
            Self::Completion { .. } => Some("`dfctl completion` prints for shells, so it takes no -o json"),
            Self::Man { .. } => Some("`dfctl man` writes man pages, so it takes no -o json"),
            _ => None,
        }
    }
}

/// What to do with a cache.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Remove it with its directory, when Damselfly is taken away from the node.
    Remove {
        /// The directory, as in the daemon's --store.
        dir: PathBuf,
        /// How long to wait for a daemon that still has it.
        #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
        wait: Duration,
    },
}

/// What to do with container runtimes.
#[derive(Debug, Subcommand)]
pub enum RuntimeCommand {
    /// Put the daemon before the registries; what others wrote stays, and while the daemon is away the registries are asked.
    Install {
        /// Which [default: all that are here].
        #[arg(value_name = "RUNTIME")]
        runtimes: Vec<Runtime>,
        /// Where the daemon serves container runtimes.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:6500", value_parser = address)]
        proxy: Url,
        /// A registry that is to be named, as in ghcr.io or host:5000: one that containerd has files for, or that is none of
        /// the well-known ones for podman and CRI-O.
        #[arg(long, value_name = "NAME", value_parser = registry)]
        registry: Vec<Registry>,
        /// Show what would change, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Restart or reload a runtime that has to read its configuration again.
        #[arg(long)]
        restart: bool,
        /// Stay, look after it, and take it away at SIGTERM.
        #[arg(long, conflicts_with = "dry_run")]
        hold: bool,
    },
    /// Take it away again: the files are as they were before, with what others changed since.
    Uninstall {
        /// Which [default: all that were set up].
        #[arg(value_name = "RUNTIME")]
        runtimes: Vec<Runtime>,
        /// Show what would change, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Restart or reload a runtime that has to read its configuration again.
        #[arg(long)]
        restart: bool,
    },
    /// Show which runtimes pull through the daemon.
    Status,
}

/// What to do with join tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make one, beside those that there are, and print it.
    Create {
        /// For how long it is good, as in 24h [default: until it is revoked].
        #[arg(long, value_name = "TIME", value_parser = time)]
        lifetime: Option<Duration>,
        /// What it is for.
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Show those that are good, without their secrets.
    List,
    /// From now on it lets nobody in; hosts that have joined stay.
    Revoke {
        /// As `dfctl token list` shows it.
        #[arg(value_parser = token_id)]
        id: String,
    },
}

/// What to do with hosts.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Put it out at once; its key opens nothing more, whatever token it has.
    Remove {
        /// As `dfctl status` shows it.
        #[arg(value_parser = host_id)]
        id: String,
    },
    /// Let it in again.
    Restore {
        /// As `dfctl host removed` shows it.
        #[arg(value_parser = removed_id)]
        id: String,
    },
    /// Show the hosts that were put out.
    Removed,
}

/// In which form results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// An image by name.
#[derive(Clone, Debug)]
pub struct Image(pub(crate) ImageName);

impl Image {
    /// The whole name, with registry and reference.
    pub(crate) fn to_text(&self) -> String {
        let separator = if matches!(self.0.reference, Reference::Digest(_)) { '@' } else { ':' };
        format!("{}{separator}{}", self.0.repository, self.0.reference)
    }
}

impl FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: NameError| match error {
            NameError::Repository(_) => format!("{error}; it is in lower case, as in ghcr.io/org/app:v1"),
            _ => format!("{error}; as in alpine, ghcr.io/org/app:v1 or host:5000/app@sha256:…"),
        })
    }
}

fn token_id(text: &str) -> Result<String, String> {
    id(text, "dfctl token list")
}

pub(crate) fn host_id(text: &str) -> Result<String, String> {
    id(text, "dfctl status")
}

fn removed_id(text: &str) -> Result<String, String> {
    id(text, "dfctl host removed")
}

/// What goes into a path of the operator's socket; `shown_by` is what an operator copies it from.
fn id(text: &str, shown_by: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let why = || format!("an id has up to 64 hexadecimal digits and nothing else: `{shown_by}` shows it");
    if good { Ok(text.to_owned()) } else { Err(why()) }
}

/// How long something takes.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "it is a number with its unit, as in 30s, 5min or 24h".to_owned())
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    let good = (INTERVAL_MIN..=INTERVAL_MAX).contains(&time);
    if good { Ok(time) } else { Err("it must be 200ms to 1min".to_owned()) }
}

fn registry(text: &str) -> Result<Registry, String> {
    Registry::parse(text).map_err(|error| error.to_string())
}

/// A daemon's address: it speaks plain HTTP.
fn address(text: &str) -> Result<Url, String> {
    let good =
        |url: &Url| url.scheme() == "http" && url.has_host() && url.path() == "/" && url.query().is_none();
    let url = text.parse::<Url>().ok().filter(good);
    url.ok_or_else(|| "it is plain HTTP without a path: http://HOST:PORT".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn lines() {
        let cli = parse("dfctl status -o json --daemon http://127.0.0.1:1").unwrap();
        assert_eq!(cli.daemon.port(), Some(1));
        assert!(matches!(cli.command, Command::Status) && cli.output == Output::Json);
        let top = |line| match parse(line).unwrap().command {
            Command::Top { interval, once } => (interval.as_millis(), once),
            other => panic!("{other:?}"),
        };
        assert_eq!(top("dfctl top"), (1000, false));
        assert_eq!(top("dfctl top --interval 200ms --once"), (200, true));
        assert_eq!(top("dfctl top --interval 1min"), (60_000, false));
        let Command::Pull { image, .. } = parse("dfctl pull alpine").unwrap().command else { panic!() };
        assert_eq!(image.to_text(), "docker.io/library/alpine:latest");
        let digest = format!("sha256:{}", "a".repeat(64));
        let Command::Refresh { image } =
            parse(&format!("dfctl refresh host:5000/a@{digest}")).unwrap().command
        else {
            panic!()
        };
        assert_eq!(image.to_text(), format!("host:5000/a@{digest}"));
    }

    #[test]
    fn lines_for_services() {
        for line in [
            "dfctl service install",
            "dfctl service install dfdaemon scheduler --from target/release --dry-run",
            "dfctl service install --join-file join --start --root /mnt",
            "dfctl service install damselfly-scheduler --flags --listen=10.0.0.1:6510",
            "dfctl service uninstall --stop --purge",
            "dfctl service uninstall scheduler --dry-run",
            "dfctl service status --root /mnt -o json",
        ] {
            let cli = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(matches!(cli.command, Command::Service { .. }), "{line}");
        }
    }

    #[test]
    fn lines_that_make_no_sense() {
        for line in [
            "dfctl",
            "dfctl stats",
            "dfctl token",
            "dfctl token revoke ../x",
            "dfctl token create --lifetime long",
            "dfctl host remove",
            "dfctl pull",
            "dfctl flush UPPER",
            "dfctl pull UPPER",
            "dfctl pull a --platform linux",
            "dfctl pull a --proxy https://127.0.0.1:1",
            "dfctl pull a --proxy 127.0.0.1:1",
            "dfctl status -o xml",
            "dfctl top --interval 0s",
            "dfctl top --interval 199ms",
            "dfctl top --interval 61s",
            "dfctl top --interval 2h",
            "dfctl top --interval often",
            "dfctl audit --status many",
            "dfctl audit file",
            "dfctl runtime",
            "dfctl cache remove",
            "dfctl node-labels a --config b",
            "dfctl hold ever",
            "dfctl runtime install rkt",
            "dfctl runtime install --registry a/b",
            "dfctl runtime install --proxy 127.0.0.1:6500",
            "dfctl runtime install --hold --dry-run",
            "dfctl runtime uninstall --hold",
            "dfctl service",
            "dfctl service install nginx",
            "dfctl service install --join TOKEN@host:1",
            "dfctl service install --join-file",
            "dfctl service install --flags=--join=TOKEN@host:1",
            "dfctl service install --purge",
            "dfctl service uninstall --start",
            "dfctl service uninstall --join-file file",
            "dfctl service status dfdaemon",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn what_has_no_result_takes_no_json() {
        for (line, refused) in [
            ("dfctl top -o json", true),
            ("dfctl -o json hold", true),
            ("dfctl completion bash --output json", true),
            ("dfctl man dir --output=json", true),
            ("dfctl token list -o json", false),
            ("dfctl runtime install -o json", false),
            ("dfctl audit -ojson", false),
        ] {
            let cli = parse(line).unwrap();
            assert_eq!(cli.output, Output::Json, "{line}");
            assert_eq!(cli.command.without_json().is_some(), refused, "{line}");
        }
    }
}
