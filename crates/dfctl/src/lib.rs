//! Damselfly's command line for operators: what the cluster does, a pull by hand, a tag read anew, who pulled
//! what, who may join, which runtimes pull through it.
//!
//! `main` parses [`Cli`] and calls [`run`]; everything goes through the daemon of this node, but for the audit log, which
//! is read from its files, for who may join, which is the scheduler's, and for runtimes, whose files it changes itself.

pub mod audit;
mod blob;
mod cli;
mod client;
mod error;
pub mod image;
mod membership;
mod pull;
mod runtime;
mod status;
mod table;

pub use cli::{Cli, Command, HostCommand, Output, RuntimeCommand, TokenCommand};
pub use error::Error;

use client::Client;
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
