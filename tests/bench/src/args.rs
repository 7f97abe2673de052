//! What the benchmark can be told.

use crate::role::Role;
use clap::{Parser, ValueEnum};

/// Measures what Damselfly costs, as ratios of one run, beside the limits that it promises.
///
/// Starts everything it needs on loopback, in a temporary directory below target/, which is removed at the end.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench", bin_name = "cargo run --release --bin bench --")]
pub struct Args {
    /// Prints one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,

    /// Measures only these; all without it.
    #[arg(long, value_name = "NAME", value_enum)]
    only: Vec<Group>,

    /// Smaller and fewer rounds: to see that it works, not for figures.
    #[arg(long)]
    pub quick: bool,

    /// Ends with success also when a limit is missed.
    #[arg(long)]
    pub no_fail: bool,

    /// What this process is for a benchmark that has started it.
    #[command(subcommand)]
    pub role: Option<Role>,
}

impl Args {
    /// What to measure, in order.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let all = Group::value_variants().iter().copied();
        all.filter(|group| self.only.is_empty() || self.only.contains(group)).collect()
    }
}

/// Rows that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// The chain against one plain hash.
    Verification,
    /// Pieces between peers against plain TLS.
    Transport,
    /// A cached blob through the daemon against nginx.
    Warm,
    /// An image that nobody has yet through the daemon against the registry itself.
    Cold,
    /// What the daemon holds in memory while a large blob passes through it.
    Memory,
    /// A pull between daemons against the same without TLS between them.
    Security,
    /// What the scheduler costs while a thousand hosts report pieces.
    Scheduler,
}

impl Group {
    /// What is about to happen, for those who wait.
    #[must_use]
    pub const fn doing(self) -> &'static str {
        match self {
            Self::Verification => "verification: the chain and one plain hash over the same bytes",
            Self::Transport => {
                "transport: 4 MiB pieces over three stacks, sender and receiver each a process"
            }
            Self::Warm => "warm: a cached blob through dfdaemon and from nginx",
            Self::Cold => "cold: an image through dfdaemon and from the registry itself",
            Self::Memory => "memory: a large blob through two daemons at once",
            Self::Security => "security: a blob from daemon to daemon, with TLS and without",
            Self::Scheduler => "scheduler: hosts that report pieces at a fixed rate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_selects_and_the_order_stays() {
        assert_eq!(Args::parse_from(["bench"]).groups().len(), 7);
        let args = Args::parse_from(["bench", "--only", "warm", "--only", "transport"]);
        assert_eq!(args.groups(), [Group::Transport, Group::Warm]);
        assert!(Args::try_parse_from(["bench", "--only", "other"]).is_err());
    }
}
