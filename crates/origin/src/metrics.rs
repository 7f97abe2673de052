//! What is counted of the traffic with origins.

use http::{HeaderMap, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry as MetricsRegistry, Unit};
use std::collections::BTreeSet;
use std::fmt;
use types::Registry;

/// Registries that have a label of their own beside those of the configuration.
const WELL_KNOWN: [&str; 5] = ["docker.io", "ghcr.io", "quay.io", "registry.k8s.io", "gcr.io"];

/// The label of every other registry, since clients choose names, and names must not become series; and of other requests.
const OTHER: &str = "other";

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// HEAD of a manifest.
    ManifestHead,
    /// GET of a manifest.
    Manifest,
    /// HEAD of a blob, or a GET in its place.
    BlobHead,
    /// GET of a blob.
    Blob,
    /// A token.
    Token,
    /// Tags, referrers, `/v2/`.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Outcome {
    Success,
    Redirect,
    Refused,
    Throttled,
    ServerError,
    Failed,
}

impl EncodeLabelValue for Kind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let name = match self {
            Self::ManifestHead => "manifest_head",
            Self::Manifest => "manifest",
            Self::BlobHead => "blob_head",
            Self::Blob => "blob",
            Self::Token => "token",
            Self::Other => OTHER,
        };
        name.encode(encoder)
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let name = match self {
            Self::Success => "success",
            Self::Redirect => "redirect",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::Failed => "failed",
        };
        name.encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    registry: String,
    kind: Kind,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByteLabels {
    registry: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RegistryLabel {
    registry: String,
}

/// The client's metrics.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    named: BTreeSet<String>,
    requests: Family<RequestLabels, Counter>,
    bytes: Family<ByteLabels, Counter>,
    skipped: Family<RegistryLabel, Counter>,
    resumed: Family<RegistryLabel, Counter>,
    rate_limit: Family<RegistryLabel, Gauge>,
}

impl Metrics {
    /// `configured` registries get a label of their own.
    pub(crate) fn new<'a>(configured: impl Iterator<Item = &'a Registry>) -> Self {
        let named = configured.map(Registry::as_str).chain(WELL_KNOWN).map(str::to_owned).collect();
        Self { named, ..Self::default() }
    }

    pub(crate) fn register(&self, registry: &mut MetricsRegistry) {
        let registry = registry.sub_registry_with_prefix("origin");
        registry.register(
            "requests",
            "Requests to origins, each redirect counted, by registry, kind and outcome",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "received",
            "Bytes of bodies from origins, by registry and kind",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register_with_unit(
            "skipped",
            "Bytes that came before or after the range that was asked for, by registry",
            Unit::Bytes,
            self.skipped.clone(),
        );
        registry.register(
            "resumed",
            "Bodies taken up again after a broken connection, by registry",
            self.resumed.clone(),
        );
        registry.register(
            "rate_limit_remaining",
            "Manifests that the registry will still give in its current window, as it says",
            self.rate_limit.clone(),
        );
    }

    fn label(&self, registry: &Registry) -> String {
        let name = registry.as_str();
        if self.named.contains(name) { name.into() } else { OTHER.into() }
    }

    pub(crate) fn answered(&self, registry: &Registry, kind: Kind, status: StatusCode, headers: &HeaderMap) {
        let outcome = match status.as_u16() {
            200..300 => Outcome::Success,
            300..400 => Outcome::Redirect,
            429 => Outcome::Throttled,
            400..500 => Outcome::Refused,
            _ => Outcome::ServerError,
        };
        self.request(registry, kind, outcome);
        // Docker Hub: `76;w=21600`.
        let remaining = headers.get("ratelimit-remaining").and_then(|value| value.to_str().ok());
        if let Some(remaining) = remaining.and_then(|text| text.split(';').next()?.trim().parse().ok()) {
            self.rate_limit.get_or_create(&RegistryLabel { registry: self.label(registry) }).set(remaining);
        }
    }

    pub(crate) fn failed(&self, registry: &Registry, kind: Kind) {
        self.request(registry, kind, Outcome::Failed);
    }

    fn request(&self, registry: &Registry, kind: Kind, outcome: Outcome) {
        let labels = RequestLabels { registry: self.label(registry), kind, outcome };
        self.requests.get_or_create(&labels).inc();
    }

    pub(crate) fn received(&self, registry: &Registry, kind: Kind, bytes: u64) {
        self.bytes.get_or_create(&ByteLabels { registry: self.label(registry), kind }).inc_by(bytes);
    }

    pub(crate) fn skipped(&self, registry: &Registry, bytes: u64) {
        self.skipped.get_or_create(&RegistryLabel { registry: self.label(registry) }).inc_by(bytes);
    }

    pub(crate) fn resumed(&self, registry: &Registry) {
        self.resumed.get_or_create(&RegistryLabel { registry: self.label(registry) }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_registries_share_a_label() {
        let configured = Registry::parse("r.example").unwrap();
        let metrics = Metrics::new(std::iter::once(&configured));
        let mut headers = HeaderMap::new();
        headers.insert("ratelimit-remaining", http::HeaderValue::from_static("76;w=21600"));
        for name in ["r.example", "a.example", "b.example"] {
            metrics.answered(
                &Registry::parse(name).unwrap(),
                Kind::Manifest,
                StatusCode::OK,
                &HeaderMap::new(),
            );
        }
        metrics.answered(
            &Registry::parse("docker.io").unwrap(),
            Kind::ManifestHead,
            StatusCode::OK,
            &headers,
        );
        let mut registry = MetricsRegistry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains(r#"requests_total{registry="other",kind="manifest",outcome="success"} 2"#),
            "{text}"
        );
        assert!(text.contains(r#"rate_limit_remaining{registry="docker.io"} 76"#), "{text}");
        assert!(!text.contains("a.example"), "{text}");
    }
}
