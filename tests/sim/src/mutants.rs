//! Whether the checkers see what they are there for: each mutant is the cores with one thing broken, and must be caught.
//!
//! The workspace is copied below `target`, so that nothing of it is touched; there each mutant is built and run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// One thing broken.
#[derive(Debug)]
struct Mutant {
    /// What is wrong with it.
    what: &'static str,
    file: &'static str,
    /// What stands there once, and what stands there instead.
    from: &'static str,
    to: &'static str,
    /// The networks in which it is to be found.
    networks: &'static [&'static str],
    /// What a run says that finds it.
    caught_by: &'static str,
}

/// Networks in which anything goes wrong.
const RANDOM: &[&str] = &["--seeds", "60", "--twice"];
/// Small ones, many of them, for what seldom comes about.
const MANY_FEW: &[&str] = &["--kind", "few", "--seeds", "3000"];

const MUTANTS: &[Mutant] = &[
    Mutant {
        what: "a slot too many",
        file: "crates/scheduler-core/src/hosts.rs",
        from: "self.uploads.len() - (self.uploads_credited as usize) < self.upload_slots()",
        to: "self.uploads.len() - (self.uploads_credited as usize) <= self.upload_slots()",
        networks: RANDOM,
        caught_by: "more uploads than slots",
    },
    Mutant {
        what: "a piece offered before it is verified",
        file: "crates/download-core/src/hearing.rs",
        from: "HostBody::NearlyDone { piece }",
        to: "HostBody::Verified { piece, from: types::PieceFrom::Fallback }",
        networks: RANDOM,
        caught_by: "a host offers a piece that it has not verified",
    },
    Mutant {
        what: "a second lease",
        file: "crates/scheduler-core/src/lease.rs",
        from: "            want.last_resort = true;\n        }\n        self.revoke(six);",
        to: "            want.last_resort = true;\n        }\n        self.end_lease(six);",
        networks: RANDOM,
        caught_by: "a second lease",
    },
    Mutant {
        what: "a lost waiting child",
        file: "crates/scheduler-core/src/swarm.rs",
        from: "                demand.set_hungry(ix, want.priority);",
        to: "",
        networks: RANDOM,
        caught_by: "waits for nothing though there is something",
    },
    Mutant {
        what: "an unseeded choice",
        file: "crates/scheduler-core/src/lease.rs",
        from: "if self.rng.u32(..equals) == 0",
        to: "if fastrand::u32(..equals) == 0",
        networks: RANDOM,
        caught_by: "the same seed gave another run",
    },
    Mutant {
        what: "an epoch given twice",
        file: "crates/scheduler-core/src/lease.rs",
        from: "        self.next_epoch += 1;\n",
        to: "        self.next_epoch += u64::from(self.rng.bool());\n",
        networks: RANDOM,
        caught_by: "an epoch in use is not given again",
    },
    Mutant {
        what: "an ignored epoch",
        file: "crates/scheduler-core/src/lease.rs",
        from: "self.member == member && (self.since..=self.epoch).contains(&epoch)",
        to: "self.member == member && epoch <= self.epoch",
        networks: MANY_FEW,
        caught_by: "a lapsed epoch gave a right",
    },
    Mutant {
        what: "a zone gate left open",
        file: "crates/scheduler-core/src/pick.rs",
        from: "        if crossing {\n            let opened = self.gate_opened(child);",
        to: "        if crossing {\n            let opened = true;",
        networks: RANDOM,
        caught_by: "crosses a zone's boundary again",
    },
    Mutant {
        what: "an endless wait",
        file: "crates/scheduler-core/src/matching.rs",
        from: "            self.timers.set(&mut demand.retry_alarm, Timer::Retry(six), self.now + pause);\n",
        to: "",
        networks: RANDOM,
        caught_by: "the hungry look again some time",
    },
    Mutant {
        what: "a parent that is asked for what it has lost",
        file: "crates/scheduler-core/src/swarm.rs",
        from: "        member.held.remove(piece);\n",
        to: "",
        networks: RANDOM,
        caught_by: "holders are counted",
    },
];

/// How long they may take. A mutant that never ends is not caught.
const LIMIT: Duration = Duration::from_secs(180);

/// Builds and runs each mutant, and says by what it was caught. Whether all were, by what they should be.
///
/// # Errors
/// If the workspace cannot be copied or built.
pub(crate) fn run(only: Option<&str>, mut say: impl FnMut(&str)) -> io::Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let tree = root.join("target/mutants/tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    fs::create_dir_all(&tree)?;
    for part in ["Cargo.toml", "Cargo.lock", "crates", "proto", "scheduler", "dfdaemon", "tests"] {
        copy(&root.join(part), &tree.join(part))?;
    }
    for networks in [RANDOM, MANY_FEW] {
        let output = build_and_run(&root, &tree, networks)?;
        if !output.status.success() {
            say(&format!("without any mutation, it fails:\n{}", tail(&output)));
            return Ok(false);
        }
    }
    let mut all = true;
    for mutant in MUTANTS.iter().filter(|mutant| only.is_none_or(|text| mutant.what.contains(text))) {
        let file = tree.join(mutant.file);
        let text = fs::read_to_string(&file)?;
        if text.matches(mutant.from).count() != 1 {
            say(&format!("MISSED {}: {} does not have its place once", mutant.what, mutant.file));
            all = false;
            continue;
        }
        fs::write(&file, text.replace(mutant.from, mutant.to))?;
        let output = build_and_run(&root, &tree, mutant.networks);
        fs::write(&file, text)?;
        let output = output?;
        let found = String::from_utf8_lossy(&output.stdout);
        let line = found.lines().find(|line| line.starts_with("seed ") && line.contains(mutant.caught_by));
        match line {
            Some(line) => say(&format!("caught {}: {line}", mutant.what)),
            None => {
                say(&format!("MISSED {}:\n{}", mutant.what, tail(&output)));
                all = false;
            }
        }
    }
    Ok(all)
}

/// Builds what lies in `tree` and lets it run in networks.
fn build_and_run(root: &Path, tree: &Path, networks: &[&str]) -> io::Result<Output> {
    let target: PathBuf = root.join("target/mutants/target");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--package", "sim", "--bin", "sim"])
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_INCREMENTAL", "0")
        .current_dir(tree)
        .output()?;
    if !built.status.success() {
        return Ok(built);
    }
    let mut run = Command::new(target.join("debug/sim"))
        .args(["random", "--stop"])
        .args(networks)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let started = Instant::now();
    while run.try_wait()?.is_none() {
        if started.elapsed() > LIMIT {
            run.kill()?;
        }
        thread::sleep(Duration::from_millis(50));
    }
    run.wait_with_output()
}

fn tail(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with(' ')).collect();
    lines[lines.len().saturating_sub(20)..].iter().map(|line| format!("  | {line}\n")).collect()
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(|_| ());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
