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

#[derive(Deserialize)]
struct Line {
    fields: Fields,
}

#[derive(Deserialize)]
struct Fields {
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
        if line.fields.message == MESSAGE {
            *bytes.entry(line.fields.digest).or_default() += line.fields.bytes;
        }
    }
    Ok(bytes)
}
