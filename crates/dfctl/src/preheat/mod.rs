//! `dfctl preheat` and `dfctl preheats`: images in the caches of hosts before anybody asks for them. Asked of the scheduler
//! on its operator's socket, so on its machine and as its user or root.
//!
//! `options` is the command line, `answer` what the scheduler says, `text` shows it, and `wait` asks until it has ended.

mod answer;
mod options;
mod text;
mod wait;

pub(crate) use options::{Preheat, PreheatsCommand};

use crate::cli::{Image, OPERATOR_SOCKET};
use crate::client::Client;
use crate::{Error, Output, json, table};
use answer::{State, read};
use serde::Serialize;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use wait::End;

const PATH: &str = "/v1/preheats";

/// How long a preheat is waited for, if nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// What the scheduler is asked to begin. Empty: each host its own platform, and all hosts.
#[derive(Serialize)]
struct Question<'a> {
    images: Vec<String>,
    platforms: &'a [String],
    zones: &'a [String],
    hosts: &'a [String],
}

/// Begins a preheat; waits for its end if that is wanted.
pub(crate) async fn begin(wanted: &Preheat, output: Output, out: &mut impl Write) -> Result<(), Error> {
    if wanted.platform.len() > 1 && wanted.platform.iter().any(|platform| platform == options::ALL) {
        return Err(Error::Usage("`--platform all` is every platform: leave out the others"));
    }
    let client = Client::operator(&wanted.socket)?;
    let question = Question {
        images: wanted.images.iter().map(Image::to_text).collect(),
        platforms: &wanted.platform,
        zones: &wanted.zone,
        hosts: &wanted.host,
    };
    let begun: Value = client.post_json(PATH, &question).await.map_err(unknown)?;
    if output == Output::Json && !wanted.wait {
        return Ok(json::write(&begun, out)?);
    }
    let state: State = read(&begun)?;
    let hint = hint(state.id, &wanted.socket);
    if output == Output::Table {
        text::write_begun(&state, out)?;
        writeln!(out)?;
        out.flush()?;
    }
    if !wanted.wait {
        writeln!(out, "{hint}")?;
        return Ok(());
    }
    let timeout = wanted.timeout.unwrap_or(TIMEOUT);
    let (end, last) = wait::wait(&client, begun, timeout, output).await?;
    if output == Output::Json {
        json::write(&last, out)?;
    }
    let last: State = read(&last)?;
    if output == Output::Table && matches!(end, End::Ended | End::Away) {
        writeln!(out, "{}", text::line(&last))?;
    }
    match unfinished(end, timeout) {
        Some(why) => Err(Error::GoesOn { id: state.id, why, hint }),
        None => outcome(&last),
    }
}

/// Why a preheat is waited for no longer, if it has not ended.
fn unfinished(end: End, timeout: Duration) -> Option<String> {
    let span = humantime::format_duration;
    match end {
        End::Ended => None,
        End::Interrupted => Some("is waited for no longer".to_owned()),
        End::TimedOut => Some(format!("has not ended within {}", span(timeout))),
        End::Away => {
            let away = span(wait::AWAY_MAX);
            Some(format!("is waited for no longer, since the scheduler has not answered for {away}"))
        }
    }
}

/// Shows preheats, or ends one.
pub(crate) async fn look_after(
    client: &Client,
    command: &PreheatsCommand,
    output: Output,
    out: &mut impl Write,
) -> Result<(), Error> {
    let answer: Result<Value, Error> = match command {
        PreheatsCommand::List => client.get(PATH).await,
        PreheatsCommand::Show { id } => client.get(&path(*id)).await,
        PreheatsCommand::Cancel { id } => client.delete_json(&path(*id)).await,
    };
    let answer = answer.map_err(unknown)?;
    if output == Output::Json {
        return Ok(json::write(&answer, out)?);
    }
    match command {
        PreheatsCommand::List => text::write_list(&read::<Vec<State>>(&answer)?, out)?,
        PreheatsCommand::Show { .. } => text::write_whole(&read::<State>(&answer)?, out)?,
        PreheatsCommand::Cancel { .. } => writeln!(out, "{}", text::line(&read::<State>(&answer)?))?,
    }
    Ok(())
}

fn path(id: u64) -> String {
    format!("{PATH}/{id}")
}

/// How an operator sees how far it is, and ends it.
fn hint(id: u64, socket: &Path) -> String {
    let default = socket == Path::new(OPERATOR_SOCKET);
    let flag = if default { String::new() } else { format!(" --socket {}", socket.display()) };
    let command = |verb: &str| format!("`dfctl preheats {verb} {id}{flag}`");
    format!("{} shows how far it is, {} ends it", command("show"), command("cancel"))
}

/// What a preheat that has ended makes of the program's end.
fn outcome(state: &State) -> Result<(), Error> {
    let why = match state.state.as_str() {
        "done" => return Ok(()),
        "failed" => {
            let (failed, total) = (state.hosts.failed, state.hosts.total);
            format!("failed on {failed} of {total} hosts{}", text::failures(state))
        }
        "cancelled" => "was cancelled".to_owned(),
        other => return Err(Error::Unexpected(format!("a preheat is {}", table::text(Some(other))))),
    };
    Err(Error::Preheat { id: state.id, why })
}

/// A scheduler that does not know the path has no words for that; one that does not know the preheat has.
fn unknown(error: Error) -> Error {
    match error {
        Error::Refused { status: 404, message } if message == "Not Found" => {
            let message = "the scheduler knows no preheats: it is older than this dfctl".to_owned();
            Error::Refused { status: 404, message }
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_how() {
        let outcome = |state: &str| {
            let hosts = serde_json::json!({"total": 40, "done": 38, "failed": 2, "away": 0});
            let state = serde_json::json!({
                "id": "17", "state": state, "created": 1, "ended": 2, "images": [], "bytes": 2, "held_bytes": 1,
                "hosts": hosts, "failures": [{"host": "00bb", "why": "denied"}]});
            outcome(&read::<State>(&state).unwrap())
        };
        outcome("done").unwrap();
        for (state, code, expected) in [
            ("failed", 1, "preheat 17 failed on 2 of 40 hosts:\n  00bb: denied\n  and 1 more"),
            ("cancelled", 1, "preheat 17 was cancelled"),
            ("gone\u{1b}[2J", 65, "unexpected answer: a preheat is gone[2J"),
        ] {
            let error = outcome(state).unwrap_err();
            assert_eq!((error.exit_code(), error.to_string().as_str()), (code, expected), "{state}");
        }
    }

    #[test]
    fn what_is_waited_for_no_longer_goes_on() {
        let hint = || hint(17, Path::new(OPERATOR_SOCKET));
        let said = |end| {
            let why = unfinished(end, Duration::from_secs(90))?;
            let error = Error::GoesOn { id: 17, why, hint: hint() };
            Some((error.exit_code(), error.to_string()))
        };
        assert_eq!(said(End::Ended), None);
        for (end, why) in [
            (End::Interrupted, "is waited for no longer"),
            (End::TimedOut, "has not ended within 1m 30s"),
            (End::Away, "is waited for no longer, since the scheduler has not answered for 30s"),
        ] {
            let expected = format!("preheat 17 {why}, and goes on: `dfctl preheats show 17` shows");
            let (code, said) = said(end).unwrap();
            assert!(code == 75 && said.starts_with(&expected), "{code}: {said}");
        }
    }

    #[test]
    fn hints_name_the_socket_where_it_has_to_be_named() {
        let expected = "`dfctl preheats show 17` shows how far it is, `dfctl preheats cancel 17` ends it";
        assert_eq!(hint(17, Path::new(OPERATOR_SOCKET)), expected);
        assert!(hint(17, Path::new("/s")).contains("`dfctl preheats show 17 --socket /s`"));
    }

    #[test]
    fn a_scheduler_without_preheats() {
        let refused = |message: &str| Error::Refused { status: 404, message: message.to_owned() };
        assert!(unknown(refused("Not Found")).to_string().contains("older than this dfctl"));
        assert_eq!(unknown(refused("no such preheat")).to_string(), "no such preheat (status 404)");
    }
}
