//! The codes that `dfctl` ends with: each that docs/dfctl.md has comes, `--help` has the same, and JSON says it too.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};

fn dfctl(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dfctl")).args(words).output().unwrap()
}

/// The address of somebody who answers every question so.
fn answers(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = BufReader::new(stream.try_clone().unwrap());
            answer(request, &mut stream, status, body);
        }
    });
    address
}

/// Reads a request, and answers it.
fn answer(mut request: impl BufRead, stream: &mut impl Write, status: &str, body: &str) {
    let mut length = 0;
    for line in request.by_ref().lines() {
        let line = line.unwrap().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    // What is left unread when the connection is closed may take the answer with it.
    request.read_exact(&mut vec![0; length]).unwrap();
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .unwrap();
}

/// Code and meaning, as the page has them.
fn documented() -> Vec<(u8, String)> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/dfctl.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    rows.filter_map(|(code, rest)| {
        let (meaning, _) = rest.split_once(" |")?;
        Some((code.parse().ok()?, meaning.to_owned()))
    })
    .collect()
}

#[test]
fn help_has_the_codes_of_the_page() {
    let help = String::from_utf8(dfctl(&["--help"]).stdout).unwrap();
    let (_, codes) = help.split_once("Exit codes:\n").unwrap();
    let codes = codes.lines().map_while(|line| line.trim_start().split_once("  "));
    let codes: Vec<(u8, String)> =
        codes.map(|(code, meaning)| (code.parse().unwrap(), meaning.to_owned())).collect();
    assert_eq!(codes, documented());
}

/// The code of a wait that is too short: with `-o json` there is a result too, and an error all the same.
fn waited_for_no_longer() -> u8 {
    let running = r#"{"id": "17", "state": "running", "created": 1, "images": [], "bytes": 2, "held_bytes": 1,
        "hosts": {"total": 1, "done": 0}}"#;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("operator.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = BufReader::new(stream.try_clone().unwrap());
            answer(request, &mut stream, "201 Created", running);
        }
    });
    let line = ["preheat", "app", "--wait", "--timeout", "0s", "--socket", socket.to_str().unwrap()];
    let output = dfctl(&line);
    assert!(output.stderr.starts_with(b"error: preheat 17 has not ended within 0s"), "{output:?}");
    let code = u8::try_from(output.status.code().unwrap()).unwrap();
    let output = dfctl(&[&line[..], &["-o", "json"]].concat());
    assert_eq!(output.status.code(), Some(code.into()), "{output:?}");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["id"], "17", "{output:?}");
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["exit"], code, "{output:?}");
    code
}

#[test]
fn each_code_comes() {
    let unknown = answers("404 Not Found", r#"{"errors":[{"message":"manifest unknown"}]}"#);
    let unauthorized = answers("401 Unauthorized", r#"{"errors":[{"message":"log in"}]}"#);
    let forbidden = answers("403 Forbidden", r#"{"errors":[{"message":"not yours"}]}"#);
    let overloaded = answers("503 Service Unavailable", r#"{"error":"the registry does not answer"}"#);
    let nonsense = answers("200 OK", "<html>");
    let root = tempfile::tempdir().unwrap();
    let machine = root.path().to_str().unwrap();
    let loops = tempfile::tempdir().unwrap();
    std::fs::create_dir(loops.path().join("etc")).unwrap();
    std::os::unix::fs::symlink("damselfly", loops.path().join("etc/damselfly")).unwrap();
    let built = tempfile::tempdir().unwrap();
    for name in ["dfdaemon", "dfctl"] {
        std::fs::write(built.path().join(name), name).unwrap();
    }
    let (loops, built) = (loops.path().to_str().unwrap(), built.path().to_str().unwrap());
    let cases: [(&[&str], u8); 16] = [
        (&["cache", "remove", "/nowhere"], 0),
        (&["pull", "app", "--proxy", &unknown], 1),
        (&["statsu"], 64),
        (&["pull"], 64),
        (&["status", "--daemon", &nonsense], 65),
        (&["refresh", "app", "--daemon", &nonsense], 65),
        (&["status", "--daemon", "http://127.0.0.1:1"], 69),
        (&["token", "list", "--socket", "/nowhere/operator.sock"], 69),
        (&["refresh", "app", "--daemon", &overloaded], 69),
        (&["audit", "--file", "/nowhere/audit.log"], 74),
        (&["service", "install", "--root", machine], 1),
        (&["service", "install", "--root", machine, "--from", "/nowhere"], 74),
        (&["service", "install", "--root", machine, "--join-file", "/nowhere/join"], 74),
        // The file with the settings cannot be read.
        (&["service", "install", "--root", loops, "--from", built], 74),
        (&["pull", "app", "--proxy", &unauthorized], 77),
        (&["pull", "app", "--proxy", &forbidden], 77),
    ];
    let mut seen = BTreeSet::new();
    for (line, code) in cases {
        let output = dfctl(line);
        assert_eq!(output.status.code(), Some(code.into()), "{line:?}: {output:?}");
        assert_eq!(output.stderr.starts_with(b"error: "), code != 0, "{line:?}: {output:?}");
        seen.insert(code);
        let output = dfctl(&[line, &["-o", "json"]].concat());
        assert_eq!(output.status.code(), Some(code.into()), "{line:?}: {output:?}");
        let (result, error) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        if code == 0 {
            assert_eq!(error, "", "{line:?}");
            let _: serde_json::Value = serde_json::from_str(&result).unwrap();
            continue;
        }
        assert_eq!((result.as_str(), error.lines().count()), ("", 1), "{line:?}: {error}");
        let error: serde_json::Value = serde_json::from_str(&error).unwrap();
        assert_eq!(error["exit"], code, "{line:?}: {error}");
        assert!(!error["error"].as_str().unwrap().is_empty(), "{line:?}: {error}");
    }
    seen.insert(waited_for_no_longer());
    let documented: BTreeSet<u8> = documented().into_iter().map(|(code, _)| code).collect();
    assert_eq!(seen, documented);
}

#[test]
fn what_has_no_result_refuses_json() {
    for line in [vec!["top"], vec!["hold", "1ms"], vec!["completion", "bash"], vec!["man", "/nowhere/man"]] {
        let output = dfctl(&[&line[..], &["-o", "json"]].concat());
        assert_eq!(output.status.code(), Some(64), "{line:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{line:?}: {output:?}");
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        let error = error["error"].as_str().unwrap();
        let name = format!("`dfctl {}` ", line[0]);
        assert!(error.starts_with(&name) && error.contains("takes no -o json"), "{error}");
    }
}
