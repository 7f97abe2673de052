//! Six cold nodes, four kinds of client, one moment: the image leaves the origin once, and the peers share the rest.

use anyhow::Result;
use e2e::cluster::{Cluster, Options, Way};
use e2e::debian::{Stored, TAG};
use e2e::runtime::containerd::Containerd;
use e2e::runtime::containers::Containers;
use e2e::uploads;
use std::collections::BTreeMap;
use std::sync::Barrier;
use std::time::Instant;
use support::registry::AccessLog;

/// 25 MB/s: so slow that the links are the limit and not the machine, so fast that the test is short.
const LINK: u64 = 200_000_000;

/// A pull of one client: its name, and what returns the digest.
type Pull<'a> = (&'static str, Box<dyn FnOnce() -> Result<String> + Send + 'a>);

/// Runs all `pulls` at the same moment; their digests and seconds.
fn at_once(pulls: Vec<Pull<'_>>) -> Result<Vec<(String, f64)>> {
    let barrier = Barrier::new(pulls.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = pulls
            .into_iter()
            .map(|(name, pull)| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    let digest = pull()?;
                    let seconds = start.elapsed().as_secs_f64();
                    eprintln!("  {name:<12} {seconds:6.2} s   {digest}");
                    anyhow::Ok((digest, seconds))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

#[test]
fn six_nodes_pull_one_image_that_leaves_the_origin_once() -> Result<()> {
    let Some(_guard) = e2e::begin("six_nodes_pull_one_image_that_leaves_the_origin_once") else {
        return Ok(());
    };
    let cluster = Cluster::start(&Options { link: Some(LINK), ..Options::default() })?;
    let image = &cluster.images.debian;
    let dir = |name: &str| cluster.dir().join(name);
    let node = |i: usize| (&cluster.nodes[i].host, cluster.nodes[i].place.proxy());
    let (url, server) = (cluster.registry.url(), cluster.registry.address().to_string());
    let containerds = [0, 1].map(|i| {
        let (host, proxy) = node(i);
        Containerd::start(host, &dir(&format!("containerd-{i}")), &format!("http://{proxy}"), &url)
    });
    let [first, second] = containerds;
    let (first, second) = (first?, second?);
    let podman = Containers::new(node(2).0, &dir("podman"), &node(2).1.to_string(), &server)?;
    let skopeo = Containers::new(node(3).0, &dir("skopeo"), &node(3).1.to_string(), &server)?;
    let reference = Containerd::reference(&image.repository, TAG);
    let before = cluster.registry.accesses()?;

    let plain = |i: usize| Ok(cluster.pull(i, image, Way::Daemon)?.manifest.to_string());
    let digests = at_once(vec![
        ("containerd", Box::new(|| first.pull(&reference))),
        ("containerd", Box::new(|| second.pull(&reference))),
        ("podman", Box::new(|| podman.podman_pull(&image.repository, TAG))),
        ("skopeo", Box::new(|| skopeo.skopeo_copy(&image.repository, TAG))),
        ("plain", Box::new(|| plain(4))),
        ("plain", Box::new(|| plain(5))),
    ])?;
    for (digest, _) in &digests {
        assert_eq!(digest, image.manifest());
    }
    assert_eq!(first.run(&reference, &[])?.trim(), "hello from the image");

    let log = cluster.accesses(before.blob_bytes_total() + image.blob_bytes())?.since(&before);
    origin_once(image, &log);
    shared_by_all(&cluster, image, &log)
}

/// By the registry's own log, the blobs left it once and the manifest at most twice.
#[allow(clippy::cast_precision_loss, reason = "ratios of byte counts below 2^52")]
fn origin_once(image: &Stored, log: &AccessLog) {
    let left = log.blob_bytes_total();
    let ratio = left as f64 / image.blob_bytes() as f64;
    let manifests = log.manifest_gets();
    eprintln!("  origin bytes ÷ image bytes {ratio:.4} ({left} ÷ {})", image.blob_bytes());
    eprintln!("  manifest GETs {manifests:?}");
    assert!(ratio <= 1.001, "{ratio}");
    assert!(manifests.values().sum::<u32>() <= 2, "{manifests:?}");
}

/// The source of each layer uploads about one copy of it; the others do the most.
#[allow(clippy::cast_precision_loss, reason = "ratios of byte counts below 2^52")]
fn shared_by_all(cluster: &Cluster, image: &Stored, log: &AccessLog) -> Result<()> {
    let mut uploads = Vec::new();
    for i in 0..cluster.nodes.len() {
        uploads.push((cluster.nodes[i].place.address, uploads::by_blob(&cluster.log_of(i))?));
    }
    let (mut by_sources, mut by_all) = (0, 0);
    for (digest, size) in image.layers() {
        let mut read: BTreeMap<_, u64> = BTreeMap::new();
        for access in log.requests().iter().filter(|access| access.target.contains(&digest.to_string())) {
            *read.entry(access.client).or_default() += access.bytes;
        }
        let source = read.iter().max_by_key(|(_, bytes)| **bytes).map(|(client, _)| *client);
        let of = |bytes: &BTreeMap<String, u64>| bytes.get(&digest.to_string()).copied().unwrap_or(0);
        let all: u64 = uploads.iter().map(|(_, bytes)| of(bytes)).sum();
        let own: u64 =
            uploads.iter().filter(|(address, _)| Some(*address) == source).map(|(_, bytes)| of(bytes)).sum();
        let ratio = own as f64 / size as f64;
        eprintln!(
            "  layer of {size:>9}: its source sent {ratio:.2} × it, all together {:.2} ×",
            all as f64 / size as f64
        );
        assert!(all > 0, "no daemon has logged an upload of {digest}");
        assert!(ratio <= 1.5, "the source of {digest} sent {ratio} × it");
        by_sources += own;
        by_all += all;
    }
    let share = 1.0 - by_sources as f64 / by_all as f64;
    eprintln!("  of the bytes between peers {:.0} % came from hosts that are no source", share * 100.0);
    assert!(share >= 0.5, "{share}");
    Ok(())
}
