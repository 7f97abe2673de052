//! What the load test says at the end: a table for people, or one JSON object.

use crate::args::Args;
use crate::figures::{Figures, Messages};
use crate::logs::Warning;
use crate::meter::{Cpu, Sample, Used};
use crate::pulls::{Ending, Outcome};
use crate::roles::origin::Served;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// How many failures and complaints are shown in the table.
const SHOWN_MAX: usize = 10;

/// What a report is made from.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) args: &'a Args,
    pub(crate) image_bytes: u64,
    pub(crate) bound: Option<Duration>,
    pub(crate) start_seconds: f64,
    pub(crate) idle: Used,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) usage: Used,
    pub(crate) messages: Messages,
    pub(crate) served: Served,
    pub(crate) figures: Figures,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) wrong_bytes: u64,
}

/// Seconds that pulls took, each from its own beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Completion {
    /// Half were faster.
    pub p50: f64,
    /// 99 of 100 were faster.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How many daemons.
    pub peers: usize,
    /// How many of them got everything.
    pub peers_complete: usize,
    /// How many of them died, as they were to.
    pub peers_killed: usize,
    /// Bytes of the image's blobs.
    pub image_bytes: u64,
    /// Bytes of blobs that left the origin, as the origin counted them.
    pub origin_bytes: u64,
    /// Bytes that clients received and that are not those of the original.
    pub wrong_bytes: u64,
    /// From the common start to the last byte of the last pull.
    pub seconds: f64,
    /// The lower bound, where all rates are limited, all begin at once and nobody dies.
    pub bound_seconds: Option<f64>,
    /// How long single pulls took.
    pub completion_seconds: Completion,
    /// CPU seconds of daemons and scheduler for 10⁹ bytes that clients received.
    pub cpu_seconds_per_gb: f64,
    /// CPU seconds by kind of process.
    pub cpu_seconds: Cpu,
    /// Bytes that clients received.
    pub delivered_bytes: u64,
    /// The most anonymous memory that daemons and scheduler had together, in bytes.
    pub peak_memory_bytes: u64,
    /// The most that the daemons had together ÷ how many they are, in bytes.
    pub memory_per_peer_bytes: u64,
    /// The most that the scheduler had, in bytes.
    pub scheduler_memory_bytes: u64,
    /// The most threads that the daemons' processes had together.
    pub threads: u64,
    /// What the daemons that live count.
    pub daemons: Figures,
    /// What the scheduler counted during the pulls.
    pub scheduler: Messages,
    /// Messages to and from the scheduler per second.
    pub scheduler_messages_per_second: f64,
    /// Requests for manifests (GET) at the origin.
    pub manifest_gets: usize,
    /// Seconds until all daemons were there.
    pub start_seconds: f64,
    /// CPU of all idle daemons together, in cores, where that was looked at.
    pub idle_daemons_cores: Option<f64>,
    /// CPU of the scheduler while they were idle, in cores.
    pub idle_scheduler_cores: Option<f64>,
    /// Why pulls failed.
    pub failures: Vec<String>,
    /// What daemons and scheduler complained of.
    pub warnings: Vec<Warning>,
    /// How it went.
    pub samples: Vec<Sample>,
    /// Determined everything.
    pub seed: u32,
}

#[allow(clippy::cast_precision_loss, reason = "figures for people, of byte counts below 2^52")]
impl Parts<'_> {
    pub(crate) fn into_report(self) -> Report {
        let count = |ending: fn(&Ending) -> bool| self.outcomes.iter().filter(|o| ending(&o.ending)).count();
        let samples = &self.usage.samples;
        let delivered = samples.iter().map(|sample| sample.bytes).max().unwrap_or(0);
        let cpu = self.usage.cpu;
        let seconds = self.outcomes.iter().map(|outcome| outcome.at).max().unwrap_or_default().as_secs_f64();
        let idle = (self.idle.seconds > 0.5).then_some(self.idle.seconds);
        Report {
            peers: self.outcomes.len(),
            peers_complete: count(|ending| *ending == Ending::Complete),
            peers_killed: count(|ending| *ending == Ending::Killed),
            image_bytes: self.image_bytes,
            origin_bytes: self.served.blob_bytes,
            wrong_bytes: self.wrong_bytes,
            seconds,
            bound_seconds: self.bound.map(|bound| bound.as_secs_f64()),
            completion_seconds: completion(&self.outcomes),
            cpu_seconds_per_gb: (cpu.daemons + cpu.scheduler) / (delivered.max(1) as f64 / 1e9),
            cpu_seconds: cpu,
            delivered_bytes: delivered,
            peak_memory_bytes: self.usage.peak(|sample| sample.daemons_memory + sample.scheduler_memory),
            memory_per_peer_bytes: self.usage.peak(|sample| sample.daemons_memory)
                / self.outcomes.len().max(1) as u64,
            scheduler_memory_bytes: self.usage.peak(|sample| sample.scheduler_memory),
            threads: self.usage.peak(|sample| sample.threads),
            daemons: self.figures,
            scheduler: self.messages,
            scheduler_messages_per_second: (self.messages.sent + self.messages.received) as f64
                / self.usage.seconds.max(1e-9),
            manifest_gets: self.served.manifest_gets,
            start_seconds: self.start_seconds,
            idle_daemons_cores: idle.map(|seconds| self.idle.cpu.daemons / seconds),
            idle_scheduler_cores: idle.map(|seconds| self.idle.cpu.scheduler / seconds),
            failures: failures(&self.outcomes),
            warnings: self.warnings,
            samples: self.usage.samples,
            seed: self.args.seed,
        }
    }
}

fn failures(outcomes: &[Outcome]) -> Vec<String> {
    let failed = outcomes.iter().filter_map(|outcome| match &outcome.ending {
        Ending::Failed(why) => Some(why.clone()),
        Ending::Complete | Ending::Killed => None,
    });
    failed.collect()
}

fn completion(outcomes: &[Outcome]) -> Completion {
    let complete = outcomes.iter().filter(|outcome| outcome.ending == Ending::Complete);
    let mut times: Vec<f64> = complete.map(|outcome| outcome.took.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    Completion { p50: percentile(&times, 50), p99: percentile(&times, 99), max: percentile(&times, 100) }
}

/// The least of the sorted values that so many percent do not exceed.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[allow(clippy::cast_precision_loss, reason = "figures for people, of byte counts below 2^52")]
impl Report {
    /// Whether every byte was right and every peer that lives got everything.
    #[must_use]
    pub const fn is_right(&self) -> bool {
        self.wrong_bytes == 0 && self.peers_complete + self.peers_killed == self.peers
    }

    /// How often the image left the origin.
    #[must_use]
    pub fn origin_ratio(&self) -> f64 {
        self.origin_bytes as f64 / self.image_bytes as f64
    }

    fn row(f: &mut fmt::Formatter<'_>, what: &str, value: impl fmt::Display) -> fmt::Result {
        writeln!(f, "{what:<28} {value}")
    }

    fn write_time(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Completion { p50, p99, max } = self.completion_seconds;
        let killed =
            if self.peers_killed > 0 { format!(", {} killed", self.peers_killed) } else { String::new() };
        Self::row(f, "peers", format!("{} of {} complete{killed}", self.peers_complete, self.peers))?;
        Self::row(f, "seconds to start", format!("{:.1}", self.start_seconds))?;
        Self::row(
            f,
            "seconds",
            format!("{:.2}; a pull: p50 {p50:.2}, p99 {p99:.2}, max {max:.2}", self.seconds),
        )?;
        if let Some(bound) = self.bound_seconds {
            let ratio = format!("{:.3}   ({:.2} s ÷ {bound:.2} s)", self.seconds / bound, self.seconds);
            Self::row(f, "time ÷ lower bound", ratio)?;
        }
        let rate = self.delivered_bytes as f64 / 1e6 / self.seconds.max(1e-9);
        Self::row(f, "delivered", format!("{} MiB, {rate:.0} MB/s", mib(self.delivered_bytes)))
    }

    fn write_bytes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (left, image) = (mib(self.origin_bytes), mib(self.image_bytes));
        let ratio = format!("{:.4}   ({left} MiB ÷ {image} MiB)", self.origin_ratio());
        Self::row(f, "origin bytes ÷ image bytes", ratio)?;
        let d = &self.daemons;
        let by_source = format!(
            "origin {}, fallback {}, rack {}, zone {}, elsewhere {}, cache {}",
            mib(d.origin),
            mib(d.fallback),
            mib(d.rack),
            mib(d.zone),
            mib(d.elsewhere),
            mib(d.cache)
        );
        Self::row(f, "MiB by source", by_source)?;
        Self::row(f, "manifests from the origin", self.manifest_gets)
    }

    fn write_cost(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cpu { daemons, scheduler, origin, clients } = self.cpu_seconds;
        let gb = self.delivered_bytes.max(1) as f64 / 1e9;
        let cpu = format!(
            "{:.2}   (daemons {:.2}, scheduler {:.3}; beside them origin {:.3}, clients {:.2})",
            self.cpu_seconds_per_gb,
            daemons / gb,
            scheduler / gb,
            origin / gb,
            clients / gb
        );
        Self::row(f, "CPU-seconds per GB", cpu)?;
        let memory = format!(
            "{} of {} MiB in all, {} threads",
            mib(self.memory_per_peer_bytes),
            mib(self.peak_memory_bytes),
            self.threads
        );
        Self::row(f, "memory per peer, MiB", memory)?;
        if let (Some(daemons), Some(scheduler)) = (self.idle_daemons_cores, self.idle_scheduler_cores) {
            let idle = format!("daemons {daemons:.3}, scheduler {scheduler:.3}");
            Self::row(f, "cores while all are idle", idle)?;
        }
        let s = &self.scheduler;
        let messages = format!(
            "{:.0} messages/s ({} in, {} out), {:.2} cores, {} MiB; {} assigned, {} failed, {} ignored, {} leases",
            self.scheduler_messages_per_second,
            s.received,
            s.sent,
            scheduler / self.seconds.max(1e-9),
            mib(self.scheduler_memory_bytes),
            s.assigned,
            s.transfers_failed,
            s.ignored,
            s.leases
        );
        Self::row(f, "scheduler", messages)?;
        let d = &self.daemons;
        let connections = format!(
            "{} made, {} open, {} rejected; {} pieces, {} refused; fetches failed: {}",
            d.connections_made, d.connections_open, d.rejected, d.pieces, d.refused, d.failed
        );
        Self::row(f, "connections", connections)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_time(f)?;
        self.write_bytes(f)?;
        self.write_cost(f)?;
        for failure in self.failures.iter().take(SHOWN_MAX) {
            Self::row(f, "FAILED", failure)?;
        }
        for warning in self.warnings.iter().take(SHOWN_MAX) {
            let Warning { level, target, message, count, .. } = warning;
            Self::row(f, "complaint", format!("{count} × {level} {target}: {message}"))?;
        }
        if self.is_right() {
            write!(f, "every byte is right, every peer that lives is complete")
        } else {
            let missing = self.peers - self.peers_complete - self.peers_killed;
            write!(f, "{} bytes are WRONG, {missing} peers are INCOMPLETE", self.wrong_bytes)
        }
    }
}

/// Mebibytes with one decimal.
fn mib(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mib = bytes as f64 / f64::from(1 << 20);
    format!("{mib:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn report(endings: &[Ending]) -> Report {
        let outcome = |(i, ending): (u64, &Ending)| Outcome {
            ending: ending.clone(),
            took: Duration::from_secs(i),
            at: Duration::from_secs(i + 1),
        };
        let sample =
            Sample { bytes: 2_000_000_000, daemons_memory: 300, scheduler_memory: 7, ..Sample::default() };
        let cpu = Cpu { daemons: 3.0, scheduler: 1.0, origin: 0.5, clients: 0.25 };
        let usage = Used { seconds: 10.0, cpu, samples: vec![sample] };
        Parts {
            args: &Args::parse_from(["load"]),
            image_bytes: 4 << 20,
            bound: Some(Duration::from_secs(2)),
            start_seconds: 1.0,
            idle: Used::default(),
            outcomes: (1..).zip(endings).map(outcome).collect(),
            usage,
            messages: Messages { sent: 60, received: 40, ..Messages::default() },
            served: Served { blob_bytes: 4 << 20, ..Served::default() },
            figures: Figures::default(),
            warnings: Vec::new(),
            wrong_bytes: 0,
        }
        .into_report()
    }

    #[test]
    fn the_figures_are_right() {
        let report = report(&[Ending::Complete, Ending::Complete, Ending::Killed]);
        assert!(report.is_right());
        assert_eq!(report.completion_seconds, Completion { p50: 1.0, p99: 2.0, max: 2.0 });
        assert_eq!((report.seconds, report.cpu_seconds_per_gb), (4.0, 2.0));
        assert_eq!((report.peak_memory_bytes, report.memory_per_peer_bytes), (307, 100));
        assert_eq!(report.scheduler_messages_per_second, 10.0);
        let text = report.to_string();
        assert!(
            text.contains("2 of 3 complete, 1 killed") && text.contains("2.000   (4.00 s ÷ 2.00 s)"),
            "{text}"
        );
    }

    #[test]
    fn a_failed_pull_is_not_right() {
        let report = report(&[Ending::Complete, Ending::Failed("peer 1: no answer".to_owned())]);
        assert!(!report.is_right());
        assert!(
            report.to_string().contains("peer 1: no answer")
                && report.to_string().contains("1 peers are INCOMPLETE")
        );
    }

    #[test]
    fn the_page_has_the_table_and_the_plots() {
        let page = report(&[Ending::Complete]).to_html().unwrap();
        assert!(page.contains("time ÷ lower bound") && page.contains("1 of 1 complete"), "{page}");
        assert_eq!(page.matches("<svg").count(), 3);
    }

    #[test]
    fn json_has_the_promised_fields() {
        let value = serde_json::to_value(report(&[Ending::Complete])).unwrap();
        let promised = [
            "peers",
            "peers_complete",
            "image_bytes",
            "origin_bytes",
            "wrong_bytes",
            "peak_memory_bytes",
            "cpu_seconds_per_gb",
            "seconds",
        ];
        for field in promised {
            assert!(value[field].is_number(), "{field}");
        }
    }
}
