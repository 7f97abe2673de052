//! A link of limited rate in front of a server, shared by all connections: what shaping a network interface does,
//! without being root.
//!
//! A role: it says `ready ADDRESS`. Only answers are limited; requests are small.

use crate::role::say;
use anyhow::Result;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

/// How many bytes pass at once: half a millisecond of 1 Gbit/s.
const PART: usize = 64 * 1024;
/// How much time's worth of bytes may pass at once after a pause: the timer wakes up to a millisecond late.
const BURST: Duration = Duration::from_millis(4);

/// The link: a token bucket in the form of a point in time.
#[derive(Debug)]
struct Link {
    /// Bytes per second.
    rate: u64,
    /// When all bytes given out so far will have passed.
    free: Mutex<Instant>,
}

impl Link {
    /// When `bytes` more have passed, if the link is taken at `now`.
    fn take(&self, now: Instant, bytes: usize) -> Instant {
        let nanos = bytes as u64 * 1_000_000_000 / self.rate.max(1);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = (*free).max(now.checked_sub(BURST).unwrap_or(now)) + Duration::from_nanos(nanos);
        *free
    }
}

/// Relays to `to` until the process is ended, answers at `rate` bytes per second in all.
///
/// # Errors
/// If it cannot listen.
pub async fn serve(to: SocketAddr, rate: u64) -> Result<()> {
    let link = Arc::new(Link { rate, free: Mutex::new(Instant::now()) });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say("ready", listener.local_addr()?);
    loop {
        let (client, _) = listener.accept().await?;
        let link = Arc::clone(&link);
        // As many as the benchmark's clients open.
        tokio::spawn(async move {
            // An end on one side ends the other, whatever the reason.
            let _ = connection(client, to, &link).await;
        });
    }
}

async fn connection(client: TcpStream, to: SocketAddr, link: &Link) -> std::io::Result<()> {
    let server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async {
        tokio::io::copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let answers = async {
        let mut part = vec![0; PART];
        loop {
            let n = from_server.read(&mut part).await?;
            if n == 0 {
                return to_client.shutdown().await;
            }
            sleep_until(link.take(Instant::now(), n)).await;
            to_client.write_all(&part[..n]).await?;
        }
    };
    tokio::try_join!(requests, answers)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(now: Instant) -> Link {
        Link { rate: 1_000_000, free: Mutex::new(now) }
    }

    #[test]
    fn all_connections_share_the_rate() {
        let start = Instant::now();
        let link = link(start);
        let mut connections = [start; 4];
        for _ in 0..200 {
            let next = connections.iter_mut().min().unwrap();
            *next = link.take(*next, 10_000);
        }
        let seconds = (*connections.iter().max().unwrap() - start).as_secs_f64();
        assert!((1.99..2.01).contains(&seconds), "{seconds} s for 2 MB at 1 MB/s");
    }

    #[test]
    fn a_pause_earns_no_more_than_the_burst() {
        let start = Instant::now();
        let link = link(start);
        let later = start + Duration::from_secs(10);
        assert_eq!(link.take(later, 10_000) - later, Duration::from_millis(6));
        assert_eq!(link.take(later, 10_000) - later, Duration::from_millis(16));
    }
}
