//! Every test that docs/security.md names as a proof exists.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the tests of a place lie, from the workspace's root.
const PLACES: [(&str, &str); 11] = [
    ("", "tests/e2e/tests"),
    ("core", "crates/scheduler-core/tests"),
    ("peers", "crates/p2p/tests"),
    ("membership", "crates/membership/src"),
    ("scheduler", "scheduler/src/cluster"),
    ("server", "scheduler/tests"),
    ("origin", "tests/support/tests/origin"),
    ("proxy", "dfdaemon/src/proxy"),
    ("process", "crates/process/src"),
    ("dfctl", "crates/dfctl/src"),
    ("fuzz", "tests/fuzz/tests"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text of the module's file somewhere below `dir`.
fn module(dir: &Path, name: &str) -> Option<String> {
    let entries = fs::read_dir(dir).expect("a directory of this workspace");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().find_map(|path| {
        if path.is_dir() {
            module(path, name)
        } else if path.file_name()? == format!("{name}.rs").as_str() {
            Some(fs::read_to_string(path).expect("a source file"))
        } else {
            None
        }
    })
}

/// The names of the tests in a source file.
fn tests(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some(rest) = line.trim_start_matches("async ").strip_prefix("fn ")
            && std::mem::take(&mut marked)
        {
            found.extend(rest.split_once('(').map(|(name, _)| name));
        }
    }
    found
}

/// Why what stands between two backticks names no test, if it should.
fn wrong(name: &str) -> Option<String> {
    let (place, path) = name.split_once(": ").unwrap_or(("", name));
    let (file, test) = path.split_once("::")?;
    let Some((_, dir)) = PLACES.iter().find(|(known, _)| *known == place) else {
        return Some(format!("{name}: there is no place {place:?}"));
    };
    let Some(source) = module(&root().join(dir), file) else {
        return Some(format!("{name}: there is no {file}.rs below {dir}"));
    };
    let tests = tests(&source);
    let exists = if test == "*" { !tests.is_empty() } else { tests.contains(&test) };
    (!exists).then(|| format!("{name}: no such test in {file}.rs"))
}

#[test]
fn every_named_test_exists() {
    let page = fs::read_to_string(root().join("docs/security.md")).expect("the page");
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let names: Vec<&str> = rows.flat_map(|row| row.split('`').skip(1).step_by(2)).collect();
    let named = names.iter().filter(|name| name.contains("::")).count();
    assert!(named > 20, "the page names its proofs: {named}");
    let wrong: Vec<String> = names.into_iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_does_not_exist_is_found() {
    assert!(wrong("tokens::no_such_test").is_some());
    assert!(wrong("no_such_module::a_test").is_some());
    assert!(wrong("nowhere: tokens::a_basic_credential_is_passed_on_likewise").is_some());
    assert_eq!(wrong("tokens::a_basic_credential_is_passed_on_likewise"), None);
    assert_eq!(wrong("--insecure-listen"), None, "not everything in backticks is a test");
}
