//! Preheats: what a host is told to hold, and how it gets on.

use crate::requests::NAME_BYTES_MAX;
use crate::words::{bounded, digest_in, digest_out};
use crate::{ConvertError, wire};
use types::{Digest, Registry};

/// The most images of one order.
pub const PREHEAT_IMAGES_MAX: usize = 32;

/// The most manifests and blobs of one order, together.
pub const PREHEAT_CONTENTS_MAX: usize = 4096;

/// The most reports in one frame.
pub const PREHEAT_REPORTS_MAX: usize = 64;

/// The longest word of a report on what went wrong, in bytes.
pub const PREHEAT_FAILURE_BYTES_MAX: usize = 512;

/// What a host is to hold, though no client of its waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreheatOrder {
    /// Which order: one of a number that the host has goes on as it is.
    pub number: u64,
    /// At most [`PREHEAT_IMAGES_MAX`], with at most [`PREHEAT_CONTENTS_MAX`] manifests and blobs together. What
    /// two repositories have is below both, and counts once in reports.
    pub images: Vec<PreheatImage>,
}

/// What belongs to one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreheatImage {
    /// Where it comes from.
    pub registry: Registry,
    /// The repository's name, not checked to be one.
    pub repository: String,
    /// Its indexes and manifests.
    pub manifests: Vec<Digest>,
    /// Its configurations and layers.
    pub blobs: Vec<PreheatBlob>,
}

/// A blob of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreheatBlob {
    /// Which.
    pub digest: Digest,
    /// In bytes, as its manifest has it.
    pub size: u64,
}

/// How a host gets on with an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreheatReport {
    /// Which order.
    pub number: u64,
    /// Of its blobs, the bytes that the host holds.
    pub held_bytes: u64,
    /// How many of them it holds whole.
    pub held_blobs: u32,
    /// Whether the host has done what it could.
    pub ended: bool,
    /// What went wrong first, for people; empty if nothing did. Cut to
    /// [`PREHEAT_FAILURE_BYTES_MAX`] on the way out.
    pub failure: String,
}

impl PreheatOrder {
    pub(crate) fn out(self) -> wire::PreheatOrder {
        let blob =
            |blob: PreheatBlob| wire::PreheatBlob { digest: Some(digest_out(&blob.digest)), size: blob.size };
        let image = |image: PreheatImage| wire::PreheatImage {
            registry: image.registry.to_string(),
            repository: image.repository,
            manifests: image.manifests.iter().map(digest_out).collect(),
            blobs: image.blobs.into_iter().map(blob).collect(),
        };
        wire::PreheatOrder { number: self.number, images: self.images.into_iter().map(image).collect() }
    }

    pub(crate) fn parse(order: wire::PreheatOrder) -> Result<Self, ConvertError> {
        bounded("preheat images", order.images.len(), PREHEAT_IMAGES_MAX)?;
        let contents = order.images.iter().map(|image| image.manifests.len() + image.blobs.len()).sum();
        bounded("preheat contents", contents, PREHEAT_CONTENTS_MAX)?;
        let blob = |blob: wire::PreheatBlob| {
            Ok::<_, ConvertError>(PreheatBlob { digest: digest_in(blob.digest)?, size: blob.size })
        };
        let image = |image: wire::PreheatImage| {
            bounded("repository", image.repository.len(), NAME_BYTES_MAX)?;
            Ok::<_, ConvertError>(PreheatImage {
                registry: Registry::parse(&image.registry)?,
                repository: image.repository,
                manifests: image
                    .manifests
                    .into_iter()
                    .map(|digest| digest_in(Some(digest)))
                    .collect::<Result<_, _>>()?,
                blobs: image.blobs.into_iter().map(blob).collect::<Result<_, _>>()?,
            })
        };
        let images = order.images.into_iter().map(image).collect::<Result<_, _>>()?;
        Ok(Self { number: order.number, images })
    }
}

pub(crate) fn reports_out(reports: &[PreheatReport]) -> wire::PreheatReports {
    let report = |report: &PreheatReport| {
        let failure = &report.failure[..report.failure.floor_char_boundary(PREHEAT_FAILURE_BYTES_MAX)];
        wire::PreheatReport {
            number: report.number,
            held_bytes: report.held_bytes,
            held_blobs: report.held_blobs,
            ended: report.ended,
            failure: failure.to_owned(),
        }
    };
    wire::PreheatReports { reports: reports.iter().take(PREHEAT_REPORTS_MAX).map(report).collect() }
}

pub(crate) fn reports_in(reports: wire::PreheatReports) -> Result<Vec<PreheatReport>, ConvertError> {
    bounded("preheat reports", reports.reports.len(), PREHEAT_REPORTS_MAX)?;
    let report = |report: wire::PreheatReport| {
        bounded("failure", report.failure.len(), PREHEAT_FAILURE_BYTES_MAX)?;
        let wire::PreheatReport { number, held_bytes, held_blobs, ended, failure } = report;
        Ok(PreheatReport { number, held_bytes, held_blobs, ended, failure })
    };
    reports.reports.into_iter().map(report).collect()
}
