//! `dfctl runtime` on machines that are directories.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use clap::Parser as _;
use dfctl::{Cli, Error};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const CONFIG: &str = "etc/containerd/config.toml";
const HOSTS: &str = "etc/containerd/certs.d/_default/hosts.toml";
const DAEMON_JSON: &str = "etc/docker/daemon.json";
const OURS: &str = "etc/containers/registries.conf.d/50-damselfly.conf";
const STATE: &str = "var/lib/damselfly-runtime";

struct Machine(TempDir);

impl Machine {
    /// With these files, and no others.
    fn with(files: &[(&str, &str)]) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(machine.path("var/lib")).unwrap();
        for (path, text) in files {
            machine.write(path, text);
        }
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// What `dfctl runtime LINE` prints, and how it ends.
    fn dfctl(&self, line: &str) -> (String, Result<(), Error>) {
        let root = self.0.path().to_str().unwrap();
        let words = ["dfctl", "runtime"].into_iter().chain(line.split(' ')).chain(["--root", root]);
        let cli = Cli::try_parse_from(words).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut out = Vec::new();
        let result = runtime.block_on(dfctl::run(cli, &mut out));
        (String::from_utf8(out).unwrap(), result)
    }

    fn done(&self, line: &str) -> String {
        let (out, result) = self.dfctl(line);
        result.unwrap_or_else(|error| panic!("{line}: {error}\n{out}"));
        out
    }

    fn refused(&self, line: &str) -> String {
        let before = self.tree();
        let (out, result) = self.dfctl(line);
        assert!(matches!(result, Err(Error::Runtimes(_))), "{line}: {result:?}\n{out}");
        assert_eq!(self.tree(), before, "it was refused, and changed something");
        out
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
        walk(self.0.path(), &mut tree);
        tree
    }
}

/// A node as Debian's packages leave it.
fn node() -> Machine {
    Machine::with(&[
        (
            "usr/lib/systemd/system/docker.service",
            "[Service]\nExecStart=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS\n",
        ),
        (
            CONFIG,
            "version = 2\n\n[plugins]\n  [plugins.\"io.containerd.internal.v1.opt\"]\n    path = \"/var/lib/x\"\n",
        ),
        ("etc/containers/registries.conf", "# unqualified-search-registries = [\"example.com\"]\n"),
        ("etc/docker/key.json", "{}"),
        ("var/lib/other", ""),
    ])
}

#[test]
fn set_up_and_back() {
    let machine = node();
    fs::set_permissions(machine.path(CONFIG), fs::Permissions::from_mode(0o600)).unwrap();
    let before = machine.tree();
    let diff = machine.done("install --dry-run");
    assert_eq!(machine.tree(), before);
    assert!(diff.contains("--- /dev/null\n+++ /etc/containerd/certs.d/_default/hosts.toml\n"), "{diff}");
    assert!(diff.contains("+  config_path = \"/etc/containerd/certs.d\""), "{diff}");
    let said = machine.done("install");
    assert!(
        said.contains("containerd: in force after `systemctl try-restart containerd` (--restart does it)"),
        "{said}"
    );
    assert_eq!(fs::metadata(machine.path(CONFIG)).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = machine.path(&format!("{STATE}/before/{CONFIG}"));
    assert_eq!(fs::read(kept).unwrap(), before[&machine.path(CONFIG)].1);
    let after = machine.tree();
    let said = machine.done("install");
    assert_eq!(machine.tree(), after);
    // Nobody has restarted it: that is remembered.
    assert!(said.contains("containerd: set up\n") && said.contains("containerd: in force after"), "{said}");
    let status = machine.done("status");
    assert!(status.contains("containerd: in force after"), "{status}");
    for runtime in ["containerd", "containers", "docker"] {
        assert!(status.contains(&format!("{runtime}: set up\n")), "{status}");
    }
    machine.done("uninstall --dry-run");
    assert_eq!(machine.tree(), after);
    machine.done("uninstall");
    assert_eq!(machine.tree(), before);
    assert!(machine.done("status").contains("containerd: not set up\n"));
    // There is nothing more to be undone, and asking leaves nothing.
    assert_eq!(machine.done("uninstall"), "nothing to do: no runtime is set up, or none is here\n");
    assert_eq!(machine.tree(), before);
}

#[test]
fn one_of_them() {
    let machine = node();
    let before = machine.tree();
    machine.done("install podman docker");
    assert!(!machine.path(HOSTS).exists());
    machine.done("uninstall docker");
    assert!(!machine.path(DAEMON_JSON).exists());
    assert!(machine.path(OURS).exists());
    machine.done("uninstall crio");
    assert_eq!(machine.tree(), before);
    let empty = Machine::with(&[("etc/hosts", "")]);
    assert!(empty.refused("install containerd").contains("not here"));
    assert_eq!(empty.done("uninstall docker"), "docker: not set up\n");
    assert!(!empty.path(STATE).exists());
    assert_eq!(empty.done("install"), "nothing to do: no runtime is set up, or none is here\n");
}

#[test]
fn another_address_and_other_registries() {
    let machine = node();
    let before = machine.tree();
    machine.done("install --registry host:5000 --registry a.example");
    assert!(machine.path("etc/containerd/certs.d/host:5000/hosts.toml").exists());
    machine.done("install --proxy http://127.0.0.1:7000 --registry a.example");
    assert!(!machine.path("etc/containerd/certs.d/host:5000").exists());
    for path in [HOSTS, DAEMON_JSON, OURS, "etc/containerd/certs.d/a.example/hosts.toml"] {
        let text = machine.read(path);
        assert!(text.contains("127.0.0.1:7000") && !text.contains("6500"), "{path}: {text}");
    }
    assert!(machine.read(OURS).contains("a.example") && !machine.read(OURS).contains("host:5000"));
    machine.done("uninstall");
    assert_eq!(machine.tree(), before);
}

#[test]
fn registries_with_files_of_their_own() {
    let machine = node();
    let theirs = "server = \"https://registry-1.docker.io\"\n\n[host.\"https://mirror.example\"]\n";
    machine.write("etc/containerd/certs.d/docker.io/hosts.toml", theirs);
    machine.write("etc/containerd/certs.d/own.example/ca.crt", "certificate");
    machine.write(
        "etc/containers/registries.conf.d/10.conf",
        "[[registry]]\nlocation = \"quay.io\"\nblocked = true\n",
    );
    let before = machine.tree();
    let said = machine.done("install");
    assert!(said.contains("docker.io, own.example has files of their own"), "{said}");
    assert!(said.contains("quay.io is left as /etc/containers/registries.conf.d/10.conf has it"), "{said}");
    assert!(!machine.read(OURS).contains("quay.io"));
    assert_eq!(machine.read("etc/containerd/certs.d/docker.io/hosts.toml"), theirs);
    machine.done("install --registry docker.io");
    let text = machine.read("etc/containerd/certs.d/docker.io/hosts.toml");
    assert!(text.find("127.0.0.1:6500").unwrap() < text.find("mirror.example").unwrap(), "{text}");
    assert!(machine.refused("install containerd --registry own.example").contains("out of force"));
    machine.done("uninstall");
    assert_eq!(machine.tree(), before);
}

#[test]
fn configurations_of_containerd() {
    let v2 = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n";
    let v3 = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n";
    for (config, changed) in [
        (format!("{v2}  config_path = '/a:/b'\n"), None),
        (format!("{v3}  config_path = ''\n"), Some(CONFIG)),
        ("version = 3\n".to_owned(), Some(CONFIG)),
        ("disabled_plugins = [\"cri\"]\n".to_owned(), None),
        (String::new(), Some(CONFIG)),
        ("imports = ['conf.d/*.toml']\nversion = 2\n".to_owned(), None),
    ] {
        let machine = Machine::with(&[(CONFIG, &config)]);
        machine.write("etc/containerd/conf.d/own.toml", &format!("{v2}  config_path = '/imported'\n"));
        let before = machine.tree();
        machine.done("install");
        assert_eq!(machine.read(CONFIG) != config, changed.is_some(), "{}", machine.read(CONFIG));
        let hosts = match config.as_str() {
            text if text.contains("/a:/b") => "b/_default/hosts.toml",
            text if text.contains("imports") => "imported/_default/hosts.toml",
            _ => HOSTS,
        };
        assert!(machine.path(hosts).exists(), "{config}");
        let plugin = if config.contains("version = 3") { "cri.v1.images" } else { "grpc.v1.cri" };
        assert!(changed.is_none() || machine.read(CONFIG).contains(plugin), "{}", machine.read(CONFIG));
        machine.done("uninstall");
        assert_eq!(machine.tree(), before);
    }
    for (config, why) in [
        (format!("{v2}[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\n"), "mirrors"),
        (
            format!(
                "{v2}[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"a\".tls]\nca_file = 'a'\n"
            ),
            "tls",
        ),
        ("root = '/var/lib/containerd'\n".to_owned(), "first format"),
        (format!("{v2}config_path = 'certs'\n"), "absolute"),
        (format!("{v2}config_path = ':'\n"), "names no directory"),
        ("version = \n".to_owned(), "no TOML"),
        ("imports = ['conf.d/own.toml']\nversion = 2\n".to_owned(), "/etc/containerd/conf.d/own.toml"),
    ] {
        let machine = Machine::with(&[(CONFIG, &config), ("etc/containerd/conf.d/own.toml", "x = ")]);
        let said = machine.refused("install containerd");
        assert!(said.contains("containerd: left as it is:") && said.contains(why), "{why}: {said}");
    }
}

#[test]
fn dockers_own_flags_and_links_are_refused() {
    let machine = node();
    machine.write(
        "etc/systemd/system/docker.service.d/mirror.conf",
        "[Service]\n# ExecStart=\nExecStart=/usr/bin/dockerd --registry-mirror=https://a\n",
    );
    assert!(machine.refused("install docker").contains("mirror.conf starts dockerd with --registry-mirror"));
    let machine = node();
    machine.write("opt/daemon.json", "{}");
    std::os::unix::fs::symlink("/opt/daemon.json", machine.path(DAEMON_JSON)).unwrap();
    assert!(machine.refused("install docker").contains("symbolic link"));
    // A directory that leads out of the machine's root, to a file of whoever looks after it.
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("config.toml"), "version = 2\n").unwrap();
    let machine = Machine::with(&[("etc/hosts", "")]);
    std::os::unix::fs::symlink(outside.path(), machine.path("etc/containerd")).unwrap();
    assert!(machine.refused("install containerd").contains("leads out of"));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

/// containerd goes through a list of directories, and takes the first in which a registry has files, or there is a default.
#[test]
fn a_list_of_directories() {
    let config = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/a:/b\"\n";
    let machine =
        Machine::with(&[(CONFIG, config), ("b/harbor.local/ca.crt", "c"), ("a/own.example/hosts.toml", "")]);
    let before = machine.tree();
    let said = machine.done("install --registry own.example");
    assert!(!machine.path("a/_default").exists() && machine.path("b/_default/hosts.toml").exists());
    assert!(machine.read("a/own.example/hosts.toml").contains("6500"));
    assert!(said.contains("harbor.local has files of their own in /b"), "{said}");
    machine.done("uninstall");
    assert_eq!(machine.tree(), before);
    // Somebody has a default in an earlier one: that is the one in force.
    machine.write("a/_default/hosts.toml", "[host.'https://m']\n");
    machine.done("install");
    assert!(machine.read("a/_default/hosts.toml").contains("6500") && !machine.path("b/_default").exists());
}

#[test]
fn what_containerd_imports() {
    let config = "version = 2\nimports = [\"conf.d/*.toml\"]\n";
    let nvidia = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  default_runtime_name = \"nvidia\"\n";
    let machine = Machine::with(&[(CONFIG, config), ("etc/containerd/conf.d/99-nvidia.toml", nvidia)]);
    assert!(
        machine.refused("install").contains("/etc/containerd/conf.d/99-nvidia.toml has the CRI's section")
    );
    machine.write("etc/containerd/conf.d/99-nvidia.toml", "version = 2\n[debug]\n  level = \"info\"\n");
    machine.done("install");
    machine.done("uninstall");
    machine.write("etc/containerd/conf.d/99-nvidia.toml", "imports = [\"more.toml\"]\n");
    assert!(machine.refused("install").contains("imports files of its own"));
    for pattern in ["*/*.toml", "a*b*.toml", "a?.toml"] {
        machine.write(CONFIG, &config.replace("conf.d/*.toml", pattern));
        assert!(machine.refused("install").contains("not understood"), "{pattern}");
    }
}

/// One that cannot be written is told of, and the others are done all the same.
#[test]
fn one_of_several_cannot_be_written() {
    let machine = node();
    fs::create_dir_all(machine.path("etc/containerd")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", machine.path("etc/containerd/certs.d")).unwrap();
    let (said, result) = machine.dfctl("install");
    assert!(matches!(&result, Err(Error::Runtimes(names)) if names == "containerd"), "{result:?}");
    assert!(said.contains("containerd: left as it is") && said.contains("certs.d"), "{said}");
    assert!(machine.read(DAEMON_JSON).contains("6500") && machine.read(OURS).contains("6500"));
}

/// A crash between the record and a file, of an address that is exchanged for another.
#[test]
fn after_a_crash_in_an_exchange() {
    for path in [HOSTS, DAEMON_JSON, OURS] {
        for command in ["uninstall", "install --proxy http://127.0.0.1:7000", "install"] {
            let machine = node();
            let before = machine.tree();
            machine.done("install");
            let old = machine.read(path);
            // The record as it is between: with what is to be, and what was.
            let record = machine.read(&format!("{STATE}/installed.json"));
            let was: serde_json::Value = serde_json::from_str(&record).unwrap();
            machine.done("install --proxy http://127.0.0.1:7000");
            let record = machine.read(&format!("{STATE}/installed.json"));
            let mut is: serde_json::Value = serde_json::from_str(&record).unwrap();
            let key = format!("/{path}");
            let entry = &was["files"][&key];
            is["files"][&key]["former"] = serde_json::json!([entry["target"], entry["edit"]]);
            machine.write(&format!("{STATE}/installed.json"), &is.to_string());
            machine.write(path, &old);
            machine.done(command);
            if command == "uninstall" {
                assert_eq!(machine.tree(), before, "{path}");
            } else {
                let text = machine.read(path);
                assert_eq!(text.contains("7000"), command.contains("7000"), "{path} {command}: {text}");
                assert_eq!(text.contains("6500"), !command.contains("7000"), "{path} {command}: {text}");
                machine.done("uninstall");
                assert_eq!(machine.tree(), before, "{path} {command}");
            }
        }
    }
}

/// Recorded first, written then: whatever a crash left in between is put in order by either command.
#[test]
fn after_a_crash_in_between() {
    for path in [CONFIG, HOSTS, DAEMON_JSON, OURS] {
        let machine = node();
        let before = machine.tree();
        machine.done("install");
        let after = machine.tree();
        // As if this file had not been written yet.
        match before.get(&machine.path(path)) {
            Some((_, bytes)) => fs::write(machine.path(path), bytes).unwrap(),
            None => fs::remove_file(machine.path(path)).unwrap(),
        }
        assert!(machine.done("status").contains("sets it up again"), "{path}");
        machine.done("install");
        assert_eq!(machine.tree(), after, "{path}");
        match before.get(&machine.path(path)) {
            Some((_, bytes)) => fs::write(machine.path(path), bytes).unwrap(),
            None => fs::remove_file(machine.path(path)).unwrap(),
        }
        machine.done("uninstall");
        assert_eq!(machine.tree(), before, "{path}");
    }
}

#[test]
fn two_at_once() {
    let machine = node();
    machine.done("install");
    let held = fs::File::open(machine.path(STATE)).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let (_, result) = machine.dfctl("uninstall");
    let error = result.unwrap_err().to_string();
    assert!(error.contains("another `dfctl runtime` is at work"), "{error}");
    drop(held);
    machine.done("uninstall");
}

/// A file of the user's as it might be, and lines that the user may add anywhere between tables.
fn pieces() -> impl Strategy<Value = (Vec<&'static str>, Vec<(usize, &'static str)>)> {
    let piece = prop::sample::select(vec![
        "# a comment\n",
        "\n",
        "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"\" # none\n",
        "[plugins.\"io.containerd.grpc.v1.cri\".registry.headers]\n  a = [\"b\"]\n",
        "[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"pause\"\n",
        "[grpc]\n  address = \"/run/x\"\n",
        "[plugins.'io.containerd.runtime.v1.linux']\n  shim = 'a'\n",
    ]);
    let added =
        prop::sample::select(vec!["# later\n", "\n\n", "[debug]\n  level = \"info\"\n", "[timeouts]\n"]);
    (
        prop::collection::vec(piece, 0..6),
        prop::collection::vec((any::<prop::sample::Index>().prop_map(|i| i.index(1 << 16)), added), 0..3),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the file was and whatever the user did to other parts of it, uninstalling takes out ours and no more.
    #[test]
    fn whatever_was_there_and_whatever_came((mut pieces, added) in pieces()) {
        // Each table once: twice would be no TOML.
        let mut seen = std::collections::HashSet::new();
        pieces.retain(|piece| !piece.starts_with('[') || seen.insert(*piece));
        let config = format!("version = 2\n{}", pieces.concat());
        let machine = Machine::with(&[(CONFIG, &config)]);
        machine.done("install");
        let installed = machine.read(CONFIG);
        prop_assert_ne!(&installed, &config);
        let mut text = installed;
        let mut expected = config;
        let mut used = std::collections::HashSet::new();
        for (at, line) in added {
            if line.starts_with('[') && !used.insert(line) {
                continue;
            }
            // Before a table of theirs, or at the end: the same place in both texts.
            let theirs: Vec<usize> = expected.match_indices("\n[").map(|(i, _)| i + 1).chain([expected.len()]).collect();
            let place = theirs[at % theirs.len()];
            let tail = expected[place..].to_owned();
            let found = if tail.is_empty() { Some(text.len()) } else { text.rfind(&tail) };
            let Some(there) = found else { continue };
            expected.insert_str(place, line);
            text.insert_str(there, line);
        }
        machine.write(CONFIG, &text);
        machine.done("uninstall");
        prop_assert_eq!(machine.read(CONFIG), expected);
    }
}
