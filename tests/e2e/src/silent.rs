//! A server that takes every connection and never says a word: the worst kind of scheduler.

use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::thread::JoinHandle;
use support::netns::{Namespace, enter};
use tokio::sync::oneshot;

/// Connections that are held open at once.
const CONNECTIONS_MAX: usize = 1_000;

/// The silent server. Dropping it ends it.
#[derive(Debug)]
pub struct Silent {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Silent {
    /// Listens at `address` in the namespace of `host`; it is listening when this returns.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start(host: &Namespace, address: SocketAddr) -> Result<Self> {
        let path = host.path();
        let listener = host.enter(|| std::net::TcpListener::bind(address).context("silent"))??;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            enter(&path)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tokio::select! {
                    result = hold(listener) => result,
                    _ = stopped => Ok(()),
                }
            })
        });
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

async fn hold(listener: tokio::net::TcpListener) -> Result<()> {
    let mut connections = Vec::new();
    loop {
        let (connection, _) = listener.accept().await?;
        if connections.len() < CONNECTIONS_MAX {
            connections.push(connection);
        }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Gone already is as good as stopped.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
