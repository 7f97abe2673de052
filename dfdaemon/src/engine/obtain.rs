//! Downloading a blob that no client waits for.

use super::download::Standing;
use super::joined::{Joined, ended};
use super::{Engine, OpenBlob};
use download_core::{Failure, LinkState};
use std::sync::atomic::Ordering;
use std::time::Duration;
use store::StoreError;
use types::{ByteRange, Priority};

/// How often it is looked whether anything comes.
const LOOK: Duration = Duration::from_secs(1);

/// How long nothing may come to this host, for whichever blob, while the scheduler is there.
const QUIET_MAX: Duration = Duration::from_secs(300);

/// How long nothing of this blob may come meanwhile, though others do. What gives way to clients comes a little at a time,
/// but it comes.
const STUCK_MAX: Duration = Duration::from_secs(900);

/// Downloads that end without having brought it all, before it is given up.
const ATTEMPTS_MAX: u32 = 5;

/// Why a blob is not whole on this host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObtainError {
    /// The download failed.
    #[error(transparent)]
    Download(Failure),
    /// The store cannot take it.
    #[error("the cache cannot take it: {0}")]
    Store(#[from] StoreError),
    /// Nothing came for a long time.
    #[error("nothing of it came for {}", humantime::format_duration(*.0))]
    Quiet(Duration),
    /// Several downloads ended early.
    #[error("gave up after {ATTEMPTS_MAX} downloads ended early")]
    NoProgress,
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

/// One blob more is being got.
struct Obtaining(Engine);

impl Obtaining {
    fn begin(engine: &Engine) -> Self {
        engine.0.obtaining.fetch_add(1, Ordering::Relaxed);
        Self(engine.clone())
    }
}

impl Drop for Obtaining {
    fn drop(&mut self) {
        self.0.0.obtaining.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Engine {
    /// Waits until the scheduler is there. Cancel safe.
    pub(crate) async fn is_led(&self) {
        // The sender lives as long as the daemon.
        drop(self.link_state().wait_for(|link| *link == LinkState::Up).await);
    }

    /// Downloads what the store lacks of an opened blob, and ends once all of it is here and proven. It waits as long as
    /// there is no scheduler, and behind what clients wait for. Dropping the future is leaving.
    ///
    /// # Errors
    /// If the download fails, the store cannot take the blob, nothing of it comes for 15 minutes or nothing at all for five,
    /// or the daemon stops.
    pub(crate) async fn obtain(&self, open: &OpenBlob, priority: Priority) -> Result<(), ObtainError> {
        let _one_more = Obtaining::begin(self);
        let blob = self.parts().store.create(&open.key.digest, open.layout).await?;
        let whole = ByteRange::whole(open.key.size);
        let (mut joined, mut attempts) = (None, 0);
        let (mut moved, mut quiet, mut stuck) = (self.moved(), Duration::ZERO, Duration::ZERO);
        loop {
            let mut changed = blob.changed();
            changed.mark_unchanged();
            if blob.is_complete() {
                return Ok(());
            }
            let reader = match &mut joined {
                Some(reader) => reader,
                None => {
                    let reader = Joined::join(self, open, &blob, whole, priority).await;
                    joined.insert(reader.ok_or(ObtainError::Stopping)?)
                }
            };
            tokio::select! {
                biased;
                standing = ended(&mut reader.standing) => {
                    if let Standing::Failed(failure) = standing {
                        return Err(ObtainError::Download(failure));
                    }
                    joined = None;
                    attempts += 1;
                    if attempts >= ATTEMPTS_MAX && !blob.is_complete() {
                        return Err(ObtainError::NoProgress);
                    }
                }
                _ = changed.changed() => (quiet, stuck) = (Duration::ZERO, Duration::ZERO),
                () = tokio::time::sleep(LOOK) => {
                    let before = std::mem::replace(&mut moved, self.moved());
                    if *self.link_state().borrow() != LinkState::Up {
                        (quiet, stuck) = (Duration::ZERO, Duration::ZERO);
                        continue;
                    }
                    quiet = if before == moved { quiet + LOOK } else { Duration::ZERO };
                    stuck += LOOK;
                    if quiet >= QUIET_MAX || stuck >= STUCK_MAX {
                        return Err(ObtainError::Quiet(stuck));
                    }
                }
                () = self.0.cancel.cancelled() => return Err(ObtainError::Stopping),
            }
        }
    }
}
