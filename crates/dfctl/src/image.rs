//! What a manifest says, as far as a pull needs it: which manifest for this platform, which blobs.

use crate::Error;
use serde::Deserialize;
use std::collections::BTreeSet;
use types::{Digest, Platform};

/// The most blobs of one image: far more than any runtime takes.
const BLOBS_MAX: usize = 1024;

/// A manifest or an index; which of the two is seen by what it has, since some have no media type.
#[derive(Debug, Deserialize)]
struct Document {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: String,
    size: u64,
    platform: Option<OfferedPlatform>,
    /// Somewhere else: layers that registries may not give out.
    #[serde(default)]
    urls: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct OfferedPlatform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Descriptor {
    fn platform(&self) -> Option<Platform> {
        let offered = self.platform.as_ref()?;
        Platform::offered(&offered.os, &offered.architecture, offered.variant.as_deref())
    }
}

/// A blob to be pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobRef {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// Where a manifest leads.
#[derive(Debug, PartialEq, Eq)]
pub enum Contents {
    /// To the manifest for the platform.
    Manifest(Digest),
    /// To the image's blobs: config and layers, each once.
    Blobs(Vec<BlobRef>),
}

/// Reads a manifest or an index.
///
/// # Errors
/// [`Error::Unexpected`] for what is neither, or leads nowhere.
pub fn read(bytes: &[u8], platform: &Platform) -> Result<Contents, Error> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| Error::Unexpected(format!("no manifest: {error}")))?;
    let Some(manifests) = document.manifests else {
        return blobs(document.config.as_ref(), &document.layers).map(Contents::Blobs);
    };
    let suits = |entry: &&Descriptor| entry.platform().is_some_and(|offered| platform.accepts(&offered));
    match manifests.iter().find(suits) {
        Some(descriptor) => digest(descriptor).map(Contents::Manifest),
        None => {
            let offered: BTreeSet<Platform> = manifests.iter().filter_map(Descriptor::platform).collect();
            let offered = offered.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(Error::Platform { wanted: platform.to_string(), offered })
        }
    }
}

fn blobs(config: Option<&Descriptor>, layers: &[Descriptor]) -> Result<Vec<BlobRef>, Error> {
    if layers.len() >= BLOBS_MAX {
        return Err(Error::Unexpected(format!("the manifest has more than {BLOBS_MAX} blobs")));
    }
    let mut seen = BTreeSet::new();
    let mut blobs = Vec::new();
    for descriptor in config.into_iter().chain(layers).filter(|descriptor| descriptor.urls.is_empty()) {
        let digest = digest(descriptor)?;
        if seen.insert(digest) {
            blobs.push(BlobRef { digest, size: descriptor.size });
        }
    }
    if blobs.is_empty() {
        return Err(Error::Unexpected("the manifest has neither a config nor layers".to_owned()));
    }
    Ok(blobs)
}

fn digest(descriptor: &Descriptor) -> Result<Digest, Error> {
    descriptor.digest.parse().map_err(|error| Error::Unexpected(format!("in the manifest: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(c: char) -> String {
        format!("sha256:{}", c.to_string().repeat(64))
    }

    #[test]
    fn an_index_leads_to_the_platform() {
        let entry = |c, os: &str, architecture: &str, variant: Option<&str>| {
            let platform = serde_json::json!({"os": os, "architecture": architecture, "variant": variant});
            serde_json::json!({"digest": hex(c), "size": 1, "platform": platform})
        };
        let index = serde_json::json!({"manifests": [
            entry('0', "unknown", "unknown", None), entry('a', "linux", "arm", Some("v6")),
            entry('b', "linux", "arm", Some("v7")), entry('c', "linux", "amd64", None),
        ]});
        let of = |platform: &str| read(index.to_string().as_bytes(), &platform.parse().unwrap());
        for (platform, expected) in [("linux/amd64", 'c'), ("linux/arm", 'a'), ("linux/arm/v7", 'b')] {
            assert_eq!(
                of(platform).unwrap(),
                Contents::Manifest(hex(expected).parse().unwrap()),
                "{platform}"
            );
        }
        let error = of("linux/s390x").unwrap_err().to_string();
        assert!(error.contains("linux/s390x") && error.contains("linux/arm/v7"), "{error}");
        let hostile = serde_json::json!({"manifests": [entry('a', "\u{1b}[2J", "x\n", None)]});
        let error = read(hostile.to_string().as_bytes(), &Platform::of_this_machine()).unwrap_err();
        assert!(!error.to_string().contains(|c: char| c.is_control()), "steers the terminal: {error:?}");
    }

    #[test]
    fn a_manifest_leads_to_its_blobs() {
        let blob = |c, size: u64| serde_json::json!({"digest": hex(c), "size": size});
        let foreign =
            serde_json::json!({"digest": hex('f'), "size": 9, "urls": ["https://elsewhere.example/"]});
        let manifest = serde_json::json!({
            "config": blob('a', 1), "layers": [blob('b', 2), blob('c', 3), blob('b', 2), foreign],
        });
        let Contents::Blobs(blobs) =
            read(manifest.to_string().as_bytes(), &Platform::of_this_machine()).unwrap()
        else {
            panic!()
        };
        let expected =
            [('a', 1), ('b', 2), ('c', 3)].map(|(c, size)| BlobRef { digest: hex(c).parse().unwrap(), size });
        assert_eq!(blobs, expected);
    }

    #[test]
    fn what_is_no_manifest() {
        for text in ["", "[]", "{}", r#"{"layers":[{"digest":"sha256:1","size":1}]}"#, r#"{"manifests":{}}"#]
        {
            assert!(read(text.as_bytes(), &Platform::of_this_machine()).is_err(), "{text}");
        }
    }
}
