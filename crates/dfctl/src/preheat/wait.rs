//! Waits for the end of a preheat: asks how it stands once a second, and shows how far it is, on a line that is drawn again
//! and again or, where standard error is no terminal, on a new one now and then.

use super::answer::{State, read};
use super::{path, text};
use crate::client::Client;
use crate::{Error, Output};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use process::shutdown::Shutdown;
use serde_json::Value;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// From an answer to the next question.
const INTERVAL: Duration = Duration::from_secs(1);

/// An answer that takes longer is none.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// How long the scheduler may be away: one that is started anew is there sooner.
pub(super) const AWAY_MAX: Duration = Duration::from_secs(30);

/// From one line to the next where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Why the waiting is over.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The preheat has ended, one way or another.
    Ended,
    /// It took too long.
    TimedOut,
    /// The scheduler has not answered for [`AWAY_MAX`].
    Away,
    /// The user wants to wait no longer.
    Interrupted,
}

/// Waits for the end of the preheat that has `begun`, for `timeout` at most; the scheduler's last answer is given back.
pub(super) async fn wait(
    client: &Client,
    begun: Value,
    timeout: Duration,
    output: Output,
) -> Result<(End, Value), Error> {
    let shutdown = Shutdown::install()?;
    let mut time_is_up = pin!(sleep(timeout));
    let State { id, created, .. } = read::<State>(&begun)?;
    let mut progress = Progress::new(id, output);
    let mut last = begun;
    loop {
        let state: State = read(&last)?;
        // A scheduler that was started anew begins with a larger number, unless its clock went back: then this one
        // may be another preheat's.
        if state.created != created {
            return Err(forgotten(id));
        }
        progress.show(&state);
        if state.state != "running" {
            return Ok((End::Ended, last));
        }
        let answer = tokio::select! {
            biased;
            () = shutdown.token().cancelled() => return Ok((End::Interrupted, last)),
            () = &mut time_is_up => return Ok((End::TimedOut, last)),
            answer = next(client, id, AWAY_MAX) => answer?,
        };
        match answer {
            Some(answer) => last = answer,
            None => return Ok((End::Away, last)),
        }
    }
}

/// The next answer. While the scheduler is away it is asked again, for `patience`; nothing if it is away for longer.
async fn next(client: &Client, id: u64, patience: Duration) -> Result<Option<Value>, Error> {
    let since = Instant::now();
    loop {
        sleep(INTERVAL).await;
        let answer: Result<Value, Error> = client.get_within(&path(id), ANSWER_WAIT).await;
        let is_away = matches!(answer, Err(Error::NoScheduler { .. } | Error::Refused { status: 503, .. }));
        match answer {
            _ if is_away && since.elapsed() < patience => {}
            _ if is_away => return Ok(None),
            Err(Error::Refused { status: 404, .. }) => return Err(forgotten(id)),
            answer => return answer.map(Some),
        }
    }
}

fn forgotten(id: u64) -> Error {
    let why = "is forgotten: the scheduler was started anew. What hosts hold by now they hold; the same `dfctl \
               preheat` has them go on with the rest";
    Error::Preheat { id, why: why.to_owned() }
}

/// How far it is, on standard error. A bar that is left is cleared away.
struct Progress {
    bar: ProgressBar,
    /// Whether there are lines in place of the bar.
    lines: bool,
    last_line: Instant,
}

impl Progress {
    fn new(id: u64, output: Output) -> Self {
        let style =
            ProgressStyle::with_template("{prefix}  [{bar:30}] {bytes:>11} / {total_bytes:<11} {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
        let bar = ProgressBar::new(0).with_style(style).with_prefix(format!("preheat {id}"));
        let lines = output == Output::Table && bar.is_hidden();
        if output == Output::Json {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self { bar, lines, last_line: Instant::now() }
    }

    fn show(&mut self, state: &State) {
        self.bar.set_length(state.bytes);
        self.bar.set_position(state.held_bytes);
        self.bar.set_message(text::hosts(state));
        if self.lines && self.last_line.elapsed() >= LINE_INTERVAL {
            eprintln!("{}", text::line(state));
            self.last_line = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scheduler_that_stays_away_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::operator(&dir.path().join("operator.sock")).unwrap();
        let answer = next(&client, 17, Duration::ZERO).await.unwrap();
        assert_eq!(answer, None, "how it stood at last is what is known");
    }
}
