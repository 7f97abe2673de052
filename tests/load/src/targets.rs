//! Where everything can be scraped: a file for the `file_sd_configs` of a Prometheus, there as long as the programs are.
//!
//! Called by [`crate::run`] once all daemons are there. The labels that matter are those of the chart's ServiceMonitors: by
//! them the dashboard and the alerts tell nodes apart.

use crate::cluster::Cluster;
use crate::plan::Plan;
use anyhow::{Context, Result};
use serde::Serialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The chart's services, after which jobs are called.
const DAEMONS: &str = "damselfly-dfdaemon-metrics";
const SCHEDULER: &str = "damselfly-scheduler-admin";

/// The file. Dropping it removes it.
#[derive(Debug)]
pub struct Targets {
    file: PathBuf,
}

/// One target, since labels are those of a group.
#[derive(Debug, Serialize)]
struct Group {
    targets: [String; 1],
    labels: Labels,
}

#[derive(Debug, Serialize)]
struct Labels {
    job: &'static str,
    /// For the daemons their node.
    instance: String,
    /// Empty if there is one zone only.
    #[serde(skip_serializing_if = "String::is_empty")]
    zone: String,
}

impl Targets {
    /// Writes where the daemons, those that are to die too, and the scheduler can be scraped.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn write(file: &Path, cluster: &Cluster, plan: &Plan) -> Result<Self> {
        let daemons = plan.peers.iter().enumerate();
        let daemons = daemons.map(|(i, peer)| (cluster.place(i).admin, peer.zone.as_str()));
        let text = serde_json::to_vec_pretty(&groups(daemons, &cluster.scheduler.admin))?;
        std::fs::write(file, text).with_context(|| file.display().to_string())?;
        Ok(Self { file: file.to_owned() })
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        // Whoever removed it before wanted the same.
        let _ = std::fs::remove_file(&self.file);
    }
}

/// The daemons, each with its zone, and the scheduler at this URL.
fn groups<'a>(daemons: impl Iterator<Item = (SocketAddr, &'a str)>, scheduler: &str) -> Vec<Group> {
    let daemons = daemons.enumerate().map(|(i, (admin, zone))| Group {
        targets: [admin.to_string()],
        labels: Labels { job: DAEMONS, instance: format!("peer-{i}"), zone: zone.to_owned() },
    });
    let scheduler = Group {
        targets: [scheduler.trim_start_matches("http://").to_owned()],
        labels: Labels { job: SCHEDULER, instance: "scheduler".to_owned(), zone: String::new() },
    };
    daemons.chain([scheduler]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_target_has_its_labels() {
        let daemons = [(SocketAddr::from(([127, 0, 0, 1], 7001)), "zone-1")];
        let groups = groups(daemons.into_iter(), "http://127.0.0.1:7002");
        let expected = json!([
            {
                "targets": ["127.0.0.1:7001"],
                "labels": { "job": "damselfly-dfdaemon-metrics", "instance": "peer-0", "zone": "zone-1" },
            },
            {
                "targets": ["127.0.0.1:7002"],
                "labels": { "job": "damselfly-scheduler-admin", "instance": "scheduler" },
            },
        ]);
        assert_eq!(serde_json::to_value(groups).unwrap(), expected);
    }
}
