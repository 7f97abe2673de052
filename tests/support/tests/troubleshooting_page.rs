//! What docs/troubleshooting.md says that logs say, they say: each message of its tables stands in the sources.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(dir: &Path, text: &mut String) {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .expect("a directory of this workspace")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            // What a test says no program says.
            if path.file_name().is_some_and(|name| name != "tests") {
                sources(&path, text);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("a source file");
            text.push_str(source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
        }
    }
}

#[test]
fn messages_of_the_page_are_messages_of_the_programs() {
    let mut text = String::new();
    for dir in ["crates", "dfdaemon/src", "scheduler/src"] {
        sources(&root().join(dir), &mut text);
    }
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).expect("the page");
    let mut in_logs = false;
    let mut found = 0;
    for line in page.lines() {
        match line {
            _ if line.starts_with("| log |") => in_logs = true,
            _ if !line.starts_with('|') => in_logs = false,
            _ if in_logs && !line.starts_with("|--") && !line.contains("in the metrics") => {
                let message = line.split('`').nth(1).unwrap_or_else(|| panic!("no message in {line}"));
                assert!(text.contains(&format!("\"{message}\"")), "no program says {message:?}");
                found += 1;
            }
            _ => {}
        }
    }
    assert!(found >= 7, "only {found} messages were found on the page");
}
