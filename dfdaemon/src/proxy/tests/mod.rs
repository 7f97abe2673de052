//! The proxy over real sockets, with a backend in memory and requests as real clients write them.

mod bad_input;
mod client;
mod memory;
mod replay;
mod streaming;

use super::{Metrics, Options, Server};
use crate::config::AllowRegistries;
use memory::Memory;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, DropGuard};
use types::Registry;

/// A proxy before a backend in memory; it ends with the test.
struct Stage {
    address: SocketAddr,
    memory: Arc<Memory>,
    server: Server,
    cancel: CancellationToken,
    metrics: prometheus_client::registry::Registry,
    _guard: DropGuard,
}

fn options() -> Options {
    Options {
        download_rate: None,
        listen: "127.0.0.1:0".parse().unwrap(),
        connections_max: 16,
        upstream: Registry::parse("docker.io").unwrap(),
        allow: AllowRegistries::Public,
        named: BTreeSet::from([Registry::parse("127.0.0.1:5000").unwrap()]),
        head_timeout: Options::HEAD_TIMEOUT,
        write_timeout: Options::WRITE_TIMEOUT,
        answer_timeout: Options::ANSWER_TIMEOUT,
        drain_timeout: Options::DRAIN_TIMEOUT,
    }
}

async fn stage(memory: Memory) -> Stage {
    stage_with(options(), memory).await
}

async fn stage_with(options: Options, memory: Memory) -> Stage {
    let memory = Arc::new(memory);
    let cancel = CancellationToken::new();
    let mut metrics = prometheus_client::registry::Registry::default();
    let declared = Metrics::register(&mut metrics);
    let server = Server::start(options, memory.clone(), declared, None, cancel.clone()).await.unwrap();
    Stage {
        address: server.address(),
        memory,
        server,
        cancel: cancel.clone(),
        metrics,
        _guard: cancel.drop_guard(),
    }
}

impl Stage {
    /// Whether the metrics have this line.
    fn counts(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        text.lines().any(|found| found == line)
    }
}
