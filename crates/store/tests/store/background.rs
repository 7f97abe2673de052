//! What the store does by itself, and what it counts.

use crate::sample::{Sample, options};
use prometheus_client::registry::Registry;
use std::path::Path;
use std::time::Duration;
use store::{Metrics, Options, Store, StoreError};
use tempfile::tempdir;
use types::PieceIndex;

/// Asks until `condition` holds, for ten seconds at most.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

fn shown(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

fn quick(dir: &Path, registry: &mut Registry) -> Options {
    let metrics = Metrics::register(registry);
    Options { sync_interval: Duration::from_millis(1), metrics, ..options(dir) }
}

#[tokio::test]
async fn a_written_piece_becomes_durable_by_itself() {
    let dir = tempdir().unwrap();
    let mut registry = Registry::default();
    let store = Store::open(quick(dir.path(), &mut registry)).unwrap();
    let sample = Sample::new(1, 5000, 1024);
    let blob = store.create(&sample.digest, sample.layout).await.unwrap();
    blob.learn_states(0, &sample.states).unwrap();
    let syncs = |registry: &Registry| {
        let text = shown(registry);
        let count =
            text.lines().find_map(|line| line.strip_prefix("store_sync_seconds_count ")).unwrap().to_owned();
        count.parse::<u64>().unwrap()
    };
    until("a sync of the states", || syncs(&registry) > 0).await;
    blob.write_piece(PieceIndex(2), sample.piece(2)).await.unwrap();
    let before = syncs(&registry);
    // One that began before the write may still end.
    until("a sync of the piece", || syncs(&registry) > before).await;
    drop((blob, store));
    let mut store = None;
    until("the end of the thread's last round", || match Store::open(options(dir.path())) {
        Err(StoreError::Locked { .. }) => false,
        opened => {
            store = Some(opened.unwrap());
            true
        }
    })
    .await;
    assert!(store.unwrap().get(&sample.digest).unwrap().has(PieceIndex(2)));
}

#[tokio::test]
async fn the_store_gives_way_when_others_fill_the_disk() {
    let dir = tempdir().unwrap();
    let sample = Sample::new(1, 5000, 1024);
    let store = Store::open(options(dir.path())).unwrap();
    sample.fill(&store).await;
    store.close().await.unwrap();
    let mut registry = Registry::default();
    // As if the rest of the disk had been taken since.
    let options = Options { free_floor_bytes: u64::MAX / 2, ..quick(dir.path(), &mut registry) };
    let store = Store::open(options).unwrap();
    until("the eviction", || store.list().is_empty()).await;
    until("the count", || store.stats().evictions == 1 && !sample.path(dir.path()).exists()).await;
}

#[tokio::test]
async fn the_metrics_have_their_names_and_figures() {
    let dir = tempdir().unwrap();
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let store = Store::open(Options { metrics: metrics.clone(), ..options(dir.path()) }).unwrap();
    let (kept, gone) = (Sample::new(1, 5000, 1024), Sample::new(2, 3000, 1024));
    kept.fill(&store).await;
    gone.fill(&store).await;
    store.evict(&gone.digest).await.unwrap();
    store.close().await.unwrap();
    let store = Store::open(Options { metrics, ..options(dir.path()) }).unwrap();
    kept.damage(dir.path(), 4);
    let blob = store.get(&kept.digest).unwrap();
    blob.read_piece(PieceIndex(0)).await.unwrap();
    blob.read_piece(PieceIndex(4)).await.unwrap_err();
    let text = shown(&registry);
    for line in [
        "store_cache_bytes 5000",
        "store_blobs 1",
        "store_evictions_total 1",
        "store_evicted_bytes_total 3000",
        "store_verification_failures_total 1",
        "store_verified_bytes_total 1928",
        "store_sync_failures_total 0",
        "# TYPE store_sync_seconds histogram",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
}
