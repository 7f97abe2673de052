//! `cargo demo`: one image, several nodes, one origin that serves it once.
//!
//! Real programs on loopback with limited rates, so that a lower bound for the time is defined and can be compared with
//! what happened. `main` parses [`args::Args`], calls [`run`] and prints the [`report::Report`].

pub mod args;
pub mod cluster;
pub mod progress;
pub mod report;

use crate::args::Args;
use crate::cluster::Cluster;
use crate::progress::Bars;
use crate::report::{NodeReport, Report};
use ::report::bound::{Pieces, Rates, Rollout};
use anyhow::{Context, Result};
use bytesize::ByteSize;
use futures::future::try_join_all;
use std::time::Instant;
use support::binaries::{Binaries, Profile};
use support::daemon::{DaemonPlace, Upstream};
use support::images::{Blob, Image};
use support::origin::FaultyOrigin;
use support::pull::{self, Pulled, Source};

/// The registry's name in the demo: no client asks DNS for it.
const REGISTRY: &str = "registry.demo";

/// The image's name and tag.
const REPOSITORY: &str = "demo/app";
const TAG: &str = "v1";

/// Blobs that a node's client asks for at once: what containerd's CRI does.
const BLOBS_AT_ONCE: usize = 3;

/// Runs the demo. Everything it made is gone when the future ends or is dropped.
///
/// # Errors
/// If the programs do not build or start, or a pull fails.
pub async fn run(args: &Args) -> Result<Report> {
    let bars = if args.json { Bars::hidden() } else { Bars::shown() };
    bars.say("building the programs");
    let binaries = Binaries::build(Profile::of_caller())?;
    let image = Image::random(args.seed.into(), &args.layer_sizes())?;
    // Declared before the processes that use it, so that it outlives them.
    let dir =
        tempfile::Builder::new().prefix("damselfly-demo-").tempdir().context("a temporary directory")?;
    let origin = FaultyOrigin::builder().rate(args.origin_rate()).start().await?;
    image.lay_into(&origin, REPOSITORY, TAG);
    let upstream = Upstream::new(REGISTRY, origin.url());
    let mut cluster = Cluster::start(&binaries, dir.path(), args.nodes, args.rate.as_u64(), upstream).await?;
    bars.say(&format!(
        "{} nodes at {}/s each way, the origin at {}/s, an image of {} in {} layers",
        args.nodes,
        args.rate,
        ByteSize(args.origin_rate()),
        ByteSize(image.blob_bytes()),
        image.layers.len()
    ));
    let client = pull::client()?;
    let start = Instant::now();
    let pulls = cluster.nodes().iter().map(|node| pull_on(node, &client, &bars));
    let pulled = match try_join_all(pulls).await {
        Ok(pulled) => pulled,
        Err(error) => {
            // A program that has ended explains it better.
            cluster.check()?;
            return Err(error);
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let traffic = cluster.traffic(&client).await?;
    let per_node: Vec<NodeReport> = (cluster.nodes().iter().zip(pulled).zip(traffic))
        .map(|((node, pulled), traffic)| NodeReport {
            node: node.name.clone(),
            from_origin: traffic.origin + traffic.fallback,
            from_peers: traffic.from_peers(),
            to_peers: traffic.uploaded,
            wrong_bytes: wrong_bytes(&image, &pulled),
            seconds: pulled.elapsed.as_secs_f64(),
        })
        .collect();
    Ok(Report {
        nodes: per_node.len(),
        image_bytes: image.blob_bytes(),
        origin_bytes: origin.blob_bytes_total(),
        wrong_bytes: per_node.iter().map(|node| node.wrong_bytes).sum(),
        seconds,
        bound_seconds: rollout(args, &image).bound().once().as_secs_f64(),
        per_node,
    })
}

async fn pull_on(node: &DaemonPlace, client: &reqwest::Client, bars: &Bars) -> Result<Pulled> {
    let bar = bars.node(&node.name);
    let source = Source {
        base: node.proxy_url(),
        ns: Some(REGISTRY.to_owned()),
        repository: REPOSITORY.to_owned(),
        reference: TAG.to_owned(),
        concurrency: BLOBS_AT_ONCE,
    };
    let pulled = pull::pull(client, &source, |progress| bar.update(progress))
        .await
        .with_context(|| node.name.clone())?;
    bar.done(pulled.elapsed);
    Ok(pulled)
}

/// What the client found wrong; everything, if its manifest is another than the origin's.
fn wrong_bytes(image: &Image, pulled: &Pulled) -> u64 {
    if pulled.manifest == image.manifest.digest { pulled.wrong_bytes } else { image.blob_bytes() }
}

fn rollout(args: &Args, image: &Image) -> Rollout {
    let rate = args.rate.as_u64();
    let pieces = Pieces::of_blobs(image.blobs().map(Blob::size));
    Rollout::equal(pieces, args.origin_rate(), args.nodes.into(), Rates { up: rate, down: rate })
}
