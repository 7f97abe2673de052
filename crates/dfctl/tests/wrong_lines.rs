//! What people read who make one of the usual mistakes: the program's own words, and its exit code.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

/// What standard error has before `clap`'s advice for every mistake, and the exit code; standard output is empty.
fn told(line: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dfctl"));
    let output = command.args(line).env_remove("CLICOLOR_FORCE").output().unwrap();
    assert!(output.stdout.is_empty(), "{line:?}: {output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let advice = ["\n\nUsage:", "\n\nFor more information"];
    let end = advice.iter().filter_map(|advice| text.find(*advice)).min().unwrap_or(text.len());
    (text[..end].trim_end().to_owned(), output.status.code())
}

#[track_caller]
fn check(line: &[&str], code: i32, expected: &str) {
    assert_eq!(told(line), (expected.to_owned(), Some(code)), "{line:?}");
}

#[test]
fn words_that_are_mistyped_or_missing() {
    check(
        &["statsu"],
        64,
        "error: unrecognized subcommand 'statsu'\n\n  tip: a similar subcommand exists: 'status'",
    );
    check(&["pull"], 64, "error: the following required arguments were not provided:\n  <IMAGE>");
    check(
        &["runtime", "install", "--hold", "--dry-run"],
        64,
        "error: the argument '--hold' cannot be used with '--dry-run'",
    );
    check(
        &["runtime", "install", "rkt"],
        64,
        "error: invalid value 'rkt' for '[RUNTIME]...'\n  [possible values: containerd, containers, docker]",
    );
}

#[test]
fn preheats_of_nothing_and_of_too_much() {
    let missing = "error: the following required arguments were not provided:";
    check(&["preheat"], 64, &format!("{missing}\n  <IMAGE>..."));
    check(&["preheat", "alpine", "--timeout", "1h"], 64, &format!("{missing}\n  --wait"));
    check(
        &["preheat", "alpine", "--all", "--zone", "eu-1a"],
        64,
        "error: the argument '--all' cannot be used with '--zone <ZONE>'",
    );
    check(
        &["preheat", "alpine", "--zone", "eu-1a", "--host", "661da0c17a2429dd"],
        64,
        "error: the argument '--zone <ZONE>' cannot be used with '--host <ID>'",
    );
    check(
        &["preheat", "alpine", "--platform", "all", "--platform", "linux/arm64"],
        64,
        "error: `--platform all` is every platform: leave out the others",
    );
}

#[test]
fn values_of_another_form() {
    check(
        &["status", "--daemon", "https://127.0.0.1:6503"],
        64,
        "error: invalid value 'https://127.0.0.1:6503' for '--daemon <URL>': it is plain HTTP without a path: \
         http://HOST:PORT",
    );
    check(
        &["pull", "ghcr.io/Org/App:v1"],
        64,
        "error: invalid value 'ghcr.io/Org/App:v1' for '<IMAGE>': not a repository name: \"Org/App\"; it is in lower \
         case, as in ghcr.io/org/app:v1",
    );
    check(
        &["preheat", "alpine", "ghcr.io/Org/App:v1"],
        64,
        "error: invalid value 'ghcr.io/Org/App:v1' for '<IMAGE>...': not a repository name: \"Org/App\"; it is in lower \
         case, as in ghcr.io/org/app:v1",
    );
    check(
        &["preheat", "alpine", "--platform", "arm64"],
        64,
        "error: invalid value 'arm64' for '--platform <PLATFORM>': a platform looks like linux/amd64 or linux/arm/v7, or \
         is the word `all`",
    );
    check(
        &["preheats", "show", "alpine"],
        64,
        "error: invalid value 'alpine' for '<ID>': a preheat's id is a number: `dfctl preheats list` shows it",
    );
    check(
        &["token", "create", "--lifetime", "tomorrow"],
        64,
        "error: invalid value 'tomorrow' for '--lifetime <TIME>': it is a number with its unit, as in 30s, 5min or 24h",
    );
    check(
        &["host", "remove", "node-7"],
        64,
        "error: invalid value 'node-7' for '<ID>': an id has up to 64 hexadecimal digits and nothing else: `dfctl \
         status` shows it",
    );
}

#[test]
fn nobody_is_there() {
    check(
        &["status", "--daemon", "http://127.0.0.1:1"],
        69,
        "error: no daemon answers at http://127.0.0.1:1: start it with `dfdaemon`, or name another with --daemon",
    );
    check(
        &["token", "list", "--socket", "/nowhere/operator.sock"],
        69,
        "error: no scheduler answers at /nowhere/operator.sock: No such file or directory (os error 2); it has to run on \
         this machine, and as this user unless you are root (its --state directory has the socket: name another with \
         --socket)",
    );
}
