//! All clients' pulls, and the deaths among their daemons.

use crate::args::Args;
use crate::client::{Client, Shared};
use crate::cluster::Cluster;
use crate::http::Http;
use crate::meter::Meter;
use crate::plan::{Fate, Plan};
use crate::progress::Bar;
use anyhow::Result;
use futures::future::join_all;
use serde::Serialize;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// When this share of all bytes has arrived, a source dies, if one is to.
const SOURCE_DIES_AT: f64 = 0.1;

/// How often is looked whether that is so.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How one peer's pull ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How.
    pub ending: Ending,
    /// After its own beginning.
    pub took: Duration,
    /// After the common start.
    pub at: Duration,
}

/// How a pull ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Everything is there.
    Complete,
    /// Its daemon died, as it was to.
    Killed,
    /// It failed.
    Failed(String),
}

/// What a run of pulls needs.
#[derive(Debug)]
pub struct Pulls<'a> {
    /// The arguments.
    pub args: &'a Args,
    /// Who begins when, and dies when.
    pub plan: &'a Plan,
    /// The daemons.
    pub cluster: &'a Cluster,
    /// To end daemons with.
    pub http: &'a Http,
    /// The clients' original and counters.
    pub shared: &'a Arc<Shared>,
    /// What is shown meanwhile.
    pub bar: &'a Bar,
}

/// Who is told to die while it pulls.
struct Deaths(Mutex<Vec<Option<watch::Sender<bool>>>>);

impl Pulls<'_> {
    /// Runs all pulls; each peer's outcome.
    pub async fn run(&self, meter: &Meter) -> Vec<Outcome> {
        let start = Instant::now();
        let done = AtomicUsize::new(0);
        let (deaths, orders): (Vec<_>, Vec<_>) =
            self.plan.peers.iter().map(|_| watch::channel(false)).unzip();
        let deaths = Deaths(Mutex::new(deaths.into_iter().map(Some).collect()));
        let pulls = join_all(orders.into_iter().enumerate().map(async |(peer, order)| {
            let outcome = self.one(peer, start, order).await;
            deaths.forget(peer);
            done.fetch_add(1, Ordering::Relaxed);
            outcome
        }));
        let watching = async {
            loop {
                let (bytes, done) =
                    (self.shared.received.load(Ordering::Relaxed), done.load(Ordering::Relaxed));
                meter.sample(self.cluster, bytes, done);
                self.bar.update(bytes, done);
                tokio::time::sleep(crate::meter::INTERVAL).await;
            }
        };
        let killing = async {
            if self.plan.a_source_dies
                && let Err(error) = self.kill_a_source(&deaths).await
            {
                self.bar.say(&format!("no source was killed: {error:#}"));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            outcomes = pulls => outcomes,
            () = watching => unreachable!("it never ends"),
            () = killing => unreachable!("it never ends"),
        }
    }

    /// One peer's pull, to its end.
    async fn one(&self, peer: usize, start: Instant, mut order: watch::Receiver<bool>) -> Outcome {
        let part = &self.plan.peers[peer];
        tokio::time::sleep_until((start + part.begins).into()).await;
        let began = Instant::now();
        let proxy = format!("http://{}", self.cluster.place(peer).proxy);
        let (client, mut received) = Client::new(proxy, Arc::clone(self.shared));
        let image_bytes = self.shared.image.blob_bytes();
        let dies = async {
            match part.fate {
                Fate::Lives => std::future::pending::<()>().await,
                Fate::Dies(share) => {
                    let at = fraction(image_bytes, share);
                    // The sender lives as long as the client.
                    drop(received.wait_for(|bytes| *bytes >= at).await);
                }
            }
        };
        let limit = self.args.limit.saturating_sub(start.elapsed());
        let ending = tokio::select! {
            biased;
            () = dies => self.kill(peer).await,
            Ok(_) = order.wait_for(|dies| *dies) => self.kill(peer).await,
            pulled = tokio::time::timeout(limit, client.pull()) => match pulled {
                Ok(Ok(())) => Ending::Complete,
                Ok(Err(error)) => Ending::Failed(format!("peer {peer}: {error:#}")),
                Err(_) => Ending::Failed(format!("peer {peer}: not within {:?}", self.args.limit)),
            },
        };
        Outcome { ending, took: began.elapsed(), at: start.elapsed() }
    }

    async fn kill(&self, peer: usize) -> Ending {
        match self.cluster.kill(self.http, peer).await {
            Ok(()) => Ending::Killed,
            Err(error) => Ending::Failed(format!("peer {peer}: {error:#}")),
        }
    }

    /// Has the first source die that is found after a share of all bytes has arrived.
    async fn kill_a_source(&self, deaths: &Deaths) -> Result<()> {
        let all = self.shared.image.blob_bytes() * self.cluster.len() as u64;
        while self.shared.received.load(Ordering::Relaxed) < fraction(all, SOURCE_DIES_AT) {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let sources = self.cluster.sources(self.http).await?;
        let spared = |peer: &usize| self.plan.peers[*peer].fate == Fate::Lives;
        // Without a source that pulls any one does: as many die as was asked for.
        let any = (0..self.cluster.len()).filter(spared);
        let found = sources.iter().copied().filter(spared).chain(any).find(|peer| deaths.order(*peer));
        match found {
            Some(peer) if sources.contains(&peer) => Ok(()),
            _ => anyhow::bail!("everything had been read from the origin"),
        }
    }
}

impl Deaths {
    /// Tells a peer to die, if it pulls still.
    fn order(&self, peer: usize) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all[peer].take().is_some_and(|order| order.send(true).is_ok())
    }

    fn forget(&self, peer: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[peer] = None;
    }
}

/// A share of some bytes.
fn fraction(bytes: u64, share: f64) -> u64 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share need not be exact to the byte"
    )]
    {
        (bytes as f64 * share) as u64
    }
}
