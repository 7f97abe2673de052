//! What a stranger finds open: the ports of a scheduler and a daemon in their default configuration, and what each answers
//! to somebody who has neither a certificate nor a ticket nor a credential.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use support::binaries::Binaries;
use support::netns::{Lan, Namespace};
use support::process::{Program, Spec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const READY_LIMIT: Duration = Duration::from_secs(20);

/// No answer in this time is none.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// What a stranger may hear: less than this, and nothing of the cluster.
const ANSWER_LEN_MAX: usize = 64 * 1024;

/// The sockets that the program's network namespace has open: TCP that listens, and any UDP.
fn open_sockets(program: &Program) -> Result<(BTreeSet<SocketAddr>, BTreeSet<SocketAddr>)> {
    let table = |name: &str, state: Option<&str>| -> Result<BTreeSet<SocketAddr>> {
        let path = format!("/proc/{}/net/{name}", program.id());
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| state.is_none_or(|state| row.get(3) == Some(&state)))
            .map(|row| socket(row.get(1).context("a local address")?))
            .collect()
    };
    let listening = Some("0A");
    let mut tcp = table("tcp", listening)?;
    tcp.extend(table("tcp6", listening)?);
    let mut udp = table("udp", None)?;
    udp.extend(table("udp6", None)?);
    Ok((tcp, udp))
}

/// `0100007F:1964`: the address in groups of four bytes of this machine's order, the port in network order.
fn socket(text: &str) -> Result<SocketAddr> {
    let (address, port) = text.split_once(':').context("a colon")?;
    let words: Vec<u8> = (0..address.len())
        .step_by(8)
        .map(|at| Ok(u32::from_str_radix(&address[at..at + 8], 16)?.to_ne_bytes()))
        .collect::<Result<Vec<_>>>()?
        .concat();
    let ip = match <[u8; 4]>::try_from(words.as_slice()) {
        Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words.as_slice())?)),
    };
    Ok(SocketAddr::new(ip, u16::from_str_radix(port, 16)?))
}

/// Whoever speaks HTTP there without TLS: what comes back until the other side closes, or says no more.
async fn ask(address: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let mut stream = tokio::time::timeout(ANSWER_LIMIT, TcpStream::connect(address)).await??;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let talking = async {
        stream.write_all(request.as_bytes()).await?;
        (&mut stream).take(ANSWER_LEN_MAX as u64 * 16).read_to_end(&mut answer).await
    };
    // A reset is an answer too.
    drop(tokio::time::timeout(ANSWER_LIMIT, talking).await);
    Ok(answer)
}

async fn status(address: SocketAddr, path: &str) -> Result<u16> {
    let answer = ask(address, path).await?;
    let text = String::from_utf8_lossy(&answer);
    let code = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).map(str::parse);
    match code {
        Some(code) => Ok(code?),
        None => bail!("{address}{path} answered {:?}", text.chars().take(200).collect::<String>()),
    }
}

fn addresses<const N: usize>(list: [(&str, u16); N]) -> BTreeSet<SocketAddr> {
    list.iter().map(|(ip, port)| SocketAddr::new(ip.parse().expect("an address"), *port)).collect()
}

fn start(host: &Namespace, name: &str, program: &Path, dir: &Path, args: &[&str]) -> Result<Program> {
    let dir = dir.join(name);
    std::fs::create_dir_all(&dir)?;
    let spec = Spec::new(name, program, dir).args(args).in_namespace(host.path());
    Program::start(&spec)
}

#[test]
fn only_what_is_documented_and_strangers_learn_nothing() -> Result<()> {
    let Some(_guard) = e2e::begin("open_ports::only_what_is_documented_and_strangers_learn_nothing") else {
        return Ok(());
    };
    let binaries = Binaries::build(support::binaries::Profile::of_caller())?;
    let dir = tempfile::tempdir()?;
    let mut lan = Lan::new()?;
    let (hub, node, stranger) = (lan.join("hub")?, lan.join("node")?, lan.join("stranger")?);
    let at_hub = SocketAddr::new(hub.address().into(), 6510);

    let state = dir.path().join("state");
    let listen = at_hub.to_string();
    let args = ["--listen", &listen, "--state", state.to_str().context("a path")?];
    let mut scheduler = start(&hub, "scheduler", &binaries.scheduler, dir.path(), &args)?;
    hub.block_on(|| scheduler.wait_for_ok("http://127.0.0.1:6511/readyz", READY_LIMIT))?;
    let (tcp, udp) = open_sockets(&scheduler)?;
    ensure!(udp.is_empty(), "UDP {udp:?}");
    ensure!(tcp == [at_hub].into_iter().chain(addresses([("127.0.0.1", 6511)])).collect(), "{tcp:?}");

    let token = std::fs::read_to_string(state.join("join-token"))?;
    let (join, store) = (format!("{}@{at_hub}", token.trim()), dir.path().join("store"));
    let args = ["--join", &join, "--store", store.to_str().context("a path")?];
    let mut daemon = start(&node, "dfdaemon", &binaries.dfdaemon, dir.path(), &args)?;
    node.block_on(|| daemon.wait_for_ok("http://127.0.0.1:6503/readyz", READY_LIMIT))?;
    let (tcp, udp) = open_sockets(&daemon)?;
    ensure!(udp.is_empty(), "UDP {udp:?}");
    let expected =
        addresses([("127.0.0.1", 6500), ("0.0.0.0", 6501), ("0.0.0.0", 6502), ("127.0.0.1", 6503)]);
    ensure!(tcp == expected, "{tcp:?}");

    // From another machine: the peers' ports and the scheduler's, and neither says a word to who does not speak TLS.
    let on_node = |port| SocketAddr::new(node.address().into(), port);
    let from_afar = stranger.block_on(|| async {
        let mut heard = Vec::new();
        for address in [on_node(6501), on_node(6502), at_hub] {
            heard.push((address, ask(address, "/").await?));
        }
        for address in [on_node(6500), on_node(6503), SocketAddr::new(at_hub.ip(), 6511)] {
            ensure!(ask(address, "/").await.is_err(), "{address} is open to other machines");
        }
        Ok(heard)
    })?;
    for (address, heard) in from_afar {
        let text = String::from_utf8_lossy(&heard);
        // A TLS alert has seven bytes; libp2p's control port greets with its protocol's name, as all of libp2p does.
        let greeting = text.strip_prefix('\u{13}').is_none_or(|rest| rest == "/multistream/1.0.0\n");
        ensure!(heard.len() <= 32 && greeting, "{address} said {text:?}");
    }

    // On the machine itself: what runtimes and operators use, without a secret.
    let secret = token.trim().rsplit('.').next().unwrap_or_default().to_owned();
    node.block_on(|| async {
        let proxy = SocketAddr::from(([127, 0, 0, 1], 6500));
        ensure!(status(proxy, "/v2/").await? == 200);
        ensure!(status(proxy, "/v2/x/manifests/latest?ns=169.254.169.254").await? == 403);
        ensure!(status(proxy, "/v2/_catalog").await? == 404);
        let admin = SocketAddr::from(([127, 0, 0, 1], 6503));
        for path in ["/healthz", "/metrics", "/v1/status"] {
            ensure!(status(admin, path).await? == 200, "{path}");
            let said = ask(admin, path).await?;
            ensure!(!String::from_utf8_lossy(&said).contains(&secret), "{path} shows the join token");
        }
        Ok(())
    })?;
    scheduler.check_running()?;
    daemon.check_running()
}

/// A daemon that is told nothing: everything is on loopback, and nobody else can join.
#[test]
fn a_daemon_alone_is_open_to_nobody_else() -> Result<()> {
    let Some(_guard) = e2e::begin("open_ports::a_daemon_alone_is_open_to_nobody_else") else { return Ok(()) };
    let binaries = Binaries::build(support::binaries::Profile::of_caller())?;
    let dir = tempfile::tempdir()?;
    let mut lan = Lan::new()?;
    let node = lan.join("node")?;
    let store = dir.path().join("store");
    let args = ["--store", store.to_str().context("a path")?];
    let mut daemon = start(&node, "dfdaemon", &binaries.dfdaemon, dir.path(), &args)?;
    node.block_on(|| daemon.wait_for_ok("http://127.0.0.1:6503/readyz", READY_LIMIT))?;
    let (tcp, udp) = open_sockets(&daemon)?;
    ensure!(udp.is_empty(), "UDP {udp:?}");
    ensure!(tcp.iter().all(|address| address.ip().is_loopback()), "{tcp:?}");
    let ports: BTreeSet<u16> = tcp.iter().map(SocketAddr::port).filter(|port| *port < 32_768).collect();
    ensure!(ports == BTreeSet::from([6500, 6501, 6502, 6503]), "{tcp:?}");
    ensure!(tcp.len() == 5, "and one of the scheduler inside: {tcp:?}");
    Ok(())
}
