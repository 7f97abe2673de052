//! Bounded waiting on a condition: what tests of real processes do instead of sleeping.
//!
//! Called by everything here that waits for a program, a log line or a port.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Time between two looks at a condition.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// Looks every [`INTERVAL`] until `look` finds something; for threads without a runtime.
///
/// # Errors
/// If nothing was found within `limit`, or `look` fails.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Looks every [`INTERVAL`] until `look` finds something; the async form of [`until`].
///
/// # Errors
/// If nothing was found within `limit`, or `look` fails.
pub async fn until_async<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let start = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if start.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
