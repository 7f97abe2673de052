//! One text file that changes, and how that is shown.

use similar::TextDiff;
use std::path::{Path, PathBuf};

/// One text file that changes.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) path: PathBuf,
    /// Its text now; nothing where there is no file.
    pub(crate) before: Option<String>,
    /// Its text then.
    pub(crate) after: Option<String>,
}

impl Change {
    /// As `diff -u` shows it.
    pub(crate) fn diff(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let name = |text: &Option<String>, path: &Path| {
            if text.is_some() { path.display().to_string() } else { "/dev/null".to_owned() }
        };
        let (before, after) = (text(&self.before), text(&self.after));
        TextDiff::from_lines(&before, &after)
            .unified_diff()
            .header(&name(&self.before, &self.path), &name(&self.after, &self.path))
            .to_string()
    }

    /// The same, with each line of the file as `shown` shows it: some are secrets.
    pub(crate) fn diff_shown(&self, shown: impl Fn(&str) -> String) -> String {
        let diff = self.diff();
        let mut lines = diff.lines();
        let mut text = String::with_capacity(diff.len());
        // The names of the file before and after.
        for name in lines.by_ref().take(2) {
            text.push_str(name);
            text.push('\n');
        }
        for line in lines {
            match line.chars().next() {
                Some(sign @ (' ' | '+' | '-')) => {
                    text.push(sign);
                    text.push_str(&shown(&line[1..]));
                }
                // Where a hunk begins, or that the last line has no end.
                Some('@' | '\\') => text.push_str(line),
                // The rest of a line with a line end of another kind in it.
                _ => text.push_str(&shown(line)),
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_as_told_and_signs_stay() {
        let change = Change {
            path: "/a".into(),
            before: Some("-- one\ntwo\n".to_owned()),
            after: Some("two\nthree".to_owned()),
        };
        let shown = change.diff_shown(|line| format!("<{}>", line.len()));
        assert_eq!(
            shown,
            "--- /a\n+++ /a\n@@ -1,2 +1,2 @@\n-<6>\n <3>\n+<5>\n\\ No newline at end of file\n"
        );
        assert!(change.diff().contains("--- one\n two\n+three"), "{}", change.diff());
    }
}
