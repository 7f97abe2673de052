//! Pieces from process to process: our bulk transport, plain tokio-rustls, libp2p's stock stack.

use super::{Scene, gigabytes};
use crate::report::Row;
use crate::role::{self, cpu_seconds, heard};
use crate::rounds::Pairs;
use crate::transport::{PIECE_LEN, Side, Stack};
use anyhow::Result;
use std::path::Path;
use std::time::Duration;
use support::process::Program;

/// Our CPU time ÷ that of plain tokio-rustls.
const LIMIT: f64 = 1.15;

/// How long one transfer may take.
const TRANSFER_LIMIT: Duration = Duration::from_secs(120);

/// What a transfer cost.
struct Cost {
    /// CPU seconds of sender and receiver together.
    cpu: f64,
    /// From the receiver's first step to the last byte.
    seconds: f64,
}

/// Measures the rows.
///
/// # Errors
/// If a transfer fails.
pub async fn measure(scene: &Scene) -> Result<Vec<Row>> {
    let (pieces, rounds) = (scene.size(500, 30), scene.size(7, 2));
    let (mut ours, mut stock) = (Pairs::default(), Pairs::default());
    let (mut ours_rate, mut stock_rate) = (Pairs::default(), Pairs::default());
    let gb = gigabytes(u64::from(pieces) * u64::from(PIECE_LEN));
    for round in 0..rounds {
        eprintln!("  round {} of {rounds}", round + 1);
        let mut costs = [None, None, None];
        let mut order = [Stack::Ours, Stack::Plain, Stack::Stock];
        order.rotate_left(round % 3);
        for stack in order {
            costs[stack as usize] = Some(transfer(scene.dir(), stack, pieces).await?);
        }
        if let [Some(a), Some(b), Some(c)] = costs {
            ours.push(a.cpu / gb, b.cpu / gb);
            stock.push(c.cpu / gb, b.cpu / gb);
            ours_rate.push(gb / a.seconds, gb / b.seconds);
            stock_rate.push(gb / c.seconds, gb / b.seconds);
        }
    }
    let detail = |pairs: &Pairs, rates: &Pairs, name: &str| {
        format!(
            "{name} {:.3}, plain tokio-rustls {:.3} CPU-s/GB, both sides; {:.0} and {:.0} MB/s; {}",
            pairs.ours(),
            pairs.theirs(),
            rates.ours() * 1000.0,
            rates.theirs() * 1000.0,
            pairs.spread()
        )
    };
    Ok(vec![
        Row::at_most("transport", ours.ratio(), "× CPU", LIMIT, detail(&ours, &ours_rate, "ours")),
        Row::shown("transport, stock", stock.ratio(), "× CPU", detail(&stock, &stock_rate, "libp2p's stock")),
    ])
}

/// Moves `pieces` pieces once.
async fn transfer(dir: &Path, stack: Stack, pieces: u32) -> Result<Cost> {
    // Logs are appended to, and are read for what a process says.
    let dir = tempfile::Builder::new().prefix("transport-").tempdir_in(dir)?;
    let mut sender = start(dir.path(), Side::Sender, stack, pieces, None)?;
    let address = heard(&mut sender, "ready", TRANSFER_LIMIT).await?;
    let before = cpu_seconds(&sender)?;
    let mut receiver = start(dir.path(), Side::Receiver, stack, pieces, Some(address))?;
    let seconds = heard(&mut receiver, "done", TRANSFER_LIMIT).await?.parse()?;
    Ok(Cost { cpu: cpu_seconds(&sender)? - before + cpu_seconds(&receiver)?, seconds })
}

fn start(dir: &Path, side: Side, stack: Stack, pieces: u32, address: Option<String>) -> Result<Program> {
    let mut args: Vec<String> =
        ["transport", "--side", side.name(), "--stack", stack.name()].map(str::to_owned).into();
    args.extend(["--keys".to_owned(), dir.display().to_string(), "--pieces".to_owned(), pieces.to_string()]);
    args.extend(address.into_iter().flat_map(|address| ["--address".to_owned(), address]));
    role::start(side.name(), dir, &args)
}
