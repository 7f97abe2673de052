//! What the store's tests share: blobs with known content, and stores that sync only when told to.

use bytes::Bytes;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::{Blob, Options, Store, StoreError};
use types::{Digest, PieceIndex, PieceLayout, State, hash_piece};

/// A blob whose content is known.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) content: Bytes,
    pub(crate) digest: Digest,
    pub(crate) layout: PieceLayout,
    pub(crate) states: Vec<State>,
}

impl Sample {
    /// `size` bytes that depend on `seed`, in pieces of `piece_len`.
    pub(crate) fn new(seed: u64, size: usize, piece_len: u32) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut content = vec![0; size];
        rng.fill(&mut content);
        let layout = PieceLayout::new(size as u64, piece_len).unwrap();
        let digest = Digest::sha256(&content);
        let mut states = vec![State::initial(digest.algorithm())];
        for piece in layout.pieces() {
            let range = layout.range(piece);
            let bytes = &content[range.start() as usize..range.end() as usize];
            states.push(hash_piece(layout, piece, &states[piece.as_usize()], bytes).unwrap());
        }
        Self { content: content.into(), digest, layout, states }
    }

    pub(crate) fn piece(&self, index: u32) -> Bytes {
        let range = self.layout.range(PieceIndex(index));
        self.content.slice(range.start() as usize..range.end() as usize)
    }

    /// Where the store keeps the bytes.
    pub(crate) fn path(&self, dir: &Path) -> PathBuf {
        let encoded = self.digest.encoded();
        dir.join("blobs/sha256").join(&encoded[..2]).join(encoded)
    }

    /// Flips a bit of the first byte of a piece in the store's file.
    pub(crate) fn damage(&self, dir: &Path, piece: u32) {
        let file = std::fs::File::options().read(true).write(true).open(self.path(dir)).unwrap();
        let offset = self.layout.range(PieceIndex(piece)).start();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    }

    /// Puts the whole blob into the store and closes it.
    pub(crate) async fn fill(&self, store: &Store) -> Blob {
        let blob = store.create(&self.digest, self.layout).await.unwrap();
        blob.learn_states(0, &self.states).unwrap();
        for piece in self.layout.pieces() {
            blob.write_piece(piece, self.piece(piece.0)).await.unwrap();
        }
        blob.close().await.unwrap();
        blob
    }
}

/// Options for a test: no floor, for the machine's disk may be full, and no sync but by `Store::sync`.
pub(crate) fn options(dir: &Path) -> Options {
    Options {
        quota_bytes: 1 << 30,
        free_floor: 0.0,
        sync_interval: Duration::from_secs(3600),
        ..Options::new(dir)
    }
}

/// A store with these options. A child that another test has forked holds all locks of this process until it executes its
/// program, so one that was closed a moment ago is tried again for a while.
pub(crate) fn open(dir: &Path) -> Store {
    for _ in 0..500 {
        match Store::open(options(dir)) {
            Err(StoreError::Locked { .. }) => std::thread::sleep(Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays locked", dir.display())
}
