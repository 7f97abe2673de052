//! What security costs: a pull between daemons as they are, and the same with bulk connections that are not secured.

use super::{Scene, gigabytes};
use crate::daemons::{Daemon, Origin, room_for, scheduler};
use crate::http::{Until, get};
use crate::report::Row;
use crate::role::cpu_seconds;
use crate::rounds::Pairs;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use support::binaries::{Binaries, Profile};
use support::daemon::Door;
use support::process::Program;
use support::pull;

/// CPU time of both daemons, secured ÷ plain.
const LIMIT: f64 = 1.35;

const COST: &str = "security, CPU of a pull";

/// Measures the row.
///
/// # Errors
/// If a program does not build or start, or a pull fails.
pub async fn measure(scene: &Scene) -> Result<Vec<Row>> {
    let size = scene.size(1_000_000_000, 50_000_000);
    // Each side has two daemons, and each keeps the blob.
    if let Err(why) = room_for(scene.dir(), 4 * size) {
        return Ok(vec![Row::skipped(COST, &format!("{why:#}"))]);
    }
    let real = scene.binaries()?;
    eprintln!("  building the daemon whose bulk connections are not secured");
    let plain = real.with_plain_bulk(Profile::of_caller())?;
    let dir = scene.dir().join("security");
    let origin = Origin::start(&dir, size).await?;
    let dirs = [dir.join("secured"), dir.join("plain")];
    let mut secured = Side::start(real, &dirs[0], 1, &origin).await?;
    let mut plain = Side::start(&plain, &dirs[1], 2, &origin).await?;
    let mut cpu = Pairs::default();
    let gb = gigabytes(size);
    for _ in 0..scene.size(9, 2) {
        cpu.push(secured.pull(&origin, size).await? / gb, plain.pull(&origin, size).await? / gb);
    }
    let detail = format!(
        "{:.2} and {:.2} CPU-s/GB of both daemons, TLS and tickets against plain TCP; {}",
        cpu.ours(),
        cpu.theirs(),
        cpu.spread()
    );
    Ok(vec![Row::at_most(COST, cpu.ratio(), "×", LIMIT, detail)])
}

/// A daemon that has the blob, and where others start that pull it from there.
struct Side<'a> {
    binaries: &'a Binaries,
    dir: &'a Path,
    holder: Daemon,
    next: u8,
    door: Door,
    _scheduler: Program,
}

impl<'a> Side<'a> {
    async fn start(binaries: &'a Binaries, dir: &'a Path, number: u8, origin: &Origin) -> Result<Self> {
        let (scheduler, door) = scheduler(binaries, dir, number, origin.url.clone(), false).await?;
        let (first, next) = (2 * number, 2 * number + 1);
        let holder = Daemon::start(binaries, dir, first, origin.url.clone(), Some(door.clone())).await?;
        let side = Self { binaries, dir, holder, next, door, _scheduler: scheduler };
        side.read(&side.holder, origin).await?;
        Ok(side)
    }

    /// Pulls the blob from the holder onto a new daemon; the CPU seconds of both.
    async fn pull(&mut self, origin: &Origin, size: u64) -> Result<f64> {
        let door = Some(self.door.clone());
        let daemon = Daemon::start(self.binaries, self.dir, self.next, origin.url.clone(), door).await?;
        let before = cpu_seconds(&self.holder.program)? + cpu_seconds(&daemon.program)?;
        self.read(&daemon, origin).await?;
        let after = cpu_seconds(&self.holder.program)? + cpu_seconds(&daemon.program)?;
        let traffic = daemon.place.traffic(&pull::client()?).await?;
        ensure!(traffic.from_peers() == size, "not all of it came from the other daemon: {traffic:?}");
        daemon.remove()?;
        Ok(after - before)
    }

    async fn read(&self, daemon: &Daemon, origin: &Origin) -> Result<()> {
        let (address, target) = (daemon.place.proxy(), origin.target());
        let got = tokio::task::spawn_blocking(move || {
            get(address, &target, Until::End, |part| {
                std::hint::black_box(part);
            })
        });
        got.await?.with_context(|| daemon.program.log_tail()).map(drop)
    }
}
