//! The command line of `dfctl preheat` and `dfctl preheats`.

use crate::cli::{Image, OPERATOR_SOCKET, host_id, time};
use std::path::PathBuf;
use std::time::Duration;
use types::Platform;

/// The word for every platform that an image has.
pub(super) const ALL: &str = "all";

/// What is to be held, and where.
#[derive(Debug, clap::Args)]
pub struct Preheat {
    /// As in alpine, ghcr.io/org/app:v1, host:5000/app@sha256:….
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<Image>,
    /// On all hosts that are connected; that is so too where neither zones nor hosts are named.
    #[arg(long, conflicts_with_all = ["zone", "host"])]
    pub all: bool,
    /// On the hosts of this zone; may be given several times.
    #[arg(long, conflicts_with = "host")]
    pub zone: Vec<String>,
    /// On this host, as `dfctl status` shows it; may be given several times.
    #[arg(long, value_name = "ID", value_parser = host_id)]
    pub host: Vec<String>,
    /// For this platform, OS/ARCH[/VARIANT], or `all`; may be given several times [default: for each host its own].
    #[arg(long, value_parser = platform)]
    pub platform: Vec<String>,
    /// Stay until it has ended, and show how far it is; Ctrl-C ends the waiting, not the preheat.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait; the preheat goes on after that [default: 30min].
    #[arg(long, value_name = "TIME", value_parser = time, requires = "wait")]
    pub timeout: Option<Duration>,
    /// The scheduler's operator socket, in its state directory.
    #[arg(long, value_name = "PATH", default_value = OPERATOR_SOCKET)]
    pub socket: PathBuf,
}

/// What to do with preheats.
#[derive(Debug, clap::Subcommand)]
pub enum PreheatsCommand {
    /// Show those that the scheduler remembers, the newest first.
    List,
    /// Show one: its images, and how far each host is.
    Show {
        /// As `dfctl preheats list` shows it.
        #[arg(value_parser = id)]
        id: u64,
    },
    /// End one that goes on; what hosts hold already stays in their caches.
    Cancel {
        /// As `dfctl preheats list` shows it.
        #[arg(value_parser = id)]
        id: u64,
    },
}

fn id(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "a preheat's id is a number: `dfctl preheats list` shows it".to_owned())
}

fn platform(text: &str) -> Result<String, String> {
    if text == ALL {
        return Ok(text.to_owned());
    }
    let platform = text.parse::<Platform>();
    platform.map(|platform| platform.to_string()).map_err(|error| format!("{error}, or is the word `{ALL}`"))
}

#[cfg(test)]
mod tests {
    use crate::{Cli, Command};
    use clap::Parser as _;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    fn preheat(line: &str) -> super::Preheat {
        let cli = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let Command::Preheat(preheat) = cli.command else { panic!("{line}") };
        preheat
    }

    #[test]
    fn lines() {
        let short = preheat("dfctl preheat alpine");
        assert_eq!(short.images[0].to_text(), "docker.io/library/alpine:latest");
        assert!(!short.all && !short.wait && short.timeout.is_none());
        assert!(short.zone.is_empty() && short.host.is_empty() && short.platform.is_empty());
        assert!(short.socket.ends_with("damselfly-scheduler/operator.sock"));
        let long = preheat(
            "dfctl preheat --zone a ghcr.io/org/app:v1 host:5000/b --zone b --platform linux/arm/v7 \
             --platform linux/amd64 --wait --timeout 2h --socket s",
        );
        let images: Vec<String> = long.images.iter().map(crate::cli::Image::to_text).collect();
        assert_eq!(images, ["ghcr.io/org/app:v1", "host:5000/b:latest"]);
        assert_eq!((long.zone, long.platform.len()), (vec!["a".to_owned(), "b".to_owned()], 2));
        assert!(long.wait && long.timeout.is_some_and(|timeout| timeout.as_secs() == 7200));
        assert_eq!(preheat("dfctl preheat a --host 661da0c17a2429dd --host 00").host.len(), 2);
        assert_eq!(preheat("dfctl preheat a --platform all").platform, ["all"]);
        assert!(preheat("dfctl preheat a --all -o json").all);
        for line in
            ["dfctl preheats list -o json", "dfctl preheats show 17", "dfctl preheats cancel 1 --socket s"]
        {
            let cli = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(matches!(cli.command, Command::Preheats { .. }), "{line}");
        }
    }

    #[test]
    fn lines_that_make_no_sense() {
        for line in [
            "dfctl preheat",
            "dfctl preheat --all",
            "dfctl preheat UPPER",
            "dfctl preheat alpine a@sha256:1",
            "dfctl preheat a --all --zone z",
            "dfctl preheat a --host 00 --all",
            "dfctl preheat a --zone z --host 00",
            "dfctl preheat a --host node-7",
            "dfctl preheat a --platform linux",
            "dfctl preheat a --timeout 1h",
            "dfctl preheat a --wait --timeout long",
            "dfctl preheats",
            "dfctl preheats show",
            "dfctl preheats show ../1",
            "dfctl preheats cancel all",
            "dfctl preheats list 17",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
