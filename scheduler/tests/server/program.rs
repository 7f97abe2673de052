//! The program: exit codes, messages, signals.

use crate::fake_host::SOON;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

fn scheduler(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scheduler"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> (i32, String) {
    let output: Output = scheduler(args).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_taken_port_ends_with_69_and_is_named() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_str().unwrap();
    let (code, said) = run(&["--listen", &address, "--admin", "127.0.0.1:0", "--state", state]);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains(&format!("cannot listen on {address} for gRPC (--listen)")), "{said}");
    let (code, said) = run(&["--listen", "127.0.0.1:0", "--admin", &address, "--state", state]);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains(&format!("cannot listen on {address} for the admin port (--admin)")), "{said}");
}

#[test]
fn a_mistake_ends_with_64_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.toml");
    let path = path.to_str().unwrap();
    for (text, why) in [
        ("[hosts]\nmaximum = 3\n", "line 2: hosts.maximum: unknown field `maximum`"),
        ("\nlisten = 6510\n", "line 2: listen: "),
        ("[resolver]\ntag_lifetime = 30\n", "line 2: resolver.tag_lifetime: "),
    ] {
        std::fs::write(path, text).unwrap();
        let (code, said) = run(&["--config", path]);
        assert_eq!(code, 64, "{said}");
        assert!(said.starts_with("error: ") && said.contains(why), "{said}");
    }
    for (args, why) in [
        (&["--config", "/nowhere/s.toml"][..], "cannot read the configuration file /nowhere/s.toml"),
        (&["--listen", "here"], "invalid value 'here'"),
        (&["--log", "scheduler=loud"], "bad log filter"),
        (&["--no-such-flag"], "unexpected argument"),
    ] {
        let (code, said) = run(args);
        assert_eq!(code, 64, "{said}");
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(run(&["--help"]).0, 0);
}

/// Ends the child whatever happens.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn it_says_when_it_is_ready_and_stops_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_str().unwrap();
    let args =
        ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json", "--state", state];
    let mut child = Kept(scheduler(&args).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let ready =
        lines.find(|line| line.as_ref().unwrap().contains("the scheduler is ready")).unwrap().unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).expect("a JSON line");
    let join = lines.find(|line| line.as_ref().unwrap().contains("a node joins with this")).unwrap().unwrap();
    assert!(join.contains("DFDAEMON_JOIN=") && !join.contains("dfjoin1."), "{join}");
    let grpc = ready["grpc"].as_str().unwrap();
    assert!(std::net::TcpStream::connect(grpc).is_ok());

    let pid = child.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let begun = Instant::now();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(rest.iter().any(|line| line.contains("the scheduler has stopped")), "{rest:?}");
    assert!(child.0.wait().unwrap().success());
    assert!(begun.elapsed() < SOON);
}

#[test]
fn the_state_directory_is_named_when_it_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let args = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state"];
    let state = file.join("state");
    let (code, said) = run(&[&args[..], &[state.to_str().unwrap()]].concat());
    assert_eq!(code, 73, "{said}");
    assert!(said.contains("cannot use the state directory") && said.contains("(--state)"), "{said}");

    let key = dir.path().join("ca.key");
    std::fs::write(&key, "").unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let (code, said) = run(&[&args[..], &[dir.path().to_str().unwrap()]].concat());
    assert_eq!(code, 73, "{said}");
    assert!(said.contains("ca.key") && said.contains("set it to 600"), "{said}");
}
