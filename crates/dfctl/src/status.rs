//! `dfctl status`: the cluster as the daemon's scheduler sees it.

use crate::client::Client;
use crate::table::table;
use crate::{Error, Output};
use bytesize::ByteSize;
use serde::Deserialize;
use std::io::Write;

/// The daemon's answer. What it says beyond this is shown with `-o json`.
#[derive(Debug, Deserialize)]
struct Status {
    /// The asked host's id.
    #[serde(default)]
    host: String,
    /// `up`, or `down`: then only the asked host is listed.
    #[serde(default)]
    scheduler: String,
    hosts: Vec<Host>,
    blobs: Vec<Blob>,
}

#[derive(Debug, Deserialize)]
struct Host {
    id: String,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    rack: String,
    traffic: Traffic,
}

/// Bytes since the host's start.
#[derive(Debug, Deserialize)]
struct Traffic {
    origin: u64,
    fallback: u64,
    rack: u64,
    zone: u64,
    elsewhere: u64,
    cache: u64,
    uploaded: u64,
}

#[derive(Debug, Deserialize)]
struct Blob {
    digest: String,
    size: u64,
    #[serde(default)]
    registry: String,
    #[serde(default)]
    source: Option<String>,
    closed: bool,
    complete: u32,
    wanting: u32,
}

pub(crate) async fn run(client: &Client, output: Output, out: &mut impl Write) -> Result<(), Error> {
    let answer: serde_json::Value = client.get("/v1/status").await?;
    if output == Output::Json {
        serde_json::to_writer_pretty(&mut *out, &answer).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    let status: Status =
        serde_json::from_value(answer).map_err(|error| Error::Unexpected(error.to_string()))?;
    write_tables(&status, out)?;
    Ok(())
}

fn write_tables(status: &Status, out: &mut impl Write) -> std::io::Result<()> {
    if status.scheduler == "down" {
        writeln!(out, "the scheduler does not answer: this host alone\n")?;
    }
    let head = [
        "HOST",
        "ADDRESS",
        "ZONE",
        "RACK",
        "ORIGIN",
        "FALLBACK",
        "SAME RACK",
        "SAME ZONE",
        "ELSEWHERE",
        "CACHE",
        "UPLOADED",
    ];
    let hosts = status.hosts.iter().map(|host| {
        let mark = if host.id == status.host { "*" } else { "" };
        let t = &host.traffic;
        let place = [
            format!("{}{mark}", host.id),
            text(host.address.as_deref()),
            text(Some(&host.zone)),
            text(Some(&host.rack)),
        ];
        let bytes = [t.origin, t.fallback, t.rack, t.zone, t.elsewhere, t.cache, t.uploaded].map(size);
        place.into_iter().chain(bytes).collect()
    });
    table(out, &head, 4, &hosts.collect::<Vec<_>>())?;
    writeln!(out)?;
    let head = ["BLOB", "REGISTRY", "SOURCE", "PROVEN", "SIZE", "COMPLETE", "WANTING"];
    let blobs = status.blobs.iter().map(|blob| {
        let proven = if blob.closed { "yes" } else { "no" };
        vec![
            short(&blob.digest),
            text(Some(&blob.registry)),
            text(blob.source.as_deref()),
            proven.to_owned(),
            size(blob.size),
            blob.complete.to_string(),
            blob.wanting.to_string(),
        ]
    });
    table(out, &head, 4, &blobs.collect::<Vec<_>>())
}

/// The algorithm and enough of the digest to find it again.
fn short(digest: &str) -> String {
    const LEN: usize = 19;
    digest.chars().take(LEN).collect()
}

fn text(value: Option<&str>) -> String {
    value.filter(|value| !value.is_empty()).unwrap_or("-").to_owned()
}

fn size(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { ByteSize(bytes).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let answer = serde_json::json!({
            "host": "aa", "scheduler": "up", "more": 1,
            "hosts": [
                {"id": "aa", "address": "10.0.0.1:6502", "zone": "z1", "rack": "", "connected_seconds": 1, "traffic": {
                    "origin": 1_048_576, "fallback": 0, "rack": 2048, "zone": 0, "elsewhere": 0, "cache": 0, "uploaded": 1}},
                {"id": "bb", "address": null, "zone": "", "rack": "r", "traffic": {
                    "origin": 0, "fallback": 0, "rack": 0, "zone": 0, "elsewhere": 0, "cache": 0, "uploaded": 0}},
            ],
            "blobs": [{"digest": format!("sha256:{}", "c".repeat(64)), "size": 100, "registry": "docker.io",
                "source": "aa", "closed": true, "complete": 1, "wanting": 2}],
        });
        let status: Status = serde_json::from_value(answer).unwrap();
        let mut out = Vec::new();
        write_tables(&status, &mut out).unwrap();
        let expected = "\
HOST  ADDRESS        ZONE  RACK   ORIGIN  FALLBACK  SAME RACK  SAME ZONE  ELSEWHERE  CACHE  UPLOADED
aa*   10.0.0.1:6502  z1    -     1.0 MiB         -    2.0 KiB          -          -      -       1 B
bb    -              -     r           -         -          -          -          -      -         -

BLOB                 REGISTRY   SOURCE  PROVEN   SIZE  COMPLETE  WANTING
sha256:cccccccccccc  docker.io  aa      yes     100 B         1        2
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
