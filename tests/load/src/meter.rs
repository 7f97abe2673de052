//! CPU time and memory of the processes from one moment to another, and how the rollout went meanwhile.

use crate::cluster::Cluster;
use serde::Serialize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use support::process::Program;
use support::usage;

/// How often the memory is looked at.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// CPU seconds by kind of process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Of the processes with daemons.
    pub daemons: f64,
    /// Of the scheduler.
    pub scheduler: f64,
    /// Of the origin.
    pub origin: f64,
    /// Of the clients, which is this process.
    pub clients: f64,
}

impl Cpu {
    fn of(cluster: &Cluster) -> Self {
        let of = |program: &Program| program.cpu_seconds().unwrap_or(0.0);
        Self {
            daemons: cluster.processes.iter().map(|process| of(&process.program)).sum(),
            scheduler: of(&cluster.scheduler.program),
            origin: of(&cluster.origin.program),
            clients: usage::cpu_seconds(std::process::id()).unwrap_or(0.0),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            daemons: self.daemons - before.daemons,
            scheduler: self.scheduler - before.scheduler,
            origin: self.origin - before.origin,
            clients: self.clients - before.clients,
        }
    }
}

/// How it stood at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds after the start.
    pub seconds: f64,
    /// Bytes that clients had received.
    pub bytes: u64,
    /// Pulls that had ended.
    pub done: usize,
    /// Anonymous memory of the daemons' processes, in bytes.
    pub daemons_memory: u64,
    /// Anonymous memory of the scheduler, in bytes.
    pub scheduler_memory: u64,
    /// Threads of the daemons' processes.
    pub threads: u64,
}

/// What was used from start to stop.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Used {
    /// How long that was, in seconds.
    pub seconds: f64,
    /// CPU time.
    pub cpu: Cpu,
    /// How it stood every [`INTERVAL`].
    pub samples: Vec<Sample>,
}

impl Used {
    /// The highest of a figure.
    #[must_use]
    pub fn peak(&self, of: fn(&Sample) -> u64) -> u64 {
        self.samples.iter().map(of).max().unwrap_or(0)
    }
}

/// Measures from its start on.
#[derive(Debug)]
pub struct Meter {
    started: Instant,
    before: Cpu,
    samples: Mutex<Vec<Sample>>,
}

impl Meter {
    /// From now on.
    #[must_use]
    pub fn start(cluster: &Cluster) -> Self {
        Self { started: Instant::now(), before: Cpu::of(cluster), samples: Mutex::default() }
    }

    /// Looks at the memory now; `bytes` have been received, `done` pulls have ended.
    pub fn sample(&self, cluster: &Cluster, bytes: u64, done: usize) {
        let daemons = || cluster.processes.iter().map(|process| process.program.id());
        let sample = Sample {
            seconds: self.started.elapsed().as_secs_f64(),
            bytes,
            done,
            daemons_memory: daemons().filter_map(usage::anonymous_memory).sum(),
            scheduler_memory: cluster.scheduler.program.anonymous_memory().unwrap_or(0),
            threads: daemons().filter_map(usage::threads).sum(),
        };
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }

    /// What was used until now, when `bytes` have been received and `done` pulls have ended.
    #[must_use]
    pub fn stop(self, cluster: &Cluster, bytes: u64, done: usize) -> Used {
        self.sample(cluster, bytes, done);
        let samples = self.samples.into_inner().unwrap_or_else(PoisonError::into_inner);
        Used {
            seconds: self.started.elapsed().as_secs_f64(),
            cpu: Cpu::of(cluster).since(self.before),
            samples,
        }
    }
}
