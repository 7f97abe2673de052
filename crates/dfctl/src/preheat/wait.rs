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
const AWAY_MAX: Duration = Duration::from_secs(30);

/// From one line to the next where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Why the waiting is over.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The preheat has ended, one way or another.
    Ended,
    /// It took too long.
    TimedOut,
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
        // A scheduler that was started anew counts from the beginning: another preheat may have got the number.
        if state.created != created {
            return Err(forgotten(id));
        }
        progress.show(&state);
        if state.state != "running" {
            return Ok((End::Ended, last));
        }
        last = tokio::select! {
            biased;
            () = shutdown.token().cancelled() => return Ok((End::Interrupted, last)),
            () = &mut time_is_up => return Ok((End::TimedOut, last)),
            answer = next(client, id) => answer?,
        };
    }
}

/// The next answer. While the scheduler is away it is asked again, for a while.
async fn next(client: &Client, id: u64) -> Result<Value, Error> {
    let since = Instant::now();
    loop {
        sleep(INTERVAL).await;
        match client.get_within(&path(id), ANSWER_WAIT).await {
            Err(Error::NoScheduler { .. } | Error::Refused { status: 503, .. })
                if since.elapsed() < AWAY_MAX => {}
            Err(Error::Refused { status: 404, .. }) => return Err(forgotten(id)),
            answer => return answer,
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
