//! What a test serves, and whether a stopped daemon's store holds that and nothing else.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use store::Store;
use types::{Digest, PieceIndex, PieceLayout, State, hash_piece};

/// A blob's right content.
#[derive(Clone, Debug)]
pub struct Content {
    /// The digest.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Bytes,
}

impl Content {
    /// `size` pseudo-random bytes.
    #[must_use]
    pub fn random(seed: u64, size: usize) -> Self {
        let mut bytes = vec![0; size];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        Self { digest: Digest::sha256(&bytes), bytes: bytes.into() }
    }

    /// The layout that every host uses.
    ///
    /// # Panics
    /// Never: no test has a blob that is too large.
    #[must_use]
    pub fn layout(&self) -> PieceLayout {
        PieceLayout::for_size(self.bytes.len() as u64).expect("a blob that is not too large")
    }

    /// The bytes of one piece.
    #[must_use]
    pub fn piece(&self, piece: PieceIndex) -> Bytes {
        let range = self.layout().range(piece);
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        self.bytes.slice(at(range.start())..at(range.end()))
    }

    /// Flips a bit of this piece in the store of a stopped daemon.
    ///
    /// # Errors
    /// If the store does not have the blob.
    pub fn damage(&self, dir: &Path, piece: PieceIndex) -> Result<()> {
        let encoded = self.digest.encoded();
        let path = dir.join("store/blobs/sha256").join(&encoded[..2]).join(encoded);
        let file = std::fs::File::options().read(true).write(true).open(path)?;
        let (at, mut byte) = (self.layout().range(piece).start(), [0]);
        file.read_exact_at(&mut byte, at)?;
        byte[0] ^= 1;
        file.write_all_at(&byte, at)?;
        Ok(())
    }

    /// The chain of these bytes, under whatever digest: from the initial state to the one before the last piece, and then
    /// the digest's own.
    ///
    /// # Errors
    /// Never in practice: every piece has its length.
    pub fn states(&self) -> Result<Vec<State>> {
        let layout = self.layout();
        let mut states = vec![State::initial(self.digest.algorithm())];
        for piece in layout.pieces().take(layout.count().saturating_sub(1) as usize) {
            let before = states.last().context("a state")?;
            states.push(hash_piece(layout, piece, before, &self.piece(piece))?);
        }
        states.push(State::last_of(&self.digest));
        Ok(states)
    }
}

/// Reads every piece that the store of a stopped daemon holds, and compares it with what the blob really is. Gives the
/// bytes that it holds of each.
///
/// # Errors
/// If a piece is wrong, a wrong blob counts as proven, or there is a blob that nobody knows.
pub async fn check_store(dir: &Path, known: &[Content]) -> Result<BTreeMap<Digest, u64>> {
    let known: BTreeMap<Digest, &Content> = known.iter().map(|content| (content.digest, content)).collect();
    let mut options = store::Options::new(dir.join("store"));
    options.free_floor = 0.0;
    let store = tokio::task::spawn_blocking(move || Store::open(options)).await??;
    let mut held = BTreeMap::new();
    for summary in store.list() {
        let digest = summary.digest;
        let content = known.get(&digest).with_context(|| format!("{digest} is in the store"))?;
        if summary.pieces.is_empty() && !summary.closed {
            continue;
        }
        ensure!(summary.layout == content.layout(), "{digest} has {:?}", summary.layout);
        ensure!(!summary.closed || digest.matches(&content.bytes), "{digest} counts as proven");
        let blob = store.get(&digest).with_context(|| format!("{digest} cannot be opened"))?;
        for piece in summary.pieces.iter() {
            let bytes = blob.read_piece(piece).await.with_context(|| format!("{digest}, piece {piece}"))?;
            ensure!(bytes == content.piece(piece), "{digest}: piece {piece} is wrong in the store");
        }
        held.insert(digest, summary.bytes);
    }
    store.close().await?;
    Ok(held)
}
