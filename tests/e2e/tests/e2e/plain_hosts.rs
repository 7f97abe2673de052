//! Hosts without Kubernetes: the systemd units, and what the programs tell a service manager.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::binaries::{Binaries, Profile};
use support::process::{Program, Spec, run};
use support::skip::skipped;

const LIMIT: Duration = Duration::from_secs(30);

/// Of ten; what systemd calls OK ends at 5.
const EXPOSURE_MAX: f64 = 2.0;

const UNITS: [(&str, &str); 2] =
    [("dfdaemon", "dfdaemon.service"), ("scheduler", "damselfly-scheduler.service")];

/// Targets and slices of the distribution's that the units name or imply.
const THEIRS: [&str; 7] = [
    "-.slice",
    "basic.target",
    "multi-user.target",
    "network-online.target",
    "shutdown.target",
    "sysinit.target",
    "system.slice",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Has a directory be a machine with systemd's targets, as far as the units need it.
fn debian_root(root: &Path) -> Result<()> {
    for dir in ["etc/systemd/system", "usr/bin", "usr/lib/systemd/system", "var/lib"] {
        std::fs::create_dir_all(root.join(dir))?;
    }
    symlink("usr/bin", root.join("bin"))?;
    // What the units have called to reload.
    let kill = root.join("usr/bin/kill");
    std::fs::write(&kill, "#!/bin/sh\n")?;
    std::fs::set_permissions(&kill, Permissions::from_mode(0o755))?;
    for theirs in THEIRS {
        let file = Path::new("/usr/lib/systemd/system").join(theirs);
        if file.exists() {
            std::fs::copy(&file, root.join("usr/lib/systemd/system").join(theirs))?;
        }
    }
    Ok(())
}

/// What `systemd-analyze` says of a root's units.
fn analyze(root: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new("systemd-analyze");
    command.arg("--no-pager").arg(format!("--root={}", root.display())).args(args);
    run(&mut command, LIMIT)
}

/// Everything below a directory: modes, and the bytes of files or where links lead.
fn listing(dir: &Path) -> Result<BTreeMap<PathBuf, (u32, Vec<u8>)>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            let meta = std::fs::symlink_metadata(&path)?;
            let bytes = if meta.is_symlink() {
                std::fs::read_link(&path)?.into_os_string().into_encoded_bytes()
            } else if meta.is_file() {
                std::fs::read(&path)?
            } else {
                open.push(path.clone());
                Vec::new()
            };
            found.insert(path, (meta.permissions().mode(), bytes));
        }
    }
    Ok(found)
}

#[test]
fn the_units_are_sound_and_little_exposed() -> Result<()> {
    let name = "plain_hosts::the_units_are_sound_and_little_exposed";
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        skipped(name, "systemd-analyze is not installed");
        return Ok(());
    }
    let binaries = Binaries::build(Profile::of_caller())?;
    let dir = tempfile::tempdir()?;
    debian_root(dir.path())?;
    let (bin, units) = (dir.path().join("usr/bin"), dir.path().join("usr/lib/systemd/system"));
    for (program, to) in [(&binaries.dfdaemon, "dfdaemon"), (&binaries.scheduler, "damselfly-scheduler")] {
        // A symbolic link out of the root would lead nowhere.
        std::fs::copy(program, bin.join(to))?;
    }
    for (package, unit) in UNITS {
        std::fs::copy(root().join(package).join("systemd").join(unit), units.join(unit))?;
    }
    let analyze = |args: &[&str]| analyze(dir.path(), args);
    for (_, unit) in UNITS {
        // It says nothing of a sound unit.
        let said = analyze(&["verify", "--man=no", "--recursive-errors=no", unit])?;
        ensure!(said.trim().is_empty(), "{unit}: {said}");
        let said = analyze(&["security", "--offline=yes", unit])?;
        let line = said.lines().find(|line| line.contains("Overall exposure level")).context(said.clone())?;
        let level: f64 =
            line.split(": ").nth(1).and_then(|rest| rest.split(' ').next()).context("no level")?.parse()?;
        eprintln!("  {unit}: exposure {level} of 10");
        ensure!(level <= EXPOSURE_MAX, "{unit}: {line}");
    }
    // A unit that names a program that is not there is found.
    std::fs::remove_file(bin.join("dfdaemon"))?;
    ensure!(analyze(&["verify", "--man=no", "dfdaemon.service"]).is_err(), "the check cannot fail");
    Ok(())
}

/// One command puts a service into a root of Debian's, one enables it, and after two more nothing is left of it.
#[test]
fn units_are_installed_into_a_debian_root_and_removed_without_a_trace() -> Result<()> {
    let name = "plain_hosts::units_are_installed_into_a_debian_root_and_removed_without_a_trace";
    if !Path::new("/usr/bin/systemd-analyze").exists() || !Path::new("/usr/bin/systemctl").exists() {
        skipped(name, "systemd-analyze or systemctl is not installed");
        return Ok(());
    }
    let binaries = Binaries::build(Profile::of_caller())?;
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("root");
    debian_root(&root)?;
    let before = listing(&root)?;
    let built = binaries.dfctl.parent().context("no directory")?.to_str().context("its name")?;
    let (join, secret) = (dir.path().join("join"), "B".repeat(42) + "A");
    std::fs::write(&join, format!("dfjoin1.{}.{secret}@10.0.0.1:6510\n", "A".repeat(43)))?;
    std::fs::set_permissions(&join, Permissions::from_mode(0o600))?;
    let join = join.to_str().context("its name")?;
    let dfctl = |args: &[&str]| {
        let mut command = Command::new(&binaries.dfctl);
        command.arg("service").args(args).arg("--root").arg(&root);
        run(&mut command, LIMIT)
    };
    let systemctl = |args: &[&str]| {
        let mut command = Command::new("systemctl");
        command.arg(format!("--root={}", root.display())).args(args);
        run(&mut command, LIMIT)
    };
    let install = ["install", "dfdaemon", "scheduler", "--from", built, "--join-file", join];
    let shown = dfctl(&[&install[..], &["--dry-run"]].concat())?;
    ensure!(shown.contains("DFDAEMON_JOIN=…") && !shown.contains(&secret), "{shown}");
    ensure!(listing(&root)? == before, "it was only to be shown");
    let said = dfctl(&install)?;
    ensure!(!said.contains(&secret), "{said}");
    for (_, unit) in UNITS {
        let said = analyze(&root, &["verify", "--man=no", "--recursive-errors=no", unit])?;
        ensure!(said.trim().is_empty(), "{unit}: {said}");
        systemctl(&["enable", unit])?;
        let said = systemctl(&["is-enabled", unit])?;
        ensure!(said.trim() == "enabled", "{unit}: {said}");
    }
    let status = dfctl(&["status"])?;
    ensure!(status.contains("dfdaemon: installed, enabled\n"), "{status}");
    let refused = dfctl(&["uninstall", "dfdaemon", "scheduler"]);
    ensure!(refused.is_err_and(|error| error.to_string().contains("is enabled")), "an enabled unit went");
    for (_, unit) in UNITS {
        systemctl(&["disable", unit])?;
        ensure!(systemctl(&["is-enabled", unit]).is_err(), "{unit} is enabled still");
    }
    dfctl(&["uninstall", "dfdaemon", "scheduler"])?;
    let after = listing(&root)?;
    let names = |listing: &BTreeMap<PathBuf, (u32, Vec<u8>)>| listing.keys().cloned().collect::<Vec<_>>();
    ensure!(names(&after) == names(&before), "{:?} instead of {:?}", names(&after), names(&before));
    ensure!(after == before, "a file is not as it was");
    Ok(())
}

/// As systemd is told of a unit of `Type=notify`.
#[test]
fn a_service_manager_is_told_when_a_program_is_ready_and_when_it_stops() -> Result<()> {
    let binaries = Binaries::build(Profile::of_caller())?;
    let dir = tempfile::tempdir()?;
    for (name, program) in [("dfdaemon", &binaries.dfdaemon), ("scheduler", &binaries.scheduler)] {
        let socket = dir.path().join(name);
        let manager = UnixDatagram::bind(&socket)?;
        manager.set_read_timeout(Some(LIMIT))?;
        let own = dir.path().join(format!("{name}-files"));
        let mut spec = Spec::new(name, program, &own).env("NOTIFY_SOCKET", &socket);
        spec = match name {
            "dfdaemon" => spec
                .args([
                    "--listen",
                    "127.0.0.1:0",
                    "--control-listen",
                    "127.0.0.1:0",
                    "--bulk-listen",
                    "127.0.0.1:0",
                ])
                .arg("--store")
                .arg(own.join("store")),
            _ => spec.args(["--listen", "127.0.0.1:0"]).arg("--state").arg(own.join("state")),
        };
        let mut program = Program::start(&spec.args(["--admin", "127.0.0.1:0"]))?;
        let heard = |what: &str| -> Result<()> {
            let mut message = [0; 1024];
            let length = manager.recv(&mut message).with_context(|| format!("{name} says no {what}"))?;
            let message = String::from_utf8_lossy(&message[..length]);
            ensure!(message.lines().any(|line| line == what), "{name}: {message:?} instead of {what}");
            Ok(())
        };
        heard("READY=1")?;
        program.ask_to_stop();
        heard("STOPPING=1")?;
        let ended = program.stop().context("it does not end")?;
        ensure!(ended.success(), "{name}: {ended}");
    }
    Ok(())
}

/// In a pod the set-up is there as long as the daemon is.
#[test]
fn a_set_up_that_is_held_ends_with_its_holder() -> Result<()> {
    let binaries = Binaries::build(Profile::of_caller())?;
    let dir = tempfile::tempdir()?;
    let machine = dir.path().join("machine");
    let config = machine.join("etc/containerd/config.toml");
    std::fs::create_dir_all(machine.join("etc/containerd"))?;
    std::fs::create_dir_all(machine.join("var/lib"))?;
    std::fs::write(&config, "version = 2\n")?;
    let spec = Spec::new("dfctl", &binaries.dfctl, dir.path())
        .args(["runtime", "install", "containerd", "--hold", "--root"])
        .arg(&machine);
    let mut program = Program::start(&spec)?;
    program.wait_for_line(LIMIT, |line| line.contains("changed /etc/containerd/certs.d").then_some(()))?;
    ensure!(std::fs::read_to_string(&config)?.contains("config_path"));
    ensure!(program.is_running(), "it does not stay");
    let ended = program.stop().context("it does not end")?;
    ensure!(ended.success(), "{ended}: {}", program.log_tail());
    ensure!(std::fs::read_to_string(&config)? == "version = 2\n");
    ensure!(
        !machine.join("etc/containerd/certs.d").exists()
            && !machine.join("var/lib/damselfly-runtime").exists()
    );
    Ok(())
}
