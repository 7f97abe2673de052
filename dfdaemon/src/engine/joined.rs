//! Being one of a download's readers.

use super::download::{Handle, Join, Standing};
use super::{Engine, OpenBlob};
use download_core::ReaderId;
use store::Blob;
use tokio::sync::watch;
use types::{ByteRange, Priority};

/// Downloads that end in the moment when a reader joins them, before it gives up.
const ATTEMPTS_MAX: u32 = 5;

/// Membership in a download; leaving is dropping it.
pub(super) struct Joined {
    pub(super) handle: Handle,
    pub(super) reader: ReaderId,
    pub(super) standing: watch::Receiver<Standing>,
    /// What the reader is to read itself, straight from the origin.
    pub(super) direct: watch::Receiver<Option<ByteRange>>,
}

impl Joined {
    /// Joins the blob's download, or begins it; nothing if the daemon is stopping.
    pub(super) async fn join(
        engine: &Engine,
        open: &OpenBlob,
        blob: &Blob,
        range: ByteRange,
        priority: Priority,
    ) -> Option<Self> {
        for _ in 0..ATTEMPTS_MAX {
            let handle = engine.download(open, blob);
            let reader = handle.reader_id();
            let (sender, direct) = watch::channel(None);
            let (right, trace) = (open.right.clone(), open.trace);
            let join = Join { reader, range, priority, right, trace, direct: sender };
            if handle.join(join).await {
                let standing = handle.standing();
                return Some(Self { handle, reader, standing, direct });
            }
        }
        None
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.handle.left(self.reader);
    }
}

/// Waits until the download no longer runs. Cancel safe.
pub(super) async fn ended(standing: &mut watch::Receiver<Standing>) -> Standing {
    match standing.wait_for(|standing| *standing != Standing::Running).await {
        Ok(standing) => standing.clone(),
        Err(_) => Standing::Stopped,
    }
}
