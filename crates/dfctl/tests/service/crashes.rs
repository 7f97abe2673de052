//! Recorded first, written then: whatever a crash left in between is put in order.

use super::{DAEMON, DFCTL, ENV, Machine, STATE, UNIT, join};
use std::fs;

/// Recorded first, written then: whatever a crash left in between is put in order by either command.
#[test]
fn after_a_crash_in_between() {
    for path in [UNIT, ENV, DAEMON, DFCTL] {
        for command in ["install FROM JOIN", "uninstall"] {
            let machine = Machine::new();
            let before = machine.tree();
            machine.done("install FROM JOIN");
            let after = machine.tree();
            // As if this file had not been written yet, and the next one only by half.
            fs::remove_file(machine.path(path)).unwrap();
            fs::write(machine.path(path).parent().unwrap().join(".dfctl-abc"), "half").unwrap();
            // And so with the record, and with what is kept: both may have the token.
            for dir in [STATE.to_owned(), format!("{STATE}/before/etc/damselfly")] {
                machine.write(&format!("{dir}/.dfctl-abc"), "half", 0o600);
            }
            assert!(machine.done("status").contains("changed or taken away"), "{path}");
            machine.done(command);
            if command == "uninstall" {
                assert_eq!(machine.tree(), before, "{path}");
            } else {
                assert_eq!(machine.tree(), after, "{path}");
                machine.done("uninstall");
                assert_eq!(machine.tree(), before, "{path}");
            }
        }
    }
}

/// A crash between the record and a file, of what is exchanged for another.
#[test]
fn after_a_crash_in_an_exchange() {
    for path in [ENV, DAEMON] {
        for command in ["install FROM JOIN", "uninstall"] {
            let machine = Machine::new();
            machine.write(ENV, "DFDAEMON_JOIN=mine\nA=1\n", 0o600);
            let before = machine.tree();
            machine.done("install FROM JOIN");
            let record = format!("{STATE}/installed.json");
            let was: serde_json::Value = serde_json::from_str(&machine.read(&record)).unwrap();
            let old = machine.read(path);
            machine.build("two");
            machine.write_join(&join().0.replace("10.0.0.1", "10.0.0.2"));
            machine.done("install FROM JOIN");
            let after = machine.tree();
            // The record as it is between: with what is to be, and what was.
            let mut is: serde_json::Value = serde_json::from_str(&machine.read(&record)).unwrap();
            for whole in [DAEMON, DFCTL].map(|path| format!("/{path}")) {
                let former = was["whole"][&whole]["digests"][0].clone();
                is["whole"][&whole]["digests"].as_array_mut().unwrap().push(former);
            }
            let lines = format!("/{ENV}");
            let former = was["lines"][&lines]["lines"]["DFDAEMON_JOIN"][0].clone();
            is["lines"][&lines]["lines"]["DFDAEMON_JOIN"][1] = former;
            fs::write(machine.path(&record), is.to_string()).unwrap();
            fs::write(machine.path(path), old).unwrap();
            machine.done(command);
            if command == "uninstall" {
                assert_eq!(machine.tree(), before, "{path}");
            } else {
                assert_eq!(machine.tree(), after, "{path}");
                machine.done("uninstall");
                assert_eq!(machine.tree(), before, "{path}");
            }
        }
    }
}
