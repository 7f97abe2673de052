//! What is not safe is refused, and nothing is changed then.

use super::{DAEMON, DFCTL, ENV, Machine, STATE, UNIT, join};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

#[test]
fn what_others_own_is_refused() {
    let machine = Machine::new();
    for (path, text, why) in [
        (UNIT, "[Service]\nExecStart=/opt/dfdaemon\n", "was not put there by `dfctl service install`"),
        (DAEMON, "of a package", "was not put there by `dfctl service install`"),
        (DFCTL, "of a package", "leave --from out"),
        ("usr/lib/systemd/system/dfdaemon.service", "", "a package has brought this unit"),
        (ENV, "A=\"1\nB=2\"\n", "goes on over its end"),
    ] {
        machine.write(path, text, 0o600);
        let said = machine.refused("install FROM JOIN");
        assert!(said.starts_with(&format!("nothing was changed: /{path}: ")) && said.contains(why), "{said}");
        fs::remove_file(machine.path(path)).unwrap();
    }
    machine.write(ENV, "A=1\n", 0o644);
    assert!(machine.refused("install FROM JOIN").contains("it has mode 644: others could read it"));
    fs::remove_file(machine.path(ENV)).unwrap();
    // The same unit and programs by other hands stay theirs.
    machine.write(UNIT, include_str!("../../../../dfdaemon/systemd/dfdaemon.service"), 0o644);
    machine.write(DAEMON, "\u{0}dfdaemon one", 0o755);
    let before = machine.tree();
    let said = machine.done("install FROM JOIN");
    assert!(said.contains("/usr/bin/dfdaemon is there already, by other hands"), "{said}");
    machine.done("uninstall");
    assert_eq!(machine.tree(), before);
}

#[test]
fn what_others_changed_since() {
    let machine = Machine::new();
    machine.done("install FROM JOIN");
    let unit = machine.read(UNIT);
    machine.write(UNIT, &format!("{unit}# mine\n"), 0o644);
    for line in ["install FROM", "uninstall"] {
        assert!(machine.refused(line).contains("systemctl edit dfdaemon.service"), "{line}");
    }
    let status = machine.done("status");
    assert!(status.contains("dfdaemon.service: installed, and changed or taken away"), "{status}");
    machine.write(UNIT, &unit, 0o644);
    machine.write(DAEMON, "of a package", 0o755);
    assert!(machine.refused("install FROM").contains("others have put another one there since"));
    let said = machine.done("uninstall");
    assert!(said.contains("note: /usr/bin/dfdaemon is another one than was put there, and stays"), "{said}");
    assert_eq!(machine.read(DAEMON), "of a package");
    assert!(!machine.path(UNIT).exists() && !machine.path(STATE).exists());
}

#[test]
fn join_files_that_are_refused() {
    let machine = Machine::new();
    let file = machine.built.path().join("join");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(machine.refused("install FROM JOIN").contains("others could read it"));
    let (text, _) = join();
    for bad in [String::new(), text.replace('@', " "), format!("{text}\nA=1"), text[1..].to_owned()] {
        machine.write_join(&bad);
        machine.refused("install FROM JOIN");
    }
    fs::remove_file(&file).unwrap();
    assert!(machine.refused("install FROM JOIN").contains("there is no such file"));
    assert!(machine.refused("install scheduler FROM JOIN").contains("which was not named"));
    assert!(machine.refused("install dfdaemon scheduler FROM --flags=--x").contains("of one service"));
    assert!(machine.refused("install FROM --start").contains("--start: the root is another one's"));
    assert!(machine.refused("uninstall --stop").contains("--stop: the root is another one's"));
    fs::remove_file(machine.built.path().join("dfctl")).unwrap();
    assert!(machine.refused("install FROM").contains("dfctl: No such file"));
}

/// Whoever owns a file, or may write to its directory, can put another token into it.
#[test]
fn secrets_in_others_hands_are_refused() {
    let machine = Machine::new();
    machine.write(ENV, "A=1\n", 0o600);
    let dir = machine.path("etc/damselfly");
    for mode in [0o777, 0o775] {
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        let said = machine.refused("install FROM JOIN");
        assert!(
            said.contains(&format!("/etc/damselfly: it has mode {mode:03o}: others could write")),
            "{said}"
        );
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for path in [dir, machine.path(ENV), machine.built.path().join("join")] {
        chown(&path, Some(4711), None).unwrap();
        let said = machine.refused("install FROM JOIN");
        assert!(said.contains("it belongs to user 4711, who could change it"), "{}: {said}", path.display());
        chown(&path, Some(0), None).unwrap();
    }
    machine.done("install FROM JOIN");
}

/// A line that goes on may have what looks like ours in it.
#[test]
fn a_line_that_goes_on_is_refused_also_where_ours_is_to_be_exchanged() {
    let machine = Machine::new();
    machine.done("install FROM JOIN");
    machine.write(ENV, &format!("A=\"1\n{}\"\n", machine.read(ENV)), 0o600);
    machine.write_join(&join().0.replace("10.0.0.1", "10.0.0.2"));
    assert!(machine.refused("install FROM JOIN").contains("goes on over its end"));
}

#[test]
fn links_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    for path in ["etc/damselfly", "etc/systemd/system", "usr/bin", STATE] {
        let machine = Machine::new();
        let _ = fs::remove_dir(machine.path(path));
        symlink(outside.path(), machine.path(path)).unwrap();
        let (_, result) = machine.dfctl("install FROM JOIN");
        let error = result.expect_err(path).to_string();
        assert!(error.contains("leads out of"), "{path}: {error}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{path}");
    }
    for path in [UNIT, DAEMON, ENV] {
        let machine = Machine::new();
        machine.write("opt/there", "", 0o600);
        fs::create_dir_all(machine.path("etc/damselfly")).unwrap();
        symlink("/opt/there", machine.path(path)).unwrap();
        assert!(machine.refused("install FROM JOIN").contains("symbolic link"), "{path}");
    }
}

/// A part that cannot be done keeps the others from being begun.
#[test]
fn a_directory_in_the_place_of_a_file() {
    let machine = Machine::new();
    let before = machine.tree();
    machine.done("install FROM JOIN");
    machine.build("two");
    // A directory where the new unit would go.
    fs::remove_file(machine.path(UNIT)).unwrap();
    fs::create_dir(machine.path(UNIT)).unwrap();
    machine.refused("install FROM");
    assert_eq!(machine.read(DAEMON), "\u{0}dfdaemon one");
    fs::remove_dir(machine.path(UNIT)).unwrap();
    machine.done("uninstall");
    assert_eq!(machine.tree(), before);
}

#[test]
fn what_is_in_use_is_not_taken_away() {
    let machine = Machine::new();
    machine.done("install FROM");
    let wants = "etc/systemd/system/multi-user.target.wants";
    fs::create_dir(machine.path(wants)).unwrap();
    symlink("/etc/systemd/system/dfdaemon.service", machine.path(&format!("{wants}/dfdaemon.service")))
        .unwrap();
    assert!(machine.done("status").contains("dfdaemon: installed, enabled\n"));
    assert!(machine.refused("uninstall").contains("dfdaemon.service is enabled: `systemctl --root="));
    fs::remove_dir_all(machine.path(wants)).unwrap();
    machine.write("var/lib/damselfly-runtime/installed.json", "{}", 0o600);
    assert!(machine.refused("uninstall").contains("`dfctl runtime uninstall` first"));
    fs::remove_dir_all(machine.path("var/lib/damselfly-runtime")).unwrap();
    machine.done("uninstall");
}

#[test]
fn two_at_once() {
    let machine = Machine::new();
    machine.done("install FROM");
    let held = fs::File::open(machine.path(STATE)).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let (_, result) = machine.dfctl("uninstall");
    let error = result.unwrap_err().to_string();
    assert!(error.contains("another `dfctl service` is at work"), "{error}");
    drop(held);
    machine.done("uninstall");
}
