//! What container runtimes leave mounted when they end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::process::run;

/// The limit for one `umount`.
const LIMIT: Duration = Duration::from_secs(20);

/// Unmounts everything below `dir`, the innermost first, so that the directory can be removed.
pub fn unmount_below(dir: &Path) {
    let Ok(text) = std::fs::read_to_string("/proc/self/mounts") else { return };
    let points = text.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    let below: Vec<PathBuf> = points.filter(|point| point.starts_with(dir)).collect();
    for point in below.iter().rev() {
        // Lazily: a process that is about to end may still use it.
        if let Err(error) = run(Command::new("umount").arg("--lazy").arg(point), LIMIT) {
            eprintln!("{error:#}");
        }
    }
}
