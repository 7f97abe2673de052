//! Images made in memory: gzipped tar layers, a configuration, a manifest; the same seed gives the same digests.
//!
//! Called by the demo, the end-to-end tests and the benchmark, which lay them into an origin or push them to a registry.

use crate::origin::FaultyOrigin;
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use serde_json::json;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use types::Digest;

/// OCI image specification, "Image manifest".
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image specification, "Image index".
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image specification, "Image configuration".
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI image specification, "Image layer".
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Docker's image manifest, version 2, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's image layer.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Whose media types an image has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// The OCI's.
    #[default]
    Oci,
    /// Docker's.
    Docker,
}

/// Immutable content with its name and type.
#[derive(Clone, Debug)]
pub struct Blob {
    /// The hash of the bytes.
    pub digest: Digest,
    /// As descriptors name it.
    pub media_type: &'static str,
    /// The content.
    pub bytes: Bytes,
}

impl Blob {
    /// Content that hashes to its digest.
    #[must_use]
    pub fn new(media_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: Digest::sha256(&bytes), media_type, bytes }
    }

    /// The length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn descriptor(&self) -> serde_json::Value {
        json!({ "mediaType": self.media_type, "digest": self.digest.to_string(), "size": self.size() })
    }
}

/// One layer: its gzipped tar, and the digest of the tar, which the configuration names.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What travels.
    pub blob: Blob,
    /// The digest of the tar before compression.
    pub diff_id: Digest,
}

/// An image of one platform.
#[derive(Clone, Debug)]
pub struct Image {
    /// What a container is to run.
    pub config: Blob,
    /// From the lowest to the topmost.
    pub layers: Vec<Layer>,
    /// Names all of the above.
    pub manifest: Blob,
}

impl Image {
    /// An image of these layers whose containers run `command`.
    #[must_use]
    pub fn new(flavour: Flavour, layers: Vec<Layer>, command: &[&str]) -> Self {
        let config = json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": "amd64",
            "os": "linux",
            "config": { "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": command, "WorkingDir": "/" },
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>(),
            },
        });
        let (config_type, manifest_type) = match flavour {
            Flavour::Oci => (CONFIG, MANIFEST),
            Flavour::Docker => (DOCKER_CONFIG, DOCKER_MANIFEST),
        };
        let config = Blob::new(config_type, config.to_string());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": config.descriptor(),
            "layers": layers.iter().map(|layer| layer.blob.descriptor()).collect::<Vec<_>>(),
        });
        let manifest = Blob::new(manifest_type, manifest.to_string());
        Self { config, layers, manifest }
    }

    /// An image whose layers hold pseudo-random bytes: as many layers as sizes, each a little longer than its size.
    ///
    /// # Errors
    /// Never in practice: the writers write to memory.
    pub fn random(seed: u64, layer_sizes: &[u64]) -> Result<Self> {
        let layers = (seed << 16..).zip(layer_sizes).map(|(seed, size)| random_layer(seed, *size));
        Ok(Self::new(Flavour::Oci, layers.collect::<Result<_>>()?, &["/bin/true"]))
    }

    /// The configuration and the layers: all that is got by digest from `blobs/`.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.config).chain(self.layers.iter().map(|layer| &layer.blob))
    }

    /// The bytes of all blobs, without the manifest.
    #[must_use]
    pub fn blob_bytes(&self) -> u64 {
        self.blobs().map(Blob::size).sum()
    }

    /// Lays it into an origin of this process under this name and tag.
    pub fn lay_into(&self, origin: &FaultyOrigin, repository: &str, tag: &str) {
        for blob in self.blobs() {
            origin.add_blob(repository, blob.bytes.clone());
        }
        origin.add_manifest(repository, Some(tag), self.manifest.media_type, self.manifest.bytes.clone());
    }

    /// Writes it as an OCI image layout with this tag (OCI image specification, "Image layout").
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn write_layout(&self, dir: &Path, tag: &str) -> Result<()> {
        let blobs = dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).with_context(|| blobs.display().to_string())?;
        for blob in self.blobs().chain([&self.manifest]) {
            std::fs::write(blobs.join(blob.digest.encoded()), &blob.bytes)?;
        }
        let mut descriptor = self.manifest.descriptor();
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        descriptor["platform"] = json!({ "architecture": "amd64", "os": "linux" });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] });
        std::fs::write(dir.join("index.json"), index.to_string())?;
        std::fs::write(dir.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
        Ok(())
    }

    /// Pushes it to the registry at `base` (`http://host:port`) under this name and tag (OCI distribution
    /// specification, "Pushing blobs", in one piece, and "Pushing manifests").
    ///
    /// # Errors
    /// If the registry refuses anything.
    pub async fn push(&self, base: &str, repository: &str, tag: &str) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        for blob in self.blobs() {
            push_blob(&client, base, repository, blob).await?;
        }
        let url = format!("{base}/v2/{repository}/manifests/{tag}");
        let manifest = &self.manifest;
        let request =
            client.put(&url).header("Content-Type", manifest.media_type).body(manifest.bytes.clone());
        let answer = request.send().await?;
        ensure!(answer.status().is_success(), "PUT {url}: {}: {}", answer.status(), answer.text().await?);
        Ok(())
    }
}

/// Pushes one blob in a single PUT.
///
/// # Errors
/// If the registry refuses it.
pub async fn push_blob(client: &reqwest::Client, base: &str, repository: &str, blob: &Blob) -> Result<()> {
    let url = format!("{base}/v2/{repository}/blobs/uploads/");
    let answer = client.post(&url).send().await?.error_for_status()?;
    let Some(location) = answer.headers().get("Location").and_then(|value| value.to_str().ok()) else {
        bail!("POST {url}: no Location");
    };
    let mut location = answer.url().join(location)?;
    location.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
    let request =
        client.put(location).header("Content-Type", "application/octet-stream").body(blob.bytes.clone());
    let answer = request.send().await?;
    ensure!(answer.status().is_success(), "push of {}: {}", blob.digest, answer.status());
    Ok(())
}

/// A layer with one file of `size` pseudo-random bytes. It is stored, not deflated: such bytes do not get shorter.
///
/// # Errors
/// Never in practice: the writers write to memory.
pub fn random_layer(seed: u64, size: u64) -> Result<Layer> {
    let mut layer = LayerWriter::new(LAYER, Compression::none());
    layer.file(&format!("data/{seed:x}"), size, random_bytes(seed, size))?;
    layer.finish()
}

/// `size` pseudo-random bytes, as a reader.
pub fn random_bytes(seed: u64, size: u64) -> impl Read {
    struct Random(fastrand::Rng);
    impl Read for Random {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.fill(buffer);
            Ok(buffer.len())
        }
    }
    // In steps of a fixed length, so that the bytes do not depend on the reader's buffer.
    std::io::BufReader::with_capacity(64 * 1024, Random(fastrand::Rng::with_seed(seed))).take(size)
}

/// Writes a layer's tar and its gzip at once.
pub struct LayerWriter {
    media_type: &'static str,
    tar: tar::Builder<Tee>,
    directories: std::collections::BTreeSet<Vec<u8>>,
}

impl LayerWriter {
    /// An empty layer.
    #[must_use]
    pub fn new(media_type: &'static str, compression: Compression) -> Self {
        // No name, no time: the same input gives the same bytes.
        let gzip = GzBuilder::new().mtime(0).write(Vec::new(), compression);
        let tee = Tee { gzip, hash: <sha2::Sha256 as sha2::Digest>::new() };
        Self { media_type, tar: tar::Builder::new(tee), directories: Default::default() }
    }

    /// Adds a regular file with mode 0644, of exactly `size` bytes of `content`.
    ///
    /// # Errors
    /// If the path does not fit into a tar header.
    pub fn file(&mut self, path: &str, size: u64, content: impl Read) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        self.tar.append_data(&mut header, path, content)?;
        Ok(())
    }

    /// Adds the files of a Debian package. Directories that an earlier package brought are not repeated.
    ///
    /// # Errors
    /// If `dpkg-deb` fails.
    pub fn debian_package(&mut self, package: &Path) -> Result<()> {
        let mut child = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(package)
            .stdout(Stdio::piped())
            .spawn()
            .context("dpkg-deb")?;
        let mut archive = tar::Archive::new(child.stdout.take().context("no pipe")?);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let mut header = entry.header().clone();
            let path = entry.path()?.into_owned();
            if header.entry_type().is_dir() && !self.directories.insert(entry.path_bytes().into_owned()) {
                continue;
            }
            match entry.link_name()? {
                Some(target) => self.tar.append_link(&mut header, &path, target)?,
                None => self.tar.append_data(&mut header, &path, &mut entry)?,
            }
        }
        // What follows the archive's end has to be read, or dpkg-deb complains of a broken pipe.
        std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
        let status = child.wait()?;
        ensure!(status.success(), "dpkg-deb {}: {status}", package.display());
        Ok(())
    }

    /// The finished layer.
    ///
    /// # Errors
    /// Never in practice: the writers write to memory.
    pub fn finish(self) -> Result<Layer> {
        let tee = self.tar.into_inner()?;
        let bytes = tee.gzip.finish()?;
        let diff_id = Digest::new(types::Algorithm::Sha256, &sha2::Digest::finalize(tee.hash))?;
        Ok(Layer { blob: Blob::new(self.media_type, bytes), diff_id })
    }
}

impl std::fmt::Debug for LayerWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerWriter").field("media_type", &self.media_type).finish_non_exhaustive()
    }
}

/// Hashes what it compresses.
struct Tee {
    gzip: flate2::write::GzEncoder<Vec<u8>>,
    hash: sha2::Sha256,
}

impl Write for Tee {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.gzip.write(buffer)?;
        sha2::Digest::update(&mut self.hash, &buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.gzip.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_image() {
        let a = Image::random(7, &[100_000, 0, 1]).unwrap();
        let b = Image::random(7, &[100_000, 0, 1]).unwrap();
        assert_eq!(a.manifest.digest, b.manifest.digest);
        assert_ne!(a.manifest.digest, Image::random(8, &[100_000, 0, 1]).unwrap().manifest.digest);
        assert_eq!(a.layers.len(), 3);
        assert!(a.layers[0].blob.size() >= 100_000 && a.layers[0].blob.size() < 110_000);
    }

    #[test]
    fn a_layer_unpacks_to_its_diff_id() {
        let layer = random_layer(3, 70_000).unwrap();
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(&layer.blob.bytes[..]).read_to_end(&mut tar).unwrap();
        assert!(layer.diff_id.matches(&tar));
        let mut archive = tar::Archive::new(&tar[..]);
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let mut expected = Vec::new();
        random_bytes(3, 70_000).read_to_end(&mut expected).unwrap();
        assert_eq!(content, expected);
    }

    #[test]
    fn a_layout_names_its_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let image = Image::random(1, &[10]).unwrap();
        image.write_layout(dir.path(), "v1").unwrap();
        let index = std::fs::read_to_string(dir.path().join("index.json")).unwrap();
        assert!(index.contains(&image.manifest.digest.to_string()));
        let stored =
            std::fs::read(dir.path().join("blobs/sha256").join(image.manifest.digest.encoded())).unwrap();
        assert_eq!(stored, image.manifest.bytes);
    }
}
