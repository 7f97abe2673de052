//! SIGHUP: what can change while a program runs changes, the rest is named, and a mistake changes nothing.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::Duration;
use support::binaries::{Binaries, Profile};
use support::poll;
use support::process::{Program, Spec};

const LIMIT: Duration = Duration::from_secs(30);

/// Asks for another reading, and waits for what is said of it.
fn reload(program: &mut Program, said: &str) -> Result<String> {
    program.hang_up();
    program
        .wait_for_line(LIMIT, |line| line.contains(said).then(|| line.to_owned()))
        .with_context(|| format!("after SIGHUP no line with {said}"))
}

/// A metric's value.
fn metric(address: &str, name: &str) -> Result<Option<u64>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let url = format!("http://{address}/metrics");
    let text = runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build()?;
        client.get(url).send().await?.text().await
    })?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.map(|value| value.parse().with_context(|| value.to_owned())).transpose()
}

#[test]
fn a_daemon_takes_over_what_can_change() -> Result<()> {
    let binaries = Binaries::build(Profile::of_caller())?;
    let dir = tempfile::tempdir()?;
    let (config, admin) =
        (dir.path().join("dfdaemon.toml"), format!("{}:6503", support::daemon::loopback(77)));
    let write = |more: &str, quota: &str| {
        let free = "127.0.0.1:0";
        let text = format!(
            "[proxy]\nlisten = '{free}'\n{more}[p2p]\ncontrol_listen = '{free}'\nbulk_listen = '{free}'\n\
             [store]\ndir = '{}'\nquota = '{quota}'\n[admin]\nlisten = '{}'\n",
            dir.path().join("store").display(),
            admin,
        );
        std::fs::write(&config, text)
    };
    write("", "1GiB")?;
    let spec = Spec::new("dfdaemon", &binaries.dfdaemon, dir.path())
        .arg("--config")
        .arg(&config)
        .args(["--log-format", "json"]);
    let mut program = Program::start(&spec)?;
    program.wait_for_line(LIMIT, |line| line.contains("\"ready\"").then_some(()))?;
    ensure!(metric(&admin, "damselfly_store_quota_bytes")? == Some(1 << 30));

    // A mistake: the program says which, and goes on.
    std::fs::write(&config, "[store]\nquota = 'much'\n")?;
    let line = reload(&mut program, "everything stays as it was")?;
    ensure!(line.contains("line 2") && line.contains("store.quota") && line.contains("ERROR"), "{line}");
    program.check_running()?;
    ensure!(metric(&admin, "damselfly_store_quota_bytes")? == Some(1 << 30));

    write("linger = '1s'\nallow = ['one.example']\n", "2GiB")?;
    let line = reload(&mut program, "the configuration was read again")?;
    ensure!(line.contains("\"applied\":\"proxy.allow store.quota\""), "{line}");
    let line = program
        .wait_for_line(LIMIT, |line| line.contains("at the next start only").then(|| line.to_owned()))?;
    ensure!(line.contains("\"keys\":\"proxy.linger\"") && line.contains("WARN"), "{line}");
    poll::until("the quota is another", LIMIT, || {
        Ok((metric(&admin, "damselfly_store_quota_bytes")? == Some(2 << 30)).then_some(()))
    })?;
    let ended = program.stop().context("it does not end")?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

#[test]
fn the_level_of_the_log_changes_and_a_flag_wins() -> Result<()> {
    let binaries = Binaries::build(Profile::of_caller())?;
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("scheduler.toml");
    let start = |own: &Path, flags: &[&str]| {
        std::fs::write(&config, "")?;
        let spec = Spec::new("scheduler", &binaries.scheduler, own)
            .arg("--config")
            .arg(&config)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"])
            .args(flags.iter().copied())
            .arg("--state")
            .arg(own.join("state"));
        let mut program = Program::start(&spec)?;
        program.wait_for_line(LIMIT, |line| line.contains("the scheduler is ready").then_some(()))?;
        std::fs::write(&config, "cluster = 'other'\n[log]\nfilter = 'warn'\n")?;
        anyhow::Ok(program)
    };
    let mut program = start(&dir.path().join("a"), &["--log", "info"])?;
    let line = reload(&mut program, "leave the value in force as it is")?;
    ensure!(line.contains("\"keys\":\"log.filter\""), "{line}");
    ensure!(program.stop().context("it does not end")?.success());
    ensure!(std::fs::read_to_string(program.log())?.contains("the scheduler has stopped"));

    let mut program = start(&dir.path().join("b"), &[])?;
    let line = reload(&mut program, "at the next start only")?;
    ensure!(line.contains("\"keys\":\"cluster\""), "{line}");
    std::fs::write(&config, "[log]\nfilter = 'scheduler=loud'\n")?;
    let line = reload(&mut program, "everything stays as it was")?;
    ensure!(line.contains("scheduler=loud"), "{line}");
    ensure!(program.stop().context("it does not end")?.success());
    let log = std::fs::read_to_string(program.log())?;
    ensure!(!log.contains("the scheduler has stopped"), "it is told what is for INFO: {log}");
    Ok(())
}
