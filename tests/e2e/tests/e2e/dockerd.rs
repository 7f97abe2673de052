//! dockerd pulls through its daemon, and runs what it pulled.

use anyhow::Result;
use e2e::cluster::{Cluster, Options, Way};
use e2e::debian::TAG;
use e2e::runtime::docker::Dockerd;

#[test]
fn dockerd_pulls_and_runs() -> Result<()> {
    let Some(_guard) = e2e::begin("dockerd_pulls_and_runs") else { return Ok(()) };
    let cluster = Cluster::start(&Options { nodes: 2, ..Options::default() })?;
    let image = &cluster.images.hub;
    let node = &cluster.nodes[0];
    let dockerd = Dockerd::start(&node.host, &cluster.dir().join("docker"), &node.place.proxy_url())?;
    let name = image.repository.trim_start_matches("library/");
    let reference = format!("{name}:{TAG}");
    assert_eq!(dockerd.pull(&reference)?, image.manifest());
    assert_eq!(dockerd.run(&reference, &[])?.trim(), "hello from the image");
    let log = cluster.accesses(image.blob_bytes())?;
    eprintln!("  dockerd {}, {} bytes from the origin", dockerd.version()?, log.blob_bytes_total());
    // Another node, through another registry's name: the same blobs, asked of that registry once more for permission only.
    cluster.pull(1, &cluster.images.debian, Way::Daemon)?;
    Ok(())
}
