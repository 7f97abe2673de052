//! Several hosts on one machine: network namespaces with one address each, joined by a bridge in a namespace of its own.
//!
//! Nothing of it is visible in the machine's own network. Needs root and iproute2. Called by the end-to-end tests.

use crate::process::run;
use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The limit for one call of `ip` or `tc`.
const TOOL_LIMIT: Duration = Duration::from_secs(20);

/// Hosts of one LAN: its addresses end in 1 to 254.
const HOSTS_MAX: u8 = 254;

/// How the names of our namespaces start: this, the owner's process id, a dash.
const PREFIX: &str = "dfly";

static NEXT_LAN: AtomicU32 = AtomicU32::new(0);

/// A bridge, and the hosts on it.
#[derive(Debug)]
pub struct Lan {
    name: String,
    hosts: u8,
    switch: Namespace,
}

impl Lan {
    /// An empty network. Removes namespaces that killed runs left behind.
    ///
    /// # Errors
    /// Without root or iproute2.
    pub fn new() -> Result<Self> {
        remove_stale();
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT_LAN.fetch_add(1, Ordering::Relaxed));
        let switch = Namespace::add(format!("{name}-switch"), Ipv4Addr::UNSPECIFIED)?;
        switch.ip(["link", "add", "bridge", "type", "bridge"])?;
        switch.ip(["link", "set", "bridge", "up"])?;
        Ok(Self { name, hosts: 0, switch })
    }

    /// A new host on the network, with the next address of 10.77.0.0/24. Its interface is `eth0`.
    ///
    /// # Errors
    /// If a tool fails, or there are too many hosts.
    pub fn join(&mut self, label: &str) -> Result<Namespace> {
        ensure!(self.hosts < HOSTS_MAX, "no address left");
        self.hosts += 1;
        let port = format!("port{}", self.hosts);
        let address = Ipv4Addr::new(10, 77, 0, self.hosts);
        let host = Namespace::add(format!("{}-{label}", self.name), address)?;
        let (a, b) = (host.name.as_str(), self.switch.name.as_str());
        tool("ip", ["link", "add", "eth0", "netns", a, "type", "veth", "peer", "name", &port, "netns", b])?;
        self.switch.ip(["link", "set", &port, "master", "bridge", "up"])?;
        host.ip(["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        host.ip(["link", "set", "eth0", "up"])?;
        Ok(host)
    }

    /// Limits what `host` sends and receives to `bits_per_second` each way (a token bucket at both ends of its link).
    ///
    /// # Errors
    /// If `tc` fails.
    pub fn shape(&self, host: &Namespace, bits_per_second: u64) -> Result<()> {
        let port = format!("port{}", host.address.octets()[3]);
        for (namespace, device) in [(host, "eth0"), (&self.switch, port.as_str())] {
            // The burst holds several of the 64 KiB segments that veth passes; the latency bounds the queue.
            let rate = format!("{bits_per_second}bit");
            namespace.tool(
                "tc",
                [
                    "qdisc", "replace", "dev", device, "root", "tbf", "rate", &rate, "burst", "256kb",
                    "latency", "50ms",
                ],
            )?;
        }
        Ok(())
    }

    /// Cuts `host` off, or joins it again.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn plug(&self, host: &Namespace, link: Link) -> Result<()> {
        let port = format!("port{}", host.address.octets()[3]);
        self.switch.ip(["link", "set", &port, if link == Link::Up { "up" } else { "down" }])
    }
}

/// The state of a host's cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Connected.
    Up,
    /// Cut.
    Down,
}

/// A host: a network namespace. Dropping it removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    address: Ipv4Addr,
}

impl Namespace {
    fn add(name: String, address: Ipv4Addr) -> Result<Self> {
        tool("ip", ["netns", "add", &name])?;
        let namespace = Self { name, address };
        namespace.ip(["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the network.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The file through which it is entered.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// A command that runs `program` in it. Unlike `ip netns exec` this leaves mounts alone, so that container runtimes
    /// find their cgroups.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program);
        command
    }

    /// Calls `f` in a thread of its own that has entered the namespace, and waits for it.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    ///
    /// # Panics
    /// If `f` does.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.path();
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    enter(&path)?;
                    Ok(f())
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a future on a runtime of its own in a thread that has entered the namespace, and waits for it.
    ///
    /// # Errors
    /// If the namespace cannot be entered, or the future fails.
    pub fn block_on<T: Send, F: Future<Output = Result<T>>>(
        &self,
        make: impl FnOnce() -> F + Send,
    ) -> Result<T> {
        self.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(make())
        })?
    }

    /// Gives it another address, known to nobody else.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn add_address(&self, address: IpAddr) -> Result<()> {
        self.ip(["addr", "add", &address.to_string(), "dev", "lo"])
    }

    fn ip<'a>(&'a self, args: impl IntoIterator<Item = &'a str>) -> Result<()> {
        tool("ip", ["-n", self.name.as_str()].into_iter().chain(args))
    }

    fn tool<'a>(&self, program: &str, args: impl IntoIterator<Item = &'a str>) -> Result<()> {
        run(self.command(program).args(args), TOOL_LIMIT).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its veth pairs go with it. Nothing can be done about a failure here; the next run looks for leftovers.
        let _ = tool("ip", ["netns", "del", &self.name]);
    }
}

/// Moves the calling thread into the network namespace of this file, for good.
///
/// # Errors
/// Without root, or if there is no such namespace.
pub fn enter(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("cannot enter {}", path.display()))
}

fn tool<'a>(program: &str, args: impl IntoIterator<Item = &'a str>) -> Result<()> {
    run(Command::new(program).args(args), TOOL_LIMIT).map(drop)
}

/// Removes the namespaces of runs whose process is gone.
fn remove_stale() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
        if let Some(pid) = owner.and_then(|pid| pid.parse::<u32>().ok())
            && !Path::new(&format!("/proc/{pid}")).exists()
        {
            let _ = tool("ip", ["netns", "del", &name]);
        }
    }
}
