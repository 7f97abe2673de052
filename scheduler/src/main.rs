//! The scheduler as a program: flags and file, ports, run, stop in good order.

use process::exit::{self, Exit, Failure};
use process::reload::{Live, Reloader};
use process::shutdown::{self, Shutdown};
use process::{service, telemetry, tls, traces};
use scheduler::{Flags, Options, Server};
use std::process::ExitCode;

fn main() -> ExitCode {
    match exit::parse::<Flags>() {
        Ok(flags) => exit::finish(start(flags)),
        Err(code) => code,
    }
}

fn start(flags: Flags) -> Result<(), Failure> {
    let loaded = scheduler::load(flags.clone())?;
    if flags.check {
        println!("the configuration is good");
        return Ok(());
    }
    let options = loaded.0.clone();
    let level = telemetry::init(&options.log.filter, options.log.format)?;
    tls::install_provider();
    shutdown::run(async {
        let unavailable = |error| Failure::new(Exit::Unavailable, error);
        let shutdown = Shutdown::install().map_err(unavailable)?;
        let filter: fn(&Options) -> &str = |options| &options.log.filter;
        let again = move || scheduler::load(flags.clone());
        let reloader = Reloader::new(loaded, again, (filter, level)).map_err(unavailable)?;
        let endpoint = options.traces.endpoint.clone();
        let to = traces::Options { endpoint, sample_ratio: traces::SampleRatio::NONE };
        let traces = traces::start("scheduler", env!("CARGO_PKG_VERSION"), None, &to)?;
        let ended = run(options, reloader, &shutdown).await;
        traces.stopped().await;
        ended
    })
}

/// What a running scheduler takes over when it is told to read its configuration again.
const LIVE: [Live<Options>; 1] =
    [Live { key: "log.filter", same: |old, new| old.log.filter == new.log.filter }];

/// Goes on until it is dropped.
async fn reload(reloader: &mut Reloader<Options>) {
    loop {
        reloader.asked().await;
        if let Some(loaded) = reloader.read().await {
            reloader.adopted(loaded, &LIVE);
        }
    }
}

async fn run(options: Options, mut reloader: Reloader<Options>, shutdown: &Shutdown) -> Result<(), Failure> {
    if options.insecure_plain_grpc {
        tracing::warn!("gRPC is not encrypted, and whoever reaches the port is a host (insecure_plain_grpc)");
    }
    let server = Server::start(options, shutdown.token().clone()).await?;
    tracing::info!(grpc = %server.grpc_addr(), admin = server.admin_addr().map(tracing::field::display), "the scheduler is ready");
    if let Some(command) = server.join_command() {
        tracing::info!(command, "a node joins with this, HOST being this machine as the node reaches it");
    }
    if let Some(command) = server.join_command_by_service_account() {
        tracing::info!(command, "a pod joins with this, FILE being its service account's projected token");
    }
    service::ready();
    let ended = tokio::select! {
        () = shutdown.token().cancelled() => false,
        () = server.stopped() => !shutdown.token().is_cancelled(),
        () = reload(&mut reloader) => false,
    };
    if ended {
        return Err(Failure::new(
            Exit::Bug,
            std::io::Error::other("the scheduler has ended by itself; its log says why"),
        ));
    }
    service::stopping();
    server.stopped().await;
    tracing::info!("the scheduler has stopped");
    Ok(())
}
