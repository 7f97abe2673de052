//! The processes beside this one, which is the clients': the origin, the scheduler, and the daemons.
//!
//! The load test starts its own program again with a hidden subcommand. A role says `ready ADDRESS…` on its standard
//! output, in its log, and is asked over HTTP for what it knows. It ends with SIGTERM.

pub mod origin;
pub mod peers;
pub mod scheduler;

use crate::args::Role;
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;
use support::process::{Program, Spec};

/// Descriptors that a process may need: a listener or two, files and many connections for each of its daemons.
const DESCRIPTORS: u64 = 65_536;

/// Threads of a process that may block on the disk or hash.
const BLOCKING_THREADS: usize = 64;

/// Runs the role until the process is told to end.
///
/// # Errors
/// If it cannot start.
pub fn run(role: Role) -> Result<()> {
    process::tls::install_provider();
    raise_descriptors();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(BLOCKING_THREADS).build()?;
    runtime.block_on(async {
        let shutdown = process::shutdown::Shutdown::install()?;
        let cancel = shutdown.token().clone();
        match role {
            Role::Origin { seed, layer, rate } => origin::run(seed, &layer, rate, cancel).await,
            Role::Scheduler { config } => scheduler::run(config, cancel).await,
            Role::Peers { config, log, own_runtimes } => peers::run(config, &log, own_runtimes, cancel).await,
        }
    })
}

/// Lets this process have as many descriptors as it may, up to what it may need.
pub fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(DESCRIPTORS);
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        // Without more, what needs them says so.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Tells the parent that this process is ready, and where.
fn ready(what: impl std::fmt::Display) {
    println!("ready {what}");
}

/// Starts this program again in a role.
///
/// # Errors
/// If it cannot be started.
pub fn start(name: &str, dir: &Path, args: &[String]) -> Result<Program> {
    let program = std::env::current_exe().context("this program")?;
    // One arena per few threads is enough, and makes memory comparable: by default glibc makes eight per core.
    Program::start(&Spec::new(name, program, dir).args(args).env("MALLOC_ARENA_MAX", "4"))
}

/// Waits until a role is ready; what it said.
///
/// # Errors
/// If it is not within `limit`, or ends.
pub fn when_ready(program: &mut Program, limit: Duration) -> Result<String> {
    program.wait_for_line(limit, |line| line.strip_prefix("ready ").map(str::to_owned))
}
