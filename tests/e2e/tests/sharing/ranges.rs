//! Readers of random ranges over a cold blob, many at once: each gets just its bytes.

use anyhow::{Context, Result, ensure};
use e2e::inside::{Content, Hub, Node, Settings, blob_target, check_store};
use futures::future::try_join_all;
use std::time::{Duration, Instant};
use support::origin::FaultyOrigin;

/// Readers of one round.
const READERS: usize = 40;

/// Nineteen pieces, the last one shorter.
const SIZE: usize = 9_500_000;

/// Slow enough that most readers come before the bytes do.
const RATE: u64 = 16 << 20;

/// A range as a client writes it, and what it means.
fn range(rng: &mut fastrand::Rng) -> (Option<String>, std::ops::Range<usize>) {
    let start = match rng.u8(..4) {
        // At a boundary of pieces, or one byte beside it.
        0 => (rng.usize(..18) * (512 << 10) + rng.usize(..3)).saturating_sub(1),
        _ => rng.usize(..SIZE),
    };
    let len = match rng.u8(..4) {
        0 => 1,
        1 => rng.usize(1..1000),
        2 => rng.usize(1..1_000_000),
        _ => rng.usize(1..SIZE),
    };
    match rng.u8(..8) {
        0 => (None, 0..SIZE),
        1 => (Some(format!("bytes={start}-")), start..SIZE),
        2 => {
            let len = len.min(SIZE);
            (Some(format!("bytes=-{len}")), SIZE - len..SIZE)
        }
        _ => {
            let end = (start + len).min(SIZE);
            (Some(format!("bytes={start}-{}", start + len - 1)), start..end)
        }
    }
}

async fn read(node: &Node, target: &str, content: &Content, seed: u64) -> Result<()> {
    let (header, range) = range(&mut fastrand::Rng::with_seed(seed));
    let headers: Vec<_> = header.iter().map(|text| ("range", text.as_str())).collect();
    let reply = node.ask(reqwest::Method::GET, target, &headers).await?;
    ensure!(reply.status == if header.is_some() { 206 } else { 200 }, "{header:?}: {}", reply.summary());
    ensure!(reply.is_right(&content.bytes[range.clone()]), "{header:?}, {range:?}: {}", reply.summary());
    if header.is_some() {
        let expected = format!("bytes {}-{}/{SIZE}", range.start, range.end - 1);
        ensure!(reply.header("content-range") == Some(expected.as_str()));
    }
    Ok(())
}

async fn round(seed: u64) -> Result<()> {
    let origin = FaultyOrigin::builder().rate(RATE).start().await?;
    let content = Content::random(seed, SIZE);
    origin.add_blob("app", content.bytes.clone());
    let settings = Settings::of(&[&origin]);
    let hub = Hub::start(&settings).await?;
    let (a, b) = tokio::try_join!(Node::join(&hub, &settings), Node::join(&hub, &settings))?;
    hub.until_hosts(2).await?;
    let target = blob_target(&origin, "app", &content.digest);
    let readers = (0..READERS).map(|i| {
        let node = if i % 2 == 0 { &a } else { &b };
        let (target, content) = (&target, &content);
        async move {
            read(node, target, content, seed * 1000 + i as u64).await.with_context(|| format!("reader {i}"))
        }
    });
    try_join_all(readers).await?;
    // And the whole, on both, is what it should be, in the store too.
    for node in [&a, &b] {
        let reply = node.get(&target).await?;
        ensure!(reply.is_right(&content.bytes), "{}", reply.summary());
    }
    let read_in_vain = origin.blob_bytes(&content.digest).saturating_sub(SIZE as u64);
    eprintln!("  seed {seed}: {:.2} of the blob read beside the one time", read_in_vain as f64 / SIZE as f64);
    for node in [a, b] {
        let held = check_store(node.stop().await?.path(), std::slice::from_ref(&content)).await?;
        ensure!(held.get(&content.digest) == Some(&(SIZE as u64)), "{held:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_ranges_over_a_cold_blob_are_right() -> Result<()> {
    // Found seeds are kept here; one more is new each time.
    for seed in [1, 2, fastrand::u64(1000..1_000_000)] {
        round(seed).await.with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

/// As clients do that read a layer's index at its end before anything else: the layer is not waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_cold_blob_does_not_wait_for_its_beginning() -> Result<()> {
    const TAIL: usize = 1000;
    const RATE: u64 = 400_000;
    let origin = FaultyOrigin::builder().rate(RATE).start().await?;
    let content = Content::random(7, SIZE);
    origin.add_blob("app", content.bytes.clone());
    let node = Node::alone(&Settings::of(&[&origin])).await?;
    let (target, header) = (blob_target(&origin, "app", &content.digest), format!("bytes=-{TAIL}"));
    let begun = Instant::now();
    let reply = node.ask(reqwest::Method::GET, &target, &[("range", &header)]).await?;
    ensure!(reply.status == 206 && reply.is_right(&content.bytes[SIZE - TAIL..]), "{}", reply.summary());
    let (took, whole) = (begun.elapsed(), Duration::from_secs(SIZE as u64 / RATE));
    ensure!(took < whole / 2, "{took:?}; all of it takes {whole:?}");
    Ok(())
}
