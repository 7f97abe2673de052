//! The demo's processes: one scheduler and the nodes' daemons, each on a loopback address of its own.

use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;
use support::binaries::Binaries;
use support::daemon::{DaemonPlace, READY_LIMIT, SchedulerPlace, Traffic, Upstream, loopback};
use support::process::Program;

/// The running programs. Dropping it ends all of them, together.
#[derive(Debug)]
pub struct Cluster {
    // The nodes first: they say goodbye to a scheduler that is still there.
    programs: Vec<Program>,
    nodes: Vec<DaemonPlace>,
}

impl Cluster {
    /// Starts the scheduler and `count` daemons under `dir`, each limited to `rate` bytes per second each way, and
    /// waits until all are ready.
    ///
    /// # Errors
    /// If one does not start; the message holds the end of its log.
    pub async fn start(
        binaries: &Binaries,
        dir: &Path,
        count: u8,
        rate: u64,
        upstream: Upstream,
    ) -> Result<Self> {
        let upstreams = [upstream];
        let place = SchedulerPlace {
            address: loopback(1),
            dir: dir.join("scheduler"),
            namespace: None,
            plain: false,
            quiet_period: Duration::ZERO,
        };
        let mut scheduler = place.start(binaries, &upstreams)?;
        scheduler.wait_for_ok(&format!("{}/healthz", place.admin_url()), READY_LIMIT).await?;
        let nodes: Vec<DaemonPlace> = (1..=count)
            .map(|i| {
                let name = format!("node-{i}");
                let place_dir = dir.join(&name);
                DaemonPlace {
                    scheduler: Some(place.door()),
                    rate: Some(rate),
                    ..DaemonPlace::new(name, loopback(i + 1), place_dir)
                }
            })
            .collect();
        let mut programs =
            nodes.iter().map(|node| node.start(binaries, &upstreams)).collect::<Result<Vec<_>>>()?;
        for (node, program) in nodes.iter().zip(&mut programs) {
            program.wait_for_ok(&format!("{}/readyz", node.admin_url()), READY_LIMIT).await?;
        }
        programs.push(scheduler);
        Ok(Self { programs, nodes })
    }

    /// The daemons.
    #[must_use]
    pub fn nodes(&self) -> &[DaemonPlace] {
        &self.nodes
    }

    /// The bytes of each daemon by source, in the order of [`Self::nodes`].
    ///
    /// # Errors
    /// If one does not say.
    pub async fn traffic(&self, client: &reqwest::Client) -> Result<Vec<Traffic>> {
        let mut all = Vec::new();
        for node in &self.nodes {
            all.push(node.traffic(client).await.with_context(|| node.name.clone())?);
        }
        Ok(all)
    }

    /// Fails, with its log's end, if a program has ended.
    ///
    /// # Errors
    /// If one has.
    pub fn check(&mut self) -> Result<()> {
        self.programs.iter_mut().try_for_each(Program::check_running)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All are told before any is waited for.
        for program in &mut self.programs {
            program.ask_to_stop();
        }
    }
}
