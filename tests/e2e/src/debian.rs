//! The images of the tests, in a registry's storage: one of Debian packages, one with a large layer.
//!
//! Made once and kept under `target/e2e`, since making them takes longer than most tests.

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::images::{Blob, Flavour, Image, LAYER, LayerWriter};
use support::packages::download;
use support::process::run;
use support::registry::Registry;
use types::Digest;

/// The Debian packages of each layer; the image is over 100 MB in all. They have these names in several releases, and none
/// of them needs another to run busybox. No layer is so small that one piece more or less is a large part of it.
const LAYERS: [&[&str]; 6] = [
    &["busybox-static", "coreutils", "bash", "libc6"],
    &["git", "perl-base"],
    &["vim-runtime", "podman"],
    &["valgrind"],
    &["containerd", "runc"],
    &["docker.io"],
];

/// The repository of the Debian image; also under [`HUB_REPOSITORY`], as Docker Hub would name it.
pub const REPOSITORY: &str = "demo/debian";
/// The same image for dockerd, whose mirrors serve Docker Hub's names only.
pub const HUB_REPOSITORY: &str = "library/debian-demo";
/// The repository of the image with one large layer.
pub const LARGE_REPOSITORY: &str = "demo/large";
/// The repository of a small image of several layers.
pub const SMALL_REPOSITORY: &str = "demo/small";
/// The tag of every image.
pub const TAG: &str = "v1";

/// The large layer's size: the issue of a dying source needs 500 MB.
const LARGE_LAYER: u64 = 512 << 20;

/// The small image's layers.
const SMALL_LAYERS: [u64; 3] = [24 << 20, 16 << 20, 8 << 20];

/// Copying the image into the registry.
const COPY_LIMIT: Duration = Duration::from_secs(120);

/// Changes whenever images made earlier no longer serve.
const RECIPE: u32 = 2;

/// An image in the storage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// Its repository.
    pub repository: String,
    /// Its manifest's digest.
    manifest: String,
    /// The digests and sizes of configuration and layers.
    blobs: Vec<(String, u64)>,
}

impl Stored {
    fn of(image: &Image, repository: &str) -> Self {
        let blobs = image.blobs().map(|blob: &Blob| (blob.digest.to_string(), blob.size())).collect();
        Self { repository: repository.to_owned(), manifest: image.manifest.digest.to_string(), blobs }
    }

    /// The manifest's digest, as text.
    #[must_use]
    pub fn manifest(&self) -> &str {
        &self.manifest
    }

    /// Bytes of all blobs.
    #[must_use]
    pub fn blob_bytes(&self) -> u64 {
        self.blobs.iter().map(|(_, size)| size).sum()
    }

    /// The layers, without the configuration.
    pub fn layers(&self) -> impl Iterator<Item = (Digest, u64)> {
        self.blobs[1..].iter().filter_map(|(digest, size)| Some((digest.parse().ok()?, *size)))
    }
}

/// All images, in the storage of a registry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Images {
    recipe: u32,
    /// What a registry serves them from.
    pub storage: PathBuf,
    /// Debian packages, over 100 MB in six layers; a container runs `busybox`.
    pub debian: Stored,
    /// The same for dockerd.
    pub hub: Stored,
    /// One layer of more than 500 MB.
    pub large: Stored,
    /// A few layers, 48 MiB in all.
    pub small: Stored,
}

impl Images {
    /// Makes the images, unless an earlier run did.
    ///
    /// # Errors
    /// If packages cannot be downloaded, or the registry does not take an image.
    pub fn prepare() -> Result<Self> {
        let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/e2e"));
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let dir = dir.canonicalize()?;
        let lock = File::create(dir.join("lock"))?;
        lock.lock()?;
        let facts = dir.join("images.json");
        if let Ok(text) = std::fs::read(&facts)
            && let Ok(images) = serde_json::from_slice::<Self>(&text)
            && images.recipe == RECIPE
            && images.storage.exists()
        {
            return Ok(images);
        }
        let images = make(&dir)?;
        std::fs::write(&facts, serde_json::to_vec_pretty(&images)?)?;
        Ok(images)
    }
}

fn make(dir: &Path) -> Result<Images> {
    eprintln!("making the images in {}", dir.display());
    let (layout, storage) = (dir.join("layout"), dir.join("storage"));
    for old in [&layout, &storage] {
        if old.exists() {
            std::fs::remove_dir_all(old)?;
        }
    }
    let debian = debian_image(&dir.join("packages"))?;
    ensure!(debian.blob_bytes() >= 100_000_000, "the image has only {} bytes", debian.blob_bytes());
    debian.write_layout(&layout, TAG)?;
    let registry = Registry::start(&dir.join("registry"), &storage, None)?;
    for repository in [REPOSITORY, HUB_REPOSITORY] {
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--quiet", "--dest-tls-verify=false", "--insecure-policy"]);
        copy.arg(format!("oci:{}:{TAG}", layout.display()));
        copy.arg(format!("docker://{}/{repository}:{TAG}", registry.address()));
        run(&mut copy, COPY_LIMIT)?;
    }
    let large = Image::random(500, &[LARGE_LAYER])?;
    let small = Image::random(48, &SMALL_LAYERS)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        large.push(&registry.url(), LARGE_REPOSITORY, TAG).await?;
        small.push(&registry.url(), SMALL_REPOSITORY, TAG).await
    })?;
    Ok(Images {
        recipe: RECIPE,
        storage,
        debian: Stored::of(&debian, REPOSITORY),
        hub: Stored::of(&debian, HUB_REPOSITORY),
        large: Stored::of(&large, LARGE_REPOSITORY),
        small: Stored::of(&small, SMALL_REPOSITORY),
    })
}

/// An image with a layer for each set of packages, whose containers print a line.
fn debian_image(packages: &Path) -> Result<Image> {
    let mut layers = Vec::new();
    for names in LAYERS {
        let mut layer = LayerWriter::new(LAYER, Compression::fast());
        for package in download(names, packages)? {
            layer.debian_package(&package)?;
        }
        layers.push(layer.finish()?);
    }
    Ok(Image::new(Flavour::Oci, layers, &["busybox", "echo", "hello from the image"]))
}
