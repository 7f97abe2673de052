//! `dfctl token`, `dfctl host` and `dfctl flush`: who may join, who is put out, whose permissions are asked anew. Asked of
//! the scheduler on its operator's socket, so on its machine and as its user or root.

use crate::cli::Image;
use crate::client::Client;
use crate::table::{table, time};
use crate::{Error, HostCommand, Output, TokenCommand, json};
use serde::{Deserialize, Serialize};
use std::io::Write;

/// A join token as the scheduler lists it. Times are seconds since 1970.
#[derive(Debug, Deserialize, Serialize)]
struct Token {
    id: String,
    created: u64,
    expires: Option<u64>,
    note: String,
    /// In the answer to its making alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

#[derive(Serialize)]
struct NewToken<'a> {
    note: &'a str,
    lifetime_seconds: Option<u64>,
}

/// The scheduler's answer to the removal of a host.
#[derive(Deserialize)]
struct Removed {
    connected: Option<bool>,
}

#[derive(Serialize)]
struct Flush<'a> {
    registry: &'a str,
    repository: &'a str,
}

#[derive(Deserialize)]
struct Flushed {
    hosts: usize,
}

/// What becomes of a token, as JSON.
#[derive(Serialize)]
struct Revocation<'a> {
    id: &'a str,
    revoked: bool,
}

/// How a host stands, as JSON.
#[derive(Serialize)]
struct HostStanding<'a> {
    id: &'a str,
    /// Whether it is out.
    removed: bool,
    /// Whether it was connected when it was put out; nothing if the scheduler did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    connected: Option<bool>,
}

/// What is asked anew, as JSON; nothing for all.
#[derive(Serialize)]
struct Flushing<'a> {
    registry: Option<&'a str>,
    repository: Option<&'a str>,
    /// How many hosts were told.
    hosts_told: usize,
}

pub(crate) async fn tokens(
    client: &Client,
    command: TokenCommand,
    output: Output,
    out: &mut impl Write,
) -> Result<(), Error> {
    match command {
        TokenCommand::Create { lifetime, note } => {
            let new = NewToken { note: &note, lifetime_seconds: lifetime.map(|lifetime| lifetime.as_secs()) };
            let made: Token = client.post_json("/v1/tokens", &new).await?;
            let token =
                made.token.as_ref().ok_or_else(|| Error::Unexpected("no token is in it".to_owned()))?;
            if output == Output::Json {
                return Ok(json::write(&made, out)?);
            }
            // The token alone, for scripts; what it is for goes to standard error.
            writeln!(out, "{token}")?;
            eprintln!(
                "token {} is good now; a node joins with: DFDAEMON_JOIN=TOKEN@HOST:PORT dfdaemon",
                made.id
            );
        }
        TokenCommand::List => {
            let tokens: Vec<Token> = client.get("/v1/tokens").await?;
            if output == Output::Json {
                return Ok(json::write(&tokens, out)?);
            }
            let rows = tokens.iter().map(|token| {
                let expires = token.expires.map_or_else(|| "never".to_owned(), time);
                vec![token.id.clone(), time(token.created), expires, token.note.clone()]
            });
            table(out, &["TOKEN", "CREATED", "EXPIRES", "NOTE"], 4, &rows.collect::<Vec<_>>())?;
        }
        TokenCommand::Revoke { id } => {
            client.delete(&format!("/v1/tokens/{id}")).await?;
            if output == Output::Json {
                return Ok(json::write(&Revocation { id: &id, revoked: true }, out)?);
            }
            writeln!(out, "token {id} lets nobody in any more; hosts that have joined stay")?;
        }
    }
    Ok(())
}

pub(crate) async fn hosts(
    client: &Client,
    command: HostCommand,
    output: Output,
    out: &mut impl Write,
) -> Result<(), Error> {
    match command {
        HostCommand::Remove { id } => {
            let removed: Removed = client.put(&format!("/v1/removed-hosts/{id}")).await?;
            if output == Output::Json {
                let standing = HostStanding { id: &id, removed: true, connected: removed.connected };
                return Ok(json::write(&standing, out)?);
            }
            if removed.connected == Some(false) {
                eprintln!("no host {id} is connected: is it the id that `dfctl status` shows?");
            }
            writeln!(
                out,
                "host {id} is out. Revoke the tokens that it knows too, or it can come back under another key."
            )?;
        }
        HostCommand::Restore { id } => {
            client.delete(&format!("/v1/removed-hosts/{id}")).await?;
            if output == Output::Json {
                let standing = HostStanding { id: &id, removed: false, connected: None };
                return Ok(json::write(&standing, out)?);
            }
            writeln!(out, "host {id} may come back")?;
        }
        HostCommand::Removed => {
            let hosts: Vec<String> = client.get("/v1/removed-hosts").await?;
            if output == Output::Json {
                let standings = hosts.iter().map(|id| HostStanding { id, removed: true, connected: None });
                return Ok(json::write(&standings.collect::<Vec<_>>(), out)?);
            }
            for host in hosts {
                writeln!(out, "{host}")?;
            }
        }
    }
    Ok(())
}

pub(crate) async fn flush(
    client: &Client,
    of: Option<&Image>,
    output: Output,
    out: &mut impl Write,
) -> Result<(), Error> {
    let repository = of.map(|image| &image.0.repository);
    let question = Flush {
        registry: repository.map_or("", |repository| repository.registry.as_str()),
        repository: repository.map_or("", |repository| repository.name.as_str()),
    };
    let flushed: Flushed = client.post_json("/v1/flush", &question).await?;
    if output == Output::Json {
        let flushing = Flushing {
            registry: repository.map(|repository| repository.registry.as_str()),
            repository: repository.map(|repository| repository.name.as_str()),
            hosts_told: flushed.hosts,
        };
        return Ok(json::write(&flushing, out)?);
    }
    let what = repository.map_or_else(|| "all repositories".to_owned(), ToString::to_string);
    writeln!(out, "the scheduler and {} hosts ask anew who may read {what}", flushed.hosts)?;
    Ok(())
}
