//! What every program shows of itself in `/metrics`: what it uses, under the names that Prometheus' own client libraries
//! give these figures, and which version it is.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;

/// How the names of all other metrics begin.
const PREFIX: &str = "damselfly";

/// A registry with the figures of this process. What is [`ours`] goes in beside them.
#[must_use]
pub fn registry(program: &'static str, version: &'static str) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Process));
    ours(&mut registry).register(
        "build",
        "Which program this is",
        Info::new([("program", program), ("version", version)]),
    );
    registry
}

/// Where a program's own metrics go: their names begin with `damselfly_`.
pub fn ours(registry: &mut Registry) -> &mut Registry {
    registry.sub_registry_with_prefix(PREFIX)
}

/// What the process uses, as Linux says when it is asked.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Where Linux does not say, nothing is shown.
        if let Some(seconds) = cpu_seconds() {
            let help = "CPU time, user and system";
            put(&mut encoder, "process_cpu", help, Some(&Unit::Seconds), &ConstCounter::new(seconds))?;
        }
        if let Some(seconds) = start_seconds() {
            let help = "When the process started, in seconds since 1970";
            put(&mut encoder, "process_start_time", help, Some(&Unit::Seconds), &ConstGauge::new(seconds))?;
        }
        let memory = [
            ("process_resident_memory", "Memory that is in use, files mapped included", "VmRSS:"),
            ("process_anonymous_memory", "Memory that is in use, without files", "RssAnon:"),
        ];
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (name, help, key) in memory {
            if let Some(bytes) = kibibytes(&status, key) {
                put(&mut encoder, name, help, Some(&Unit::Bytes), &ConstGauge::new(bytes))?;
            }
        }
        if let Some(open) = open_fds() {
            put(
                &mut encoder,
                "process_open_fds",
                "File descriptors that are open",
                None,
                &ConstGauge::new(open),
            )?;
        }
        if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
            put(
                &mut encoder,
                "process_max_fds",
                "File descriptors that may be open",
                None,
                &ConstGauge::new(most),
            )?;
        }
        Ok(())
    }
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

/// A field of `/proc/self/stat` by its number in proc(5): the second may hold spaces, but ends at the last `)`.
fn stat(number: usize) -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

#[allow(clippy::cast_precision_loss, reason = "ticks of a process's life are far below 2^52")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

fn cpu_seconds() -> Option<f64> {
    Some(seconds(stat(14)?.checked_add(stat(15)?)?))
}

#[allow(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
fn start_seconds() -> Option<f64> {
    let machine = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<u64>().ok()?;
    Some(boot as f64 + seconds(stat(22)?))
}

fn kibibytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

fn open_fds() -> Option<u64> {
    // One of them is the directory that is being read.
    u64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count().checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_uses() {
        let mut registry = registry("test", "1.2.3");
        ours(&mut registry).register(
            "tests",
            "Tests",
            prometheus_client::metrics::gauge::Gauge::<i64>::default(),
        );
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("\ndamselfly_build_info{program=\"test\",version=\"1.2.3\"} 1\n"), "{text}");
        assert!(text.contains("\ndamselfly_tests 0\n"), "{text}");
        let value = |name: &str| -> f64 {
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
            line.trim().parse().unwrap()
        };
        assert!(value("process_cpu_seconds_total ") >= 0.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 3600.0..=now + 1.0).contains(&value("process_start_time_seconds ")), "{text}");
        assert!(value("process_resident_memory_bytes ") >= value("process_anonymous_memory_bytes "));
        assert!(value("process_anonymous_memory_bytes ") > 100_000.0);
        assert!((3.0..=value("process_max_fds ")).contains(&value("process_open_fds ")), "{text}");
    }
}
