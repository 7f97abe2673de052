//! Listening sockets, with an error that names the port and its flag.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {purpose}{}", hint(source))]
pub struct ListenError {
    /// What it was for, as in "the admin port (--admin)".
    pub purpose: &'static str,
    /// Where.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub source: std::io::Error,
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => " (another program has the port: stop it or choose another port)",
        std::io::ErrorKind::AddrNotAvailable => " (this machine does not have the address)",
        _ => "",
    }
}

/// Listens on `address`; port 0 takes a free one.
///
/// # Errors
/// [`ListenError`], which names `purpose` and the address.
pub async fn bind(purpose: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { purpose, address, source })
}

/// The next connection. Errors of a single connection are passed over; where the process is out of file descriptors
/// it waits a little rather than spin. Cancel safe.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
                if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = bind("tests", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind("the admin port (--admin)", address).await.expect_err("taken");
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("cannot listen on {address} for the admin port (--admin) (another"))
        );
        assert_eq!(crate::exit::Failure::from(error).exit.code(), 69);
    }
}
