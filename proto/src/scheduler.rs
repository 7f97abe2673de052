//! What the scheduler says about a blob, to the wire and back.

use crate::words::{
    Blob, blob_failure_in, blob_failure_out, host_in, host_out, nanos, required, set_out, state_out,
    states_out,
};
use crate::{ConvertError, wire};
use std::time::Duration;
use types::{Epoch, SchedulerBody};
use wire::scheduler_message::Body;

pub(crate) fn body_out(body: &SchedulerBody) -> Body {
    match body {
        SchedulerBody::Assign { piece, parent, epoch, before, after } => Body::Assign(wire::Assign {
            piece: piece.0,
            parent: host_out(*parent),
            epoch: epoch.0,
            before: state_out(before),
            after: state_out(after),
        }),
        SchedulerBody::Cancel { piece, parent } => {
            Body::Cancel(wire::Cancel { piece: piece.0, parent: host_out(*parent) })
        }
        SchedulerBody::Lease { epoch, ttl, missing, prefix, limit } => Body::Lease(wire::Lease {
            epoch: epoch.0,
            ttl_nanos: nanos(*ttl),
            missing: Some(set_out(missing)),
            prefix: states_out(prefix),
            limit: *limit,
        }),
        SchedulerBody::LeaseLimit { epoch, limit } => {
            Body::LeaseLimit(wire::LeaseLimit { epoch: epoch.0, limit: *limit })
        }
        SchedulerBody::Revoke { epoch } => Body::Revoke(epoch.0),
        SchedulerBody::ChainReset { epoch } => Body::ChainReset(epoch.0),
        SchedulerBody::WantChain { epoch, boundaries } => Body::WantChain(wire::WantChain {
            epoch: epoch.0,
            boundaries: Some(wire::Span { start: boundaries.start, end: boundaries.end }),
        }),
        SchedulerBody::SourceReads => Body::SourceReads(wire::Empty {}),
        SchedulerBody::Failed { why } => Body::Failed(blob_failure_out(why)),
    }
}

pub(crate) fn body_in(blob: Blob, body: Option<Body>) -> Result<SchedulerBody, ConvertError> {
    Ok(match required("message body", body)? {
        Body::Assign(assign) => SchedulerBody::Assign {
            piece: blob.piece(assign.piece)?,
            parent: host_in(&assign.parent)?,
            epoch: Epoch(assign.epoch),
            before: blob.state(&assign.before)?,
            after: blob.state(&assign.after)?,
        },
        Body::Cancel(cancel) => {
            SchedulerBody::Cancel { piece: blob.piece(cancel.piece)?, parent: host_in(&cancel.parent)? }
        }
        Body::Lease(lease) => SchedulerBody::Lease {
            epoch: Epoch(lease.epoch),
            ttl: Duration::from_nanos(lease.ttl_nanos),
            missing: blob.set(lease.missing)?,
            prefix: blob.states(0, &lease.prefix)?,
            limit: blob.boundary(lease.limit)?,
        },
        Body::LeaseLimit(limit) => {
            SchedulerBody::LeaseLimit { epoch: Epoch(limit.epoch), limit: blob.boundary(limit.limit)? }
        }
        Body::Revoke(epoch) => SchedulerBody::Revoke { epoch: Epoch(epoch) },
        Body::ChainReset(epoch) => SchedulerBody::ChainReset { epoch: Epoch(epoch) },
        Body::WantChain(want) => {
            let span = required("boundaries", want.boundaries)?;
            // The end is exclusive: one past the boundary after the last piece.
            if span.start > span.end {
                return Err(ConvertError::Range);
            }
            blob.boundary(span.end.saturating_sub(1))?;
            SchedulerBody::WantChain { epoch: Epoch(want.epoch), boundaries: span.start..span.end }
        }
        Body::SourceReads(_) => SchedulerBody::SourceReads,
        Body::Failed(why) => SchedulerBody::Failed { why: blob_failure_in(why)? },
    })
}
