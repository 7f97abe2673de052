//! Clients that take more than is theirs: of the head of a request, of connections.

use crate::scene::{SECRET, Scene, answer};
use anyhow::{Context, Result, ensure};
use e2e::inside::{Content, blob_target};
use futures::StreamExt as _;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const HEADER: usize = 10 << 20;

const FLOOD: usize = 10_000;

/// How long a pull that begins in the middle of the flood may take: the registry's second, and its wait for a place.
const NEW_PULL_LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_header_of_ten_megabytes() -> Result<()> {
    let scene = Scene::start(|_| {}).await?;
    let attack = async {
        let mut stream = TcpStream::connect(scene.proxy()?).await?;
        let head = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nX-Long: ");
        stream.write_all(head.as_bytes()).await?;
        let chunk = vec![b'x'; 64 << 10];
        let mut taken = head.len();
        while taken < HEADER && stream.write_all(&chunk).await.is_ok() {
            taken += chunk.len();
        }
        Ok((taken, answer(stream).await?.status))
    };
    let ((taken, status), lines) = scene.beside(21, attack).await?;
    // The answer may be lost with a connection that is reset because more was sent than was read.
    ensure!(matches!(status, None | Some(431)), "{status:?}");
    eprintln!("  {taken} of {HEADER} bytes were taken, by the system's buffers too");
    ensure!(taken < HEADER, "all of it was taken");
    ensure!(lines.len() == 1, "{lines:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_ten_thousand_silent_connections() -> Result<()> {
    let scene = Scene::start(|_| {}).await?;
    let address = scene.proxy()?;
    let content = Content::random(23, 100_000);
    scene.origin.add_blob("new/app", content.bytes.clone());
    let url = format!("{}{}", scene.attacked.proxy(), blob_target(&scene.origin, "new/app", &content.digest));
    let attack = async {
        let connect = |_| TcpStream::connect(address);
        let silent: Vec<_> =
            futures::stream::iter(0..FLOOD).map(connect).buffer_unordered(256).collect().await;
        let open = silent.iter().filter(|connection| connection.is_ok()).count();
        let begun = Instant::now();
        // Over a connection of its own.
        let reply = reqwest::Client::builder().no_proxy().build()?.get(&url).send().await;
        let bytes = reply.context("a pull that begins meanwhile")?.bytes().await?;
        ensure!(bytes == content.bytes, "a pull that begins meanwhile");
        Ok((open, begun.elapsed()))
    };
    let ((open, took), lines) = scene.beside(22, attack).await?;
    eprintln!("  {open} connections were made and said nothing; a pull that began then took {took:.2?}");
    ensure!(open == FLOOD, "only {open} connections were made");
    ensure!(took < NEW_PULL_LIMIT, "{took:?}");
    let told = lines.iter().filter(|line| line.contains("all connections are taken")).count();
    ensure!(told == 1, "{told} lines tell of it");
    ensure!(lines.len() <= 3, "{lines:#?}");
    Ok(())
}
