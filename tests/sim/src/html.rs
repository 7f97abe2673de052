//! A simulated rollout as a page with plots.

use report::bound::Bound;
use report::page::{Plot, page as render};
use sim::{Outcome, Sample, Settings};
use std::error::Error;

const MIB: f64 = 1_048_576.0;

/// The page of one rollout beside its bound.
///
/// # Errors
/// If something cannot be drawn.
pub(crate) fn page(settings: &Settings, outcome: &Outcome, bound: &Bound) -> Result<String, Box<dyn Error>> {
    let scale = settings.links.as_ref().map_or(1, |links| links.scale) as f64;
    let took = outcome.took.as_secs_f64();
    let once = bound.once().as_secs_f64();
    let mib = |bytes: u64| bytes as f64 * scale / MIB;
    let figure = |name: &str, value: String| (name.to_owned(), value);
    let figures = [
        figure("hosts", settings.hosts.to_string()),
        figure("zones", settings.zones.to_string()),
        figure("slots each way", settings.upload_slots.to_string()),
        figure("bytes of the blobs", format!("{:.1} MiB", mib(outcome.blob_bytes))),
        figure("last host complete", format!("{took:.3} s")),
        figure("fluid bound", format!("{:.3} s", bound.fluid.as_secs_f64())),
        figure("discrete bound", format!("{:.3} s", bound.discrete_once.as_secs_f64())),
        figure("time ÷ bound", format!("{:.4}", took / once)),
        figure(
            "origin bytes ÷ blob",
            format!("{:.4}", outcome.origin_bytes as f64 / outcome.blob_bytes as f64),
        ),
        figure(
            "bytes between zones ÷ blob",
            format!("{:.4}", outcome.boundary_bytes as f64 / outcome.blob_bytes as f64),
        ),
        figure("seed", settings.seed.to_string()),
    ];
    let line = |name: &str, of: &dyn Fn(&Sample) -> f64| {
        let points = outcome.samples.iter().map(|sample| (sample.at.as_secs_f64(), of(sample)));
        (name.to_owned(), points.collect())
    };
    let plot = |title: &str, of: &str, lines| Plot {
        title: title.to_owned(),
        of: of.to_owned(),
        lines,
        moments: Vec::new(),
    };
    let bound_at = vec![(once, "bound".to_owned()), (took, "last host complete".to_owned())];
    let hosts = settings.hosts as f64;
    let complete = Plot {
        moments: bound_at,
        ..plot(
            "Hosts that have everything",
            "% of all",
            vec![line("complete", &|s| s.complete as f64 / hosts * 100.0)],
        )
    };
    let links = plot(
        "Links in use",
        "% of their rate",
        vec![
            line("origin", &|s| s.origin_use as f64 / 10.0),
            line("the source's uplink", &|s| s.source_use as f64 / 10.0),
            line("all hosts' uplinks", &|s| s.uplink_use as f64 / 10.0),
        ],
    );
    let sources = plot(
        "Bytes by where they came from",
        "MiB for each host",
        vec![line("origin", &|s| mib(s.origin_bytes) / hosts), line("peers", &|s| mib(s.peer_bytes) / hosts)],
    );
    let boundary =
        plot("Bytes between zones", "MiB", vec![line("between zones", &|s| mib(s.boundary_bytes))]);
    let title = format!("{} hosts, {:.0} MiB, simulated", settings.hosts, mib(outcome.blob_bytes));
    render(&title, &figures, &[complete, links, sources, boundary])
}
