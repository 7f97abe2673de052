//! An HTTP client that sends exactly the bytes it is given and shows exactly what comes back.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than any of these tests may take: a hang fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Lower-case names.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether as many bytes came as were announced.
    pub(super) whole: bool,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A connection that stays open between requests.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    /// Sends a request whose lines are written with plain line ends, `Host` and the last empty line left out.
    pub(super) async fn send(&mut self, request: &str) {
        let lines = request.trim().lines().map(str::trim).collect::<Vec<_>>().join("\r\n");
        let (first, rest) = lines.split_once("\r\n").unwrap_or((&lines, ""));
        let rest = if rest.is_empty() { String::new() } else { format!("{rest}\r\n") };
        self.send_raw(format!("{first}\r\nHost: 127.0.0.1:6500\r\n{rest}\r\n").as_bytes()).await;
    }

    pub(super) async fn send_raw(&mut self, bytes: &[u8]) {
        // The server may have refused and closed already.
        let _ = self.stream.write_all(bytes).await;
    }

    /// Reads the head of an answer.
    pub(super) async fn head(&mut self) -> Reply {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            assert!(
                self.fill().await,
                "connection closed before the head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers =
            lines.map(|line| line.split_once(": ").unwrap()).map(|(n, v)| (n.to_lowercase(), v.to_owned()));
        Reply { status, headers: headers.collect(), body: Vec::new(), whole: false }
    }

    /// Reads `len` bytes of a body, or what comes before the connection ends.
    pub(super) async fn body(&mut self, len: usize) -> Vec<u8> {
        while self.buffer.len() < len && self.fill().await {}
        let len = len.min(self.buffer.len());
        self.buffer.drain(..len).collect()
    }

    /// Sends a request and reads its whole answer.
    pub(super) async fn exchange(&mut self, request: &str) -> Reply {
        self.send(request).await;
        let mut reply = self.head().await;
        if !request.trim_start().starts_with("HEAD") && reply.status != 304 {
            let len = reply.header("content-length").expect("every answer has a length").parse().unwrap();
            reply.body = self.body(len).await;
            reply.whole = reply.body.len() == len;
        }
        reply
    }

    /// Whether the server has closed: there is nothing more to come.
    pub(super) async fn is_closed(&mut self) -> bool {
        !self.fill().await
    }

    /// Reads what is there; whether there was anything.
    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer));
        read.await.expect("the proxy hangs").is_ok_and(|n| n > 0)
    }
}

/// One request over a connection of its own.
pub(super) async fn once(address: SocketAddr, request: &str) -> Reply {
    Connection::open(address).await.exchange(request).await
}

/// Waits until `condition` holds, which it must soon.
pub(super) async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the condition never held");
}
