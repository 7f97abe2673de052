//! Every input that was ever kept, through its target; and that there is a corpus and a binary for each target.

use fuzz::{TARGETS, Target};
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

fn stems(dir: &str) -> BTreeSet<String> {
    let paths = entries(&folder(dir));
    paths.iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Runs the target over its corpus, and names the inputs that fail.
fn replay(name: &str) {
    let (_, target): (_, Target) = *TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let inputs = entries(&folder("corpus").join(name));
    assert!(!inputs.is_empty(), "{name} has no corpus");
    let run = |bytes: &[u8]| catch_unwind(AssertUnwindSafe(|| target(bytes))).is_ok();
    let bad: Vec<_> = inputs.iter().filter(|path| !run(&fs::read(path).unwrap())).collect();
    assert!(bad.is_empty(), "{name}: {bad:?}");
    assert!(run(&[]), "{name}: nothing at all");
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_replayed_and_has_a_corpus_and_a_binary() {
            let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
            assert_eq!(targets, [$(stringify!($name)),*].map(str::to_owned).into(), "in this test");
            assert_eq!(targets, stems("corpus"), "as a corpus");
            assert_eq!(targets, stems("libfuzzer/fuzz_targets"), "as a binary");
            let manifest = fs::read_to_string(folder("libfuzzer/Cargo.toml")).unwrap();
            for name in targets {
                assert!(manifest.contains(&format!("\nname = \"{name}\"\n")), "{name} as a binary");
            }
        }
    };
}

replays! {
    audit
    config
    host_frame
    http_range
    http_route
    membership
    names
    peer_frames
    questions
    registry_answers
    scheduler_core
    scheduler_frame
    store
}
