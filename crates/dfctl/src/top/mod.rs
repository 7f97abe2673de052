//! `dfctl top`: hosts and rollouts as they go on. Here are the terminal, the questions and the loop; `model` has what is
//! shown, `view` draws it, `plain` prints it, and `keys` says what the user wants.

mod keys;
mod model;
mod plain;
#[cfg(test)]
mod samples;
mod text;
mod track;
mod view;

use crate::Error;
use crate::answer::Status;
use crate::client::Client;
use crossterm::event::{Event, EventStream};
use futures::{Stream, StreamExt as _, stream};
use keys::Show;
use model::{Model, Moment};
use process::shutdown::Shutdown;
use ratatui::DefaultTerminal;
use std::io::{self, Write};
use std::pin::pin;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use view::Look;

/// An answer that takes longer is none: the daemon itself waits less for its scheduler.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// One picture as text, of what happens in one interval.
pub(crate) async fn once(client: &Client, interval: Duration, out: &mut impl Write) -> Result<(), Error> {
    let start = Instant::now();
    let mut model = Model::new(ask(client).await?, now(start));
    tokio::time::sleep(interval).await;
    model.observe(ask(client).await?, now(start));
    plain::write(&model, out)?;
    Ok(())
}

/// The picture on the terminal, until the user or a signal ends it.
pub(crate) async fn live(client: &Client, interval: Duration) -> Result<(), Error> {
    let start = Instant::now();
    // Before there is a picture an error ends the program, and so does a signal.
    let mut model = Model::new(ask(client).await?, now(start));
    let shutdown = Shutdown::install()?;
    let look = look();
    let mut show = Show::default();
    let mut screen = Screen::open()?;
    let mut events = EventStream::new();
    let mut answers = pin!(answers(client, interval));
    loop {
        screen.terminal.draw(|frame| view::draw(frame, &model, &show, &look))?;
        tokio::select! {
            () = shutdown.token().cancelled() => return Ok(()),
            event = events.next() => {
                let Some(event) = event else { return Ok(()) };
                if let Event::Key(key) = event? {
                    let page = view::page(screen.terminal.size()?.height, &model);
                    if show.press(&key, page, &mut model).is_break() {
                        return Ok(());
                    }
                }
            }
            // While it is paused the questions go on, and their answers are not looked at.
            Some(answer) = answers.next() => match answer {
                _ if show.paused => {}
                Ok(status) => model.observe(status, now(start)),
                Err(error) => model.failed(&error, SystemTime::now()),
            },
        }
    }
}

async fn ask(client: &Client) -> Result<Status, Error> {
    client.get_within("/v1/status", ANSWER_WAIT).await
}

/// An answer per interval, for ever; one question at a time. Waiting for the next is cancel safe.
fn answers(client: &Client, interval: Duration) -> impl Stream<Item = Result<Status, Error>> {
    stream::unfold(Instant::now(), move |asked| async move {
        tokio::time::sleep_until(asked + interval).await;
        let asked = Instant::now();
        Some((ask(client).await, asked))
    })
}

fn now(start: Instant) -> Moment {
    Moment { since_start: start.elapsed(), clock: SystemTime::now() }
}

/// By the convention of no-color.org.
fn look() -> Look {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if no_colour { Look::colourless() } else { Look::coloured() }
}

/// The terminal while it is ours. It is given back whichever way this ends; at a panic ratatui's hook does so before the
/// message is written.
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn open() -> io::Result<Self> {
        // What may have been done before it failed is undone.
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore())?;
        Ok(Self { terminal })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
