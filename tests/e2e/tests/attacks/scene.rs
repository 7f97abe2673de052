//! Two members of a cluster, of which one is attacked, and a pull through it that has to complete meanwhile.

use anyhow::{Context, Result, ensure};
use e2e::inside::{BOUND, Content, Hub, Logged, Node, Settings, blob_target};
use std::net::SocketAddr;
use std::time::Duration;
use support::origin::FaultyOrigin;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing_subscriber::filter::LevelFilter;
use types::Digest;

/// What a client that attacks sends along, to be found in no log.
pub(crate) const SECRET: &str = "c2VjcmV0LXRva2Vu";

/// The repository of the pull that is not to be disturbed.
const BESIDE: &str = "beside/app";

/// The registry's bytes per second: the pull beside takes about a second.
const RATE: u64 = 3 << 20;

const SIZE: usize = 3 << 20;

/// The cluster.
pub(crate) struct Scene {
    pub(crate) origin: FaultyOrigin,
    pub(crate) attacked: Node,
    log: Logged,
    _other: Node,
    pub(crate) hub: Hub,
}

/// An answer to bytes that were sent as they are.
pub(crate) struct Answer {
    /// Nothing, if the connection was closed without one.
    pub(crate) status: Option<u16>,
}

impl Scene {
    pub(crate) async fn start(change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let log = Logged::from_now_on(LevelFilter::DEBUG);
        let origin = FaultyOrigin::builder().rate(RATE).start().await?;
        let mut settings = Settings::of(&[&origin]);
        settings.origin.manifest_len_max = origin::Options::default().manifest_len_max;
        change(&mut settings);
        let hub = Hub::start(&settings).await?;
        let (attacked, other) = tokio::try_join!(Node::join(&hub, &settings), Node::join(&hub, &settings))?;
        hub.until_hosts(2).await?;
        Ok(Self { origin, attacked, log, _other: other, hub })
    }

    /// What the attack gives, and the lines that the attacked daemon's log has of the requests of it.
    pub(crate) async fn beside<T>(
        &self,
        seed: u64,
        attack: impl Future<Output = Result<T>>,
    ) -> Result<(T, Vec<String>)> {
        let ours = |line: &str| {
            line.contains("dfdaemon::proxy") && !line.contains(BESIDE) && !line.contains("kind=\"ping\"")
        };
        self.beside_with(seed, attack, ours).await
    }

    /// What the attack gives, and the lines of the whole log that are `ours`.
    pub(crate) async fn beside_with<T>(
        &self,
        seed: u64,
        attack: impl Future<Output = Result<T>>,
        ours: impl Fn(&str) -> bool,
    ) -> Result<(T, Vec<String>)> {
        let content = Content::random(seed, SIZE);
        self.origin.add_blob(BESIDE, content.bytes.clone());
        let mark = self.log.mark();
        let target = blob_target(&self.origin, BESIDE, &content.digest);
        let pull = async {
            let reply = self.attacked.get(&target).await?;
            ensure!(reply.is_right(&content.bytes), "the pull beside: {}", reply.summary());
            Ok(())
        };
        let begun = async {
            while self.origin.blob_bytes(&content.digest) == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            attack.await
        };
        let begun = async { tokio::time::timeout(BOUND, begun).await.context("the attack never ends")? };
        let ((), attacked) = tokio::try_join!(pull, begun)?;
        let reply = self.attacked.get("/v2/").await?;
        ensure!(reply.status == 200, "the daemon goes on: {}", reply.summary());
        let text = self.log.since(mark);
        ensure!(!text.contains(SECRET), "a secret is in the log");
        Ok((attacked, text.lines().filter(|line| ours(line)).map(str::to_owned).collect()))
    }

    /// How often the registry was asked for this.
    pub(crate) fn asked_for(&self, digest: &Digest) -> usize {
        let digest = digest.to_string();
        self.origin.requests().iter().filter(|request| request.path.contains(&digest)).count()
    }

    pub(crate) fn proxy(&self) -> Result<SocketAddr> {
        self.attacked.proxy().trim_start_matches("http://").parse().context("the proxy's address")
    }

    /// A GET whose target is sent as it is, with a secret that is to be seen nowhere.
    pub(crate) async fn raw_get(&self, target: &str) -> Result<Answer> {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\nConnection: close\r\n\r\n"
        );
        let mut stream = TcpStream::connect(self.proxy()?).await?;
        stream.write_all(head.as_bytes()).await?;
        answer(stream).await
    }
}

/// Reads to the connection's end.
pub(crate) async fn answer(stream: TcpStream) -> Result<Answer> {
    let mut text = Vec::new();
    let mut bounded = stream.take(1 << 20);
    // A connection may be reset when more was sent than was read.
    let read = tokio::time::timeout(BOUND, bounded.read_to_end(&mut text)).await;
    let _ = read.context("a connection that is not closed")?;
    let text = String::from_utf8_lossy(&text);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer { status })
}
