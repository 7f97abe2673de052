//! The scene itself, without Damselfly: the registry's log counts what a client received, and a link has its rate.

use anyhow::{Result, ensure};
use e2e::debian::{Images, TAG};
use e2e::runtime::containerd::Containerd;
use e2e::runtime::containers::Containers;
use e2e::runtime::docker::Dockerd;
use support::netns::Lan;
use support::pull::{self, Source};
use support::registry::Registry;

const LINK: u64 = 400_000_000;

#[test]
fn the_witness_and_the_links_are_right() -> Result<()> {
    let Some(_guard) = e2e::begin("the_witness_and_the_links_are_right") else { return Ok(()) };
    let images = Images::prepare()?;
    let image = &images.debian;
    let dir = tempfile::tempdir()?;
    let mut lan = Lan::new()?;
    let (origin, client) = (lan.join("origin")?, lan.join("client")?);
    let registry = Registry::start(dir.path(), &images.storage, Some(&origin))?;
    lan.shape(&client, LINK)?;
    let source = Source {
        base: registry.url(),
        ns: None,
        repository: image.repository.clone(),
        reference: TAG.to_owned(),
        concurrency: 3,
    };
    let pulled = client.block_on(|| async move { pull::pull(&pull::client()?, &source, |_| ()).await })?;
    ensure!(pulled.wrong_bytes == 0 && pulled.manifest.to_string() == image.manifest());
    support::poll::until("the log", std::time::Duration::from_secs(5), || {
        Ok((registry.accesses()?.blob_bytes_total() == image.blob_bytes()).then_some(()))
    })?;
    #[allow(clippy::cast_precision_loss, reason = "a ratio of byte counts below 2^52")]
    let rate = image.blob_bytes() as f64 * 8.0 / pulled.elapsed.as_secs_f64() / LINK as f64;
    eprintln!(
        "  {} bytes in {} layers at {rate:.2} of the link's rate",
        image.blob_bytes(),
        image.layers().count()
    );
    ensure!((0.8..1.05).contains(&rate), "{rate}");
    Ok(())
}

/// When a test with runtimes fails, this tells whether they work on this machine at all.
#[test]
#[ignore = "a diagnosis of the machine; run it by name"]
fn runtimes_work_without_damselfly() -> Result<()> {
    let Some(_guard) = e2e::begin("runtimes_work_without_damselfly") else { return Ok(()) };
    let images = Images::prepare()?;
    let dir = tempfile::tempdir()?;
    let mut lan = Lan::new()?;
    let (origin, client) = (lan.join("origin")?, lan.join("client")?);
    let registry = Registry::start(&dir.path().join("origin"), &images.storage, Some(&origin))?;
    let (url, address) = (registry.url(), registry.address().to_string());
    let image = &images.debian;
    let containerd = Containerd::start(&client, &dir.path().join("containerd"), &url, &url)?;
    let reference = Containerd::reference(&image.repository, TAG);
    ensure!(containerd.pull(&reference)? == image.manifest());
    ensure!(containerd.run(&reference, &[])?.trim() == "hello from the image");
    // Their mirror does not know the registry in the path, so they go on to the registry itself.
    let containers = Containers::new(&client, &dir.path().join("containers"), &address, &address)?;
    ensure!(containers.podman_pull(&image.repository, TAG)? == image.manifest());
    ensure!(containers.skopeo_copy(&image.repository, TAG)? == image.manifest());
    let dockerd = Dockerd::start(&client, &dir.path().join("docker"), &url)?;
    let reference = format!("{}:{TAG}", images.hub.repository.trim_start_matches("library/"));
    ensure!(dockerd.pull(&reference)? == images.hub.manifest());
    ensure!(dockerd.run(&reference, &[])?.trim() == "hello from the image");
    Ok(())
}
