//! `dfctl service` on machines that are directories.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod crashes;
mod in_order;
mod refused;

use clap::Parser as _;
use dfctl::{Cli, Error};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const UNIT: &str = "etc/systemd/system/dfdaemon.service";
const SCHEDULER_UNIT: &str = "etc/systemd/system/damselfly-scheduler.service";
const ENV: &str = "etc/damselfly/dfdaemon.env";
const DAEMON: &str = "usr/bin/dfdaemon";
const DFCTL: &str = "usr/bin/dfctl";
const SCHEDULER: &str = "usr/bin/damselfly-scheduler";
const STATE: &str = "var/lib/damselfly-service";

/// A token as it might be, and its secret.
fn join() -> (String, String) {
    let secret = "S".repeat(42) + "A";
    (format!("dfjoin1.{}.{secret}@10.0.0.1:6510", "A".repeat(43)), secret)
}

struct Machine {
    root: TempDir,
    /// Where the programs were built.
    built: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { root: tempfile::tempdir().unwrap(), built: tempfile::tempdir().unwrap() };
        for dir in ["etc/systemd/system", "usr/bin", "var/lib"] {
            fs::create_dir_all(machine.path(dir)).unwrap();
        }
        machine.build("one");
        let (text, _) = join();
        machine.write_join(&format!("{text}\n"));
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn build(&self, version: &str) {
        for name in ["dfdaemon", "dfctl", "scheduler"] {
            fs::write(self.built.path().join(name), format!("\u{0}{name} {version}")).unwrap();
        }
    }

    fn write_join(&self, text: &str) {
        let file = self.built.path().join("join");
        fs::write(&file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn write(&self, path: &str, text: &str, mode: u32) {
        let path = self.path(path);
        let dir = path.parent().unwrap();
        if !dir.exists() {
            fs::create_dir_all(dir).unwrap();
            // Whatever the umask is: others may write to no directory with a secret.
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.path(path)).unwrap().permissions().mode() & 0o7777
    }

    /// What `dfctl service LINE` prints, and how it ends; FROM and JOIN are where the programs and the token are.
    fn dfctl(&self, line: &str) -> (String, Result<(), Error>) {
        let built = self.built.path().to_str().unwrap();
        let line = line.replace("FROM", &format!("--from {built}"));
        let line = line.replace("JOIN", &format!("--join-file {built}/join"));
        let root = self.root.path().to_str().unwrap();
        let words = ["dfctl", "service"].into_iter().chain(line.split(' ')).chain(["--root", root]);
        let cli = Cli::try_parse_from(words).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut out = Vec::new();
        let result = runtime.block_on(dfctl::run(cli, &mut out));
        let out = String::from_utf8(out).unwrap();
        let (_, secret) = join();
        assert!(!out.contains(&secret), "{line}: {out}");
        (out, result)
    }

    fn done(&self, line: &str) -> String {
        let (out, result) = self.dfctl(line);
        result.unwrap_or_else(|error| panic!("{line}: {error}\n{out}"));
        out
    }

    fn refused(&self, line: &str) -> String {
        let before = self.tree();
        let (out, result) = self.dfctl(line);
        let error = result.expect_err(line);
        assert!(matches!(error, Error::Unchanged { .. }), "{line}: {error}\n{out}");
        assert_eq!(self.tree(), before, "{line} was refused, and changed something");
        let (_, secret) = join();
        assert!(!error.to_string().contains(&secret), "{error}");
        error.to_string()
    }

    /// Modes and bytes of all that is there.
    fn tree(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        fn walk(dir: &Path, tree: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let meta = fs::symlink_metadata(&path).unwrap();
                let bytes = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
                tree.insert(path.clone(), (meta.permissions().mode(), bytes));
                if meta.is_dir() {
                    walk(&path, tree);
                }
            }
        }
        let mut tree = BTreeMap::new();
        walk(self.root.path(), &mut tree);
        tree
    }
}
