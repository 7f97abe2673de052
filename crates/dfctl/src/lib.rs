//! Damselfly's command line for operators: what the cluster does, a pull by hand, a tag read anew, who pulled
//! what, who may join, what hosts are to hold beforehand, which runtimes pull through it, what systemd runs.
//!
//! `main` parses [`Cli`] and calls [`run`]; everything goes through the daemon of this node, but for the audit log, which
//! is read from its files, for who may join and for preheats, which are the scheduler's, and for runtimes and services,
//! whose files it changes itself.

mod answer;
pub mod audit;
mod blob;
mod cache;
mod cli;
mod client;
mod error;
mod exit;
pub mod image;
mod json;
mod machine;
mod membership;
mod node_labels;
mod preheat;
mod pull;
mod runtime;
mod service;
mod status;
mod table;
mod top;

pub use cli::{CacheCommand, Cli, Command, HostCommand, Output, RuntimeCommand, TokenCommand};
pub use error::Error;

use clap::{CommandFactory as _, Parser as _};
use client::Client;
use process::exit::Exit;
use process::shutdown::Shutdown;
use serde::{Deserialize, Serialize};
use std::io::{IsTerminal as _, Write};
use std::process::ExitCode;

/// The program's arguments; mistakes go to standard error, as JSON where JSON was asked for.
///
/// # Errors
/// The code to end with.
pub fn parse() -> Result<Cli, ExitCode> {
    if !json::is_wanted(std::env::args_os()) {
        return process::exit::parse();
    }
    Cli::try_parse().map_err(|error| {
        if !error.use_stderr() {
            // Where standard output is closed there is nobody to tell.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        eprintln!("{}", json::mistake(&error.render().to_string()));
        ExitCode::from(Exit::Usage.code())
    })
}

/// Says on standard error why something could not be done; the code to end with.
#[must_use]
pub fn fail(error: &Error, output: Output) -> ExitCode {
    let exit = error.exit_code();
    match output {
        Output::Table => eprintln!("error: {error}"),
        Output::Json => eprintln!("{}", json::error(&error.to_string(), exit)),
    }
    ExitCode::from(exit)
}

/// Does what the command line says; results go to `out`, progress to standard error.
///
/// # Errors
/// [`Error`], whose text is meant for the operator.
pub async fn run(cli: Cli, out: &mut impl Write) -> Result<(), Error> {
    let output = cli.output;
    if output == Output::Json
        && let Some(why) = cli.command.without_json()
    {
        return Err(Error::Usage(why));
    }
    match cli.command {
        Command::Status => status::run(&Client::admin(cli.daemon)?, output, out).await,
        Command::Top { interval, once } => {
            let client = Client::admin(cli.daemon)?;
            if once || !std::io::stdout().is_terminal() {
                top::once(&client, interval, out).await
            } else {
                top::live(&client, interval).await
            }
        }
        Command::Pull { image, proxy, platform } => {
            pull::run(&Client::proxy(proxy)?, &image, &platform, output, out).await
        }
        Command::Token { socket, command } => {
            membership::tokens(&Client::operator(&socket)?, command, output, out).await
        }
        Command::Host { socket, command } => {
            membership::hosts(&Client::operator(&socket)?, command, output, out).await
        }
        Command::Refresh { image } => {
            refresh(&Client::admin(cli.daemon)?, image.to_text(), output, out).await
        }
        Command::Flush { socket, repository } => {
            membership::flush(&Client::operator(&socket)?, repository.as_ref(), output, out).await
        }
        Command::Preheat(options) => preheat::begin(&options, output, out).await,
        Command::Preheats { socket, command } => {
            preheat::look_after(&Client::operator(&socket)?, &command, output, out).await
        }
        Command::Runtime { place, command } => runtime::run(&place, command, output, out).await,
        Command::Service { machine, command } => service::run(&machine, command, output, out).await,
        Command::Cache { command: CacheCommand::Remove { dir, wait } } => {
            cache::remove(&dir, wait, output, out).await
        }
        Command::NodeLabels(options) => node_labels::run(&options, output, out).await,
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
            let json = json || output == Output::Json;
            let form = if json { audit::Form::Json } else { audit::Form::Table };
            let malformed = audit::run(&file, &filter, form, out)?;
            if malformed > 0 {
                json::note(output, &format!("passed over {malformed} lines that are none of an audit log's"));
            }
            Ok(())
        }
    }
}

async fn refresh(client: &Client, image: String, output: Output, out: &mut impl Write) -> Result<(), Error> {
    let query = [("image", image.clone())];
    let answer: Refreshed = client.post("/v1/refresh", &query).await?;
    match output {
        Output::Table => writeln!(out, "{image} is {}", answer.digest)?,
        Output::Json => json::write(&Refreshed { image, ..answer }, out)?,
    }
    Ok(())
}

/// The daemon's answer to a refresh, and what is printed of it.
#[derive(Deserialize, Serialize)]
struct Refreshed {
    #[serde(default)]
    image: String,
    digest: String,
}
