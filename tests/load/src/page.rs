//! The report as a page with plots.

use crate::meter::Sample;
use crate::report::Report;
use ::report::page::{Plot, page};
use std::error::Error;

const MIB: f64 = 1_048_576.0;

#[allow(clippy::cast_precision_loss, reason = "figures for people, of byte counts below 2^52")]
impl Report {
    /// The report as a page.
    ///
    /// # Errors
    /// If something cannot be drawn.
    pub fn to_html(&self) -> Result<String, Box<dyn Error>> {
        let text = self.to_string();
        let figures: Vec<_> = text
            .lines()
            .map(|line| match line.split_once("  ") {
                Some((name, value)) => (name.to_owned(), value.trim().to_owned()),
                None => (String::new(), line.to_owned()),
            })
            .collect();
        let line = |name: &str, of: &dyn Fn(&Sample) -> f64| {
            let points = self.samples.iter().map(|sample| (sample.seconds, of(sample)));
            (name.to_owned(), points.collect())
        };
        let bound = self.bound_seconds.map(|bound| (bound, "bound".to_owned()));
        let moments: Vec<_> = bound.into_iter().chain([(self.seconds, "last pull".to_owned())]).collect();
        let peers = self.peers.max(1) as f64;
        let plot = |title: &str, of: &str, lines| Plot {
            title: title.to_owned(),
            of: of.to_owned(),
            lines,
            moments: Vec::new(),
        };
        let done = vec![line("ended", &|sample| sample.done as f64 / peers * 100.0)];
        let plots = [
            Plot { moments: moments.clone(), ..plot("Pulls that have ended", "% of all", done) },
            Plot {
                moments,
                ..plot("Bytes that clients had", "MiB", vec![line("received", &|s| s.bytes as f64 / MIB)])
            },
            plot(
                "Anonymous memory",
                "MiB",
                vec![
                    line("all daemons", &|sample| sample.daemons_memory as f64 / MIB),
                    line("scheduler", &|sample| sample.scheduler_memory as f64 / MIB),
                ],
            ),
        ];
        page(&format!("{} peers, {:.0} MiB", self.peers, self.image_bytes as f64 / MIB), &figures, &plots)
    }
}
