//! How preheats stand, for people.

use super::answer::{Row, State};
use crate::table::{missing, reason, short, size, table, text, time};
use bytesize::ByteSize;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// What becomes of a preheat and how far it is, on one line.
pub(super) fn line(state: &State) -> String {
    let becomes = match state.state.as_str() {
        "running" => "goes on".to_owned(),
        "done" => "is done".to_owned(),
        "failed" => "failed".to_owned(),
        "cancelled" => "was cancelled".to_owned(),
        other => format!("is {}", text(Some(other))),
    };
    let (held, all) = (ByteSize(state.held_bytes), ByteSize(state.bytes));
    format!("preheat {} {becomes}: {}, {held} of {all} held", state.id, hosts(state))
}

/// How many hosts are how far.
pub(super) fn hosts(state: &State) -> String {
    let hosts = &state.hosts;
    let others = [(hosts.failed, "failed"), (hosts.away, "away")].into_iter().filter(|(count, _)| *count > 0);
    let others: String = others.map(|(count, how)| format!(", {count} {how}")).collect();
    format!("{} of {} hosts have all{others}", hosts.done, hosts.total)
}

/// What will be held where. How much is held already nobody has said yet.
pub(super) fn write_begun(state: &State, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "preheat {}: {} for {}, {} in all\n",
        state.id,
        count(state.images.len() as u64, "image"),
        count(u64::from(state.hosts.total), "host"),
        ByteSize(state.bytes)
    )?;
    write_images(state, out)?;
    if state.rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    write_zones(&state.rows, out)?;
    missing("hosts", state.rows.len(), state.hosts.total, out)
}

/// On which hosts it failed and why, as the rest of a line and further lines; nothing if the scheduler does not say it.
pub(super) fn failures(state: &State) -> String {
    if state.failures.is_empty() {
        return String::new();
    }
    let listed = state.failures.iter();
    let listed = listed.map(|failure| format!("\n  {}: {}", text(Some(&failure.host)), reason(&failure.why)));
    let more = u64::from(state.hosts.failed).saturating_sub(state.failures.len() as u64);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    format!(":{}{more}", listed.collect::<String>())
}

/// All that is known of one, host by host.
pub(super) fn write_whole(state: &State, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", line(state))?;
    let ended = state.ended.map_or_else(String::new, |ended| format!(", ended {}", time(ended)));
    writeln!(out, "begun {}{ended}\n", time(state.created))?;
    write_images(state, out)?;
    writeln!(out)?;
    write_hosts(state, out)?;
    write_reasons(&state.rows, out)
}

/// One a line, in their order.
pub(super) fn write_list(states: &[State], out: &mut impl Write) -> io::Result<()> {
    let head = ["PREHEAT", "STATE", "BEGUN", "IMAGES", "HELD", "SIZE", "HOSTS", "DONE", "FAILED", "AWAY"];
    let rows = states.iter().map(|state| {
        let first = text(state.images.first().map(|image| &*image.image));
        let images = match state.images.len() {
            0 | 1 => first,
            more => format!("{first} and {} more", more - 1),
        };
        let hosts = &state.hosts;
        let counts = [hosts.total, hosts.done, hosts.failed, hosts.away].map(|count| count.to_string());
        let sizes = [size(state.held_bytes), size(state.bytes)];
        let words = [state.id.to_string(), text(Some(&state.state)), time(state.created), images];
        words.into_iter().chain(sizes).chain(counts).collect()
    });
    table(out, &head, 4, &rows.collect::<Vec<_>>())
}

fn write_images(state: &State, out: &mut impl Write) -> io::Result<()> {
    let rows = state.images.iter().map(|image| {
        let platforms = text(Some(&image.platforms.join(", ")));
        vec![text(Some(&image.image)), short(&image.digest), platforms, size(image.bytes)]
    });
    table(out, &["IMAGE", "DIGEST", "PLATFORMS", "SIZE"], 3, &rows.collect::<Vec<_>>())
}

/// The hosts by zone: a cluster may have thousands of them.
fn write_zones(hosts: &[Row], out: &mut impl Write) -> io::Result<()> {
    let mut zones: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
    for host in hosts {
        let (count, bytes) = zones.entry(&host.zone).or_default();
        *count += 1;
        *bytes = bytes.saturating_add(host.bytes);
    }
    let zones = zones.into_iter();
    let rows = zones.map(|(zone, (count, bytes))| vec![text(Some(zone)), count.to_string(), size(bytes)]);
    table(out, &["ZONE", "HOSTS", "SIZE"], 1, &rows.collect::<Vec<_>>())
}

fn write_hosts(state: &State, out: &mut impl Write) -> io::Result<()> {
    let head = ["HOST", "ZONE", "PLATFORM", "STATE", "HELD", "SIZE", "BLOBS"];
    let rows = state.rows.iter().map(|row| {
        let words = [&row.host, &row.zone, &row.platform, &row.state].map(|word| text(Some(word)));
        let blobs = format!("{}/{}", row.held_blobs, row.blobs);
        words.into_iter().chain([size(row.held_bytes), size(row.bytes), blobs]).collect()
    });
    table(out, &head, 4, &rows.collect::<Vec<_>>())?;
    missing("hosts", state.rows.len(), state.hosts.total, out)
}

/// Why hosts do not hold all; nothing if none of them says so.
fn write_reasons(hosts: &[Row], out: &mut impl Write) -> io::Result<()> {
    let rows = hosts.iter().filter_map(|row| Some(vec![text(Some(&row.host)), reason(row.why.as_deref()?)]));
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    table(out, &["HOST", "WHY"], 2, &rows)
}

fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::super::answer::read;
    use super::*;
    use serde_json::{Value, json};

    const IMAGES: &str = "\
IMAGE                            DIGEST               PLATFORMS                    SIZE
ghcr.io/org/app:v1               sha256:aaaaaaaaaaaa  linux/amd64, linux/arm64  3.0 MiB
docker.io/library/alpine:latest  sha256:bbbbbbbbbbbb  linux/amd64               1.0 MiB
";

    /// Two images for three hosts; one has all, one has failed, one is away.
    fn answer() -> Value {
        let digest = |c: &str| format!("sha256:{}", c.repeat(64));
        json!({
            "id": "17", "state": "running", "created": 1_764_485_000, "ended": null,
            "images": [
                {"image": "ghcr.io/org/app:v1", "digest": digest("a"), "platforms": ["linux/amd64", "linux/arm64"],
                    "bytes": 3 << 20},
                {"image": "docker.io/library/alpine:latest", "digest": digest("b"), "platforms": ["linux/amd64"],
                    "bytes": 1 << 20},
            ],
            "bytes": 9 << 20, "held_bytes": 5 << 20,
            "hosts": {"total": 3, "done": 1, "failed": 1, "away": 1},
            "failures": [{"host": "00000000000000bb", "why": "ghcr.io/org/app: denied\u{1b}[2J\u{202e}"}],
            "rows": [
                {"host": "661da0c17a2429dd", "zone": "eu-1a", "platform": "linux/amd64", "state": "done",
                    "bytes": 4 << 20, "held_bytes": 4 << 20, "blobs": 7, "held_blobs": 7, "why": null},
                {"host": "00000000000000bb", "zone": "eu-1a", "platform": "linux/arm64", "state": "failed",
                    "bytes": 3 << 20, "held_bytes": 1 << 20, "blobs": 5, "held_blobs": 2,
                    "why": "ghcr.io/org/app: denied\u{1b}[2J\u{202e}"},
                {"host": "00000000000000cc", "zone": "", "platform": "linux/amd64", "state": "away",
                    "bytes": 2 << 20, "held_bytes": 0, "blobs": 4, "held_blobs": 0, "why": null},
            ],
        })
    }

    #[track_caller]
    fn check(answer: &Value, write: impl FnOnce(&State, &mut Vec<u8>) -> io::Result<()>, expected: &str) {
        let mut out = Vec::new();
        write(&read::<State>(answer).unwrap(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_has_begun() {
        let zones = "\
ZONE   HOSTS     SIZE
-          1  2.0 MiB
eu-1a      2  7.0 MiB
";
        let head = "preheat 17: 2 images for 3 hosts, 9.0 MiB in all";
        check(&answer(), write_begun, &format!("{head}\n\n{IMAGES}\n{zones}"));
        // More hosts than the scheduler lists, and none listed at all.
        let mut answer = answer();
        answer["hosts"]["total"] = 5000.into();
        let more = head.replace("for 3", "for 5000");
        let listed = "3 of 5000 hosts are listed\n";
        check(&answer, write_begun, &format!("{more}\n\n{IMAGES}\n{zones}{listed}"));
        answer["rows"] = json!([]);
        check(&answer, write_begun, &format!("{more}\n\n{IMAGES}"));
    }

    #[test]
    fn all_that_is_known() {
        let head = "preheat 17 goes on: 1 of 3 hosts have all, 1 failed, 1 away, 5.0 MiB of 9.0 MiB held";
        let hosts = "\
HOST              ZONE   PLATFORM     STATE      HELD     SIZE  BLOBS
661da0c17a2429dd  eu-1a  linux/amd64  done    4.0 MiB  4.0 MiB    7/7
00000000000000bb  eu-1a  linux/arm64  failed  1.0 MiB  3.0 MiB    2/5
00000000000000cc  -      linux/amd64  away          -  2.0 MiB    0/4

HOST              WHY
00000000000000bb  ghcr.io/org/app: denied[2J
";
        let begun = "begun 2025-11-30T06:43:20Z";
        check(&answer(), write_whole, &format!("{head}\n{begun}\n\n{IMAGES}\n{hosts}"));
        let mut answer = answer();
        answer["state"] = "cancelled".into();
        answer["ended"] = 1_764_485_400.into();
        let head = head.replace("goes on", "was cancelled");
        let begun = format!("{begun}, ended 2025-11-30T06:50:00Z");
        check(&answer, write_whole, &format!("{head}\n{begun}\n\n{IMAGES}\n{hosts}"));
    }

    #[test]
    fn how_it_ended() {
        let mut answer = answer();
        let said = |answer: &Value| {
            let state = read::<State>(answer).unwrap();
            (line(&state), failures(&state))
        };
        answer["state"] = "failed".into();
        answer["hosts"] = json!({"total": 3, "done": 1, "failed": 2, "away": 0});
        let (ended, why) = said(&answer);
        assert_eq!(ended, "preheat 17 failed: 1 of 3 hosts have all, 2 failed, 5.0 MiB of 9.0 MiB held");
        assert_eq!(why, ":\n  00000000000000bb: ghcr.io/org/app: denied[2J\n  and 1 more");
        answer["hosts"] = json!({"total": 3, "done": 2, "failed": 1, "away": 0});
        assert_eq!(said(&answer).1, ":\n  00000000000000bb: ghcr.io/org/app: denied[2J");
        answer["state"] = "done".into();
        answer["hosts"] = json!({"total": 3, "done": 3, "failed": 0, "away": 0});
        answer["failures"] = json!([]);
        let expected = "preheat 17 is done: 3 of 3 hosts have all, 5.0 MiB of 9.0 MiB held";
        assert_eq!(said(&answer), (expected.to_owned(), String::new()));
    }

    #[test]
    fn a_list() {
        let listed = json!([
            {"id": "18", "state": "running", "created": 1_764_485_000, "ended": null, "bytes": 9 << 20, "held_bytes": 0,
                "images": answer()["images"], "hosts": {"total": 3, "done": 0, "failed": 0, "away": 0}},
            {"id": "17", "state": "done", "created": 7, "ended": 9, "bytes": 1 << 20, "held_bytes": 1 << 20,
                "images": [answer()["images"][1]], "hosts": {"total": 1, "done": 1, "failed": 0, "away": 0}},
        ]);
        let mut out = Vec::new();
        write_list(&read::<Vec<State>>(&listed).unwrap(), &mut out).unwrap();
        let expected = "\
PREHEAT  STATE    BEGUN                 IMAGES                              HELD     SIZE  HOSTS  DONE  FAILED  AWAY
18       running  2025-11-30T06:43:20Z  ghcr.io/org/app:v1 and 1 more          -  9.0 MiB      3     0       0     0
17       done     1970-01-01T00:00:07Z  docker.io/library/alpine:latest  1.0 MiB  1.0 MiB      1     1       0     0
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
