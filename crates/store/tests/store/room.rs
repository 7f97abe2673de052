//! Quota, water marks, floor, eviction: what gives way, and what never does.

use crate::sample::{Sample, open, options};
use std::path::Path;
use std::sync::Arc;
use store::{Blob, Options, Store, StoreError};
use tempfile::tempdir;
use types::{Digest, PieceIndex, PieceLayout};

const SIZE: usize = 100_000;

fn with_quota(dir: &Path, quota_bytes: u64) -> Store {
    Store::open(Options { quota_bytes, ..options(dir) }).unwrap()
}

fn samples(count: u64) -> Vec<Sample> {
    (0..count).map(|seed| Sample::new(seed, SIZE, 16 << 10)).collect()
}

/// The bytes that all files in the directory have, by the file system's word.
fn bytes_on_disk(dir: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let metadata = entry.metadata().unwrap();
        bytes += if metadata.is_dir() { bytes_on_disk(&entry.path()) } else { metadata.len() };
    }
    bytes
}

#[tokio::test]
async fn the_least_recently_used_give_way_down_to_the_low_water_mark() {
    let dir = tempdir().unwrap();
    let store = with_quota(dir.path(), 1_000_000);
    let mut evicted = store.lost();
    let samples = samples(11);
    for sample in &samples[..9] {
        sample.fill(&store).await;
    }
    assert_eq!(store.stats().bytes, 900_000);
    store.sync().await.unwrap();
    drop(store.get(&samples[0].digest).unwrap());
    // The tenth would reach 1.0 of the quota, above 0.95: down to 0.85, so two go.
    samples[9].fill(&store).await;
    assert_eq!(
        (evicted.try_recv().unwrap(), evicted.try_recv().unwrap()),
        (samples[1].digest, samples[2].digest)
    );
    assert!(evicted.try_recv().is_err());
    assert!(store.get(&samples[1].digest).is_none() && !samples[1].path(dir.path()).exists());
    assert!(store.get(&samples[0].digest).unwrap().is_complete());
    let stats = store.stats();
    assert_eq!((stats.bytes, stats.blobs, stats.evictions), (800_000, 8, 2));
    // The eviction is durable at once; the chain of what is gone stays.
    drop(store);
    let store = with_quota(dir.path(), 1_000_000);
    assert!(store.get(&samples[1].digest).is_none());
    let blob = store.create(&samples[1].digest, samples[1].layout).await.unwrap();
    assert!(blob.is_closed() && blob.chain().is_whole() && blob.pieces().is_empty());
    // A proven chain proves the size.
    assert!(store.evict(&samples[3].digest).await.unwrap());
    let wrong = PieceLayout::new(SIZE as u64 + 1, 16 << 10).unwrap();
    assert!(matches!(store.create(&samples[3].digest, wrong).await, Err(StoreError::Layout { .. })));
}

#[tokio::test]
async fn a_blob_of_one_piece_stays_proven_after_its_eviction() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let sample = Sample::new(1, 100, 128);
    let blob = store.create(&sample.digest, sample.layout).await.unwrap();
    blob.write_piece(PieceIndex(0), sample.piece(0)).await.unwrap();
    // Its chain has no states between the ends, so none was ever learnt.
    blob.close().await.unwrap();
    drop(blob);
    assert!(store.evict(&sample.digest).await.unwrap());
    assert!(store.create(&sample.digest, sample.layout).await.unwrap().is_closed());
}

#[tokio::test]
async fn what_is_held_or_pinned_never_gives_way() {
    let dir = tempdir().unwrap();
    let store = with_quota(dir.path(), 250_000);
    let samples = samples(4);
    let held = samples[0].fill(&store).await;
    assert!(store.pin(&samples[1].digest) && store.pin(&samples[1].digest));
    samples[1].fill(&store).await;
    let full = store.create(&samples[2].digest, samples[2].layout).await.unwrap_err();
    assert!(matches!(full, StoreError::Full { needed: 50_000 }) && full.is_transient() && full.is_local());
    assert!(
        !store.evict(&samples[0].digest).await.unwrap() && !store.evict(&samples[1].digest).await.unwrap()
    );
    assert!(!samples[2].path(dir.path()).exists());
    store.unpin(&samples[1].digest);
    assert!(!store.evict(&samples[1].digest).await.unwrap(), "pinned twice");
    store.unpin(&samples[1].digest);
    let second = held.clone();
    drop(held);
    let blob = samples[2].fill(&store).await;
    assert!(store.get(&samples[1].digest).is_none());
    assert_eq!(second.read_piece(PieceIndex(0)).await.unwrap(), samples[0].piece(0));
    drop((second, blob));
    assert!(
        store.evict(&samples[0].digest).await.unwrap() && !store.evict(&samples[0].digest).await.unwrap()
    );
}

#[tokio::test]
async fn a_blob_beyond_the_quota_is_refused_and_nothing_gives_way_for_it() {
    let dir = tempdir().unwrap();
    let store = with_quota(dir.path(), 250_000);
    let samples = samples(1);
    samples[0].fill(&store).await;
    let layout = PieceLayout::for_size(250_001).unwrap();
    let error = store.create(&Digest::sha256(b"large"), layout).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { size: 250_001, quota: 250_000 }) && !error.is_transient());
    assert!(store.get(&samples[0].digest).is_some());
}

#[tokio::test]
async fn below_the_free_space_floor_nothing_is_taken() {
    let dir = tempdir().unwrap();
    let samples = samples(2);
    let store = open(dir.path());
    drop(samples[0].fill(&store).await);
    store.close().await.unwrap();
    let floored = Options { free_floor_bytes: u64::MAX / 2, ..options(dir.path()) };
    let store = Store::open(floored).unwrap();
    let error = store.create(&samples[1].digest, samples[1].layout).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(store.list().is_empty(), "what could be given was given");
}

#[tokio::test]
async fn a_disk_that_cannot_hold_the_file_is_full() {
    let dir = tempdir().unwrap();
    let store = with_quota(dir.path(), u64::MAX / 4);
    let digest = Digest::sha256(b"too large for any disk here");
    let layout = PieceLayout::for_size(PieceLayout::SIZE_MAX).unwrap();
    let error = store.create(&digest, layout).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(store.list().is_empty() && store.stats().bytes == 0);
    assert!(bytes_on_disk(dir.path()) < 10 << 20);
}

#[tokio::test]
async fn an_empty_file_is_not_left_behind() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let sample = &samples(1)[0];
    drop(store.create(&sample.digest, sample.layout).await.unwrap());
    assert!(sample.path(dir.path()).exists());
    store.close().await.unwrap();
    assert!(!sample.path(dir.path()).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_quota_holds_under_many_at_once() {
    const QUOTA: u64 = 550_000;
    let dir = tempdir().unwrap();
    let store = with_quota(dir.path(), QUOTA);
    let samples = Arc::new(samples(12));
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..6 {
        let (store, samples) = (store.clone(), Arc::clone(&samples));
        tasks.spawn(async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut served = 0;
            for _ in 0..40 {
                let sample = &samples[rng.usize(..samples.len())];
                let blob = match store.create(&sample.digest, sample.layout).await {
                    Ok(blob) => blob,
                    Err(StoreError::Full { .. }) => continue,
                    Err(error) => panic!("{error:?}"),
                };
                use_blob(&blob, sample).await;
                assert!(store.stats().bytes <= QUOTA);
                served += 1;
            }
            served
        });
    }
    let mut served = 0;
    while let Some(result) = tasks.join_next().await {
        served += result.unwrap();
    }
    assert!(served >= 40, "{served}");
    store.sync().await.unwrap();
    assert!(bytes_on_disk(&dir.path().join("blobs")) <= QUOTA);
    store.close().await.unwrap();
    let store = with_quota(dir.path(), QUOTA);
    for summary in store.list() {
        let sample = samples.iter().find(|sample| sample.digest == summary.digest).unwrap();
        use_blob(&store.get(&summary.digest).unwrap(), sample).await;
    }
    assert_eq!(store.stats().verification_failures, 0);
}

/// Writes what is missing and reads everything.
async fn use_blob(blob: &Blob, sample: &Sample) {
    blob.learn_states(0, &sample.states).unwrap();
    for piece in sample.layout.pieces() {
        blob.write_piece(piece, sample.piece(piece.0)).await.unwrap();
        assert_eq!(blob.read_piece(piece).await.unwrap(), sample.piece(piece.0));
    }
    blob.close().await.unwrap();
}

#[tokio::test]
async fn a_quota_that_shrinks_evicts_at_once_but_not_what_is_in_use() {
    let dir = tempdir().unwrap();
    let store = with_quota(dir.path(), 1_000_000);
    let samples = samples(9);
    for sample in &samples {
        sample.fill(&store).await;
    }
    let used = store.get(&samples[0].digest).unwrap();
    // Above 0.95 of it: down to 0.85.
    store.set_quota(500_000).await.unwrap();
    let stats = store.stats();
    assert_eq!((stats.bytes, stats.quota_bytes), (400_000, 500_000));
    assert_eq!(store.get(&samples[0].digest).map(|blob| blob.is_complete()), Some(true));
    store.set_quota(50_000).await.unwrap();
    assert_eq!((store.stats().bytes, store.stats().blobs), (100_000, 1), "what is in use stays");
    let error = store.create(&samples[1].digest, samples[1].layout).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { size: 100_000, quota: 50_000 }), "{error}");
    drop(used);
    store.set_quota(1_000_000).await.unwrap();
    samples[1].fill(&store).await;
    assert_eq!(store.stats().bytes, 200_000);
}
