//! Stopping in good order: the first SIGINT or SIGTERM asks, the second insists.

use crate::exit::{Exit, Failure};
use std::io;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The code of a program that a second signal ended: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// How long threads that still block may go on when a program has ended: one looks up a name that nobody answers.
const STRAGGLERS: Duration = Duration::from_millis(500);

/// Runs a program to its end on a runtime of its own. What it has to finish it has to wait for.
///
/// # Errors
/// The program's, or that no runtime can be made.
pub fn run<T>(program: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::new(Exit::Unavailable, error))?;
    let result = runtime.block_on(program);
    runtime.shutdown_timeout(STRAGGLERS);
    result
}

/// The process's wish to stop.
#[derive(Clone, Debug)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// Listens for SIGINT and SIGTERM from now on. The first cancels [`Self::token`]; the second ends the process at
    /// once, with code 130.
    ///
    /// # Errors
    /// If the signals cannot be listened for.
    pub fn install() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let token = CancellationToken::new();
        let shutdown = Self { token: token.clone() };
        tokio::spawn(async move {
            let mut asked = false;
            loop {
                let name = tokio::select! {
                    Some(()) = interrupt.recv() => "SIGINT",
                    Some(()) = terminate.recv() => "SIGTERM",
                    else => return,
                };
                if asked {
                    tracing::warn!(signal = name, "second signal, ending at once");
                    std::process::exit(INTERRUPTED);
                }
                asked = true;
                tracing::info!(signal = name, "stopping; a second signal ends at once");
                token.cancel();
            }
        });
        Ok(shutdown)
    }

    /// Cancelled when the process is to stop.
    #[must_use]
    pub const fn token(&self) -> &CancellationToken {
        &self.token
    }
}

/// Waits until all tasks of `tasks` have ended; whether they did within `deadline`. The caller has told them to.
pub async fn drain(tasks: &TaskTracker, deadline: Duration) -> bool {
    tasks.close();
    let drained = tokio::time::timeout(deadline, tasks.wait()).await.is_ok();
    if !drained {
        tracing::warn!(tasks = tasks.len(), ?deadline, "tasks have not ended in time");
    }
    drained
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a look-up of a name does that nobody answers: tokio waits for it when a runtime is dropped.
    #[test]
    fn a_thread_that_blocks_keeps_no_program() {
        let (release, blocked) = std::sync::mpsc::sync_channel::<()>(1);
        let begun = std::time::Instant::now();
        let ended = run(async {
            drop(tokio::task::spawn_blocking(move || blocked.recv_timeout(Duration::from_secs(30))));
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(())
        });
        assert!(ended.is_ok());
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        drop(release);
    }

    #[tokio::test]
    async fn drain_waits_for_tasks_but_not_for_ever() {
        let tasks = TaskTracker::new();
        tasks.spawn(tokio::task::yield_now());
        assert!(drain(&tasks, Duration::from_secs(60)).await);
        let tasks = TaskTracker::new();
        tasks.spawn(std::future::pending::<()>());
        assert!(!drain(&tasks, Duration::ZERO).await);
    }
}
