//! Who sent how much of which blob to whom, as the daemons' logs say it.
//!
//! Metrics carry no digests, so the test reads the debug event of each uploaded piece.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The filter under which daemons log each upload.
pub const LOG_FILTER: &str = "info,dfdaemon::upload=debug";

/// The event's message.
const MESSAGE: &str = "piece uploaded";

/// One event; others have a message too, but no digest.
#[derive(Deserialize)]
struct Line {
    message: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    bytes: u64,
}

/// Bytes of each blob, by digest, that the daemon with this log sent to peers.
///
/// # Errors
/// If the log cannot be read.
pub fn by_blob(log: &Path) -> Result<BTreeMap<String, u64>> {
    let text = std::fs::read(log).with_context(|| log.display().to_string())?;
    let mut bytes = BTreeMap::new();
    for line in String::from_utf8_lossy(&text).lines().filter(|line| line.contains(MESSAGE)) {
        let Ok(line) = serde_json::from_str::<Line>(line) else { continue };
        if line.message == MESSAGE {
            *bytes.entry(line.digest).or_default() += line.bytes;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_summed_by_blob() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = |digest: &str, bytes: u64| {
            format!(
                "{{\"level\":\"DEBUG\",\"message\":\"piece uploaded\",\"digest\":\"{digest}\",\"bytes\":{bytes}}}\n"
            )
        };
        let text = line("a", 1)
            + "not json: piece uploaded\n"
            + &line("b", 2)
            + "{\"message\":\"ready\"}\n"
            + &line("a", 4);
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(by_blob(file.path()).unwrap(), BTreeMap::from([("a".to_owned(), 5), ("b".to_owned(), 2)]));
    }
}
