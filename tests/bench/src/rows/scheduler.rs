//! What a scheduler's server costs: a thousand connected hosts report pieces at a fixed rate.

use super::{Scene, megabytes};
use crate::daemons::scheduler;
use crate::report::Row;
use crate::role::{self, cpu_seconds};
use anyhow::{Context as _, Result};
use std::time::Duration;
use support::daemon::Door;

/// Cores that the scheduler may use.
const LIMIT: f64 = 1.0;
/// Of the rate that is asked for, what must come about for the figure to count.
const REACHED: f64 = 0.97;
/// Connecting, and until all hosts have pieces to report.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// Measures the rows.
///
/// # Errors
/// If a program does not start, or the hosts do not reach the rate.
pub async fn measure(scene: &Scene) -> Result<Vec<Row>> {
    let (hosts, rate, seconds) = scene.size((1_000, 20_000, 20), (100, 1_000, 3));
    let dir = tempfile::Builder::new().prefix("scheduler-").tempdir_in(scene.dir())?;
    let nobody = "http://127.0.0.1:9".to_owned();
    let (program, door) = scheduler(scene.binaries()?, dir.path(), 1, nobody, true).await?;
    let Door::Plain(grpc) = door else { anyhow::bail!("the hosts of this row do not join") };
    let flags = [
        ("--scheduler", grpc.to_string()),
        ("--hosts", hosts.to_string()),
        ("--rate", rate.to_string()),
        ("--seconds", seconds.to_string()),
    ];
    let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    let args: Vec<String> = std::iter::once("hosts".to_owned()).chain(flags).collect();
    let mut crowd = role::start("hosts", &dir.path().join("hosts"), &args)?;
    role::heard(&mut crowd, "ready", READY_LIMIT).await?;
    let before = [cpu_seconds(&program)?, cpu_seconds(&crowd)?];
    let said = role::heard(&mut crowd, "done", Duration::from_secs(2 * seconds)).await?;
    let after = [cpu_seconds(&program)?, cpu_seconds(&crowd)?];
    let figures: Vec<f64> = said.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [reports, heard, elapsed] = figures[..] else { anyhow::bail!("the hosts said {said:?}") };
    let [cores, theirs] = [0, 1].map(|i| (after[i] - before[i]) / elapsed);
    let memory = program.anonymous_memory().context("the scheduler has ended")?;
    let asked = f64::from(rate);
    let detail = format!(
        "{hosts} hosts, {:.0} messages to them a second, {:.0} µs for a report, {:.0} MB; the hosts used {theirs:.2} cores",
        heard / elapsed,
        1e6 * cores * elapsed / reports,
        megabytes(memory),
    );
    Ok(vec![
        Row::at_least(
            "scheduler, reports",
            reports / elapsed,
            "1/s",
            asked * REACHED,
            format!("{asked} asked for"),
        ),
        Row::at_most("scheduler, CPU", cores, "cores", LIMIT, detail),
    ])
}
