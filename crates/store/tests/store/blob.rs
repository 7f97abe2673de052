//! One blob: written, read, checked, taken back, and still there after a restart.

use crate::sample::{Sample, open, options};
use bytes::Bytes;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;
use store::{Options, Possession, Store, StoreError};
use tempfile::tempdir;
use types::{ByteRange, ChainError, Digest, PieceIndex, PieceLayout, PieceSet, Registry};

const PIECE: u32 = 1024;

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).unwrap()
}

#[tokio::test]
async fn a_piece_counts_once_written_and_readers_are_told() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let sample = Sample::new(1, 5000, PIECE);
    assert!(store.get(&sample.digest).is_none());
    let blob = store.create(&sample.digest, sample.layout).await.unwrap();
    assert_eq!(std::fs::metadata(sample.path(dir.path())).unwrap().len(), 5000);
    let mut changed = blob.changed();
    assert!(!changed.has_changed().unwrap());
    blob.write_piece(PieceIndex(1), sample.piece(1)).await.unwrap();
    changed.changed().await.unwrap();
    assert!(blob.has(PieceIndex(1)) && !blob.has(PieceIndex(0)));
    assert_eq!(blob.read(range(1030, 2048)).await.unwrap(), sample.content.slice(1030..2048));
    assert_eq!(blob.read_piece(PieceIndex(1)).await.unwrap(), sample.piece(1));
    let missing = blob.read(range(1030, 2049)).await.unwrap_err();
    assert!(matches!(missing, StoreError::NotHeld { piece: PieceIndex(2), .. }));
    assert!(matches!(blob.read_unproven(PieceIndex(2)).await, Err(StoreError::NotHeld { .. })));
    // A second write changes nothing, even with other bytes.
    blob.write_piece(PieceIndex(1), Bytes::from(vec![0; 1024])).await.unwrap();
    assert_eq!(blob.read_piece(PieceIndex(1)).await.unwrap(), sample.piece(1));
    let summary = &store.list()[0];
    assert_eq!((summary.digest, summary.bytes, summary.closed), (sample.digest, 1024, false));
    blob.write_piece(PieceIndex(4), sample.piece(4)).await.unwrap();
    assert_eq!(store.list()[0].bytes, 1024 + 904);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let sample = Sample::new(2, 5000, PIECE);
    let blob = store.create(&sample.digest, sample.layout).await.unwrap();
    let long = blob.write_piece(PieceIndex(4), Bytes::from(vec![0; 1024])).await.unwrap_err();
    assert!(matches!(long, StoreError::Chain(ChainError::Length { expected: 904, got: 1024, .. })));
    let beyond = blob.write_piece(PieceIndex(5), Bytes::new()).await.unwrap_err();
    assert!(matches!(beyond, StoreError::NoPiece { piece: PieceIndex(5), .. }));
    assert!(matches!(blob.read_piece(PieceIndex(9)).await, Err(StoreError::NoPiece { .. })));
    assert!(matches!(blob.read(range(0, 5001)).await, Err(StoreError::Range { .. })));
    assert!(matches!(blob.close().await, Err(StoreError::NotWhole { pieces: 5, states: false, .. })));
    blob.learn_states(1, &sample.states[1..3]).unwrap();
    let conflict = blob.learn_states(1, &sample.states[2..3]).unwrap_err();
    assert!(matches!(conflict, StoreError::Chain(ChainError::Conflict { boundary: 1 })));
    assert!(blob.pieces().is_empty() && blob.chain().prefix() == 2);
    let other = PieceLayout::new(5000, 2048).unwrap();
    let layout = store.create(&sample.digest, other).await.unwrap_err();
    assert!(
        matches!(layout, StoreError::Layout { held, asked, .. } if held == sample.layout && asked == other)
    );
    // Nobody has proven either layout, so the one in nobody's hands gives way.
    drop(blob);
    let blob = store.create(&sample.digest, other).await.unwrap();
    assert_eq!(blob.layout(), other);
}

#[tokio::test]
async fn an_empty_blob_is_closed_at_once_and_survives() {
    let dir = tempdir().unwrap();
    let empty = Sample::new(0, 0, PIECE);
    let store = open(dir.path());
    let blob = store.create(&empty.digest, empty.layout).await.unwrap();
    assert!(blob.is_complete());
    assert_eq!(blob.read(range(0, 0)).await.unwrap(), Bytes::new());
    let wrong = store.create(&Digest::sha256(b"x"), empty.layout).await.unwrap_err();
    assert!(matches!(wrong, StoreError::Chain(ChainError::Empty)));
    drop(blob);
    store.close().await.unwrap();
    assert!(open(dir.path()).get(&empty.digest).unwrap().is_complete());
}

#[tokio::test]
async fn a_complete_blob_and_its_possession_survive_a_restart() {
    let dir = tempdir().unwrap();
    let registry = Registry::parse("registry.example:5000").unwrap();
    let sample = Sample::new(3, 300_000, 64 << 10);
    let store = open(dir.path());
    let blob = sample.fill(&store).await;
    blob.allow(&registry, "team/app", Possession::Client);
    blob.allow(&registry, "team/base", Possession::Anonymous);
    drop(blob);
    store.close().await.unwrap();
    assert!(store.get(&sample.digest).is_none() && store.list().is_empty());
    let closed = store.create(&sample.digest, sample.layout).await;
    assert!(matches!(closed, Err(StoreError::Closed)));
    store.close().await.unwrap();

    let store = open(dir.path());
    let blob = store.get(&sample.digest).unwrap();
    assert!(blob.is_complete() && blob.is_anonymous());
    assert_eq!(blob.possession(&registry, "team/app"), Some(Possession::Client));
    assert_eq!(blob.possession(&registry, "team/other"), None);
    assert!(blob.chain().is_whole());
    assert_eq!(blob.read(range(0, 300_000)).await.unwrap(), sample.content);
    assert_eq!(store.stats().verification_failures, 0);
}

#[tokio::test]
async fn what_no_sync_made_durable_is_gone_after_a_crash() {
    let dir = tempdir().unwrap();
    let sample = Sample::new(4, 5000, PIECE);
    let store = open(dir.path());
    let blob = store.create(&sample.digest, sample.layout).await.unwrap();
    blob.learn_states(0, &sample.states).unwrap();
    blob.write_piece(PieceIndex(0), sample.piece(0)).await.unwrap();
    blob.write_piece(PieceIndex(3), sample.piece(3)).await.unwrap();
    store.sync().await.unwrap();
    blob.write_piece(PieceIndex(1), sample.piece(1)).await.unwrap();
    drop((blob, store));
    sample.damage(dir.path(), 1);
    let blob = open(dir.path()).get(&sample.digest).unwrap();
    assert_eq!(blob.pieces(), PieceSet::from_runs(5, [0..1, 3..4]).unwrap());
    assert_eq!(blob.read_piece(PieceIndex(3)).await.unwrap(), sample.piece(3));
}

#[tokio::test]
async fn a_changed_byte_is_found_at_the_first_read() {
    let dir = tempdir().unwrap();
    let sample = Sample::new(5, 700_000, 256 << 10);
    let store = open(dir.path());
    drop(sample.fill(&store).await);
    store.close().await.unwrap();
    sample.damage(dir.path(), 1);

    let store = open(dir.path());
    let blob = store.get(&sample.digest).unwrap();
    assert!(blob.is_complete());
    assert_eq!(blob.read(range(0, 1000)).await.unwrap(), sample.content.slice(..1000));
    // The damage is elsewhere in the piece than the range: the whole piece is checked.
    let last = u64::from(sample.layout.piece_len()) * 2 - 1;
    let corrupt = blob.read(range(last, last + 1)).await.unwrap_err();
    assert!(matches!(corrupt, StoreError::Corrupt { piece: PieceIndex(1), .. }) && corrupt.is_transient());
    assert!(!blob.has(PieceIndex(1)) && blob.is_closed() && !blob.is_complete());
    assert_eq!(store.stats().verification_failures, 1);
    // The loss is recorded at once.
    drop((blob, store));
    let store = open(dir.path());
    let blob = store.get(&sample.digest).unwrap();
    assert_eq!(blob.pieces(), PieceSet::from_runs(3, [0..1, 2..3]).unwrap());
    blob.write_piece(PieceIndex(1), sample.piece(1)).await.unwrap();
    assert!(blob.is_complete());
    assert_eq!(blob.read(range(0, 700_000)).await.unwrap(), sample.content);
}

#[tokio::test]
async fn a_file_that_was_cut_is_found_at_the_first_read() {
    let dir = tempdir().unwrap();
    let sample = Sample::new(6, 5000, PIECE);
    let store = open(dir.path());
    drop(sample.fill(&store).await);
    store.close().await.unwrap();
    let store = open(dir.path());
    let blob = store.get(&sample.digest).unwrap();
    blob.file().set_len(3000).unwrap();
    assert!(matches!(blob.read_piece(PieceIndex(4)).await, Err(StoreError::Corrupt { .. })));
    assert!(matches!(
        blob.checked(range(0, 3000)).await,
        Err(StoreError::Corrupt { piece: PieceIndex(2), .. })
    ));
    blob.checked(range(0, 2048)).await.unwrap();
    let mut bytes = [0; 2048];
    blob.file().read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes[..], sample.content[..2048]);
    assert_eq!(blob.pieces().len(), 3);
}

#[tokio::test]
async fn a_check_lapses() {
    let dir = tempdir().unwrap();
    let sample = Sample::new(7, 5000, PIECE);
    let store = Store::open(Options { reverify_after: Duration::ZERO, ..options(dir.path()) }).unwrap();
    let blob = sample.fill(&store).await;
    sample.damage(dir.path(), 2);
    assert!(matches!(blob.read_piece(PieceIndex(2)).await, Err(StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn a_false_chain_is_forgotten_and_its_pieces_wait_for_the_true_one() {
    let dir = tempdir().unwrap();
    let sample = Sample::new(8, 5000, PIECE);
    let store = open(dir.path());
    let blob = store.create(&sample.digest, sample.layout).await.unwrap();
    let mut states = sample.states.clone();
    states[2] = states[1];
    blob.learn_states(0, &states).unwrap();
    let bad = Bytes::from(vec![7; 1024]);
    for (piece, bytes) in [(0, sample.piece(0)), (1, bad.clone()), (2, bad.clone())] {
        blob.write_piece(PieceIndex(piece), bytes).await.unwrap();
    }
    let generation = *blob.changed().borrow();
    blob.discard(&PieceSet::from_runs(5, [1..2]).unwrap()).await.unwrap();
    assert!(*blob.changed().borrow() > generation);
    blob.forget_states().await.unwrap();
    assert_eq!(blob.pieces(), PieceSet::from_runs(5, [0..1, 2..3]).unwrap());
    assert!(matches!(blob.read_piece(PieceIndex(0)).await, Err(StoreError::Unproven { .. })));
    assert_eq!(blob.read_unproven(PieceIndex(0)).await.unwrap(), sample.piece(0));
    assert!(blob.has(PieceIndex(0)) && !blob.is_readable(PieceIndex(0)));
    let generation = *blob.changed().borrow();
    blob.learn_states(0, &sample.states).unwrap();
    assert!(*blob.changed().borrow() > generation, "who waits for it looks again");
    assert!(blob.is_readable(PieceIndex(0)) && !blob.is_readable(PieceIndex(1)));
    assert_eq!(blob.read_piece(PieceIndex(0)).await.unwrap(), sample.piece(0));
    assert!(matches!(blob.read_piece(PieceIndex(2)).await, Err(StoreError::Corrupt { .. })));
    for piece in 1..5 {
        blob.write_piece(PieceIndex(piece), sample.piece(piece)).await.unwrap();
    }
    blob.close().await.unwrap();
    // A closed chain is proven: it is not forgotten.
    blob.forget_states().await.unwrap();
    assert!(blob.is_complete() && blob.chain().is_whole());
    assert_eq!(blob.read(range(0, 5000)).await.unwrap(), sample.content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_and_readers_work_at_the_same_time() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let sample = Arc::new(Sample::new(9, 2_000_000, 32 << 10));
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (store, sample) = (store.clone(), Arc::clone(&sample));
        tasks.spawn(async move {
            let blob = store.create(&sample.digest, sample.layout).await.unwrap();
            blob.learn_states(0, &sample.states).unwrap();
            let mut order: Vec<_> = sample.layout.pieces().collect();
            fastrand::Rng::with_seed(writer).shuffle(&mut order);
            for piece in order {
                blob.write_piece(piece, sample.piece(piece.0)).await.unwrap();
                if piece.0 % 16 == 0 {
                    store.sync().await.unwrap();
                }
            }
            blob.close().await.unwrap();
        });
    }
    for _ in 0..4 {
        let (store, sample) = (store.clone(), Arc::clone(&sample));
        tasks.spawn(async move {
            let blob = store.create(&sample.digest, sample.layout).await.unwrap();
            let mut changed = blob.changed();
            for piece in sample.layout.pieces() {
                changed.wait_for(|_| blob.has(piece)).await.unwrap();
                assert_eq!(blob.read_piece(piece).await.unwrap(), sample.piece(piece.0));
            }
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
    store.close().await.unwrap();
    let store = open(dir.path());
    assert!(store.get(&sample.digest).unwrap().is_complete());
    assert_eq!(store.list().len(), 1);
}

/// A false chain may be found while a piece that was verified against it is on its way to the file.
#[tokio::test]
async fn what_was_verified_against_another_chain_is_hashed_before_it_is_read() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let (sample, other) = (Sample::new(20, 5000, PIECE), Sample::new(21, 5000, PIECE));
    let blob = store.create(&sample.digest, sample.layout).await.unwrap();
    let link = |of: &Sample, piece: usize| (of.states[piece], of.states[piece + 1]);
    let (first, second) = (PieceIndex(0), PieceIndex(1));
    // The right states are known by the time that the wrong piece is written.
    blob.learn_states(0, &sample.states).unwrap();
    blob.write_verified(second, other.piece(1), link(&other, 1)).await.unwrap();
    let corrupt = blob.read_piece(second).await.unwrap_err();
    assert!(matches!(corrupt, StoreError::Corrupt { piece: PieceIndex(1), .. }), "{corrupt}");
    assert!(!blob.has(second));
    // Then the right one can be written, and what comes late does not get over it.
    blob.write_verified(second, sample.piece(1), link(&sample, 1)).await.unwrap();
    blob.write_verified(second, other.piece(1), link(&other, 1)).await.unwrap();
    assert_eq!(blob.read_piece(second).await.unwrap(), sample.piece(1));
    // Or no states at all: it waits for them, and is hashed then.
    blob.forget_states().await.unwrap();
    blob.write_verified(first, other.piece(0), link(&other, 0)).await.unwrap();
    assert!(blob.has(first) && !blob.is_readable(first));
    blob.learn_states(0, &sample.states).unwrap();
    assert!(blob.read_piece(first).await.is_err() && !blob.has(first));
    blob.write_verified(first, sample.piece(0), link(&sample, 0)).await.unwrap();
    assert_eq!(blob.read_piece(first).await.unwrap(), sample.piece(0));
    assert_eq!(store.stats().verification_failures, 2);
}
