//! `dfctl status`: the cluster as the daemon's scheduler sees it.

use crate::answer::Status;
use crate::client::Client;
use crate::table::{ago, missing, short, size, table, text, times_bound};
use crate::{Error, Output, json};
use std::io::Write;

pub(crate) async fn run(client: &Client, output: Output, out: &mut impl Write) -> Result<(), Error> {
    let answer: serde_json::Value = client.get("/v1/status").await?;
    if output == Output::Json {
        return Ok(json::write(&answer, out)?);
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
    write_hosts(status, out)?;
    writeln!(out)?;
    write_blobs(status, out)?;
    if !status.rollouts.is_empty() {
        writeln!(out)?;
        write_rollouts(status, out)?;
    }
    Ok(())
}

fn write_hosts(status: &Status, out: &mut impl Write) -> std::io::Result<()> {
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
            format!("{}{mark}", text(Some(&host.id))),
            text(host.address.as_deref()),
            text(Some(&host.zone)),
            text(Some(&host.rack)),
        ];
        let bytes = [t.origin, t.fallback, t.rack, t.zone, t.elsewhere, t.cache, t.uploaded].map(size);
        place.into_iter().chain(bytes).collect()
    });
    table(out, &head, 4, &hosts.collect::<Vec<_>>())?;
    missing("hosts", status.hosts.len(), status.hosts_total, out)
}

fn write_blobs(status: &Status, out: &mut impl Write) -> std::io::Result<()> {
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
    table(out, &head, 4, &blobs.collect::<Vec<_>>())?;
    missing("blobs", status.blobs.len(), status.blobs_total, out)
}

/// The rollouts that have ended, the latest first as the daemon tells them.
fn write_rollouts(status: &Status, out: &mut impl Write) -> std::io::Result<()> {
    let head = ["ROLLOUT", "REGISTRY", "SIZE", "HOSTS", "SECONDS", "BOUND", "ENDED"];
    let rollouts = status.rollouts.iter().map(|rollout| {
        vec![
            short(&rollout.digest),
            text(Some(&rollout.registry)),
            size(rollout.size),
            rollout.hosts.to_string(),
            format!("{:.1}", rollout.seconds),
            times_bound(rollout.seconds, rollout.bound_seconds),
            ago(rollout.ended_seconds_ago),
        ]
    });
    table(out, &head, 2, &rollouts.collect::<Vec<_>>())
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
    #[test]
    fn more_than_is_listed_and_rollouts_that_ended() {
        let answer = serde_json::json!({
            "scheduler": "up", "hosts": [], "hosts_total": 5000, "blobs": [], "blobs_total": 0,
            "rollouts": [
                {"digest": format!("sha256:{}", "d".repeat(64)), "size": 2048, "registry": "docker.io", "hosts": 40,
                    "seconds": 3.0, "bound_seconds": 2.0, "ended_seconds_ago": 7.2},
                {"digest": "sha256:e", "size": 0, "registry": "docker.io", "hosts": 2, "seconds": 0.3,
                    "bound_seconds": null, "ended_seconds_ago": 600.0},
            ],
        });
        let status: Status = serde_json::from_value(answer).unwrap();
        let mut out = Vec::new();
        write_tables(&status, &mut out).unwrap();
        let expected = "\
HOST  ADDRESS  ZONE  RACK  ORIGIN  FALLBACK  SAME RACK  SAME ZONE  ELSEWHERE  CACHE  UPLOADED
0 of 5000 hosts are listed

BLOB  REGISTRY  SOURCE  PROVEN  SIZE  COMPLETE  WANTING

ROLLOUT              REGISTRY      SIZE  HOSTS  SECONDS  BOUND    ENDED
sha256:dddddddddddd  docker.io  2.0 KiB     40      3.0  1.50x   7s ago
sha256:e             docker.io        -      2      0.3      -  10m ago
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
