//! Every input that was ever kept, through its target; and that there is a corpus and a binary for each target.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use fuzz::TARGETS;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// How large a corpus may be, in files and in bytes: it lies in the repository, and is replayed by every run of the tests.
const FILES_MAX: usize = 200;
const BYTES_MAX: u64 = 300 << 10;

/// Runs the target over its corpus, and names the inputs that fail.
fn replay(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let inputs = entries(&folder("corpus").join(name));
    assert!((1..=FILES_MAX).contains(&inputs.len()), "{name} has {} inputs", inputs.len());
    let bytes: u64 = inputs.iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes <= BYTES_MAX, "{name} has {bytes} bytes of inputs");
    let holds = |bytes: &[u8]| catch_unwind(AssertUnwindSafe(|| target(bytes))).is_ok();
    let bad: Vec<_> = inputs.iter().filter(|path| !holds(&fs::read(path).unwrap())).collect();
    assert!(bad.is_empty(), "{name}: {bad:#?}");
    assert!(holds(&[]), "{name}: nothing at all");
}

#[test]
fn audit() {
    replay("audit");
}

#[test]
fn config() {
    replay("config");
}

#[test]
fn host_frame() {
    replay("host_frame");
}

#[test]
fn http_range() {
    replay("http_range");
}

#[test]
fn http_route() {
    replay("http_route");
}

#[test]
fn membership() {
    replay("membership");
}

#[test]
fn names() {
    replay("names");
}

#[test]
fn peer_frames() {
    replay("peer_frames");
}

#[test]
fn questions() {
    replay("questions");
}

#[test]
fn registry_answers() {
    replay("registry_answers");
}

#[test]
fn scheduler_core() {
    replay("scheduler_core");
}

#[test]
fn scheduler_frame() {
    replay("scheduler_frame");
}

#[test]
fn store() {
    replay("store");
}

#[test]
fn every_target_is_replayed_and_has_a_corpus_and_a_binary() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |dir: &str| -> BTreeSet<String> {
        let paths = entries(&folder(dir));
        paths.iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(targets, stems("corpus"));
    assert_eq!(targets, stems("libfuzzer/fuzz_targets"));
    let manifest = fs::read_to_string(folder("libfuzzer/Cargo.toml")).unwrap();
    for name in targets {
        assert!(manifest.contains(&format!("\nname = \"{name}\"\n")), "{name} has no binary");
        assert!(
            include_str!("replay.rs").contains(&format!("replay(\"{name}\");")),
            "{name} is not replayed"
        );
    }
}
