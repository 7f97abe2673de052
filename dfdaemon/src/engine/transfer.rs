//! One piece from one peer: received, verified against its link of the chain, stored, reported.

use super::Parts;
use super::arrivals::Arrivals;
use super::download::Input;
use crate::traffic::CameFrom;
use bytes::Bytes;
use download_core::{Event, FetchId, Fetched};
use p2p::PieceRequest;
use process::traces::{Kind, Span};
use std::sync::Arc;
use store::Blob;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use types::{ChainError, FetchFailure, HostId, PieceIndex, State, TraceContext, verify_piece};

/// What the core asked for.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    pub(crate) fetch: FetchId,
    pub(crate) parent: HostId,
    pub(crate) piece: PieceIndex,
    pub(crate) before: State,
    pub(crate) after: State,
    /// The download's span, if it is recorded.
    pub(crate) trace: Option<TraceContext>,
}

/// Runs one transfer to its end; cancelled, it reports nothing. What has been received and verified by then is stored
/// all the same, and reported: the core must know of every piece that the store has.
pub(crate) async fn run(
    parts: Parts,
    blob: Blob,
    want: Want,
    arrivals: Arc<Arrivals>,
    mailbox: mpsc::Sender<Input>,
    cancel: CancellationToken,
) {
    let mut span = Span::child(Kind::Client, "fetch piece", want.trace);
    span.note("damselfly.parent", want.parent);
    span.note("damselfly.digest", blob.digest());
    span.count("damselfly.piece", want.piece.0.into());
    let receiving = receive(&parts, &blob, &want, span.context(), &mailbox);
    let Some(received) = cancel.run_until_cancelled(receiving).await else {
        span.note("damselfly.result", "cancelled");
        return;
    };
    let stored = match received {
        Ok(bytes) => store(&blob, &want, bytes, &arrivals).await,
        Err(failure) => Err(failure),
    };
    let outcome = match stored {
        Ok(()) => {
            span.note("damselfly.result", "stored");
            span.count("damselfly.bytes", blob.layout().len_of(want.piece).into());
            Fetched::Stored
        }
        Err(failure) => {
            span.fail(format_args!("{failure:?}"));
            tracing::debug!(parent = %want.parent, piece = %want.piece, ?failure, "a piece did not come");
            Fetched::Failed(failure)
        }
    };
    drop(mailbox.send(Input::Core(Event::Fetched { fetch: want.fetch, outcome })).await);
}

async fn receive(
    parts: &Parts,
    blob: &Blob,
    want: &Want,
    trace: Option<TraceContext>,
    mailbox: &mpsc::Sender<Input>,
) -> Result<Bytes, FetchFailure> {
    let layout = blob.layout();
    let request = PieceRequest {
        digest: *blob.digest(),
        size: layout.size(),
        piece_len: layout.piece_len(),
        piece: want.piece,
        trace,
    };
    let (fetch, early) = (want.fetch, mailbox.clone());
    let nearly_done = move || {
        let event = Event::Fetched { fetch, outcome: Fetched::NearlyDone };
        // A hint: without room it is left out.
        drop(early.try_send(Input::Core(event)));
    };
    let mut buffer = parts.buffers.take(layout.len_of(want.piece));
    let fetched = parts.p2p.fetch(want.parent, request, &mut buffer, nearly_done).await;
    fetched.map_err(|error| error.failure())?;
    let bytes = buffer.freeze();
    parts.traffic.received(want.parent, bytes.len() as u64);
    verify(blob, want, bytes.clone()).await.map_err(|error| {
        tracing::warn!(parent = %want.parent, %error, "a peer sent wrong bytes");
        FetchFailure::Corrupt
    })?;
    Ok(bytes)
}

async fn store(blob: &Blob, want: &Want, bytes: Bytes, arrivals: &Arrivals) -> Result<(), FetchFailure> {
    arrivals.came(want.piece, CameFrom::Peer);
    blob.write_verified(want.piece, bytes, (want.before, want.after)).await.map_err(|error| {
        tracing::warn!(%error, piece = %want.piece, "a piece could not be stored");
        FetchFailure::Local
    })
}

/// Hashing takes about a millisecond per MiB: not on the runtime's threads.
async fn verify(blob: &Blob, want: &Want, bytes: Bytes) -> Result<(), ChainError> {
    let (layout, piece, before, after) = (blob.layout(), want.piece, want.before, want.after);
    let verified = tokio::task::spawn_blocking(move || verify_piece(layout, piece, &before, &after, &bytes));
    verified.await.unwrap_or(Err(ChainError::Piece { piece }))
}
