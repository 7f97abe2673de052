//! The daemon's program told what cannot be: it says what is wrong, and its exit code says whose fault it is. The
//! scheduler's own tests have the same for that program.

use anyhow::{Context, Result, ensure};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::binaries::{Binaries, Profile};
use support::process::{Program, Spec};

/// How long a program may take to find that it cannot start.
const SOON: Duration = Duration::from_secs(20);

/// The daemon with every port free and its cache in `dir`, and these arguments as well.
fn dfdaemon(binaries: &Binaries, dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(&binaries.dfdaemon);
    for flag in ["--listen", "--admin", "--control-listen", "--bulk-listen"] {
        if !more.contains(&flag) {
            command.args([flag, "127.0.0.1:0"]);
        }
    }
    if !more.contains(&"--store") {
        command.arg("--store").arg(dir.join("store"));
    }
    command.args(more);
    command
}

/// How it ends: exit code and what it says.
fn ends(mut command: Command) -> Result<(i32, String)> {
    let mut child = command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let ended = support::poll::until("the program ends", SOON, || Ok(child.try_wait()?));
    if ended.is_err() {
        child.kill()?;
    }
    let said = child.wait_with_output()?.stderr;
    Ok((ended?.code().context("killed")?, String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn a_mistake_in_the_configuration_ends_with_64_and_names_key_and_line() -> Result<()> {
    let binaries = Binaries::build(Profile::of_caller())?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("dfdaemon.toml");
    let path = file.to_str().context("a path")?;
    let cases = [
        ("[proxy]\nlsten = \"127.0.0.1:1\"\n", "line 2: proxy.lsten: unknown field `lsten`"),
        ("\n[store]\nquota = \"lots\"\n", "line 3: store.quota: "),
        ("[proxy]\nlisten = 6500\n", "line 2: proxy.listen: invalid type"),
        (
            "[origin.registries.\"r.test\"]\ncredential = { username = \"u\", pasword = \"hunter2\" }\n",
            "pasword",
        ),
        ("[proxy\n", "line 1"),
        ("[stroe]\n", "line 1: stroe: unknown field"),
    ];
    for (text, expected) in cases {
        std::fs::write(&file, text)?;
        let (code, said) = ends(dfdaemon(&binaries, dir.path(), &["--config", path]))?;
        ensure!(
            code == 64 && said.starts_with("error: ") && said.contains(expected),
            "{text}: {code} {said}"
        );
        ensure!(!said.contains("hunter2"), "a secret is shown: {said}");
    }
    let missing = dir.path().join("missing.toml");
    let cases = [
        (vec!["--config", missing.to_str().context("a path")?], "missing.toml"),
        (vec!["--listen", "here"], "here"),
        (vec!["--no-such-flag"], "--no-such-flag"),
        (vec!["--listen", "0.0.0.0:0"], "--insecure-listen"),
        (vec!["--quota", "1"], "--quota"),
        (vec!["--log", "dfdaemon=loud"], "bad log filter"),
    ];
    for (flags, expected) in cases {
        let (code, said) = ends(dfdaemon(&binaries, dir.path(), &flags))?;
        ensure!(code == 64 && said.contains(expected), "{flags:?}: {code} {said}");
    }
    ensure!(!dir.path().join("store").exists(), "a mistake is found before anything is made");
    Ok(())
}

/// Good flags and a good file are told from bad ones without anything being made or opened.
#[test]
fn a_configuration_can_be_checked() -> Result<()> {
    let binaries = Binaries::build(Profile::of_caller())?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("file.toml");
    let path = file.to_str().context("a path")?;
    for (program, good, bad) in [
        (&binaries.dfdaemon, "[store]\nquota = \"1GiB\"\n", "[store]\nquota = \"1\"\n"),
        (&binaries.scheduler, "drain_timeout = \"1s\"\n", "drain_timeout = \"1h\"\n"),
    ] {
        let check = |text: &str| -> Result<(i32, String)> {
            std::fs::write(&file, text)?;
            let mut command = Command::new(program);
            command.args(["--check", "--config", path]);
            ends(command)
        };
        let (code, said) = check(good)?;
        ensure!(code == 0 && said.is_empty(), "{good}: {code} {said}");
        let (code, said) = check(bad)?;
        ensure!(code == 64 && said.starts_with("error: "), "{bad}: {code} {said}");
    }
    ensure!(std::fs::read_dir(dir.path())?.count() == 1, "something was made");
    Ok(())
}

#[test]
fn what_is_taken_ends_with_69_and_is_named() -> Result<()> {
    let binaries = Binaries::build(Profile::of_caller())?;
    let dir = tempfile::tempdir()?;
    let taken = TcpListener::bind(("127.0.0.1", 0))?;
    let address = taken.local_addr()?.to_string();
    for flag in ["--listen", "--admin", "--control-listen", "--bulk-listen", "--scheduler-listen"] {
        let (code, said) = ends(dfdaemon(&binaries, dir.path(), &[flag, &address]))?;
        ensure!(code == 69 && said.contains(&address), "{flag}: {code} {said}");
    }
    // Nothing of these attempts is in the way of the next start, and of two daemons one has the cache.
    let spec = Spec::new("dfdaemon", &binaries.dfdaemon, dir.path())
        .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .args(["--control-listen", "127.0.0.1:0", "--bulk-listen", "127.0.0.1:0", "--log-format", "json"])
        .arg("--store")
        .arg(dir.path().join("store"));
    let mut running = Program::start(&spec)?;
    running.wait_for_line(SOON, |line| line.contains("\"ready\"").then_some(()))?;
    let (code, said) = ends(dfdaemon(&binaries, dir.path(), &[]))?;
    ensure!(code == 69 && said.contains("store"), "{code} {said}");
    Ok(())
}

#[test]
fn a_cache_that_cannot_be_written_ends_with_73_and_is_named() -> Result<()> {
    let binaries = Binaries::build(Profile::of_caller())?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("file");
    std::fs::write(&file, b"not a directory")?;
    let below = file.join("store");
    // Nobody makes directories there, not even root.
    for store in [&*below.to_string_lossy(), &*file.to_string_lossy(), "/proc/damselfly"] {
        let (code, said) = ends(dfdaemon(&binaries, dir.path(), &["--store", store]))?;
        ensure!(code == 73 && said.contains(store), "{store}: {code} {said}");
    }
    ensure!(std::fs::read(&file)? == b"not a directory", "what is there stays");
    // A key that others can read is not used.
    let store = dir.path().join("store");
    std::fs::create_dir(&store)?;
    let key = store.join("identity.key");
    std::fs::write(&key, b"x")?;
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    let (code, said) = ends(dfdaemon(&binaries, dir.path(), &[]))?;
    ensure!(code == 73 && said.contains("identity.key"), "{code} {said}");
    Ok(())
}
