//! What a pod of the chart does with `dfctl`: a node's labels, a cache that is taken away, a container that stays.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use clap::Parser as _;
use dfctl::{Cli, Error};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

async fn dfctl(words: &[&str]) -> (String, Result<(), Error>) {
    let cli = Cli::try_parse_from(std::iter::once(&"dfctl").chain(words)).unwrap();
    let mut out = Vec::new();
    let result = Box::pin(dfctl::run(cli, &mut out)).await;
    (String::from_utf8(out).unwrap(), result)
}

fn cache(dir: &Path) -> String {
    fs::create_dir_all(dir.join("cache/blobs")).unwrap();
    for name in ["lock", "metadata.redb", "blobs/a", "identity.key"] {
        fs::write(dir.join("cache").join(name), "x").unwrap();
    }
    dir.join("cache").to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_cache_is_removed_when_no_daemon_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = cache(dir.path());
    let held = fs::File::open(dir.path().join("cache/lock")).unwrap();
    held.try_lock().unwrap();
    let (_, result) = dfctl(&["cache", "remove", &path]).await;
    assert!(result.unwrap_err().to_string().contains("a daemon has it"));
    assert!(dir.path().join("cache/blobs/a").exists());
    // One that ends meanwhile is waited for.
    let ending = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(held);
    });
    let (said, result) = dfctl(&["cache", "remove", &path, "--wait", "20s"]).await;
    result.unwrap();
    ending.await.unwrap();
    assert_eq!(said, format!("removed {path}\n"));
    assert!(!dir.path().join("cache").exists());
    let (said, result) = dfctl(&["cache", "remove", &path]).await;
    result.unwrap();
    assert_eq!(said, format!("there is no {path}\n"));
}

/// As one that was broken off in the middle leaves it, and by a link, as systemd makes one for a user of its own.
#[tokio::test]
async fn half_a_cache_and_a_link_to_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = cache(dir.path());
    fs::remove_dir_all(dir.path().join("cache/blobs")).unwrap();
    for gone in ["identity.key", "metadata.redb"] {
        fs::remove_file(dir.path().join("cache").join(gone)).unwrap();
    }
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    dfctl(&["cache", "remove", link.to_str().unwrap()]).await.1.unwrap();
    assert!(!dir.path().join("cache").exists() && !link.is_symlink());
}

#[tokio::test]
async fn what_is_no_cache_stays() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("letters"), "dear").unwrap();
    let path = dir.path().to_str().unwrap();
    let (_, result) = dfctl(&["cache", "remove", path]).await;
    assert!(result.unwrap_err().to_string().contains("no cache of a daemon's"));
    assert!(dir.path().join("letters").exists());
    // Other programs have a file of that name too, dpkg among them.
    fs::write(dir.path().join("lock"), "").unwrap();
    let (_, result) = dfctl(&["cache", "remove", path]).await;
    assert!(result.unwrap_err().to_string().contains("no cache of a daemon's"));
    assert!(dir.path().join("letters").exists());
    fs::remove_file(dir.path().join("letters")).unwrap();
    dfctl(&["cache", "remove", path]).await.1.unwrap();
    assert!(!dir.path().exists());
}

#[tokio::test]
async fn a_container_that_has_to_stay() {
    let begun = Instant::now();
    dfctl(&["hold", "50ms"]).await.1.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(50));
}

/// Without an API server the daemon's configuration is written as it is, after the time that was given.
#[tokio::test]
async fn nobody_says_what_the_labels_are() {
    let dir = tempfile::tempdir().unwrap();
    let (config, written) = (dir.path().join("in.toml"), dir.path().join("out.toml"));
    fs::write(&config, "# as it is\n[host]\nzone = \"a\"\n").unwrap();
    let words = [
        "node-labels",
        "node-1",
        "--config",
        config.to_str().unwrap(),
        "--out",
        written.to_str().unwrap(),
        "--timeout",
        "100ms",
        "--api",
        "https://127.0.0.1:1",
        "--service-account",
        dir.path().to_str().unwrap(),
    ];
    dfctl(&words).await.1.unwrap();
    assert_eq!(fs::read(&config).unwrap(), fs::read(&written).unwrap());
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&written).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o644);
    // Without the configuration there is nothing to be written.
    fs::remove_file(&config).unwrap();
    assert!(dfctl(&words).await.1.is_err());
}
