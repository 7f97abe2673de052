//! An image that nobody has yet: through one daemon with an empty cache, and straight from a real registry.
//!
//! Once over a link of 1 Gbit/s, where the time counts, and once without limits, where the CPU time is shown.

use super::{Scene, gigabytes};
use crate::daemons::{Daemon, room_for};
use crate::report::Row;
use crate::role::{self, cpu_seconds, heard};
use crate::rounds::{Pairs, median};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::images::Image;
use support::registry::Registry;

/// Our time ÷ that of a direct pull.
const LIMIT: f64 = 1.10;

/// 1 Gbit/s in bytes per second.
const RATE: u64 = 125_000_000;

/// The layers of the image in parts of the whole: a large one at the bottom and smaller ones above, as most have.
const LAYERS: [u64; 6] = [40, 26, 17, 10, 5, 2];

/// Blobs that a client asks for at once: what containerd's CRI does.
const BLOBS_AT_ONCE: usize = 3;

const REPOSITORY: &str = "bench/image";
const TAG: &str = "v1";

/// Debian's registry.
const REGISTRY_PROGRAM: &str = "docker-registry";

/// How long one pull may take.
const PULL_LIMIT: Duration = Duration::from_secs(120);

const TIME: &str = "cold time";
const CPU: &str = "cold CPU, unshaped";

/// Measures the rows.
///
/// # Errors
/// If a program does not start, or a pull fails.
pub async fn measure(scene: &Scene) -> Result<Vec<Row>> {
    let size: u64 = scene.size(300_000_000, 30_000_000);
    if let Err(why) = find_registry().and_then(|()| room_for(scene.dir(), 3 * size)) {
        let why = format!("{why:#}");
        return Ok([TIME, CPU].map(|name| Row::skipped(name, &why)).into());
    }
    let dir = scene.dir().join("cold");
    let mut registry = Registry::start(&dir.join("registry"), &dir.join("storage"), None)?;
    let image = Image::random(1, &LAYERS.map(|part| size * part / 100))?;
    image.push(&registry.url(), REPOSITORY, TAG).await?;
    let bytes = image.blob_bytes();
    drop(image);
    let link =
        ["relay", "--to", &registry.address().to_string(), "--rate", &RATE.to_string()].map(str::to_owned);
    let mut link = role::start("link", &dir.join("link"), &link)?;
    let shaped = format!("http://{}", heard(&mut link, "ready", PULL_LIMIT).await?);
    // From the disk into memory, once.
    direct(&dir, &registry.url()).await?;

    let rounds = scene.size(7, 1);
    let mut time = Pairs::default();
    let mut cpu = Cpu::default();
    for round in 0..rounds {
        eprintln!("  round {} of {rounds}", round + 1);
        let pull = Pull { scene, dir: dir.join(format!("round-{round}")) };
        let (theirs, _) = direct(&pull.dir, &shaped).await?;
        let (ours, _) = pull.through_a_daemon(&shaped).await?;
        time.push(ours, theirs);
        cpu.round(&pull, &mut registry, bytes).await?;
    }
    let detail = format!(
        "{:.2} and directly {:.2} s for {:.0} MB at 1 Gbit/s; {}",
        time.ours(),
        time.theirs(),
        gigabytes(bytes) * 1000.0,
        time.spread()
    );
    Ok(vec![Row::at_most(TIME, time.ratio(), "×", LIMIT, detail), cpu.row()])
}

fn find_registry() -> Result<()> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&paths).any(|path| path.join(REGISTRY_PROGRAM).exists()) {
        return Ok(());
    }
    ensure!(support::skip::is_root(), "{REGISTRY_PROGRAM} is not installed, and only root can install it");
    support::packages::ensure_installed(&[REGISTRY_PROGRAM])
}

/// Pulls from `base` with its files in `dir`: seconds, and CPU seconds of the client.
async fn direct(dir: &Path, base: &str) -> Result<(f64, f64)> {
    let dir = tempfile::Builder::new().prefix("pull-").tempdir_in(existing(dir)?)?;
    let concurrency = BLOBS_AT_ONCE.to_string();
    let args = [
        "pull",
        "--base",
        base,
        "--repository",
        REPOSITORY,
        "--reference",
        TAG,
        "--concurrency",
        &concurrency,
    ];
    let mut client = role::start("client", dir.path(), &args.map(str::to_owned))?;
    let seconds = heard(&mut client, "done", PULL_LIMIT).await?.parse()?;
    Ok((seconds, cpu_seconds(&client)?))
}

fn existing(dir: &Path) -> Result<&Path> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    Ok(dir)
}

/// A pull through a daemon of its own.
struct Pull<'a> {
    scene: &'a Scene,
    dir: PathBuf,
}

impl Pull<'_> {
    /// Seconds, and CPU seconds of the client and of the daemon from its start to the end of the pull.
    async fn through_a_daemon(&self, endpoint: &str) -> Result<(f64, (f64, f64))> {
        let daemon = Daemon::start(self.scene.binaries()?, &self.dir, 1, endpoint.to_owned(), None).await?;
        let before = cpu_seconds(&daemon.program)?;
        let (seconds, client) = direct(&self.dir, &daemon.place.proxy_url()).await?;
        let cpu = cpu_seconds(&daemon.program)? - before;
        daemon.remove()?;
        Ok((seconds, (client, cpu)))
    }
}

/// CPU seconds per GB without a limited link, of a pull through a daemon and of a direct one.
#[derive(Default)]
struct Cpu {
    client: Pairs,
    registry: Pairs,
    all: Pairs,
    seconds: Pairs,
    /// The daemon's own.
    daemon: Vec<f64>,
}

impl Cpu {
    async fn round(&mut self, pull: &Pull<'_>, registry: &mut Registry, bytes: u64) -> Result<()> {
        let (gb, url) = (gigabytes(bytes), registry.url());
        let start = cpu_seconds(registry.program())?;
        let (seconds, client) = direct(&pull.dir, &url).await?;
        let middle = cpu_seconds(registry.program())?;
        let (through, (client_through, daemon)) = pull.through_a_daemon(&url).await?;
        let end = cpu_seconds(registry.program())?;
        self.client.push(client_through / gb, client / gb);
        self.registry.push((end - middle) / gb, (middle - start) / gb);
        self.all.push((end - middle + client_through + daemon) / gb, (middle - start + client) / gb);
        self.seconds.push(through, seconds);
        self.daemon.push(daemon / gb);
        Ok(())
    }

    fn row(&self) -> Row {
        let daemon = median(self.daemon.iter().copied());
        let detail = format!(
            "CPU-s/GB {:.2}: client {:.2}, registry {:.2}, dfdaemon {daemon:.2}; directly {:.2}: client {:.2}, \
             registry {:.2}; {:.2} and {:.2} s; {}",
            self.all.ours(),
            self.client.ours(),
            self.registry.ours(),
            self.all.theirs(),
            self.client.theirs(),
            self.registry.theirs(),
            self.seconds.ours(),
            self.seconds.theirs(),
            self.all.spread()
        );
        Row::shown(CPU, self.all.ratio(), "× CPU", detail)
    }
}
