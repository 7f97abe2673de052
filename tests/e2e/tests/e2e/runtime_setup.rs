//! A newcomer's way: two daemons joined by token, runtimes set up by `dfctl runtime install`, pulls, and all of it taken away
//! again while the user went on changing files.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Options};
use e2e::debian::TAG;
use e2e::machine::Machine;
use e2e::runtime::containerd::Containerd;
use e2e::runtime::containers::Containers;
use e2e::runtime::cri::Cri;
use e2e::runtime::docker::Dockerd;
use e2e::{REGISTRY, runtime};
use std::collections::BTreeMap;
use std::path::PathBuf;
use support::process::run;

const CONFIG: &str = "/etc/containerd/config.toml";
const HOSTS: &str = "/etc/containerd/certs.d/registry.test/hosts.toml";
const DOCKER: &str = "/etc/docker/daemon.json";

type Tree = BTreeMap<PathBuf, (u32, Vec<u8>)>;

fn trees(machine: &Machine) -> Result<Vec<Tree>> {
    ["/etc/containerd", "/etc/containers", "/etc/docker"].iter().map(|dir| machine.tree(dir)).collect()
}

fn dfctl(cluster: &Cluster, machine: &Machine, line: &str) -> Result<String> {
    let mut command = machine.command(&cluster.binaries().dfctl);
    command.args(line.split(' '));
    run(&mut command, runtime::COMMAND_LIMIT).with_context(|| line.to_owned())
}

/// Sets a machine up in the way that the README says, and looks at each step.
fn set_up(cluster: &Cluster, machine: &Machine, flags: &str) -> Result<()> {
    let before = trees(machine)?;
    let install = format!("runtime install --proxy {} {flags}", cluster.nodes[0].place.proxy_url());
    let shown = dfctl(cluster, machine, &format!("{install} --dry-run"))?;
    ensure!(shown.contains("+++ /etc/docker/daemon.json"), "{shown}");
    ensure!(trees(machine)? == before, "a dry run changed something");
    ensure!(!machine.file("/var/lib/damselfly-runtime").exists(), "a dry run left a trace");
    let did = dfctl(cluster, machine, &install)?;
    ensure!(did.contains("containers: changed /etc/containers/registries.conf.d/50-damselfly.conf"), "{did}");
    let after = trees(machine)?;
    ensure!(after != before);
    let again = dfctl(cluster, machine, &install)?;
    ensure!(trees(machine)? == after && !again.contains("changed"), "{again}");
    let status = dfctl(cluster, machine, "runtime status")?;
    ensure!(status.contains("containers: set up\n") && status.contains("docker: set up\n"), "{status}");
    Ok(())
}

#[test]
fn runtimes_are_set_up_pull_and_are_set_back() -> Result<()> {
    let Some(_guard) = e2e::begin("runtimes_are_set_up_pull_and_are_set_back") else { return Ok(()) };
    let mut cluster = Cluster::start(&Options { nodes: 2, ..Options::default() })?;
    let image = cluster.images.debian.clone();
    let dir = cluster.dir().to_owned();

    // containerd by the CRI, with a registry that the user has configured already, and podman.
    let machine = Machine::start(&cluster.nodes[0].host, &dir.join("machine-1"))?;
    machine.write(CONFIG, &Containerd::own_configuration(&dir.join("containerd")))?;
    let theirs = format!("# ours, since 2021\nserver = \"{}\"\n", cluster.registry.url());
    machine.write(HOSTS, &theirs)?;
    machine.write(DOCKER, "{\n    \"log-level\": \"warn\"\n}\n")?;
    set_up(&cluster, &machine, &format!("--registry {REGISTRY}"))?;
    let status = dfctl(&cluster, &machine, "runtime status")?;
    ensure!(status.contains("containerd: set up\n"), "{status}");
    let cri = Cri::of(Containerd::start_on(&machine, &dir.join("containerd"))?)?;
    let reference = Containerd::reference(&image.repository, TAG);
    cri.pull(&reference, None)?;
    ensure!(cri.digests(&reference)?.iter().any(|digest| digest.ends_with(image.manifest())), "containerd");
    // And one that only the default speaks of: there is no way to Docker Hub itself here.
    let hub = &cluster.images.hub;
    let reference = format!("docker.io/{}:{TAG}", hub.repository);
    cri.pull(&reference, None)?;
    ensure!(cri.digests(&reference)?.iter().any(|digest| digest.ends_with(hub.manifest())), "by default");
    let podman = Containers::on(&machine, &dir.join("podman"))?;
    ensure!(podman.podman_pull(&image.repository, TAG)? == image.manifest(), "podman");

    // dockerd, which runs already and is told.
    let second = Machine::start(&cluster.nodes[1].host, &dir.join("machine-2"))?;
    let own = serde_json::to_string_pretty(&Dockerd::own_configuration(&dir.join("docker")))?;
    second.write(DOCKER, &own)?;
    let dockerd = Dockerd::start_on(&second, &dir.join("docker"))?;
    set_up(&cluster, &second, "--restart docker containers")?;
    let name = format!("{}:{TAG}", hub.repository.trim_start_matches("library/"));
    ensure!(dockerd.pull(&name)? == hub.manifest(), "dockerd");

    // Three runtimes on two nodes: each byte came from the registry once.
    let log = cluster.accesses(image.blob_bytes())?;
    ensure!(log.blob_bytes_total() == image.blob_bytes(), "{} bytes", log.blob_bytes_total());
    let from_peers = cluster.traffic(1)?.from_peers();
    ensure!(from_peers > 0, "the second node had nothing from the first");
    eprintln!(
        "  3 runtimes, {} bytes from the origin, {from_peers} from the other node",
        log.blob_bytes_total()
    );

    // Without its daemon a node goes to the registry.
    drop(cluster.nodes[0].daemon.take());
    let small = &cluster.images.small;
    let reference = Containerd::reference(&small.repository, TAG);
    let begun = std::time::Instant::now();
    cri.pull(&reference, None)?;
    ensure!(cri.digests(&reference)?.iter().any(|digest| digest.ends_with(small.manifest())), "by itself");
    eprintln!(
        "  without its daemon containerd pulled {} bytes in {:.2?}",
        small.blob_bytes(),
        begun.elapsed()
    );

    // The user goes on changing files, above and below what was put in.
    let config = Containerd::own_configuration(&dir.join("containerd"));
    let append = |machine: &Machine, path: &str, text: &str| -> Result<()> {
        let now = machine.read(path)?;
        machine.write(path, &(now + text))
    };
    let more = "\n[debug]\n  level = \"info\"\n";
    append(&machine, CONFIG, more)?;
    let more_hosts = "[host.\"http://10.77.0.250:1\"]\n  capabilities = [\"pull\"]\n";
    append(&machine, HOSTS, more_hosts)?;
    let docker = machine.read(DOCKER)?;
    machine.write(DOCKER, &docker.replace("\"warn\"", "\"error\""))?;
    machine.write("/etc/containers/registries.conf.d/99-own.conf", "unqualified-search-registries = []\n")?;
    dfctl(&cluster, &machine, "runtime uninstall")?;
    ensure!(machine.read(CONFIG)? == config + more, "{}", machine.read(CONFIG)?);
    ensure!(machine.read(HOSTS)? == theirs + more_hosts, "{}", machine.read(HOSTS)?);
    ensure!(machine.read(DOCKER)? == "{\n    \"log-level\": \"error\"\n}\n", "{}", machine.read(DOCKER)?);
    for dir in ["/etc/containerd", "/etc/containers", "/etc/docker", "/var/lib"] {
        let ours = machine.tree(dir)?.into_keys().find(|path| {
            let text = path.to_string_lossy();
            text.contains("damselfly") || text.contains("_default") || text.contains("dfctl")
        });
        ensure!(ours.is_none(), "a trace was left: {ours:?}");
    }
    dfctl(&cluster, &second, "runtime uninstall --restart")?;
    ensure!(second.read(DOCKER)? == own, "{}", second.read(DOCKER)?);
    let status = dfctl(&cluster, &second, "runtime status")?;
    ensure!(status.contains("docker: not set up\n"), "{status}");
    Ok(())
}
