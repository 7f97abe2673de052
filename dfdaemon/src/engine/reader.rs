//! One client's read of a range: a stream of verified bytes that begins before the download has ended.
//!
//! What the store holds comes from there; for the rest the reader joins the blob's download and waits for the pieces in
//! order. The blob's last byte waits until the chain is closed, so that a complete body is a right one.

use super::direct::{Direct, DirectError};
use super::download::Standing;
use super::joined::{Joined, ended};
use super::{Engine, OpenBlob};
use crate::traffic::CameFrom;
use bytes::Bytes;
use download_core::Failure;
use futures::stream::{self, BoxStream};
use store::{Blob, StoreError};
use tokio::sync::watch;
use types::{ByteRange, ChainError, Priority};

/// Bytes handed on at once, at most.
const CHUNK: u64 = 512 * 1024;

/// Downloads that end without bringing what this reader waits for, before it gives up.
const ATTEMPTS_MAX: u32 = 5;

/// Why a read ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The download failed.
    #[error(transparent)]
    Download(Failure),
    /// The origin failed in a read past the store.
    #[error("the origin failed: {0}")]
    Origin(#[from] origin::OriginError),
    /// The origin's bytes are not the blob's.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Bytes that were handed on had been verified against a chain that does not lead to the digest.
    #[error("the chain so far turned out to be false")]
    FalseChain,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Several downloads ended without these bytes.
    #[error("gave up after {attempts} downloads ended early")]
    NoProgress {
        /// How many.
        attempts: u32,
    },
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

impl ReadError {
    /// Whether the origin did not give what it had said that it has.
    pub(crate) fn is_origins(&self) -> bool {
        match self {
            Self::Download(failure) => match failure {
                Failure::NotFound
                | Failure::Denied
                | Failure::OriginWrong
                | Failure::BadKey
                | Failure::Origin(_) => true,
                Failure::Store => false,
            },
            Self::Origin(_) | Self::Chain(_) => true,
            Self::FalseChain | Self::Store(_) | Self::NoProgress { .. } | Self::Stopping => false,
        }
    }
}

impl From<DirectError> for ReadError {
    fn from(error: DirectError) -> Self {
        match error {
            DirectError::Origin(error) => error.into(),
            DirectError::Chain(error) => error.into(),
        }
    }
}

/// A read of a range of one blob.
pub struct Reader {
    engine: Engine,
    open: OpenBlob,
    range: ByteRange,
    /// Offset in the blob of the next byte.
    at: u64,
    past_the_store: bool,
    blob: Option<Blob>,
    /// [`Blob::voids`] when this reader had handed on nothing.
    voids: u64,
    joined: Option<Joined>,
    direct: Option<Direct>,
    attempts: u32,
}

impl Reader {
    pub(super) fn new(engine: Engine, open: OpenBlob, range: ByteRange) -> Self {
        let at = range.start();
        Self {
            engine,
            open,
            range,
            at,
            past_the_store: false,
            blob: None,
            voids: 0,
            joined: None,
            direct: None,
            attempts: 0,
        }
    }

    pub(super) fn past_the_store(engine: Engine, open: OpenBlob, range: ByteRange) -> Self {
        Self { past_the_store: true, ..Self::new(engine, open, range) }
    }

    /// The bytes in order: exactly the range's, or one error at the end.
    #[must_use]
    pub fn into_stream(self) -> BoxStream<'static, Result<Bytes, ReadError>> {
        Box::pin(stream::unfold(Some(self), |reader| async move {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let mut corrupt = 0;
        while self.at < self.range.end() {
            if let Some(direct) = &mut self.direct {
                let bytes = direct.next().await?;
                if let Some(blob) = self.blob.clone() {
                    // These bytes are the origin's; what went before them need not be.
                    self.check_voids(&blob)?;
                }
                match bytes {
                    Some(bytes) => return Ok(Some(self.advance(bytes))),
                    None => self.direct = None,
                }
                continue;
            }
            let Some(blob) = self.blob().await? else { continue };
            self.check_voids(&blob)?;
            match self.ready(&blob) {
                Some(range) => match blob.read(range).await {
                    Ok(bytes) if blob.voids() == self.voids => return Ok(Some(self.advance(bytes))),
                    // A false chain was found in this moment.
                    Ok(_) => {}
                    // The piece is gone from the store now, and is downloaded again.
                    Err(StoreError::Corrupt { .. }) if corrupt < ATTEMPTS_MAX => corrupt += 1,
                    // Its states were forgotten in this moment: its download verifies or discards it.
                    Err(StoreError::Unproven { .. }) => {}
                    Err(error) => return Err(error.into()),
                },
                None => self.wait(&blob).await?,
            }
        }
        Ok(None)
    }

    /// If a false chain was found since this reader's first byte, what it has handed on may not be the blob.
    fn check_voids(&mut self, blob: &Blob) -> Result<(), ReadError> {
        let voids = blob.voids();
        if voids != self.voids && self.at > self.range.start() {
            return Err(ReadError::FalseChain);
        }
        self.voids = voids;
        Ok(())
    }

    /// The blob in the store, created at the first read. If the store cannot take it, the reader goes past it.
    async fn blob(&mut self) -> Result<Option<Blob>, ReadError> {
        if let Some(blob) = &self.blob {
            return Ok(Some(blob.clone()));
        }
        if self.past_the_store {
            self.go_direct(ByteRange::new(self.at, self.range.end()).unwrap_or(self.range)).await?;
            return Ok(None);
        }
        match self.engine.parts().store.create(&self.open.key.digest, self.open.layout).await {
            Ok(blob) => {
                self.blob = Some(blob.clone());
                Ok(Some(blob))
            }
            Err(error) => {
                tracing::warn!(%error, digest = %self.open.key.digest, "the store cannot take a blob, reading past it");
                self.go_direct(ByteRange::new(self.at, self.range.end()).unwrap_or(self.range)).await?;
                Ok(None)
            }
        }
    }

    /// What can be handed on now.
    fn ready(&self, blob: &Blob) -> Option<ByteRange> {
        let layout = blob.layout();
        let piece = layout.piece_at(self.at)?;
        if !blob.is_readable(piece) {
            return None;
        }
        let mut end = (self.at + CHUNK).min(layout.range(piece).end()).min(self.range.end());
        if end == layout.size() && !blob.is_closed() {
            end -= 1;
        }
        ByteRange::new(self.at, end).filter(|range| !range.is_empty())
    }

    fn advance(&mut self, bytes: Bytes) -> Bytes {
        let layout = self.open.layout;
        let before = layout.piece_at(self.at);
        self.at += bytes.len() as u64;
        if let Some(joined) = &self.joined
            && (self.direct.is_some() || layout.piece_at(self.at) != before)
        {
            joined.handle.moved(joined.reader, self.at);
        }
        let from = match (&self.direct, &self.joined, before) {
            (Some(_), _, _) => CameFrom::Origin,
            (None, Some(joined), Some(piece)) => joined.handle.arrivals().of(piece),
            (None, _, _) => CameFrom::Cache,
        };
        self.open.tally.add(from, bytes.len() as u64);
        if self.direct.is_none() && self.joined.is_none() {
            self.engine.parts().traffic.cache_served(bytes.len() as u64);
        }
        bytes
    }

    /// Waits until the store has more, the download ends, or this reader is sent to the origin.
    async fn wait(&mut self, blob: &Blob) -> Result<(), ReadError> {
        let mut changed = blob.changed();
        changed.mark_unchanged();
        let joined = self.join(blob).await?;
        // What came between the look and the mark is not missed.
        if self.ready(blob).is_some() {
            return Ok(());
        }
        let Some(mut joined) = joined.or_else(|| self.joined.take()) else { return Err(ReadError::Stopping) };
        let next = tokio::select! {
            biased;
            range = sent_direct(&mut joined.direct) => Next::Direct(range),
            _ = changed.changed() => Next::Look,
            standing = ended(&mut joined.standing) => Next::Ended(standing),
            () = self.engine.0.cancel.cancelled() => return Err(ReadError::Stopping),
        };
        self.joined = Some(joined);
        match next {
            Next::Look => Ok(()),
            Next::Direct(range) => {
                let mut end = range.end().min(self.range.end());
                // What the store gave before these bytes is proven by the closed chain alone, so the last byte waits for it. A
                // reader of nothing but the origin's bytes, as of a layer's index at its end, has nothing to wait for.
                if end == blob.layout().size() && self.at > self.range.start() {
                    end -= 1;
                }
                match ByteRange::new(self.at, end).filter(|range| !range.is_empty()) {
                    Some(range) => self.go_direct(range).await,
                    None => Ok(()),
                }
            }
            Next::Ended(Standing::Failed(Failure::Store)) => {
                self.joined = None;
                let begun = self.at > self.range.start() && self.range.end() == blob.layout().size();
                if begun && !self.is_verified_from_here(blob) {
                    return Err(ReadError::FalseChain);
                }
                self.go_direct(ByteRange::new(self.at, self.range.end()).unwrap_or(self.range)).await
            }
            Next::Ended(Standing::Failed(failure)) => Err(ReadError::Download(failure)),
            Next::Ended(Standing::Running | Standing::Stopped) => {
                self.joined = None;
                self.attempts += 1;
                if self.attempts >= ATTEMPTS_MAX {
                    return Err(ReadError::NoProgress { attempts: self.attempts });
                }
                Ok(())
            }
        }
    }

    /// Whether what the origin sends from here to the end of the range is verified, against the digest if that is the end of
    /// the blob.
    fn is_verified_from_here(&self, blob: &Blob) -> bool {
        ByteRange::new(self.at, self.range.end()).is_some_and(|rest| Direct::is_verified(&blob.chain(), rest))
    }

    /// Joins the download, if this reader has not yet.
    async fn join(&mut self, blob: &Blob) -> Result<Option<Joined>, ReadError> {
        if self.joined.is_some() {
            return Ok(None);
        }
        let range = ByteRange::new(self.at, self.range.end()).unwrap_or(self.range);
        let joined = Joined::join(&self.engine, &self.open, blob, range, Priority::Waiting).await;
        joined.map(Some).ok_or(ReadError::Stopping)
    }

    async fn go_direct(&mut self, range: ByteRange) -> Result<(), ReadError> {
        let chain = match &self.blob {
            Some(blob) => blob.chain(),
            None => types::Chain::new(self.open.key.digest, self.open.layout)?,
        };
        let (parts, OpenBlob { key, right, trace, .. }) = (self.engine.parts(), &self.open);
        self.direct = Some(Direct::open(parts, right, key, chain, range, *trace).await?);
        Ok(())
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({} of {}, at {})", self.range, self.open.key.digest, self.at)
    }
}

enum Next {
    Look,
    Direct(ByteRange),
    Ended(Standing),
}

/// Waits until the driver sends this reader to the origin; each order is taken once. Cancel safe.
async fn sent_direct(orders: &mut watch::Receiver<Option<ByteRange>>) -> ByteRange {
    loop {
        if orders.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        if let Some(range) = *orders.borrow_and_update() {
            return range;
        }
    }
}
