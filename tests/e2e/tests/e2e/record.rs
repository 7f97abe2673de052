//! Writes down what the real runtimes of this machine ask a registry for: `fixtures/*.json`, replayed by `replay`.
//!
//! Not a test of Damselfly; run it by name when a runtime's version changes:
//! `cargo test -p e2e -- --ignored record`.

use anyhow::{Context, Result};
use e2e::runtime::COMMAND_LIMIT;
use e2e::runtime::containerd::Containerd;
use e2e::runtime::containers::Containers;
use e2e::runtime::docker::Dockerd;
use std::path::Path;
use std::process::Command;
use support::images::Image;
use support::netns::{Lan, Namespace, enter};
use support::process::run;
use support::record::{self, Paths, Recorded, Recording, RecordingOrigin, Requests};
use support::registry::Registry;
use tokio::sync::oneshot;

/// Small, so that one reading of a blob is one request.
const LAYERS: [u64; 3] = [300_000, 200_000, 100_000];

const REPOSITORY: &str = "demo/app";
const HUB_REPOSITORY: &str = "library/demo-app";

/// Runs `pull` while a recorder listens on 127.0.0.1 of `host`; what was asked. `pull` gets the recorder's `host:port`.
fn recorded(
    host: &Namespace,
    upstream: &str,
    paths: Paths,
    pull: impl FnOnce(&str) -> Result<String>,
) -> Result<Vec<Recorded>> {
    let requests = Requests::default();
    let listener = host.enter(|| std::net::TcpListener::bind("127.0.0.1:0"))??;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?.to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::scope(|scope| {
        let (path, upstream, shared) = (host.path(), upstream.to_owned(), requests.clone());
        let server = scope.spawn(move || {
            enter(&path)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tokio::select! {
                    result = record::serve(listener, upstream, paths, shared) => result,
                    _ = stopped => Ok(()),
                }
            })
        });
        let digest = pull(&address);
        let _ = stop.send(());
        server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        eprintln!("pulled {}", digest?);
        Ok(requests.take())
    })
}

fn save(name: &str, client: &str, image: &Image, requests: Vec<Recorded>) -> Result<()> {
    let requests = requests
        .into_iter()
        .map(|request| Recorded {
            target: record::with_names(&request.target, image),
            headers: request
                .headers
                .into_iter()
                .map(|(name, value)| (name, without_kernel(&value)))
                .collect(),
            ..request
        })
        .collect();
    let recording = Recording { client: client.to_owned(), origin: RecordingOrigin::Recorded, requests };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(format!("{name}.json"));
    std::fs::write(&file, serde_json::to_string_pretty(&recording)? + "\n")
        .with_context(|| file.display().to_string())
}

/// dockerd names the machine's kernel, which is nobody's business.
fn without_kernel(value: &str) -> String {
    let words = value.split(' ').map(|word| if word.starts_with("kernel/") { "kernel/6.1.0" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

fn version(program: &str) -> Result<String> {
    let text = run(Command::new(program).arg("--version"), COMMAND_LIMIT)?;
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    Ok(format!("{program} {}", version.context("a version")?))
}

#[test]
#[ignore = "writes the fixtures anew; run it by name"]
fn record_real_clients() -> Result<()> {
    let Some(_guard) = e2e::begin("record_real_clients") else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let mut lan = Lan::new()?;
    let origin = lan.join("origin")?;
    let host = lan.join("client")?;
    let registry = Registry::start(&dir.path().join("origin"), &dir.path().join("storage"), Some(&origin))?;
    let image = Image::random(7, &LAYERS)?;
    let upstream = registry.url();
    origin.block_on(|| async {
        image.push(&upstream, REPOSITORY, "v1").await?;
        image.push(&upstream, HUB_REPOSITORY, "v1").await
    })?;

    let at = dir.path().join("containerd");
    let requests = recorded(&host, &upstream, Paths::Kept, |recorder| {
        let containerd = Containerd::start(&host, &at, &format!("http://{recorder}"), &upstream)?;
        containerd.pull(&Containerd::reference(REPOSITORY, "v1"))
    })?;
    save("containerd-1.6", &version("containerd")?, &image, requests)?;

    let server = registry.address().to_string();
    for (program, name) in [("podman", "podman-4.3"), ("skopeo", "skopeo-1.9")] {
        let at = dir.path().join(program);
        let requests = recorded(&host, &upstream, Paths::WithoutRegistry, |recorder| {
            let containers = Containers::new(&host, &at, recorder, &server)?;
            match program {
                "podman" => containers.podman_pull(REPOSITORY, "v1"),
                _ => containers.skopeo_copy(REPOSITORY, "v1"),
            }
        })?;
        save(name, &version(program)?, &image, requests)?;
    }

    let at = dir.path().join("docker");
    let mut client = String::new();
    let requests = recorded(&host, &upstream, Paths::Kept, |recorder| {
        let dockerd = Dockerd::start(&host, &at, &format!("http://{recorder}"))?;
        client = format!("dockerd {}", dockerd.version()?);
        dockerd.pull("demo-app:v1")
    })?;
    save("dockerd-20.10", &client, &image, requests)
}
