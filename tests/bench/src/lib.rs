//! `cargo run --release --bin bench`: what Damselfly costs, as ratios of one run, beside the limits that it promises.
//!
//! Absolute figures depend on the machine and on what else it does; so each row measures its two sides in turns, in the
//! same run, and shows the median of the rounds' ratios. `main` parses [`args::Args`], calls [`run`] and prints the
//! [`report::Report`]. What has a CPU time of its own runs in a process of its own: a [`role`] of the same program.

pub mod args;
pub mod content;
pub mod daemons;
pub mod hosts;
pub mod http;
pub mod nginx;
pub mod origin;
pub mod relay;
pub mod report;
pub mod role;
pub mod rounds;
pub mod rows;
pub mod transport;

use crate::args::{Args, Group};
use crate::report::Report;
use crate::rows::Scene;
use anyhow::Result;

/// Measures the rows that `args` asks for. Everything it made is gone when the future ends or is dropped.
///
/// # Errors
/// If something does not build, start or answer; a missed limit is no error.
pub async fn run(args: &Args) -> Result<Report> {
    let scene = Scene::new(args)?;
    let mut rows = Vec::new();
    for group in args.groups() {
        eprintln!("{}", group.doing());
        rows.extend(match group {
            Group::Verification => rows::verification::measure(&scene).await?,
            Group::Transport => rows::transport::measure(&scene).await?,
            Group::Warm => rows::warm::measure(&scene).await?,
            Group::Cold => rows::cold::measure(&scene).await?,
            Group::Memory => rows::memory::measure(&scene).await?,
            Group::Security => rows::security::measure(&scene).await?,
            Group::Scheduler => rows::scheduler::measure(&scene).await?,
        });
    }
    Ok(Report { rows })
}
