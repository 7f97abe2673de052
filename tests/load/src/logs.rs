//! What the daemons and the scheduler complained of: their warnings and errors, by text.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// A complaint, and how often it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// WARN or ERROR.
    pub level: String,
    /// The module that complained.
    pub target: String,
    /// Its text, without the fields.
    pub message: String,
    /// How often.
    pub count: u64,
    /// The first one whole.
    pub example: String,
}

/// A line of a log in JSON.
#[derive(Deserialize)]
struct Line {
    level: String,
    #[serde(default)]
    target: String,
    #[serde(default)]
    message: String,
}

/// The complaints in these logs, the most frequent first.
///
/// # Errors
/// If a log cannot be read.
pub fn warnings<'a>(logs: impl IntoIterator<Item = &'a Path>) -> Result<Vec<Warning>> {
    let mut found: BTreeMap<(String, String, String), (u64, String)> = BTreeMap::new();
    for log in logs {
        let file = std::fs::File::open(log).with_context(|| log.display().to_string())?;
        for text in BufReader::new(file).lines() {
            let text = text?;
            note(&mut found, &text);
        }
    }
    let mut warnings: Vec<Warning> = found
        .into_iter()
        .map(|((level, target, message), (count, example))| Warning {
            level,
            target,
            message,
            count,
            example,
        })
        .collect();
    warnings.sort_by_key(|warning| std::cmp::Reverse(warning.count));
    Ok(warnings)
}

fn note(found: &mut BTreeMap<(String, String, String), (u64, String)>, text: &str) {
    let Ok(line) = serde_json::from_str::<Line>(text) else {
        // What a panic prints is no JSON.
        if text.contains("panicked at") {
            let key = ("ERROR".to_owned(), "panic".to_owned(), text.to_owned());
            found.entry(key).or_insert_with(|| (0, text.to_owned())).0 += 1;
        }
        return;
    };
    if line.level == "WARN" || line.level == "ERROR" {
        let key = (line.level, line.target, line.message);
        found.entry(key).or_insert_with(|| (0, text.to_owned())).0 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_counted_by_text() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let lines = [
            r#"{"level":"INFO","message":"ready"}"#,
            r#"{"level":"WARN","target":"a","message":"slow","peer":"1"}"#,
            r#"{"level":"WARN","target":"a","message":"slow","peer":"2"}"#,
            "ready 127.0.0.1:1",
            "thread 'main' panicked at src/x.rs:1:1:",
        ];
        std::fs::write(&log, lines.join("\n")).unwrap();
        let warnings = warnings([log.as_path()]).unwrap();
        assert_eq!(warnings.len(), 2);
        assert_eq!((warnings[0].message.as_str(), warnings[0].count), ("slow", 2));
        assert!(warnings[0].example.contains("\"1\""));
        assert_eq!(warnings[1].target, "panic");
    }
}
