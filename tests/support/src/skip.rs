//! Tests that cannot run here say so, and are counted: no test that passes by doing nothing.

use std::io::Write;

/// A file to which each skipped test adds a line; `tests/run` counts them.
pub const SKIPS_VARIABLE: &str = "DAMSELFLY_SKIPS";

/// Says that `test` is skipped and why.
pub fn skipped(test: &str, why: &str) {
    eprintln!("skipped: {test}: {why}");
    if let Some(path) = std::env::var_os(SKIPS_VARIABLE)
        && let Ok(mut file) = std::fs::File::options().create(true).append(true).open(path)
    {
        // Standard error has it already; a lost line only makes the count too low.
        let _ = writeln!(file, "{test}: {why}");
    }
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
