//! Members of the cluster that lie, stall or vanish: other hosts finish with the right bytes in bounded time, and nothing
//! wrong is ever served whole.

use anyhow::{Context, Result, ensure};
use e2e::inside::{
    Content, Hub, Liar, Node, Script, Settings, Uploads, blob_target, check_store, silent, until_right,
};
use std::time::{Duration, Instant};
use support::origin::FaultyOrigin;
use types::{
    BlobKey, Credential, HostBody, LeaseFailure, PieceFrom, PieceIndex, PieceSet, Priority, SchedulerBody,
    SchedulerMessage, State,
};

/// A pull that meets one liar takes no longer than this, its client's retries included.
const LIMIT: Duration = Duration::from_secs(15);

/// Four pieces, the last one shorter.
const SIZE: usize = 4 * 512 * 1024 - 7;

/// The blob as it is, and as a liar has it: other bytes in every piece under the same digest.
struct Versions {
    right: Content,
    wrong: Content,
}

impl Versions {
    fn new(seed: u64) -> Self {
        let right = Content::random(seed, SIZE);
        let wrong = Content { digest: right.digest, bytes: Content::random(!seed, SIZE).bytes };
        Self { right, wrong }
    }

    fn count(&self) -> u32 {
        self.right.layout().count()
    }

    fn key(&self, origin: &FaultyOrigin) -> BlobKey {
        BlobKey { digest: self.right.digest, size: SIZE as u64, registry: origin.registry() }
    }
}

/// Holds the blob and tells these states when it is asked.
fn tells(states: Vec<State>) -> Script {
    Box::new(move |message: &SchedulerMessage| match &message.body {
        SchedulerBody::WantChain { epoch, boundaries } => {
            let known = states.iter().skip(boundaries.start as usize).take(boundaries.len());
            let (boundary, states) = (boundaries.start, known.copied().collect());
            vec![HostBody::Chain { epoch: *epoch, boundary, states, closed: true }]
        }
        _ => Vec::new(),
    })
}

/// Reads, as a source, these states and says that it has every piece.
fn reads(states: Vec<State>, closed: bool) -> Script {
    Box::new(move |message: &SchedulerMessage| match &message.body {
        SchedulerBody::Lease { epoch, .. } => {
            let mut states = states.clone();
            if !closed {
                // The last one is the digest's own and would say that all is done.
                states.pop();
            }
            let pieces = u32::try_from(states.len()).unwrap_or(u32::MAX) - 1;
            let mut said = vec![HostBody::Chain { epoch: *epoch, boundary: 0, states, closed }];
            let verified = |piece| HostBody::Verified { piece: PieceIndex(piece), from: PieceFrom::Origin };
            said.extend((0..pieces).map(verified));
            said
        }
        _ => Vec::new(),
    })
}

/// Gives every lease back for this reason.
fn returns(why: LeaseFailure) -> Script {
    Box::new(move |message: &SchedulerMessage| match &message.body {
        SchedulerBody::Lease { epoch, .. } => {
            vec![HostBody::LeaseReturned { epoch: *epoch, why: why.clone() }]
        }
        _ => Vec::new(),
    })
}

/// What the liar is before others come.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// It says that it holds everything.
    Holder,
    /// It wants the blob first, and so becomes its source.
    Source,
}

/// One liar, and two nodes that pull.
async fn pulled(
    name: &str,
    part: Part,
    seed: u64,
    uploads: impl FnOnce(&Versions) -> Uploads,
    script: impl FnOnce(&Versions) -> Result<Script>,
) -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let versions = Versions::new(seed);
    let (key, count) = (versions.key(&origin), versions.count());
    origin.add_blob("app", versions.right.bytes.clone());
    let mut settings = Settings::of(&[&origin]);
    settings.patience = Duration::from_millis(500);
    settings.scheduling.lease_ttl = Duration::from_millis(500);
    settings.scheduling.transfer_timeout = Duration::from_millis(500);
    let hub = Hub::start(&settings).await?;
    let liar = Liar::join(&hub, uploads(&versions), script(&versions)?).await?;
    match part {
        Part::Holder => liar.tell(&key, HostBody::Hold { closed: true, pieces: PieceSet::full(count) }).await,
        Part::Source => {
            let want = HostBody::Want {
                held: PieceSet::empty(count),
                credential: Credential::Anonymous,
                priority: Priority::Waiting,
                position: PieceIndex(0),
                lease: None,
            };
            liar.tell(&key, want).await;
            liar.until("the liar is the source", |said| matches!(said, SchedulerBody::Lease { .. })).await?;
        }
    }
    let (a, b) = tokio::try_join!(Node::join(&hub, &settings), Node::join(&hub, &settings))?;
    hub.until_hosts(3).await?;
    let (target, bytes) = (blob_target(&origin, "app", &versions.right.digest), &versions.right.bytes);
    let begun = Instant::now();
    let pulls = futures::future::try_join(
        until_right(&a, &target, bytes, LIMIT),
        until_right(&b, &target, bytes, LIMIT),
    );
    let (first, second) = pulls.await.with_context(|| format!("{name} ({part:?})"))?;
    let sent = origin.blob_bytes(&versions.right.digest);
    eprintln!(
        "  {name}, {part:?}: {:.1} s, {first} and {second} attempts, {:.2} of the blob from the origin",
        begun.elapsed().as_secs_f64(),
        sent as f64 / SIZE as f64
    );
    // What each attempt would have read without a cluster, and what one of the nodes may have read in vain.
    let most = u64::from(first + second + 1) * SIZE as u64;
    ensure!(sent <= most, "{name}: {sent} bytes from the origin, {first} and {second} attempts");
    for node in [a, b] {
        let held = check_store(node.stop().await?.path(), std::slice::from_ref(&versions.right)).await?;
        ensure!(held.get(&versions.right.digest) == Some(&(SIZE as u64)), "{name}: {held:?}");
    }
    drop(liar);
    Ok(())
}

fn true_chain(versions: &Versions) -> Result<Script> {
    Ok(tells(versions.right.states()?))
}

fn false_chain(versions: &Versions) -> Result<Script> {
    Ok(tells(versions.wrong.states()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_holder_that_sends_wrong_bytes_or_none() -> Result<()> {
    futures::try_join!(
        pulled("wrong bytes", Part::Holder, 1, |v| Uploads::Of(v.wrong.clone()), true_chain),
        pulled("holds nothing", Part::Holder, 2, |_| Uploads::Refused(p2p::Refusal::NotHeld), true_chain),
        pulled("always busy", Part::Holder, 3, |_| Uploads::Refused(p2p::Refusal::Busy), true_chain),
        pulled("nobody there", Part::Holder, 4, |_| Uploads::Nobody, true_chain),
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_holder_that_sends_too_little_or_stalls() -> Result<()> {
    futures::try_join!(
        pulled("no answer", Part::Holder, 11, |_| Uploads::Silence, true_chain),
        pulled("half a piece", Part::Holder, 12, |v| Uploads::HalfAndEnd(v.right.clone()), true_chain),
        pulled(
            "half, then silence",
            Part::Holder,
            13,
            |v| Uploads::HalfAndSilence(v.right.clone()),
            true_chain
        ),
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_holder_with_a_false_chain() -> Result<()> {
    let garbage = |versions: &Versions| {
        let mut states = versions.wrong.states()?;
        states.rotate_left(1);
        Ok(tells(states))
    };
    futures::try_join!(
        pulled("false chain", Part::Holder, 21, |v| Uploads::Of(v.wrong.clone()), false_chain),
        pulled("false chain, right bytes", Part::Holder, 22, |v| Uploads::Of(v.right.clone()), false_chain),
        pulled("no chain", Part::Holder, 23, |v| Uploads::Of(v.wrong.clone()), |_| Ok(silent())),
        pulled("chain of garbage", Part::Holder, 24, |v| Uploads::Of(v.wrong.clone()), garbage),
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_source_with_a_false_chain() -> Result<()> {
    let wrong = |v: &Versions| Uploads::Of(v.wrong.clone());
    futures::try_join!(
        pulled("false chain", Part::Source, 31, wrong, |v| Ok(reads(v.wrong.states()?, true))),
        pulled("false chain, open", Part::Source, 32, wrong, |v| Ok(reads(v.wrong.states()?, false))),
        pulled("true chain, wrong bytes", Part::Source, 33, wrong, |v| Ok(reads(v.right.states()?, true))),
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_source_that_does_nothing_or_blames_the_origin() -> Result<()> {
    let none = |_: &Versions| Uploads::Refused(p2p::Refusal::NotHeld);
    futures::try_join!(
        pulled("silent source", Part::Source, 41, none, |_| Ok(silent())),
        pulled("not found", Part::Source, 42, none, |_| Ok(returns(LeaseFailure::NotFound))),
        pulled("wrong origin", Part::Source, 43, none, |_| Ok(returns(LeaseFailure::Wrong))),
        pulled("throttled", Part::Source, 44, none, |_| Ok(returns(LeaseFailure::Throttled))),
    )?;
    Ok(())
}
