//! The demo as a user runs it: its JSON, its exit code, and what it leaves behind, also after Ctrl-C.

use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::poll;
use support::process::{Program, Spec};

/// Building the programs may be part of it.
const LIMIT: Duration = Duration::from_secs(600);

/// The demo, with a temporary directory of its own inside `dir`.
fn demo(dir: &Path, args: &[&str]) -> Program {
    let tmp = dir.join("tmp");
    std::fs::create_dir_all(&tmp).expect("a directory");
    let spec = Spec::new("demo", env!("CARGO_BIN_EXE_demo"), dir).args(args).env("TMPDIR", tmp);
    Program::start(&spec).expect("the demo starts")
}

/// What is left in the demo's temporary directory.
fn left(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("tmp")).expect("a directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// The processes that work below `dir`.
fn processes(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc").expect("proc").flatten();
    let cwd = |entry: std::fs::DirEntry| std::fs::read_link(entry.path().join("cwd")).ok();
    entries.filter_map(cwd).filter(|cwd| cwd.starts_with(dir.join("tmp"))).collect()
}

#[test]
fn the_image_leaves_the_origin_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = demo(dir.path(), &["--json", "--image-size", "24MiB", "--rate", "8MiB"]);
    let status = poll::until("the demo's end", LIMIT, || Ok(demo.exit_status())).unwrap();
    let log = std::fs::read_to_string(demo.log()).unwrap();
    assert!(status.success(), "{status}: {log}");
    let json = log.lines().find(|line| line.starts_with('{')).unwrap();
    let report: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(report["nodes"], 5);
    assert_eq!(report["wrong_bytes"], 0);
    assert_eq!(report["origin_bytes"], report["image_bytes"], "{report:#}");
    let (seconds, bound) = (report["seconds"].as_f64().unwrap(), report["bound_seconds"].as_f64().unwrap());
    println!("time ÷ lower bound {:.3}", seconds / bound);
    assert!(seconds >= bound * 0.95, "faster than possible: {report:#}");
    assert!(seconds <= bound * 2.0, "{report:#}");
    assert_eq!(left(dir.path()), [] as [PathBuf; 0]);
    assert_eq!(processes(dir.path()), [] as [PathBuf; 0]);
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = demo(dir.path(), &["--image-size", "64MiB", "--rate", "1MiB", "--nodes", "3"]);
    demo.wait_for_line(LIMIT, |line| line.contains("nodes at").then_some(())).unwrap();
    assert!(!processes(dir.path()).is_empty());
    demo.signal(Signal::INT);
    let status = poll::until("the demo's end", Duration::from_secs(30), || Ok(demo.exit_status())).unwrap();
    assert_eq!(status.code(), Some(130), "{}", demo.log_tail());
    assert_eq!(left(dir.path()), [] as [PathBuf; 0]);
    assert_eq!(processes(dir.path()), [] as [PathBuf; 0]);
}
