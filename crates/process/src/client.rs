//! The other end of a connection: its address, and whose process it is if that runs on this machine.
//!
//! A program that is a client of ours over loopback has a socket of its own in the kernel's tables, and each row there
//! names the user. Linux only; elsewhere no user is found. The audit log asks.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::sync::{OnceCell, Semaphore};

/// The most that is read of one table, in bytes: about 100,000 sockets.
const TABLE_LEN_MAX: u64 = 16 << 20;

/// Tables read at a time: a crowd that connects at once waits in turn, not on every core.
static LOOKUPS: Semaphore = Semaphore::const_new(2);

/// The other end of a connection; a clone is the same one.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    server: SocketAddr,
    uid: OnceCell<Option<u32>>,
}

impl Client {
    /// The client at `address` of a connection that was accepted at `server`.
    #[must_use]
    pub fn new(address: SocketAddr, server: SocketAddr) -> Self {
        let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        Self(Arc::new(Inner { address: canonical(address), server: canonical(server), uid: OnceCell::new() }))
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The user that its socket belongs to; nothing if it is not on this machine, or in another network namespace, or has
    /// closed it. Looked up once, so the connection should be open at the first call. Cancel safe.
    pub async fn uid(&self) -> Option<u32> {
        let Inner { address, server, .. } = *self.0;
        let find = || async move {
            if !address.ip().is_loopback() && address.ip() != server.ip() {
                return None;
            }
            // The semaphore is never closed.
            let _turn = LOOKUPS.acquire().await.ok()?;
            tokio::task::spawn_blocking(move || owner(address, server)).await.ok()?
        };
        *self.0.uid.get_or_init(find).await
    }
}

fn owner(local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let table = |path, local, remote| {
        let rows = BufReader::new(File::open(path).ok()?.take(TABLE_LEN_MAX));
        find(rows, &cell(local), &cell(remote)).ok()?
    };
    let v4 = local.is_ipv4().then(|| table("/proc/net/tcp", local, remote)).flatten();
    // A socket of both kinds has its v4 addresses in the table of the v6 ones.
    v4.or_else(|| table("/proc/net/tcp6", mapped(local), mapped(remote)))
}

fn mapped(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// An address as the tables have it: 32 bits at a time, in the machine's own order.
fn cell(address: SocketAddr) -> String {
    let word = |bytes: &[u8]| format!("{:08X}", u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let ip = match address.ip() {
        IpAddr::V4(ip) => word(&ip.octets()),
        IpAddr::V6(ip) => ip.octets().chunks_exact(4).map(word).collect(),
    };
    format!("{ip}:{:04X}", address.port())
}

/// The user in the row of the socket with these ends (proc(5), `/proc/net/tcp`).
fn find(mut rows: impl BufRead, local: &str, remote: &str) -> io::Result<Option<u32>> {
    let mut row = String::new();
    while rows.read_line(&mut row)? > 0 {
        let mut cells = row.split_ascii_whitespace().skip(1);
        if cells.next() == Some(local) && cells.next() == Some(remote) {
            let (uid, inode) = (cells.nth(4), cells.nth(1));
            // A socket that no process has any more says 0, which is nobody's word.
            return Ok(uid
                .filter(|_| inode.is_some_and(|inode| inode != "0"))
                .and_then(|uid| uid.parse().ok()));
        }
        row.clear();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::os::unix::fs::MetadataExt as _;
    use tokio::net::{TcpListener, TcpStream};

    fn own_uid() -> Option<u32> {
        std::fs::metadata("/proc/self").ok().map(|process| process.uid())
    }

    async fn accepted(listener: &TcpListener) -> Client {
        let (stream, address) = listener.accept().await.unwrap();
        Client::new(address, stream.local_addr().unwrap())
    }

    #[tokio::test]
    async fn a_socket_of_this_process_is_its_users() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let client = accepted(&listener).await;
        assert_eq!(client.address(), stream.local_addr().unwrap());
        assert_eq!(client.uid().await, own_uid());
        drop(stream);
        assert_eq!(client.uid().await, own_uid(), "asked once");
    }

    #[tokio::test]
    async fn so_is_one_that_speaks_both() {
        // Where there is no IPv6 there is nothing to find.
        let Ok(listener) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await else { return };
        let port = listener.local_addr().unwrap().port();
        for to in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let to = SocketAddr::new(to.parse().unwrap(), port);
            let Ok(_stream) = TcpStream::connect(to).await else { continue };
            let client = accepted(&listener).await;
            assert_eq!(client.uid().await, own_uid(), "{to}");
        }
    }

    #[tokio::test]
    async fn who_is_elsewhere_or_gone_is_nobody() {
        let here = "192.0.2.1:6500".parse().unwrap();
        assert_eq!(Client::new("192.0.2.7:5000".parse().unwrap(), here).uid().await, None);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let client = accepted(&listener).await;
        drop(stream);
        assert_eq!(client.uid().await, None);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn rows() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1964 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 51 1 0
   1: 0100007F:C350 0100007F:1964 01 00000000:00000000 02:000005A0 00000000  1000        0 52 2 0
   2: 0100007F:C351 0100007F:1964 06 00000000:00000000 03:000005A0 00000000     0        0 0 3 0
";
        let of = |local: &str| {
            let (local, remote) = (local.parse().unwrap(), "127.0.0.1:6500".parse().unwrap());
            find(table.as_bytes(), &cell(local), &cell(remote)).unwrap()
        };
        assert_eq!(of("127.0.0.1:50000"), Some(1000));
        assert_eq!(of("127.0.0.1:50001"), None, "a socket that is closed");
        assert_eq!(of("127.0.0.1:50002"), None);
        assert_eq!(cell("[::1]:80".parse().unwrap()), "00000000000000000000000001000000:0050");
    }
}
