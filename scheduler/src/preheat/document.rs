//! What a manifest or an index says, as far as a preheat needs it: OCI image specification, "Image manifest" and
//! "Image index". Docker's schema 2 and manifest list have the same form. A document comes from anybody: what is made of
//! it while it is read is not much larger than itself.

use super::platform::Platform;
use proto::{PREHEAT_CONTENTS_MAX, PreheatBlob};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use types::{Digest, PieceLayout};

/// What an index's entry can be to be an image; others are left out.
const TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// The media types of Docker's first schema begin so.
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";

/// The most entries of a list that are read: some are no images, or are there more than once.
const LISTED_MAX: usize = 2 * PREHEAT_CONTENTS_MAX;

/// Why a document is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// No JSON, or not of this form.
    #[error("its manifest makes no sense: {0}")]
    Malformed(String),
    /// Docker's schema 1.
    #[error("its manifest is of Docker's schema 1, which no runtime pulls any more: push it again")]
    Schema1,
    /// Neither layers nor manifests.
    #[error("it is no image: its manifest has neither layers nor other manifests")]
    NoImage,
    /// A blob that no host can hold.
    #[error("a layer has {0} bytes, more than {max}", max = PieceLayout::SIZE_MAX)]
    TooLarge(u64),
    /// A manifest that contradicts itself.
    #[error("its manifest gives {0} two sizes")]
    TwoSizes(Box<Digest>),
    /// More than an order takes.
    #[error("it has more than {PREHEAT_CONTENTS_MAX} manifests and blobs: name fewer platforms")]
    TooMuch,
}

/// A manifest or an index; which of the two is seen by what it has, since some have no media type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Document {
    /// Manifests and further indexes, each once for a platform, without attestations.
    Index(Vec<Entry>),
    /// Configuration and layers, each once, without those that registries may not give out.
    Manifest(Vec<PreheatBlob>),
}

/// A manifest, or a further index, in an index.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) digest: Digest,
    /// Nothing if the index does not say it.
    pub(crate) platform: Option<Platform>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Form {
    schema_version: Option<u64>,
    manifests: Option<List>,
    config: Option<Descriptor>,
    layers: Option<List>,
    fs_layers: Option<IgnoredAny>,
}

/// The first descriptors of a list: one more than [`LISTED_MAX`] if it is too long.
struct List(Vec<Descriptor>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Listing;

        impl<'de> Visitor<'de> for Listing {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of descriptors")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut descriptors: A) -> Result<List, A::Error> {
                let mut list = Vec::new();
                while let Some(descriptor) = descriptors.next_element()? {
                    list.push(descriptor);
                    if list.len() > LISTED_MAX {
                        while descriptors.next_element::<IgnoredAny>()?.is_some() {}
                        break;
                    }
                }
                Ok(List(list))
            }
        }

        deserializer.deserialize_seq(Listing)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    size: u64,
    platform: Option<Offered>,
    urls: Option<Vec<IgnoredAny>>,
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Annotations {
    /// What build tools say of an index's entry that is about another one, and no image.
    #[serde(rename = "vnd.docker.reference.type")]
    reference_type: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Offered {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl Descriptor {
    fn digest(&self) -> Result<Digest, Unfit> {
        self.digest.parse().map_err(|error: types::DigestError| Unfit::Malformed(error.to_string()))
    }

    /// Lies somewhere else: a layer that registries may not give out.
    fn is_foreign(&self) -> bool {
        let media_type = self.media_type.as_deref().unwrap_or_default();
        let elsewhere = self.urls.as_ref().is_some_and(|urls| !urls.is_empty());
        elsewhere || media_type.contains("nondistributable") || media_type.contains(".foreign.")
    }

    fn platform(&self) -> Option<Platform> {
        let offered = self.platform.as_ref()?;
        Platform::offered(&offered.os, &offered.architecture, offered.variant.as_deref())
    }

    fn is_attestation(&self) -> bool {
        let marked = self.annotations.as_ref().is_some_and(|all| all.reference_type.is_some());
        marked || self.platform().is_some_and(|platform| platform.is_unknown())
    }

    fn is_image(&self) -> bool {
        self.media_type.as_ref().is_none_or(|media_type| TYPES.contains(&media_type.as_str()))
    }
}

/// Reads a document that came with this media type.
///
/// # Errors
/// [`Unfit`].
pub(crate) fn read(media_type: &str, bytes: &[u8]) -> Result<Document, Unfit> {
    if media_type.starts_with(SCHEMA_1) {
        return Err(Unfit::Schema1);
    }
    let form: Form = serde_json::from_slice(bytes).map_err(|error| Unfit::Malformed(error.to_string()))?;
    if form.schema_version == Some(1) || form.fs_layers.is_some() {
        return Err(Unfit::Schema1);
    }
    let is_long = |list: &List| list.0.len() > LISTED_MAX;
    if form.manifests.as_ref().is_some_and(is_long) || form.layers.as_ref().is_some_and(is_long) {
        return Err(Unfit::TooMuch);
    }
    match (form.manifests, form.layers) {
        (Some(List(manifests)), _) => entries(&manifests).map(Document::Index),
        (None, Some(List(layers))) => blobs(form.config.iter().chain(&layers)).map(Document::Manifest),
        (None, None) => Err(Unfit::NoImage),
    }
}

fn entries(manifests: &[Descriptor]) -> Result<Vec<Entry>, Unfit> {
    let (mut entries, mut seen) = (Vec::new(), BTreeSet::new());
    for image in manifests.iter().filter(|entry| entry.is_image() && !entry.is_attestation()) {
        let (digest, platform) = (image.digest()?, image.platform());
        if seen.insert((digest, platform.clone())) {
            entries.push(Entry { digest, platform });
        }
    }
    Ok(entries)
}

fn blobs<'a>(descriptors: impl Iterator<Item = &'a Descriptor>) -> Result<Vec<PreheatBlob>, Unfit> {
    let mut sizes = BTreeMap::new();
    let mut blobs = Vec::new();
    for descriptor in descriptors.filter(|descriptor| !descriptor.is_foreign()) {
        let (digest, size) = (descriptor.digest()?, descriptor.size);
        if size > PieceLayout::SIZE_MAX {
            return Err(Unfit::TooLarge(size));
        }
        match sizes.insert(digest, size) {
            None if blobs.len() == PREHEAT_CONTENTS_MAX => return Err(Unfit::TooMuch),
            None => blobs.push(PreheatBlob { digest, size }),
            Some(before) if before == size => {}
            Some(_) => return Err(Unfit::TwoSizes(Box::new(digest))),
        }
    }
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn digest(c: char) -> Digest {
        format!("sha256:{}", c.to_string().repeat(64)).parse().unwrap()
    }

    fn entry(c: char, os: &str, architecture: &str, variant: Option<&str>) -> Value {
        let platform = json!({"os": os, "architecture": architecture, "variant": variant});
        json!({"digest": digest(c).to_string(), "size": 1, "platform": platform})
    }

    fn blob(c: char, size: u64) -> Value {
        json!({"digest": digest(c).to_string(), "size": size})
    }

    fn read(document: &Value) -> Result<Document, Unfit> {
        super::read("", document.to_string().as_bytes())
    }

    #[test]
    fn an_index_has_images_and_what_is_about_them() {
        let mut marked = entry('d', "linux", "amd64", None);
        let annotations = json!({"vnd.docker.reference.type": "attestation-manifest", "another": "x"});
        marked["annotations"] = annotations;
        let mut other = entry('e', "linux", "amd64", None);
        other["mediaType"] = "application/vnd.in-toto+json".into();
        let index = json!({"schemaVersion": 2, "manifests": [
            entry('0', "unknown", "unknown", None), entry('a', "linux", "arm", Some("v7")), blob('b', 1),
            marked, other,
        ]});
        let expected = [
            Entry { digest: digest('a'), platform: Some("linux/arm/v7".parse().unwrap()) },
            Entry { digest: digest('b'), platform: None },
        ];
        assert_eq!(read(&index).unwrap(), Document::Index(expected.into()));
    }

    #[test]
    fn an_entry_that_is_repeated_counts_once_for_each_platform() {
        let [here, there] = ["amd64", "arm64"].map(|architecture| entry('a', "linux", architecture, None));
        let index = json!({"manifests": [here, blob('b', 1), there, here, blob('b', 1), here]});
        let of = |platform: &str| Some(platform.parse().unwrap());
        let expected = [('a', of("linux/amd64")), ('b', None), ('a', of("linux/arm64"))]
            .map(|(c, platform)| Entry { digest: digest(c), platform });
        assert_eq!(read(&index).unwrap(), Document::Index(expected.into()));
    }

    #[test]
    fn a_manifest_has_blobs_each_once_and_none_that_lie_elsewhere() {
        let foreign = |media_type: &str| {
            let mut layer = blob('f', 9);
            layer["mediaType"] = media_type.into();
            layer
        };
        let mut elsewhere = blob('f', 9);
        elsewhere["urls"] = json!(["https://elsewhere.example/"]);
        let manifest = json!({"schemaVersion": 2, "config": blob('a', 1), "layers": [
            blob('b', 2), blob('c', 0), blob('b', 2), elsewhere,
            foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"),
        ]});
        let blob = |(c, size)| PreheatBlob { digest: digest(c), size };
        let expected = [('a', 1), ('b', 2), ('c', 0)].map(blob);
        assert_eq!(read(&manifest).unwrap(), Document::Manifest(expected.into()));
    }

    #[test]
    fn what_is_of_no_use_says_why() {
        let many: Vec<Value> = (0..=PREHEAT_CONTENTS_MAX)
            .map(|n| json!({"digest": Digest::sha256(&n.to_be_bytes()).to_string(), "size": 1}))
            .collect();
        let nothing = json!({"digest": "", "size": 0});
        let longer: Vec<Value> = std::iter::repeat_n(nothing, LISTED_MAX + 1).collect();
        for (document, why) in [
            (json!([]), "makes no sense"),
            (json!({}), "no image"),
            (json!({"config": blob('a', 1)}), "no image"),
            (json!({"manifests": {}}), "makes no sense"),
            (json!({"layers": [{"digest": "sha256:1", "size": 1}]}), "makes no sense"),
            (json!({"layers": [{"digest": digest('a').to_string(), "size": -1}]}), "makes no sense"),
            (json!({"schemaVersion": 1, "fsLayers": []}), "schema 1"),
            (json!({"fsLayers": [], "history": []}), "schema 1"),
            (json!({"layers": [blob('a', PieceLayout::SIZE_MAX + 1)]}), "more than 1099511627776"),
            (json!({"layers": [blob('a', 1), blob('a', 2)]}), "two sizes"),
            (json!({"layers": many}), "it has more than 4096 manifests and blobs: name fewer platforms"),
        ] {
            let said = read(&document).expect_err(why).to_string();
            assert!(said.contains(why), "{said}");
        }
        let longer = read(&json!({"manifests": longer}));
        assert!(matches!(longer, Err(Unfit::TooMuch)), "{longer:?}");
        let by_type = super::read("application/vnd.docker.distribution.manifest.v1+prettyjws", b"{}");
        assert!(matches!(by_type, Err(Unfit::Schema1)));
    }
}
