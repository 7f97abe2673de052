//! What a host says about a blob, to the wire and back.

use crate::words::{
    Blob, credential_in, credential_out, fetch_failure_in, fetch_failure_out, host_in, host_out,
    lease_failure_in, lease_failure_out, priority_in, priority_out, required, set_out, states_out,
};
use crate::{ConvertError, wire};
use types::{Epoch, HostBody, PieceFrom, PieceIndex};
use wire::host_message::Body;

/// The most states in one message from a host; longer runs travel in several.
pub(crate) const CHAIN_STATES_MAX: usize = 4096;

/// The messages that say what `body` says: one, but for a long run of states.
pub(crate) fn bodies_out(body: &HostBody) -> Vec<Body> {
    let HostBody::Chain { epoch, boundary, states, closed } = body else { return vec![body_out(body)] };
    let parts = states.len().div_ceil(CHAIN_STATES_MAX).max(1);
    (*boundary..=u32::MAX)
        .step_by(CHAIN_STATES_MAX)
        .zip(0..parts)
        .map(|(boundary, part)| {
            let from = part * CHAIN_STATES_MAX;
            let to = states.len().min(from + CHAIN_STATES_MAX);
            Body::Chain(wire::ChainStates {
                epoch: epoch.0,
                boundary,
                states: states_out(&states[from..to]),
                closed: *closed && part + 1 == parts,
            })
        })
        .collect()
}

fn body_out(body: &HostBody) -> Body {
    match body {
        HostBody::Hold { closed, pieces } => {
            Body::Hold(wire::Hold { closed: *closed, pieces: Some(set_out(pieces)) })
        }
        HostBody::Drop => Body::Drop(wire::Empty {}),
        HostBody::Want { held, credential, priority, position, lease } => Body::Want(wire::Want {
            held: Some(set_out(held)),
            credential: Some(credential_out(*credential)),
            priority: priority_out(priority),
            position: position.0,
            lease: lease.map(|epoch| epoch.0),
        }),
        HostBody::Position { piece, blocked } => {
            Body::Position(wire::Position { piece: piece.0, blocked: *blocked })
        }
        HostBody::Leave => Body::Leave(wire::Empty {}),
        HostBody::Verified { piece, from } => {
            let from = match from {
                PieceFrom::Origin => wire::verified::From::Origin(wire::Empty {}),
                PieceFrom::Fallback => wire::verified::From::Fallback(wire::Empty {}),
                PieceFrom::Peer(host) => wire::verified::From::Peer(host_out(*host)),
            };
            Body::Verified(wire::Verified { piece: piece.0, from: Some(from) })
        }
        HostBody::NearlyDone { piece } => Body::NearlyDone(piece.0),
        HostBody::Failed { piece, parent, epoch, why } => Body::Failed(wire::FetchFailed {
            piece: piece.0,
            parent: host_out(*parent),
            epoch: epoch.0,
            why: fetch_failure_out(why),
        }),
        HostBody::Chain { epoch, boundary, states, closed } => Body::Chain(wire::ChainStates {
            epoch: epoch.0,
            boundary: *boundary,
            states: states_out(states),
            closed: *closed,
        }),
        HostBody::LeaseReturned { epoch, why } => {
            Body::LeaseReturned(wire::LeaseReturned { epoch: epoch.0, why: lease_failure_out(why) })
        }
        HostBody::ChainFalse { epoch } => Body::ChainFalse(epoch.0),
        HostBody::LeaseAlive { epoch } => Body::LeaseAlive(epoch.0),
    }
}

pub(crate) fn body_in(blob: Blob, body: Option<Body>) -> Result<HostBody, ConvertError> {
    Ok(match required("message body", body)? {
        Body::Hold(hold) => HostBody::Hold { closed: hold.closed, pieces: blob.set(hold.pieces)? },
        Body::Drop(_) => HostBody::Drop,
        Body::Want(want) => HostBody::Want {
            held: blob.set(want.held)?,
            credential: credential_in(want.credential)?,
            priority: priority_in(want.priority)?,
            position: PieceIndex(blob.boundary(want.position)?),
            lease: want.lease.map(Epoch),
        },
        Body::Position(at) => {
            HostBody::Position { piece: PieceIndex(blob.boundary(at.piece)?), blocked: at.blocked }
        }
        Body::Leave(_) => HostBody::Leave,
        Body::Verified(verified) => HostBody::Verified {
            piece: blob.piece(verified.piece)?,
            from: match required("from", verified.from)? {
                wire::verified::From::Origin(_) => PieceFrom::Origin,
                wire::verified::From::Fallback(_) => PieceFrom::Fallback,
                wire::verified::From::Peer(host) => PieceFrom::Peer(host_in(&host)?),
            },
        },
        Body::NearlyDone(piece) => HostBody::NearlyDone { piece: blob.piece(piece)? },
        Body::Failed(failed) => HostBody::Failed {
            piece: blob.piece(failed.piece)?,
            parent: host_in(&failed.parent)?,
            epoch: Epoch(failed.epoch),
            why: fetch_failure_in(failed.why)?,
        },
        Body::Chain(chain) => HostBody::Chain {
            epoch: Epoch(chain.epoch),
            boundary: blob.boundary(chain.boundary)?,
            states: blob.states(chain.boundary, &chain.states)?,
            closed: chain.closed,
        },
        Body::LeaseReturned(returned) => {
            HostBody::LeaseReturned { epoch: Epoch(returned.epoch), why: lease_failure_in(returned.why)? }
        }
        Body::ChainFalse(epoch) => HostBody::ChainFalse { epoch: Epoch(epoch) },
        Body::LeaseAlive(epoch) => HostBody::LeaseAlive { epoch: Epoch(epoch) },
    })
}
