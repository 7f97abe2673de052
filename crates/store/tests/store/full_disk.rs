//! A disk that others fill up: the store says so, loses nothing, and works again once there is room.
//!
//! Runs itself again on a file system of 8 MiB, in namespaces of its own; skipped where the kernel gives none.

use crate::sample::{Sample, options};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::process::Command;
use store::{Store, StoreError};
use types::{Digest, PieceIndex};

/// Set in the inner run: where the small file system is.
const MOUNTED: &str = "STORE_TEST_SMALL_DISK";

#[test]
fn a_full_disk_does_no_lasting_harm() {
    if let Some(mounted) = std::env::var_os(MOUNTED) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        return runtime.block_on(on_small_disk(&PathBuf::from(mounted)));
    }
    let dir = tempfile::tempdir().unwrap();
    let inside = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command.arg(std::env::current_exe().unwrap()).env(MOUNTED, dir.path());
        command
    };
    let mount = format!("mount -t tmpfs -o size=8m tmpfs \"${MOUNTED}\"");
    if !inside(&mount).output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no user and mount namespaces here");
        return;
    }
    let run =
        format!("{mount} && exec \"$0\" --nocapture --exact full_disk::a_full_disk_does_no_lasting_harm");
    let output = inside(&run).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

async fn on_small_disk(mounted: &Path) {
    let cache = mounted.join("cache");
    let samples = [1, 2].map(|seed| Sample::new(seed, 2 << 20, 128 << 10));
    let store = Store::open(options(&cache)).unwrap();
    let blob = store.create(&samples[0].digest, samples[0].layout).await.unwrap();
    let filler = mounted.join("filler");
    std::fs::write(&filler, vec![1; 16 << 20]).expect_err("the disk is smaller");
    // The blob's bytes have their place already; what the database has is soon used up.
    blob.learn_states(0, &samples[0].states).unwrap();
    for piece in samples[0].layout.pieces() {
        blob.write_piece(piece, samples[0].piece(piece.0)).await.unwrap();
    }
    let mut full = None;
    for i in 0..40 {
        let manifest = Bytes::from(vec![i; 300 << 10]);
        full = store.put_manifest(&Digest::sha256(&manifest), "text/plain", manifest).await.err();
        if full.is_some() {
            break;
        }
    }
    assert!(matches!(full, Some(StoreError::Database(_))), "{full:?}");
    assert!(store.sync().await.unwrap_err().is_local());
    let refused = store.create(&samples[1].digest, samples[1].layout).await.unwrap_err();
    assert!(matches!(refused, StoreError::Full { .. }), "{refused:?}");
    assert_eq!(blob.read_piece(PieceIndex(3)).await.unwrap(), samples[0].piece(3));

    std::fs::remove_file(&filler).unwrap();
    store.sync().await.unwrap();
    samples[1].fill(&store).await;
    drop((blob, store));
    let store = Store::open(options(&cache)).unwrap();
    assert!(store.get(&samples[0].digest).unwrap().pieces().is_full());
}
