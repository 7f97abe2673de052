//! Directories that are known by files in them, and removed so that they are known for what they are to the end:
//! `dfctl cache remove` and `dfctl service uninstall --purge`.

use std::fs;
use std::io;
use std::path::Path;

/// Removes a directory with all that is in it, and the link that it was named by. What tells what it is goes last, so that
/// one that is broken off can be begun again.
///
/// # Errors
/// If something cannot be removed.
pub(crate) fn remove_marked(named: &Path, marks: &[&str]) -> io::Result<()> {
    // It may be a link, as systemd makes one for a service with a user of its own.
    let dir = fs::canonicalize(named)?;
    for entry in fs::read_dir(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if marks.iter().any(|mark| name == *mark) {
            continue;
        }
        let is_dir = entry.file_type()?.is_dir();
        let removed = if is_dir { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        removed?;
    }
    fs::remove_dir_all(&dir)?;
    unlink(named)
}

/// Removes the link that a directory was named by, if it was one.
///
/// # Errors
/// If it cannot be removed.
pub(crate) fn unlink(named: &Path) -> io::Result<()> {
    if named.is_symlink() { fs::remove_file(named) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn all_goes_and_the_link_too() {
        let root = tempfile::tempdir().unwrap();
        let (dir, link) = (root.path().join("dir"), root.path().join("link"));
        fs::create_dir_all(dir.join("inner/most")).unwrap();
        for name in ["mark", "file", "inner/most/file"] {
            fs::write(dir.join(name), "x").unwrap();
        }
        // Of links in it only the links go.
        let other = root.path().join("other");
        fs::create_dir(&other).unwrap();
        symlink(&other, dir.join("away")).unwrap();
        symlink(&dir, &link).unwrap();
        remove_marked(&link, &["mark"]).unwrap();
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [other]);
    }
}
