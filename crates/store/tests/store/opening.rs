//! The directory: who may have it, what is found in it, what is repaired.

use crate::sample::{Sample, open, options};
use bytes::Bytes;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use store::{MANIFEST_LEN_MAX, Options, Store, StoreError};
use tempfile::tempdir;
use types::{Digest, PieceIndex, PieceSet};

fn refused(dir: &Path) -> StoreError {
    Store::open(options(dir)).expect_err("the directory should be refused")
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    for path in [file.join("cache"), Path::new("/proc/cache").to_owned()] {
        let error = refused(&path);
        assert!(
            matches!(&error, StoreError::Directory { path: named, .. } if named.starts_with(&path)),
            "{error:?}"
        );
        assert!(error.to_string().contains(path.to_str().unwrap()));
    }
    let cache = dir.path().join("cache");
    drop(open(&cache));
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    fs::remove_file(cache.join("metadata.redb")).unwrap();
    fs::create_dir(cache.join("metadata.redb")).unwrap();
    assert!(matches!(refused(&cache), StoreError::Directory { path, .. } if path.ends_with("metadata.redb")));
    // Root may write anywhere, so this shows something only for other users.
    let read_only = dir.path().join("read-only");
    fs::create_dir(&read_only).unwrap();
    fs::set_permissions(&read_only, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(read_only.join("probe"), b"").is_err() {
        assert!(matches!(refused(&read_only), StoreError::Directory { .. }));
    }
}

#[test]
fn senseless_options_are_refused_before_anything_is_made() {
    let dir = tempdir().unwrap();
    let cache = dir.path().join("cache");
    let error = Store::open(Options { low_water: 2.0, ..options(&cache) }).unwrap_err();
    assert!(matches!(error, StoreError::Option { name: "low_water", .. }));
    assert!(!cache.exists());
}

#[tokio::test]
async fn two_stores_do_not_share_a_directory() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let sample = Sample::new(1, 5000, 1024);
    let blob = sample.fill(&store).await;
    assert!(matches!(refused(dir.path()), StoreError::Locked { .. }));
    // A close frees the directory even while a handle lives, which then fails.
    store.close().await.unwrap();
    drop(open(dir.path()));
    let error = blob.read_piece(PieceIndex(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Closed));
    drop(blob);
}

#[tokio::test]
async fn files_and_records_without_each_other_are_dropped() {
    let dir = tempdir().unwrap();
    let samples: Vec<_> = (0..5).map(|seed| Sample::new(seed, 5000, 1024)).collect();
    let store = open(dir.path());
    for sample in &samples[..4] {
        sample.fill(&store).await;
    }
    // Never synced with a piece: its file is a stray afterwards.
    drop(store.create(&samples[4].digest, samples[4].layout).await.unwrap());
    store.sync().await.unwrap();
    drop(store);
    fs::remove_file(samples[0].path(dir.path())).unwrap();
    fs::write(samples[1].path(dir.path()), b"short").unwrap();
    let keep = dir.path().join("blobs/sha256/notes.txt");
    fs::write(&keep, b"not a blob").unwrap();

    let store = open(dir.path());
    let digests: Vec<Digest> = store.list().iter().map(|summary| summary.digest).collect();
    let mut expected = vec![samples[2].digest, samples[3].digest];
    expected.sort_unstable();
    assert_eq!(digests, expected);
    assert!(!samples[1].path(dir.path()).exists() && !samples[4].path(dir.path()).exists());
    assert!(keep.exists(), "only what looks like a blob is removed");
    assert_eq!(store.stats().bytes, 10_000);
    // The chain was proven and is still known.
    let blob = store.create(&samples[0].digest, samples[0].layout).await.unwrap();
    assert!(blob.is_closed() && blob.pieces().is_empty());
}

#[tokio::test]
async fn damaged_metadata_cost_the_cache_but_not_the_start() {
    let sample = Sample::new(1, 50_000, 1024);
    for damage in [&b""[..], b"not a database", &[0xff; 20_000]] {
        let dir = tempdir().unwrap();
        let store = open(dir.path());
        drop(sample.fill(&store).await);
        store.close().await.unwrap();
        let path = dir.path().join("metadata.redb");
        let mut content = fs::read(&path).unwrap();
        if damage.is_empty() {
            // Something in the middle instead of everything.
            let middle = content.len() / 2;
            content[middle..].iter_mut().for_each(|byte| *byte ^= 0xaa);
            content[300..middle].iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55);
        } else {
            content = damage.to_vec();
        }
        fs::write(&path, content).unwrap();
        let store = open(dir.path());
        assert!(store.list().is_empty() && !sample.path(dir.path()).exists(), "{} bytes", damage.len());
        assert!(sample.fill(&store).await.is_complete());
    }
}

#[tokio::test]
async fn pieces_whose_chain_is_not_known_do_not_survive() {
    let dir = tempdir().unwrap();
    let sample = Sample::new(1, 5000, 1024);
    let store = open(dir.path());
    let blob = store.create(&sample.digest, sample.layout).await.unwrap();
    blob.learn_states(0, &sample.states[..3]).unwrap();
    for piece in [0, 1, 3] {
        blob.write_piece(PieceIndex(piece), sample.piece(piece)).await.unwrap();
    }
    assert_eq!(blob.read_piece(PieceIndex(3)).await.unwrap(), sample.piece(3), "its writer had verified it");
    drop(blob);
    store.close().await.unwrap();
    let blob = open(dir.path()).get(&sample.digest).unwrap();
    assert_eq!(blob.pieces(), PieceSet::from_runs(5, [0..2]).unwrap());
    assert_eq!(blob.chain().prefix(), 2);
}

#[tokio::test]
async fn manifests_are_checked_bounded_and_kept() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let bytes = Bytes::from_static(b"{\"schemaVersion\":2}");
    let digest = Digest::sha256(&bytes);
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    assert_eq!(store.get_manifest(&digest).await.unwrap(), None);
    let wrong = store.put_manifest(&Digest::sha256(b"other"), media_type, bytes.clone()).await;
    assert!(matches!(wrong, Err(StoreError::ManifestDigest { .. })));
    let long = Bytes::from(vec![0; MANIFEST_LEN_MAX + 1]);
    let error = store.put_manifest(&Digest::sha256(&long), media_type, long).await.unwrap_err();
    assert!(matches!(error, StoreError::ManifestLength { len, .. } if len == MANIFEST_LEN_MAX + 1));
    store.put_manifest(&digest, media_type, bytes.clone()).await.unwrap();
    store.sync().await.unwrap();
    drop(store);

    let store = open(dir.path());
    let manifest = store.get_manifest(&digest).await.unwrap().unwrap();
    assert_eq!((manifest.media_type.as_str(), manifest.bytes), (media_type, bytes));
    for i in 0..20u8 {
        // The first is used again and again, so that it is never the oldest.
        assert!(store.get_manifest(&digest).await.unwrap().is_some());
        let filler = Bytes::from(vec![i; MANIFEST_LEN_MAX]);
        store.put_manifest(&Digest::sha256(&filler), media_type, filler).await.unwrap();
        assert!(store.stats().manifest_bytes <= 64 << 20);
    }
    let filler = |i| Digest::sha256(&vec![i; MANIFEST_LEN_MAX]);
    assert_eq!(store.get_manifest(&filler(0)).await.unwrap(), None);
    assert!(store.get_manifest(&filler(19)).await.unwrap().is_some());
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_are_read_while_others_are_written() {
    let dir = tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    let tasks = (0..8u32).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            for i in 0..50u32 {
                let bytes = Bytes::from(format!("{task} {i} {}", "x".repeat(2000)));
                let digest = Digest::sha256(&bytes);
                store.put_manifest(&digest, "text/plain", bytes.clone()).await.unwrap();
                assert_eq!(store.get_manifest(&digest).await.unwrap().unwrap().bytes, bytes);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}
