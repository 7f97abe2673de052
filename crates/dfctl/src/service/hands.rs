//! What was planned, done: recorded first, and each file looked at again directly before it is changed.

use super::plan::{Plan, Step};
use super::record::Record;
use crate::Error;
use crate::machine::{Files, State};
use std::io;
use std::path::{Path, PathBuf};

/// Carries a plan out that was made upon the record `seen`; what is to be recorded then is left to [`settle`].
///
/// # Errors
/// `Half` with the file at which it ended, also if others have changed that since it was planned.
pub(super) fn carry_out(files: &Files, state: &State, plan: &Plan, seen: &Record) -> Result<(), Error> {
    let Plan { steps, between, after, .. } = plan;
    for step in steps {
        // As it was before anything was put into it.
        if let Step::Text { change, .. } = step
            && let Some(text) = &change.before
            && after.lines.get(&change.path).is_some_and(|lines| lines.existed)
            && !state.kept(&change.path).exists()
        {
            state.keep(&change.path, text).map_err(half(&state.kept(&change.path)))?;
        }
    }
    // Not if it says so already: a disk may be full, and what is taken away needs no room.
    if between != seen {
        state.write(between).map_err(half(&state.file()))?;
    }
    for path in between.whole.keys().chain(between.lines.keys()) {
        files.remove_halves(path.parent().unwrap_or(path));
    }
    let is_written = |dir: &&PathBuf| steps.iter().any(|step| step.writes() && step.path().starts_with(dir));
    for dir in between.directories.iter().filter(is_written) {
        files.make(dir).map_err(half(dir))?;
    }
    for step in steps {
        take(files, step).map_err(half(step.path()))?;
    }
    Ok(())
}

/// Takes one step, if its file is as it was.
fn take(files: &Files, step: &Step) -> io::Result<()> {
    if !step.is_due(files).map_err(|refusal| io::Error::new(refusal.kind, refusal.why))? {
        let why = "others have changed it in this moment, and it stays as it is";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let path = step.path();
    match step {
        Step::Text { change, mode } => match &change.after {
            Some(text) => files.write(path, text, *mode),
            None => files.remove(path),
        },
        Step::Copy { from, digest, .. } => files.copy(path, from, digest),
        Step::Remove { .. } => files.remove(path),
    }
}

/// Records that a plan was carried out, and leaves nothing behind that nobody needs any more; what is recorded now.
///
/// # Errors
/// `Half`, if that cannot be written: what is recorded then is good, and more than there is.
pub(super) fn settle(files: &Files, state: &State, plan: Plan) -> Result<Record, Error> {
    let Plan { between, mut after, .. } = plan;
    for path in between.lines.keys().filter(|path| !after.lines.contains_key(*path)) {
        state.forget(path);
    }
    let mut directories = std::mem::take(&mut after.directories);
    files.remove_unneeded(&mut directories, |dir| after.needs(dir));
    after.directories = directories;
    if after.is_empty() {
        state.clear().map_err(half(&state.file()))?;
        files.remove_empty(&after.above);
    } else if after != between {
        state.write(&after).map_err(half(&state.file()))?;
    }
    Ok(after)
}

fn half(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Half { path, source }
}

#[cfg(test)]
mod tests {
    use super::super::Service;
    use super::super::plan::Wanted;
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use tempfile::TempDir;

    struct Machine {
        root: TempDir,
        built: TempDir,
        files: Files,
        state: State,
    }

    impl Machine {
        fn new() -> Self {
            let (root, built) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            for dir in ["etc/systemd/system", "usr/bin"] {
                fs::create_dir_all(root.path().join(dir)).unwrap();
            }
            for name in ["dfdaemon", "dfctl"] {
                fs::write(built.path().join(name), "one").unwrap();
            }
            let files = Files::below(root.path()).unwrap();
            let state = State::lock(&root.path().join("state"), "test").unwrap();
            Self { root, built, files, state }
        }

        fn seen(&self) -> Record {
            self.state.read().unwrap()
        }

        fn plan_install(&self) -> Plan {
            let services = BTreeSet::from([Service::Dfdaemon]);
            let settings = [(Service::Dfdaemon, Service::Dfdaemon.flags(), "--zone a".to_owned())];
            let wanted = Wanted { services: &services, from: Some(self.built.path()), settings: &settings };
            Plan::install(&self.files, &self.seen(), &wanted).unwrap()
        }

        fn plan_uninstall(&self) -> Plan {
            let services = BTreeSet::from([Service::Dfdaemon]);
            Plan::uninstall(&self.files, &self.seen(), &services).unwrap()
        }

        fn install(&self) {
            let plan = self.plan_install();
            carry_out(&self.files, &self.state, &plan, &self.seen()).unwrap();
            settle(&self.files, &self.state, plan).unwrap();
        }
    }

    #[test]
    fn what_others_changed_since_it_was_planned_stays() {
        for path in ["etc/damselfly/dfdaemon.env", "usr/bin/dfdaemon", "etc/systemd/system/dfdaemon.service"]
        {
            for is_installed in [false, true] {
                let machine = Machine::new();
                if is_installed {
                    machine.install();
                }
                let plan = if is_installed { machine.plan_uninstall() } else { machine.plan_install() };
                let place = machine.root.path().join(path);
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                fs::write(&place, "theirs").unwrap();
                let error = carry_out(&machine.files, &machine.state, &plan, &machine.seen()).unwrap_err();
                assert!(matches!(error, Error::Half { .. }), "{path}: {error}");
                assert!(error.to_string().contains("others have changed it"), "{path}: {error}");
                assert_eq!(fs::read_to_string(place).unwrap(), "theirs");
            }
        }
    }

    /// A disk that is full takes no record, and what is recorded is as it was.
    #[test]
    fn nothing_is_written_to_take_all_away() {
        let machine = Machine::new();
        machine.install();
        let inode = || fs::metadata(machine.state.file()).unwrap().ino();
        let before = inode();
        let plan = machine.plan_uninstall();
        carry_out(&machine.files, &machine.state, &plan, &machine.seen()).unwrap();
        assert_eq!(inode(), before);
        settle(&machine.files, &machine.state, plan).unwrap();
        assert!(!machine.state.file().exists());
    }

    #[test]
    fn a_restart_is_owed_until_it_is_done() {
        let machine = Machine::new();
        machine.install();
        let owed = BTreeSet::from([Service::Dfdaemon]);
        assert_eq!(machine.seen().pending, owed);
        let plan = machine.plan_install();
        assert!(plan.steps.is_empty());
        assert_eq!(plan.after.pending, owed, "nothing changes, and it is owed all the same");
        let told = Record { pending: BTreeSet::new(), ..machine.seen() };
        machine.state.write(&told).unwrap();
        // dfctl alone does not run in it.
        fs::write(machine.built.path().join("dfctl"), "two").unwrap();
        let plan = machine.plan_install();
        assert_eq!((plan.steps.len(), plan.after.pending.len()), (1, 0));
        fs::write(machine.built.path().join("dfdaemon"), "two").unwrap();
        assert_eq!(machine.plan_install().between.pending, owed);
        assert!(machine.plan_uninstall().after.pending.is_empty());
    }
}
