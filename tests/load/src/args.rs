//! What the load test can be told.

use bytesize::ByteSize;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest `--linger`.
const LINGER_MAX: Duration = Duration::from_secs(3600);

/// Hundreds of real daemons pull one image at once, through an origin that serves it once.
///
/// The daemons run in a few processes, each daemon with its own directory, ports, connections and client; they share
/// nothing but the process. The scheduler, the origin and the clients are processes of their own. Everything is on
/// loopback and in a temporary directory, which is removed at the end. Exits with 1 if a byte is wrong or a peer that
/// lives did not get everything.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo load", bin_name = "cargo load", args_conflicts_with_subcommands = true)]
pub struct Args {
    /// How many daemons, 1 to 2000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub peers: u16,

    /// The size of the image, all layers together, 1 MiB to 4 GiB
    #[arg(long, default_value = "32MiB", value_parser = size)]
    pub image: ByteSize,

    /// How many layers of equal size the image has, 1 to 100
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub layers: u8,

    /// How the pulls begin
    #[arg(long, value_enum, default_value_t = Arrival::Flash)]
    pub arrival: Arrival,

    /// Over which time the pulls begin, if not all at once
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub over: Duration,

    /// Into how many zones the peers are divided, 1 to 100
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub zones: u8,

    /// How many percent of the peers die in mid-flight, a source among them
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=90))]
    pub kill: u8,

    /// How many percent of the peers have a tenth of the rate; needs --rate
    #[arg(long, default_value_t = 0, value_name = "PERCENT", requires = "rate",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub slow: u8,

    /// The rate of every peer, each way, per second, 64 KiB to 1 GiB [default: no limit]
    #[arg(long, value_parser = rate)]
    pub rate: Option<ByteSize>,

    /// The rate of the origin, per second [default: that of a peer]
    #[arg(long, value_parser = rate)]
    pub origin_rate: Option<ByteSize>,

    /// Into how many processes the daemons are divided, 1 to 64
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub processes: u8,

    /// Give each daemon a runtime of its own, as it has in life; implied by --kill
    #[arg(long)]
    pub own_runtimes: bool,

    /// How long the daemons stay idle before the pulls begin, to see what that costs
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub idle: Duration,

    /// How long all pulls together may take
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub limit: Duration,

    /// Determines the image's bytes, who is slow, who dies when, and who begins when
    #[arg(long, default_value_t = 1)]
    pub seed: u32,

    /// Where the temporary directory is made; it takes the image once for each peer [default: the system's]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// What the daemons and the scheduler log
    #[arg(long, default_value = "warn", value_name = "FILTER")]
    pub log: String,

    /// Keep the processes' logs in this directory
    #[arg(long, value_name = "DIR")]
    pub logs: Option<PathBuf>,

    /// Write into this file, whose name ends in .json, where everything can be scraped, for the file_sd_configs of a
    /// Prometheus; it is removed at the end
    #[arg(long, value_name = "FILE", value_parser = json_file)]
    pub targets: Option<PathBuf>,

    /// How long daemons and scheduler stay after the report, to be scraped, at most an hour; Ctrl-C ends that sooner
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = linger)]
    pub linger: Duration,

    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,

    /// Also write the report as a page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// This program as one of the processes.
    #[command(subcommand)]
    pub role: Option<Role>,
}

/// How the pulls begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arrival {
    /// All at once.
    Flash,
    /// At random moments.
    Staggered,
    /// One after the other, evenly.
    Rolling,
}

/// What one of the processes is.
#[derive(Clone, Debug, Subcommand)]
#[command(hide = true)]
pub enum Role {
    /// The registry that holds the image.
    Origin {
        /// Determines the image's bytes.
        #[arg(long)]
        seed: u32,
        /// The sizes of its layers in bytes.
        #[arg(long, required = true)]
        layer: Vec<u64>,
        /// Bytes per second.
        #[arg(long)]
        rate: Option<u64>,
    },
    /// The scheduler.
    Scheduler {
        /// Its configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Some of the daemons.
    Peers {
        /// Their configuration files.
        #[arg(long, required = true)]
        config: Vec<PathBuf>,
        /// What they log.
        #[arg(long)]
        log: String,
        /// Whether each has a runtime of its own.
        #[arg(long)]
        own_runtimes: bool,
    },
}

fn size(text: &str) -> Result<ByteSize, String> {
    between(text, ByteSize::mib(1), ByteSize::gib(4))
}

fn rate(text: &str) -> Result<ByteSize, String> {
    between(text, ByteSize::kib(64), ByteSize::gib(1))
}

fn between(text: &str, least: ByteSize, most: ByteSize) -> Result<ByteSize, String> {
    let value: ByteSize = text.parse()?;
    if least <= value && value <= most { Ok(value) } else { Err(format!("not between {least} and {most}")) }
}

/// By its name Prometheus knows in which format a file is.
fn json_file(text: &str) -> Result<PathBuf, String> {
    let file = Path::new(text);
    let is_json = file.extension().is_some_and(|extension| extension == "json");
    if is_json { Ok(file.to_owned()) } else { Err("its name does not end in .json".to_owned()) }
}

fn linger(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let most = humantime::format_duration(LINGER_MAX);
    if time <= LINGER_MAX { Ok(time) } else { Err(format!("longer than {most}")) }
}

impl Args {
    /// Bytes per second of the origin, if it is limited.
    #[must_use]
    pub fn origin_rate(&self) -> Option<u64> {
        self.origin_rate.or(self.rate).map(|rate| rate.as_u64())
    }

    /// The layers' sizes in bytes.
    #[must_use]
    pub fn layer_sizes(&self) -> Vec<u64> {
        vec![self.image.as_u64() / u64::from(self.layers); usize::from(self.layers)]
    }

    /// Whether each daemon has a runtime of its own: only such a one can die alone.
    #[must_use]
    pub const fn has_own_runtimes(&self) -> bool {
        self.own_runtimes || self.kill > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn arguments_are_well_formed_and_bounded() {
        Args::command().debug_assert();
        let wrong: [&[&str]; 6] = [
            &["--peers", "0"],
            &["--image", "1KiB"],
            &["--kill", "95"],
            &["--slow", "5"],
            &["--targets", "targets"],
            &["--linger", "2h"],
        ];
        for wrong in wrong {
            let args = ["load"].iter().chain(wrong);
            assert!(Args::try_parse_from(args).is_err(), "{wrong:?}");
        }
        let args = Args::parse_from(["load", "--image", "32MiB", "--layers", "4", "--rate", "1MiB"]);
        assert_eq!(args.layer_sizes(), [8 << 20; 4]);
        assert_eq!(args.origin_rate(), Some(1 << 20));
    }
}
