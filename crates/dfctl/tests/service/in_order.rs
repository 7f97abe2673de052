//! What is installed is there, and taken away is gone; what others wrote stays.

use super::{DAEMON, DFCTL, ENV, Machine, SCHEDULER, SCHEDULER_UNIT, STATE, UNIT, join};
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn installed_and_away_again() {
    let machine = Machine::new();
    let before = machine.tree();
    let shown = machine.done("install FROM JOIN --dry-run");
    assert_eq!(machine.tree(), before);
    assert!(shown.contains("+DFDAEMON_JOIN=…\n"), "{shown}");
    assert!(shown.contains("--- /dev/null\n+++ /etc/systemd/system/dfdaemon.service\n"), "{shown}");
    assert!(shown.contains("Binary files /usr/bin/dfdaemon and "), "{shown}");
    let said = machine.done("install FROM JOIN");
    assert!(said.contains("changed /usr/bin/dfctl\n"), "{said}");
    let root = machine.root.path().display();
    assert!(said.ends_with(&format!("next: systemctl --root={root} enable dfdaemon.service\n")), "{said}");
    assert_eq!(machine.read(UNIT), include_str!("../../../../dfdaemon/systemd/dfdaemon.service"));
    assert_eq!(machine.read(ENV), format!("DFDAEMON_JOIN={}\n", join().0));
    assert_eq!(machine.read(DAEMON), "\u{0}dfdaemon one");
    let modes = [ENV, "etc/damselfly", UNIT, DAEMON, DFCTL].map(|path| machine.mode(path));
    assert_eq!(modes, [0o600, 0o755, 0o644, 0o755, 0o755]);
    assert_eq!(machine.mode(&format!("{STATE}/installed.json")), 0o600);
    assert_eq!(machine.mode(STATE), 0o700);
    let after = machine.tree();
    // Again, with and without what was said before.
    for line in ["install FROM JOIN", "install"] {
        assert!(machine.done(line).starts_with("nothing to change\n"), "{line}");
        assert_eq!(machine.tree(), after, "{line}");
    }
    let shown = machine.done("uninstall --dry-run");
    assert!(
        shown.contains("-DFDAEMON_JOIN=…\n") && shown.contains("/usr/bin/dfdaemon and /dev/null"),
        "{shown}"
    );
    assert_eq!(machine.tree(), after);
    machine.done("uninstall");
    assert_eq!(machine.tree(), before);
    assert_eq!(machine.done("uninstall"), "nothing to change\n");
    assert_eq!(machine.tree(), before);
}

/// Nothing at all is there, as in an image that is built from nothing.
#[test]
fn directories_that_were_not_there() {
    let machine = Machine::new();
    for dir in ["etc", "usr", "var"] {
        fs::remove_dir_all(machine.path(dir)).unwrap();
    }
    machine.done("install FROM JOIN dfdaemon scheduler");
    machine.done("uninstall dfdaemon scheduler");
    assert!(machine.tree().is_empty(), "{:?}", machine.tree());
    assert!(machine.refused("install").contains("/usr/bin/dfdaemon: it is not there"));
}

#[test]
fn two_services_share_dfctl() {
    let machine = Machine::new();
    let before = machine.tree();
    machine.done("install FROM dfdaemon scheduler");
    assert_eq!(machine.read(SCHEDULER), "\u{0}scheduler one");
    let said = machine.done("uninstall");
    assert!(said.contains("note: the scheduler stays"), "{said}");
    assert!(machine.path(DFCTL).exists() && machine.path(SCHEDULER_UNIT).exists());
    assert!(!machine.path(DAEMON).exists() && !machine.path(UNIT).exists());
    machine.done("uninstall scheduler");
    assert_eq!(machine.tree(), before);
    machine.done("install scheduler FROM --flags=--listen=10.0.0.1:6510");
    assert_eq!(machine.read("etc/damselfly/scheduler.env"), "SCHEDULER_FLAGS=--listen=10.0.0.1:6510\n");
    machine.done("uninstall scheduler");
    assert_eq!(machine.tree(), before);
}

#[test]
fn other_lines_of_the_settings_stay() {
    for (theirs, with) in [
        (
            "DFDAEMON_FLAGS=--zone a\nPASSWORD=hunter2",
            "DFDAEMON_FLAGS=--zone a\nPASSWORD=hunter2\nDFDAEMON_JOIN=NEW\n",
        ),
        ("# mine\nDFDAEMON_JOIN=\"OLD\"\n\nA=1\n", "# mine\nDFDAEMON_JOIN=NEW\n\nA=1\n"),
    ] {
        let machine = Machine::new();
        machine.write(ENV, theirs, 0o600);
        let before = machine.tree();
        let shown = machine.done("install FROM JOIN --dry-run");
        assert!(!shown.contains("hunter2") && !shown.contains("OLD"), "{shown}");
        machine.done("install FROM JOIN");
        assert_eq!(machine.read(ENV), with.replace("NEW", &join().0));
        assert_eq!(machine.read(&format!("{STATE}/before/{ENV}")), theirs);
        // The user goes on with other lines.
        let edited = format!("Z=0\n{}Y=2\n", machine.read(ENV));
        machine.write(ENV, &edited, 0o600);
        assert!(machine.done("install FROM JOIN").starts_with("nothing to change\n"));
        machine.done("uninstall");
        let line_end = if theirs.ends_with('\n') { "" } else { "\n" };
        assert_eq!(machine.read(ENV), format!("Z=0\n{theirs}{line_end}Y=2\n"));
        machine.write(ENV, theirs, 0o600);
        assert_eq!(machine.tree(), before);
        machine.done("install FROM JOIN");
        machine.done("uninstall");
        assert_eq!(machine.tree(), before);
    }
}

/// The last line of a key is in force, and what is wanted has to be in force.
#[test]
fn a_later_line_of_others_does_not_hide_that_ours_is_not_in_force() {
    for theirs in ["", "A=1\n", "DFDAEMON_JOIN=first\n"] {
        let machine = Machine::new();
        machine.write(ENV, theirs, 0o600);
        machine.done("install FROM JOIN");
        let later = "B=2\nDFDAEMON_JOIN=later\n";
        machine.write(ENV, &format!("{}{later}", machine.read(ENV)), 0o600);
        let status = machine.done("status");
        assert!(status.contains("dfdaemon.env: installed, and changed"), "{status}");
        machine.done("install FROM JOIN");
        assert_eq!(machine.read(ENV), format!("{theirs}{}", later.replace("later", &join().0)));
        let status = machine.done("status");
        assert!(status.contains("dfdaemon.env: installed\n"), "{status}");
        machine.done("uninstall");
        assert_eq!(machine.read(ENV), format!("{theirs}{later}"));
    }
}

/// What is wanted is in force by other hands: ours before it goes with us, and theirs stays.
#[test]
fn a_later_line_of_others_with_the_same_value_stays_theirs() {
    let machine = Machine::new();
    machine.write(ENV, "A=1\n", 0o600);
    machine.done("install FROM JOIN");
    let later = format!("DFDAEMON_JOIN='{}'\n", join().0);
    let text = format!("{}{later}", machine.read(ENV));
    machine.write(ENV, &text, 0o600);
    assert!(machine.done("install FROM JOIN").contains("already, by other hands"));
    assert_eq!(machine.read(ENV), text);
    machine.done("uninstall");
    assert_eq!(machine.read(ENV), format!("A=1\n{later}"));
}

/// In a file that was made, others may have put lines since.
#[test]
fn lines_that_others_put_into_our_file_stay() {
    let machine = Machine::new();
    let before = machine.tree();
    machine.done("install FROM JOIN");
    machine.write(ENV, &format!("{}DFDAEMON_FLAGS=--zone a\n", machine.read(ENV)), 0o600);
    let said = machine.done("uninstall");
    assert!(said.contains("/etc/damselfly/dfdaemon.env has lines of others, and stays"), "{said}");
    assert_eq!(machine.read(ENV), "DFDAEMON_FLAGS=--zone a\n");
    fs::remove_dir_all(machine.path("etc/damselfly")).unwrap();
    assert_eq!(machine.tree(), before);
}

#[test]
fn another_token_other_flags_and_newer_programs() {
    let machine = Machine::new();
    machine.write(ENV, "A=1", 0o600);
    let before = machine.tree();
    machine.done("install FROM JOIN");
    machine.done("install --flags=--zone=a");
    let (old, _) = join();
    let new = old.replace("10.0.0.1", "10.0.0.2");
    machine.write_join(&new);
    machine.build("two");
    let shown = machine.done("install FROM JOIN --dry-run");
    assert!(shown.contains("-DFDAEMON_JOIN=…\n+DFDAEMON_JOIN=…\n"), "{shown}");
    machine.done("install FROM JOIN");
    assert_eq!(machine.read(ENV), format!("A=1\nDFDAEMON_JOIN={new}\nDFDAEMON_FLAGS=--zone=a\n"));
    assert_eq!(machine.read(DAEMON), "\u{0}dfdaemon two");
    machine.done("uninstall");
    assert_eq!(machine.tree(), before);
}

#[test]
fn what_services_kept_goes_when_that_is_asked_for() {
    let machine = Machine::new();
    let before = machine.tree();
    for name in ["lock", "metadata.redb", "identity.key"] {
        machine.write(&format!("var/lib/private/damselfly/{name}"), "x", 0o600);
    }
    symlink("private/damselfly", machine.path("var/lib/damselfly")).unwrap();
    fs::create_dir_all(machine.path("var/log/damselfly")).unwrap();
    for name in ["ca.key", "tokens.json", "join-token"] {
        machine.write(&format!("var/lib/damselfly-scheduler/{name}"), "x", 0o600);
    }
    machine.write("var/log/damselfly-scheduler/audit.log", "x", 0o600);
    machine.done("install FROM dfdaemon scheduler");
    assert!(machine.done("uninstall --purge --dry-run").contains("would remove /var/lib/damselfly\n"));
    let said = machine.done("uninstall --purge");
    assert!(said.contains("removed /var/lib/damselfly\nremoved /var/log/damselfly\n"), "{said}");
    assert!(machine.path("var/lib/damselfly-scheduler/ca.key").exists());
    let said = machine.done("uninstall scheduler --purge");
    assert!(said.contains("note: /var/log/damselfly-scheduler has logs, which stay"), "{said}");
    fs::remove_dir_all(machine.path("var/log")).unwrap();
    fs::remove_dir(machine.path("var/lib/private")).unwrap();
    assert_eq!(machine.tree(), before);
    // What is something else stays, and is seen before anything is taken away.
    machine.done("install scheduler FROM");
    machine.write("var/lib/damselfly-scheduler/other", "x", 0o600);
    for line in ["uninstall scheduler --purge", "uninstall scheduler --purge --dry-run"] {
        assert!(machine.refused(line).contains("no scheduler's state"), "{line}");
    }
    machine.write("var/lib/damselfly/other", "x", 0o600);
    assert!(machine.refused("uninstall --purge").contains("it is no cache of a daemon's"));
    fs::remove_dir_all(machine.path("var/lib/damselfly")).unwrap();
    // Of a cache that a daemon has, even its unit stays.
    for name in ["lock", "metadata.redb"] {
        machine.write(&format!("var/lib/damselfly/{name}"), "x", 0o600);
    }
    machine.done("install FROM");
    let lock = fs::File::open(machine.path("var/lib/damselfly/lock")).unwrap();
    lock.lock().unwrap();
    assert!(machine.refused("uninstall --purge").contains("a daemon has it"));
    drop(lock);
    fs::remove_dir_all(machine.path("var/lib/damselfly")).unwrap();
    // A directory that leads out of the root.
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("metadata.redb"), "x").unwrap();
    symlink(outside.path(), machine.path("var/lib/damselfly")).unwrap();
    assert!(machine.refused("uninstall --purge").contains("it leads out of the root"));
    assert!(outside.path().join("metadata.redb").exists());
}

#[test]
fn for_programs() {
    let machine = Machine::new();
    let json = |line: &str| -> serde_json::Value { serde_json::from_str(&machine.done(line)).unwrap() };
    let shown = json("install FROM JOIN --dry-run -o json");
    assert_eq!(shown["services"], serde_json::json!(["dfdaemon"]));
    assert_eq!(shown["dry_run"], true);
    assert_eq!(shown["commanded"], false);
    assert_eq!(shown["changes"].as_array().unwrap().len(), 4);
    let env = &shown["changes"][2];
    assert_eq!(env["path"], "/etc/damselfly/dfdaemon.env");
    assert!(env["diff"].as_str().unwrap().ends_with("+DFDAEMON_JOIN=…\n"), "{env}");
    let done = json("install FROM JOIN -o json");
    assert!(done["changes"][2].get("diff").is_none(), "{done}");
    let status = json("status -o json");
    assert_eq!(status[0]["service"], "dfdaemon");
    assert_eq!(status[0]["active"], serde_json::Value::Null);
    let standing = |service: &serde_json::Value| -> Vec<String> {
        let files = service["files"].as_array().unwrap();
        files.iter().map(|file| file["standing"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(standing(&status[0]), ["installed"; 4]);
    assert_eq!(status[1]["installed"], false);
    // Both have dfctl.
    assert_eq!(standing(&status[1]), ["absent", "installed", "absent", "absent"]);
    machine.done("uninstall");
}
