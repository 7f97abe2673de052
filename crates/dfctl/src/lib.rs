//! Damselfly's command line for operators: what the cluster does, a pull by hand, a tag read anew, who pulled
//! what, who may join, which runtimes pull through it.
//!
//! `main` parses [`Cli`] and calls [`run`]; everything goes through the daemon of this node, but for the audit log, which
//! is read from its files, for who may join, which is the scheduler's, and for runtimes, whose files it changes itself.

pub mod audit;
mod blob;
mod cache;
mod cli;
mod client;
mod error;
pub mod image;
mod membership;
mod node_labels;
mod pull;
mod runtime;
mod status;
mod table;

pub use cli::{CacheCommand, Cli, Command, HostCommand, Output, RuntimeCommand, TokenCommand};
pub use error::Error;

use clap::CommandFactory as _;
use client::Client;
use process::shutdown::Shutdown;
use serde::Deserialize;
use std::io::Write;

/// Does what the command line says; results go to `out`, progress to standard error.
///
/// # Errors
/// [`Error`], whose text is meant for the operator.
pub async fn run(cli: Cli, out: &mut impl Write) -> Result<(), Error> {
    match cli.command {
        Command::Status { output } => status::run(&Client::admin(cli.daemon)?, output, out).await,
        Command::Pull { image, proxy, platform } => {
            pull::run(&Client::proxy(proxy)?, &image, &platform, out).await
        }
        Command::Token { socket, command } => {
            membership::tokens(&Client::operator(&socket)?, command, out).await
        }
        Command::Host { socket, command } => {
            membership::hosts(&Client::operator(&socket)?, command, out).await
        }
        Command::Refresh { image } => {
            let query = [("image", image.to_text())];
            let answer: Refreshed = Client::admin(cli.daemon)?.post("/v1/refresh", &query).await?;
            writeln!(out, "{} is {}", image.to_text(), answer.digest)?;
            Ok(())
        }
        Command::Flush { socket, repository } => {
            membership::flush(&Client::operator(&socket)?, repository.as_ref(), out).await
        }
        Command::Runtime { place, command } => runtime::run(&place, command, out).await,
        Command::Cache { command: CacheCommand::Remove { dir, wait } } => {
            cache::remove(&dir, wait, out).await
        }
        Command::NodeLabels(options) => node_labels::run(&options, out).await,
        Command::Hold { time } => {
            let shutdown = Shutdown::install()?;
            match time {
                Some(time) => drop(tokio::time::timeout(time, shutdown.token().cancelled()).await),
                None => shutdown.token().cancelled().await,
            }
            Ok(())
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "dfctl", out);
            Ok(())
        }
        Command::Man { dir } => {
            let failed = |source| Error::File { path: dir.clone(), source };
            std::fs::create_dir_all(&dir).map_err(failed)?;
            clap_mangen::generate_to(Cli::command(), &dir).map_err(failed)
        }
        Command::Audit { file, filter, json } => {
            let form = if json { audit::Form::Json } else { audit::Form::Table };
            let malformed = audit::run(&file, &filter, form, out)?;
            if malformed > 0 {
                eprintln!("passed over {malformed} lines that are none of an audit log's");
            }
            Ok(())
        }
    }
}

/// The daemon's answer to a refresh.
#[derive(Deserialize)]
struct Refreshed {
    digest: String,
}
