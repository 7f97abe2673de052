//! A line of the audit log as a row for people. The columns' widths are fixed: what comes later is not known.

use bytesize::ByteSize;
use process::audit::{Event, Line, Request, Sources, VouchedBy};
use std::fmt::Write as _;
use std::io::{self, Write};

/// Digits of a digest that are shown.
const DIGEST_LEN: usize = 19;

pub(super) fn write_head(out: &mut impl Write) -> io::Result<()> {
    cells(["TIME", "CLIENT", "UID", "CREDENTIAL", "STATUS", "PERMITTED BY", "SENT", "MS", "WHAT"], out)
}

pub(super) fn write(line: &Line, out: &mut impl Write) -> io::Result<()> {
    let time = humantime::format_rfc3339_millis(line.time).to_string();
    let client = line.client.map_or_else(|| "-".to_owned(), |client| client.to_string());
    let uid = line.uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string());
    let what = what(&line.event);
    let Event::Request(request) = &line.event else {
        return cells([&time, &client, &uid, "-", "-", "-", "-", "-", &what], out);
    };
    let credential = request.credential.as_deref().unwrap_or("-");
    let status = request.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let permitted = request.permit.map_or("-", |permit| permit.permitted_by.name());
    let (sent, ms) = (ByteSize(request.sent_bytes).to_string(), request.duration_ms.to_string());
    cells([&time, &client, &uid, credential, &status, permitted, &sent, &ms, &what], out)
}

fn cells(cells: [&str; 9], out: &mut impl Write) -> io::Result<()> {
    // What is not from a daemon could steer the terminal.
    let cells =
        cells.map(|cell| cell.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>());
    let [time, client, uid, credential, status, permitted, sent, ms, what] = &cells;
    writeln!(
        out,
        "{time:<24}  {client:<21}  {uid:>5}  {credential:<16}  {status:>6}  {permitted:<12}  {sent:>9}  {ms:>7}  {what}"
    )
}

fn what(event: &Event) -> String {
    match event {
        Event::Request(request) => what_of_request(request),
        Event::Operation(operation) => format!("{} ({}): {}", operation.name, operation.by, operation.detail),
        Event::Lost { lines } => format!("{lines} lines are missing before this one"),
    }
}

fn what_of_request(request: &Request) -> String {
    let mut text = format!("{} {}/{}", request.method, request.registry, request.repository);
    if let Some(tag) = &request.tag {
        let _ = write!(text, ":{tag}");
    }
    if let Some(digest) = &request.digest {
        let _ = write!(text, "@{}", digest.chars().take(DIGEST_LEN).collect::<String>());
    }
    if let Some(range) = &request.range {
        let _ = write!(text, " {range}");
    }
    let ended_well = matches!(&*request.outcome, "ok" | "client_error" | "server_error");
    let outcome = (!ended_well).then(|| request.outcome.replace('_', " "));
    let vouched = request.permit.and_then(|permit| permit.vouched_by).map(|by| match by {
        VouchedBy::Possession => "read before".to_owned(),
        VouchedBy::Registry => "on the registry's word".to_owned(),
    });
    let Sources { cache_bytes, peer_bytes, origin_bytes } = request.sources.unwrap_or_default();
    let sources = [("cache", cache_bytes), ("peers", peer_bytes), ("origin", origin_bytes)]
        .into_iter()
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(source, bytes)| format!("{} from {source}", ByteSize(bytes)));
    let notes: Vec<String> = outcome.into_iter().chain(sources).chain(vouched).collect();
    if !notes.is_empty() {
        let _ = write!(text, " ({})", notes.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let lines = [
            format!(
                r#"{{"time":"2026-01-31T08:00:00.042Z","client":"127.0.0.1:50000","uid":1000,"event":"request",
                "method":"GET","kind":"blob","registry":"ghcr.io","repository":"org/app","digest":"{digest}",
                "range":"bytes=0-","credential":"0123456789abcdef","status":206,"outcome":"broken",
                "permitted_by":"client","vouched_by":"registry","sent_bytes":2048,"cache_bytes":0,"peer_bytes":1024,
                "origin_bytes":1024,"duration_ms":12}}"#
            ),
            r#"{"time":"2026-01-31T08:00:01Z","client":"127.0.0.1:50000","event":"request","method":"HEAD",
                "kind":"manifest","registry":"ghcr.io","repository":"org/app","tag":"v1","status":401,
                "outcome":"client_error","sent_bytes":0,"duration_ms":3}"#
                .to_owned(),
            r#"{"time":"2026-01-31T08:00:02Z","uid":0,"event":"operation","name":"refresh","by":"admin",
                "detail":"\u001b[2Jx"}"#
                .to_owned(),
            r#"{"time":"2026-01-31T08:00:03Z","event":"lost","lines":7}"#.to_owned(),
        ];
        let mut out = Vec::new();
        write_head(&mut out).unwrap();
        for line in lines {
            write(&serde_json::from_str(&line).unwrap(), &mut out).unwrap();
        }
        let expected = "\
TIME                      CLIENT                   UID  CREDENTIAL        STATUS  PERMITTED BY       SENT       MS  WHAT
2026-01-31T08:00:00.042Z  127.0.0.1:50000         1000  0123456789abcdef     206  client          2.0 KiB       12  GET ghcr.io/org/app@sha256:aaaaaaaaaaaa bytes=0- (broken, 1.0 KiB from peers, 1.0 KiB from origin, on the registry's word)
2026-01-31T08:00:01.000Z  127.0.0.1:50000            -  -                    401  -                   0 B        3  HEAD ghcr.io/org/app:v1
2026-01-31T08:00:02.000Z  -                          0  -                      -  -                     -        -  refresh (admin): ?[2Jx
2026-01-31T08:00:03.000Z  -                          -  -                      -  -                     -        -  7 lines are missing before this one
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
