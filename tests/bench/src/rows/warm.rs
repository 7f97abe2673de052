//! A cached blob through the daemon and the same file from nginx: throughput, and how soon the first byte comes.

use super::{Scene, gigabytes};
use crate::daemons::{Daemon, Origin, room_for};
use crate::http::{Got, Until, get};
use crate::nginx::{self, Nginx};
use crate::report::Row;
use crate::role::cpu_seconds;
use crate::rounds::{Pairs, median};
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use types::Digest;

/// The daemon's throughput ÷ nginx's.
const THROUGHPUT_LIMIT: f64 = 0.8;
/// How much later the daemon's first byte comes, in milliseconds.
const FIRST_BYTE_LIMIT: f64 = 2.0;

const THROUGHPUT: &str = "warm throughput";
const FIRST_BYTE: &str = "warm first byte";

/// Measures the rows.
///
/// # Errors
/// If a program does not start, or a byte is missing.
pub async fn measure(scene: &Scene) -> Result<Vec<Row>> {
    let size = scene.size(1_000_000_000, 100_000_000);
    let nginx = match nginx::find().and_then(|nginx| room_for(scene.dir(), size).map(|()| nginx)) {
        Ok(nginx) => nginx,
        Err(why) => {
            let why = format!("{why:#}");
            return Ok([THROUGHPUT, FIRST_BYTE].map(|name| Row::skipped(name, &why)).into());
        }
    };
    let dir = scene.dir().join("warm");
    let origin = Origin::start(&dir, size).await?;
    let daemon = Daemon::start(scene.binaries()?, &dir, 1, origin.url.clone(), None).await?;
    let ours = Server { address: daemon.place.proxy(), target: origin.target() };
    // Twice: the first read downloads it, the second may check it.
    for _ in 0..2 {
        ensure!(ours.get(Until::End).await?.bytes == size, "the daemon's answer is not whole");
    }
    let file = blob_file(&daemon.place.dir, &origin.digest)?;
    let nginx = Nginx::start(&nginx, &dir.join("nginx"), &file).await?;
    let theirs = Server { address: nginx.address, target: nginx::TARGET.to_owned() };
    ensure!(theirs.get(Until::End).await?.bytes == size, "nginx's answer is not whole");

    let rows = vec![
        throughput(scene, size, (&ours, &daemon), (&theirs, &nginx)).await?,
        first_byte(scene.size(200, 20), &ours, &theirs).await?,
    ];
    daemon.remove()?;
    Ok(rows)
}

/// What a client asks.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    target: String,
}

impl Server {
    async fn get(&self, until: Until) -> Result<Got> {
        let Self { address, target } = self.clone();
        tokio::task::spawn_blocking(move || {
            get(address, &target, until, |part| {
                std::hint::black_box(part);
            })
        })
        .await?
    }
}

async fn throughput(
    scene: &Scene,
    size: u64,
    (ours, daemon): (&Server, &Daemon),
    (theirs, nginx): (&Server, &Nginx),
) -> Result<Row> {
    let (mut rates, mut cpu) = (Pairs::default(), Pairs::default());
    let gb = gigabytes(size);
    for _ in 0..scene.size(15, 3) {
        let before = (cpu_seconds(&daemon.program)?, cpu_seconds(&nginx.program)?);
        let ours = ours.get(Until::End).await?;
        let theirs = theirs.get(Until::End).await?;
        ensure!(ours.bytes == size && theirs.bytes == size, "an answer is not whole");
        let after = (cpu_seconds(&daemon.program)?, cpu_seconds(&nginx.program)?);
        rates.push(gb / ours.all.as_secs_f64(), gb / theirs.all.as_secs_f64());
        cpu.push((after.0 - before.0) / gb, (after.1 - before.1) / gb);
    }
    let detail = format!(
        "dfdaemon {:.0}, nginx {:.0} MB/s; {:.2} and {:.2} CPU-s/GB of the server; {}",
        rates.ours() * 1000.0,
        rates.theirs() * 1000.0,
        cpu.ours(),
        cpu.theirs(),
        rates.spread()
    );
    Ok(Row::at_least(THROUGHPUT, rates.ratio(), "×", THROUGHPUT_LIMIT, detail))
}

async fn first_byte(rounds: u32, ours: &Server, theirs: &Server) -> Result<Row> {
    let mut times = Pairs::default();
    let mut later = Vec::new();
    for _ in 0..rounds {
        let ours = ours.get(Until::FirstByte).await?.first_byte.as_secs_f64() * 1000.0;
        let theirs = theirs.get(Until::FirstByte).await?.first_byte.as_secs_f64() * 1000.0;
        times.push(ours, theirs);
        later.push(ours - theirs);
    }
    let detail = format!(
        "dfdaemon {:.3}, nginx {:.3} ms from connecting, medians of {rounds} rounds",
        times.ours(),
        times.theirs()
    );
    Ok(Row::at_most(FIRST_BYTE, median(later), "ms later", FIRST_BYTE_LIMIT, detail))
}

/// The file in which the daemon keeps the blob: the very same is what nginx serves.
fn blob_file(dir: &Path, digest: &Digest) -> Result<PathBuf> {
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            } else if entry.file_name().to_string_lossy() == digest.encoded() {
                return Ok(entry.path());
            }
        }
    }
    None.context("the daemon has no file of the blob")
}
