//! What a daemon holds in memory while a large blob passes through it: from the origin or a peer, to its client, and to
//! the other daemon, all at the same time.
//!
//! Both daemons are watched, and the larger peak counts: either may be the one that reads from the origin.

use super::{Scene, megabytes};
use crate::daemons::{Daemon, Origin, room_for, scheduler};
use crate::http::{Until, get};
use crate::report::Row;
use crate::rounds::Pairs;
use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use support::daemon::Traffic;
use support::pull;
use tokio::task::JoinHandle;
use types::Digest;

/// Anonymous memory at most, in MB.
const LIMIT: f64 = 150.0;
/// The peak with a blob of twice the size ÷ the peak.
const GROWTH_LIMIT: f64 = 1.1;
/// How often memory is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);

const PEAK: &str = "memory, 2 GB blob";
const GROWTH: &str = "memory, 4 GB ÷ 2 GB";
const LARGE_PIECES: &str = "memory, 4.5 GB blob";

/// Measures the rows.
///
/// # Errors
/// If a program does not start, or a pull fails.
pub async fn measure(scene: &Scene) -> Result<Vec<Row>> {
    let [small, double, large] =
        scene.size([2_000_000_000, 4_000_000_000, 4_500_000_000], [100_000_000, 200_000_000, 300_000_000]);
    // Each daemon keeps the blob.
    if let Err(why) = room_for(scene.dir(), 2 * large) {
        let why = format!("{why:#}");
        return Ok([PEAK, GROWTH, LARGE_PIECES].map(|name| Row::skipped(name, &why)).into());
    }
    let mut peaks = Pairs::default();
    let mut last = None;
    for _ in 0..scene.size(3, 1) {
        let small = Peak::measure(scene, small).await?;
        let double = Peak::measure(scene, double).await?;
        peaks.push(double.megabytes(), small.megabytes());
        last = Some((small.detail(), double.detail()));
    }
    let large = Peak::measure(scene, large).await?;
    let (small, double) = last.unwrap_or_default();
    let growth =
        format!("{:.0} ÷ {:.0} MB; {}; the last: {double}", peaks.ours(), peaks.theirs(), peaks.spread());
    Ok(vec![
        Row::at_most(PEAK, peaks.theirs(), "MB", LIMIT, format!("the last: {small}")),
        Row::at_most(GROWTH, peaks.ratio(), "×", GROWTH_LIMIT, growth),
        Row::at_most(LARGE_PIECES, large.megabytes(), "MB", LIMIT, large.detail()),
    ])
}

/// What two daemons held while both pulled one blob.
struct Peak {
    /// Bytes of anonymous memory of each at most.
    bytes: [u64; 2],
    traffic: [Traffic; 2],
    size: u64,
    seconds: f64,
}

impl Peak {
    async fn measure(scene: &Scene, size: u64) -> Result<Self> {
        eprintln!("  a blob of {:.0} MB", megabytes(size));
        let dir = tempfile::Builder::new().prefix("memory-").tempdir_in(scene.dir())?;
        let (dir, binaries) = (dir.path(), scene.binaries()?);
        let origin = Origin::start(dir, size).await?;
        let (_scheduler, door) = scheduler(binaries, dir, 1, origin.url.clone(), false).await?;
        let mut daemons = Vec::new();
        for number in [1, 2] {
            daemons.push(Daemon::start(binaries, dir, number, origin.url.clone(), Some(door.clone())).await?);
        }
        let start = std::time::Instant::now();
        let clients = daemons.iter().map(|daemon| client(daemon, &origin)).collect();
        let bytes = watch(&daemons, clients).await?;
        let seconds = start.elapsed().as_secs_f64();
        let http = pull::client()?;
        let traffic = [daemons[0].place.traffic(&http).await?, daemons[1].place.traffic(&http).await?];
        let peak = Self { bytes, traffic, size, seconds };
        ensure!(peak.uploaded() > 0, "neither daemon uploaded to the other: {}", log_tails(&daemons));
        Ok(peak)
    }

    fn megabytes(&self) -> f64 {
        megabytes(self.bytes[0].max(self.bytes[1]))
    }

    fn uploaded(&self) -> u64 {
        self.traffic[0].uploaded + self.traffic[1].uploaded
    }

    fn detail(&self) -> String {
        let of = |i: usize| {
            let Traffic { origin, fallback, .. } = self.traffic[i];
            let (peak, origin) = (megabytes(self.bytes[i]), megabytes(origin + fallback));
            format!(
                "{peak:.0} MB ({origin:.0} from the origin, {:.0} from the other)",
                megabytes(self.traffic[i].from_peers())
            )
        };
        format!("a blob of {:.0} MB in {:.1} s, {} and {}", megabytes(self.size), self.seconds, of(0), of(1))
    }
}

fn log_tails(daemons: &[Daemon]) -> String {
    daemons.iter().map(|daemon| daemon.program.log_tail()).collect::<Vec<_>>().join("\n")
}

/// A client that checks what it gets.
fn client(daemon: &Daemon, origin: &Origin) -> JoinHandle<Result<()>> {
    let (address, target, expected) = (daemon.place.proxy(), origin.target(), origin.digest);
    tokio::task::spawn_blocking(move || {
        let mut hash = Sha256::new();
        get(address, &target, Until::End, |part| hash.update(part))?;
        ensure!(is(&expected, hash), "{address} gave wrong bytes");
        Ok(())
    })
}

fn is(expected: &Digest, hash: Sha256) -> bool {
    hash.finalize()[..] == *expected.as_bytes()
}

/// Looks at both daemons' memory until all clients have ended; the peaks.
async fn watch(daemons: &[Daemon], clients: Vec<JoinHandle<Result<()>>>) -> Result<[u64; 2]> {
    let mut peaks = [0, 0];
    let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
    while clients.iter().any(|client| !client.is_finished()) {
        ticks.tick().await;
        for (peak, daemon) in peaks.iter_mut().zip(daemons) {
            let now = daemon.program.anonymous_memory();
            *peak = (*peak).max(now.with_context(|| daemon.program.log_tail())?);
        }
    }
    for client in clients {
        client.await?.with_context(|| log_tails(daemons))?;
    }
    Ok(peaks)
}
