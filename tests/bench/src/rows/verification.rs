//! Checking a blob piece by piece against its chain, and hashing the same bytes once in one go.

use super::{Scene, gigabytes};
use crate::report::Row;
use crate::rounds::Pairs;
use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};
use std::hint::black_box;
use types::{Algorithm, Chain, PieceLayout, State, hash_piece};

/// The chain's CPU time ÷ the plain hash's.
const LIMIT: f64 = 1.05;

/// Measures the row.
///
/// # Errors
/// If the chain does not lead to the digest, or there is no CPU time to read.
pub async fn measure(scene: &Scene) -> Result<Vec<Row>> {
    let (len, rounds) = (scene.size(256 << 20, 32 << 20), scene.size(9, 3));
    let (pairs, layout) = tokio::task::spawn_blocking(move || compare(len, rounds)).await??;
    let gb = gigabytes(layout.size());
    let detail = format!(
        "chain {:.3}, plain {:.3} CPU-s/GB; pieces of {} KiB; {}",
        pairs.ours() / gb,
        pairs.theirs() / gb,
        layout.piece_len() / 1024,
        pairs.spread()
    );
    Ok(vec![Row::at_most("verification", pairs.ratio(), "×", LIMIT, detail)])
}

fn compare(len: usize, rounds: u32) -> Result<(Pairs, PieceLayout)> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    let layout = PieceLayout::for_size(len as u64).context("no layout")?;
    let digest = types::Digest::sha256(&bytes);
    let mut chain = Chain::new(digest, layout)?;
    let piece_len = layout.piece_len() as usize;
    let mut state = State::initial(Algorithm::Sha256);
    for (piece, bytes) in layout.pieces().zip(bytes.chunks(piece_len)) {
        state = hash_piece(layout, piece, &state, bytes)?;
        chain.learn(piece.0 + 1, &[state])?;
    }
    let by_chain = || {
        let mut good = true;
        for (piece, bytes) in layout.pieces().zip(bytes.chunks(piece_len)) {
            good &= matches!(chain.verify(piece, black_box(bytes)), Some(Ok(())));
        }
        good
    };
    let plain = || Sha256::digest(black_box(&bytes[..]))[..] == *digest.as_bytes();
    let mut pairs = Pairs::default();
    for round in 0..rounds {
        // Who comes first changes, so that a clock that slows down meets both.
        let (ours, theirs) = if round % 2 == 0 {
            let ours = cpu_of(by_chain)?;
            (ours, cpu_of(plain)?)
        } else {
            let theirs = cpu_of(plain)?;
            (cpu_of(by_chain)?, theirs)
        };
        pairs.push(ours, theirs);
    }
    Ok((pairs, layout))
}

/// The CPU seconds of a check that has to succeed, on this thread.
fn cpu_of(check: impl Fn() -> bool) -> Result<f64> {
    let start = thread_cpu_seconds()?;
    ensure!(check(), "the bytes do not match their digest");
    Ok(thread_cpu_seconds()? - start)
}

/// What the kernel's scheduler has given this thread so far (proc(5), `schedstat`: nanoseconds on the CPU).
fn thread_cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").context("CPU time of a thread")?;
    let nanos: f64 = text.split(' ').next().unwrap_or_default().parse().context("schedstat")?;
    Ok(nanos / 1e9)
}
