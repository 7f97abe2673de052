//! A name that is public when it is looked up first, and the node itself when it is looked up again.
//!
//! In a network namespace with a DNS server of its own at the address that the machine's resolver asks.

use crate::scene::Scene;
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::netns::Lan;
use support::skip::{is_root, skipped};
use tokio::net::{TcpListener, UdpSocket};

/// A public address, which the namespace has to itself.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);

const REQUESTS: usize = 12;

/// The server that this machine's resolver asks first.
fn nameserver() -> IpAddr {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let first = text.lines().find_map(|line| line.strip_prefix("nameserver ")?.trim().parse().ok());
    // As the C library has it where the file names none.
    first.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The answer to a DNS query: these addresses with no lifetime, or none if another type is asked for (RFC 1035, 4.1).
fn answer(query: &[u8], addresses: &[Ipv4Addr]) -> Option<Vec<u8>> {
    let name_len = query.get(12..)?.iter().position(|byte| *byte == 0)?;
    let question = query.get(12..12 + name_len + 5)?;
    let asks_a = question.get(name_len + 1..name_len + 3)? == [0, 1];
    let addresses = if asks_a { addresses } else { &[] };
    let mut text = query[..2].to_vec();
    text.extend([0x81, 0x80, 0, 1, 0, u8::try_from(addresses.len()).ok()?, 0, 0, 0, 0]);
    text.extend(question);
    for address in addresses {
        text.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        text.extend(address.octets());
    }
    Some(text)
}

/// A name server that gives each of the answers in turn.
async fn serve_names(turns: Vec<Vec<Ipv4Addr>>, asked: Arc<AtomicUsize>) -> Result<()> {
    let socket = UdpSocket::bind((nameserver(), 53)).await.context("a name server")?;
    tokio::spawn(async move {
        let mut buffer = [0; 1024];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let query = &buffer[..length];
            let turn = asked.load(Ordering::Relaxed);
            let Some(text) = answer(query, &turns[turn % turns.len()]) else { continue };
            // Only queries for IPv4 addresses have answers, and count.
            if text[7] > 0 {
                asked.fetch_add(1, Ordering::Relaxed);
            }
            let _ = socket.send_to(&text, from).await;
        }
    });
    Ok(())
}

/// How often somebody connects to port 443 here.
async fn count_connections(address: Ipv4Addr) -> Result<Arc<AtomicUsize>> {
    let listener = TcpListener::bind((address, 443)).await?;
    let reached = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reached);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok(reached)
}

async fn rebind() -> Result<()> {
    let inside = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(169, 254, 169, 254)];
    let mut turns: Vec<Vec<Ipv4Addr>> = inside.iter().flat_map(|ip| [vec![PUBLIC], vec![*ip]]).collect();
    turns.push(vec![inside[0], PUBLIC, inside[1]]);
    let asked = Arc::new(AtomicUsize::new(0));
    serve_names(turns.clone(), Arc::clone(&asked)).await?;
    let public = count_connections(PUBLIC).await?;
    let victims = [count_connections(inside[0]).await?, count_connections(inside[1]).await?];

    let scene = Scene::start(|settings| settings.origin.retries = 0).await?;
    let attack = async {
        let mut statuses = Vec::new();
        for i in 0..REQUESTS {
            let target = format!("/v2/app-{i}/manifests/latest?ns=registry.example.com");
            statuses.push(scene.raw_get(&target).await?.status);
        }
        Ok(statuses)
    };
    let (statuses, lines) = scene.beside(41, attack).await?;
    let reached = public.load(Ordering::Relaxed);
    let looked_up = asked.load(Ordering::Relaxed);
    eprintln!("  {looked_up} look-ups, {reached} connections to the public address, {statuses:?}");
    ensure!(looked_up >= 2 * inside.len(), "the name was looked up again");
    ensure!(reached >= 2, "the public address was connected to");
    ensure!(statuses.contains(&Some(403)), "a private address is refused: {statuses:?}");
    ensure!(statuses.iter().all(|status| matches!(status, Some(403 | 502..=504))), "{statuses:?}");
    for victim in victims {
        ensure!(victim.load(Ordering::Relaxed) == 0, "an address inside was connected to");
    }
    ensure!(lines.len() == REQUESTS, "{lines:#?}");
    Ok(())
}

#[test]
fn attack_a_name_that_resolves_inside_at_the_second_look_up() -> Result<()> {
    if !is_root() {
        skipped("rebinding", "network namespaces need root");
        return Ok(());
    }
    let mut lan = Lan::new()?;
    let host = lan.join("rebinding")?;
    host.add_address(PUBLIC.into())?;
    let nameserver = nameserver();
    if !nameserver.is_loopback() {
        host.add_address(nameserver)?;
    }
    host.block_on(rebind)
}
