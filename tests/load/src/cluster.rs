//! The processes of one run, started in order, and what they say of themselves.

use crate::args::Args;
use crate::client::REGISTRY;
use crate::figures::{Exposition, Figures, Messages};
use crate::http::Http;
use crate::plan::{Peer, Plan};
use crate::pulls::{Ending, Outcome};
use crate::roles::origin::Origin;
use crate::roles::peers::{Peers, Place, Starting};
use crate::roles::scheduler::Scheduler;
use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::daemon::Door;
use support::poll;
use support::process::Program;

/// How long the scheduler may take to hear from all daemons once they run.
const JOIN_LIMIT: Duration = Duration::from_secs(60);

/// Daemons that are asked for their figures at once.
const ASKED_AT_ONCE: usize = 16;

/// How much of the disk is left free, in bytes: the daemons leave as much.
const FREE_FLOOR: u64 = 1 << 30;

/// The running programs. Dropping it ends all of them.
#[derive(Debug)]
pub struct Cluster {
    // The daemons first: they say goodbye to a scheduler that is still there.
    /// The processes with daemons.
    pub processes: Vec<Peers>,
    /// The scheduler.
    pub scheduler: Scheduler,
    /// The origin.
    pub origin: Origin,
    /// Where each peer is: which process, and which of its daemons.
    seats: Vec<(usize, usize)>,
}

impl Cluster {
    /// Starts everything in `dir`, and waits until the scheduler knows all daemons.
    ///
    /// # Errors
    /// If something does not start.
    pub async fn start(args: &Args, plan: &Plan, dir: &Path, http: &Http) -> Result<Self> {
        let origin = Origin::start(&dir.join("origin"), args.seed, &args.layer_sizes(), args.origin_rate())?;
        let scheduler = Scheduler::start(&dir.join("scheduler"), &origin.url, args.seed, &args.log)?;
        let mut configs = vec![Vec::new(); usize::from(args.processes)];
        let mut seats = Vec::with_capacity(plan.peers.len());
        for (i, peer) in plan.peers.iter().enumerate() {
            let own = dir.join(format!("peer-{i}"));
            seats.push((peer.process, configs[peer.process].len()));
            configs[peer.process].push(configure(peer, &own, &scheduler.door, &origin.url)?);
        }
        let start = |(i, configs): (usize, &Vec<PathBuf>)| {
            Starting::new(&format!("peers-{i}"), dir, configs, &args.log, args.has_own_runtimes())
        };
        let used = configs.iter().filter(|configs| !configs.is_empty());
        let starting: Vec<Starting> = used.enumerate().map(start).collect::<Result<_>>()?;
        let mut processes = Vec::with_capacity(starting.len());
        for process in starting {
            processes.push(process.ready(http).await?);
        }
        let cluster = Self { processes, scheduler, origin, seats };
        cluster.all_joined(http).await?;
        Ok(cluster)
    }

    async fn all_joined(&self, http: &Http) -> Result<()> {
        poll::until_async("all daemons' hello to the scheduler", JOIN_LIMIT, async || {
            let status = self.scheduler.status(http).await?;
            Ok((status.hosts_total as usize == self.seats.len()).then_some(()))
        })
        .await
    }

    /// How many peers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Where a peer is.
    #[must_use]
    pub fn place(&self, peer: usize) -> &Place {
        let (process, seat) = self.seats[peer];
        &self.processes[process].places[seat]
    }

    /// Ends a peer as a crash does.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn kill(&self, http: &Http, peer: usize) -> Result<()> {
        let (process, seat) = self.seats[peer];
        self.processes[process].kill(http, seat).await
    }

    /// The peers that read a blob from the origin now.
    ///
    /// # Errors
    /// If the scheduler does not say.
    pub async fn sources(&self, http: &Http) -> Result<Vec<usize>> {
        let sources: Vec<String> =
            self.scheduler.status(http).await?.blobs.into_iter().filter_map(|blob| blob.source).collect();
        Ok((0..self.len()).filter(|peer| sources.contains(&self.place(*peer).host)).collect())
    }

    /// What the daemons that live count, summed up.
    ///
    /// # Errors
    /// If one does not say.
    pub async fn figures(&self, http: &Http, outcomes: &[Outcome]) -> Result<Figures> {
        let living = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.ending != Ending::Killed);
        let asking = living.map(|(peer, _)| format!("http://{}/metrics", self.place(peer).admin));
        let texts = futures::stream::iter(asking)
            .map(async |url| exposition(http, &url).await)
            .buffer_unordered(ASKED_AT_ONCE);
        texts.map_ok(|text| Figures::from(&text)).try_fold(Figures::default(), async |a, b| Ok(a + b)).await
    }

    /// What the scheduler counts. It renews the core's own figures every two seconds only.
    ///
    /// # Errors
    /// If it does not say.
    pub async fn messages(&self, http: &Http) -> Result<Messages> {
        let text = exposition(http, &format!("{}/metrics", self.scheduler.admin)).await?;
        Ok(Messages::from(&text))
    }

    /// Fails, with its log's end, if a process has ended.
    ///
    /// # Errors
    /// If one has.
    pub fn check(&mut self) -> Result<()> {
        self.programs_mut().try_for_each(Program::check_running)
    }

    fn programs_mut(&mut self) -> impl Iterator<Item = &mut Program> {
        let daemons = self.processes.iter_mut().map(|process| &mut process.program);
        daemons.chain([&mut self.scheduler.program, &mut self.origin.program])
    }

    /// The logs of the processes of the product: the daemons' and the scheduler's.
    pub fn logs(&self) -> impl Iterator<Item = &Path> {
        let daemons = self.processes.iter().map(|process| process.program.log());
        daemons.chain([self.scheduler.program.log()])
    }

    /// Copies the logs to a directory.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn keep_logs(&self, to: &Path) -> Result<()> {
        std::fs::create_dir_all(to).with_context(|| to.display().to_string())?;
        for log in self.logs() {
            let name = log.file_name().context("a log has a name")?;
            std::fs::copy(log, to.join(name)).with_context(|| log.display().to_string())?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All are told before any is waited for.
        self.programs_mut().for_each(Program::ask_to_stop);
    }
}

async fn exposition(http: &Http, url: &str) -> Result<Exposition> {
    Ok(Exposition(String::from_utf8_lossy(&http.get(url).await?).into_owned()))
}

/// Writes a daemon's configuration into its directory.
fn configure(peer: &Peer, dir: &Path, scheduler: &Door, endpoint: &str) -> Result<PathBuf> {
    let mut text = format!(
        "[proxy]\nlisten = \"127.0.0.1:0\"\n\n[admin]\nlisten = \"127.0.0.1:0\"\n\n\
         [scheduler]\n{}\n\n[host]\nzone = {:?}\n\n\
         [store]\ndir = {:?}\nfree_floor = \"{FREE_FLOOR}B\"\n\n\
         [origin.registries.{REGISTRY:?}]\nendpoint = {endpoint:?}\n\n\
         [p2p]\ncontrol_listen = \"127.0.0.1:0\"\nbulk_listen = \"127.0.0.1:0\"\n",
        scheduler.config(dir)?,
        peer.zone,
        dir.join("store").display().to_string(),
    );
    if let Some(rate) = peer.rate {
        let _ = writeln!(text, "upload_rate = {rate}\ndownload_rate = {rate}");
    }
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let file = dir.join("dfdaemon.toml");
    std::fs::write(&file, text).with_context(|| file.display().to_string())?;
    Ok(file)
}

/// Makes sure that `bytes` more fit on the disk of `dir`.
///
/// # Errors
/// If they do not.
pub fn room_for(dir: &Path, bytes: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(dir)?;
    let (free, needed) = (stat.f_bavail * stat.f_frsize, bytes + 2 * FREE_FLOOR);
    let mib = |bytes: u64| bytes >> 20;
    ensure!(
        free >= needed,
        "{} MiB are free in {}, {} MiB are needed",
        mib(free),
        dir.display(),
        mib(needed)
    );
    Ok(())
}
