//! The parts of a measurement that run as processes of their own, so that their CPU time can be read by itself.
//!
//! The benchmark starts its own program again with a hidden subcommand. A role says on its standard output `ready …`
//! when it can be used and `done …` when it has done its work, and then stays until it is ended: a process that has
//! ended has no CPU time to read any more.

use crate::hosts::HostsRole;
use crate::transport::{Side, Stack};
use crate::{hosts, origin, relay, transport};
use anyhow::{Context, Result};
use clap::Subcommand;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::poll;
use support::process::{Program, Spec};
use support::pull::{self, Source};

/// What a process is.
#[derive(Clone, Debug, Subcommand)]
#[command(hide = true)]
pub enum Role {
    /// A registry of blobs that are computed while they are read.
    Origin {
        /// The sizes of the blobs in bytes.
        #[arg(long, required = true)]
        size: Vec<u64>,
    },
    /// A link of limited rate in front of a server.
    Relay {
        /// The server.
        #[arg(long)]
        to: SocketAddr,
        /// Bytes per second, all connections together.
        #[arg(long)]
        rate: u64,
    },
    /// A client that pulls an image once.
    Pull {
        /// `http://host:port`.
        #[arg(long)]
        base: String,
        /// The repository's name.
        #[arg(long)]
        repository: String,
        /// A tag.
        #[arg(long)]
        reference: String,
        /// Blobs at once.
        #[arg(long)]
        concurrency: usize,
    },
    /// One side of a transfer of pieces.
    Transport(TransportRole),
    /// Hosts that report pieces to a scheduler.
    Hosts(HostsRole),
}

/// One side of a transfer.
#[derive(Clone, Debug, clap::Args)]
pub struct TransportRole {
    /// Which side.
    #[arg(long, value_enum)]
    pub side: Side,
    /// Over what.
    #[arg(long, value_enum)]
    pub stack: Stack,
    /// Where both sides' keys are.
    #[arg(long)]
    pub keys: PathBuf,
    /// How many pieces.
    #[arg(long)]
    pub pieces: u32,
    /// Where the sender listens.
    #[arg(long)]
    pub address: Option<SocketAddr>,
}

impl Role {
    /// Does the work, and stays until the process is ended.
    ///
    /// # Errors
    /// If the work fails.
    pub fn run(&self) -> Result<()> {
        tokio::runtime::Runtime::new()?.block_on(async {
            match self.clone() {
                Self::Origin { size } => origin::serve(&size).await,
                Self::Relay { to, rate } => relay::serve(to, rate).await,
                Self::Pull { base, repository, reference, concurrency } => {
                    pull_once(Source { base, ns: None, repository, reference, concurrency }).await
                }
                Self::Transport(role) => transport::run(&role).await,
                Self::Hosts(role) => hosts::run(&role).await,
            }?;
            std::future::pending().await
        })
    }
}

/// Tells the parent, which reads this process's log.
pub fn say(word: &str, what: impl std::fmt::Display) {
    println!("{word} {what}");
}

/// Pulls, checks every byte, and says how many seconds it took.
async fn pull_once(source: Source) -> Result<()> {
    let pulled = pull::pull(&pull::client()?, &source, |_| ()).await?;
    anyhow::ensure!(pulled.wrong_bytes == 0, "{} wrong bytes", pulled.wrong_bytes);
    say("done", pulled.elapsed.as_secs_f64());
    Ok(())
}

/// Starts this program again.
///
/// # Errors
/// If it cannot be started.
pub fn start(name: &str, dir: &Path, args: &[String]) -> Result<Program> {
    let program = std::env::current_exe().context("this program")?;
    Program::start(&Spec::new(name, program, dir).args(args))
}

/// Waits until a process says `word`; what follows it.
///
/// # Errors
/// If it does not within `limit`, or ends.
pub async fn heard(program: &mut Program, word: &str, limit: Duration) -> Result<String> {
    let log = program.log().to_owned();
    let what = format!("'{word}' from {}", program.name());
    let found = poll::until_async(&what, limit, || {
        let running = program.check_running();
        let log = log.clone();
        async move {
            let text = std::fs::read_to_string(&log)?;
            // A line is whole once its end has been written.
            let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            let said =
                lines.filter_map(|line| line.strip_prefix(word)).map(|rest| rest.trim().to_owned()).next();
            match said {
                None => running.map(|()| None),
                said => Ok(said),
            }
        }
    });
    let found = found.await;
    found.with_context(|| format!("its log ends with\n{}", program.log_tail()))
}

/// CPU seconds of a process that still runs.
///
/// # Errors
/// If it does not.
pub fn cpu_seconds(program: &Program) -> Result<f64> {
    program.cpu_seconds().with_context(|| format!("{} has ended", program.name()))
}
