//! Transfers from peers: one for each assignment that is being carried out.

use crate::proof::Link;
use crate::turn::Turn;
use crate::{Effect, FetchId};
use std::collections::{BTreeMap, VecDeque};
use types::{Epoch, HostId, PieceIndex};

/// Cancelled transfers remembered, in case they had just been stored. An older one that is still reported is ignored.
const CANCELLED_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) piece: PieceIndex,
    pub(crate) parent: HostId,
    pub(crate) epoch: Epoch,
    pub(crate) link: Link,
    /// Whatever it brings is of no use.
    pub(crate) void: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Peers {
    running: BTreeMap<FetchId, Transfer>,
    cancelled: VecDeque<(FetchId, Transfer)>,
    next: u64,
}

impl Peers {
    pub(crate) fn count(&self) -> usize {
        self.running.len()
    }

    pub(crate) fn get(&self, fetch: FetchId) -> Option<&Transfer> {
        self.running.get(&fetch)
    }

    pub(crate) fn begin(&mut self, transfer: Transfer, turn: &mut Turn<'_>) {
        let fetch = FetchId(self.next);
        self.next += 1;
        self.running.insert(fetch, transfer);
        let Transfer { piece, parent, link: Link { before, after }, .. } = transfer;
        turn.push(Effect::Fetch { fetch, parent, piece, before, after });
    }

    /// If this piece already comes from that parent in the same form: takes over the new assignment's epoch.
    pub(crate) fn renew(&mut self, piece: PieceIndex, parent: HostId, epoch: Epoch, link: Link) -> bool {
        let mut same =
            self.running.values_mut().filter(|t| t.piece == piece && t.parent == parent && t.link == link);
        let Some(transfer) = same.next() else { return false };
        transfer.epoch = epoch;
        true
    }

    /// A transfer ended, running or just cancelled.
    pub(crate) fn ended(&mut self, fetch: FetchId) -> Option<Transfer> {
        self.running.remove(&fetch).or_else(|| {
            let at = self.cancelled.iter().position(|(id, _)| *id == fetch)?;
            self.cancelled.remove(at).map(|(_, transfer)| transfer)
        })
    }

    pub(crate) fn cancel(&mut self, turn: &mut Turn<'_>, which: impl Fn(&Transfer) -> bool) {
        let cancelled = &mut self.cancelled;
        self.running.retain(|fetch, transfer| {
            if which(transfer) {
                turn.push(Effect::CancelFetch { fetch: *fetch });
                if cancelled.len() == CANCELLED_MAX {
                    cancelled.pop_front();
                }
                cancelled.push_back((*fetch, *transfer));
            }
            !which(transfer)
        });
    }

    pub(crate) fn is_coming(&self, piece: PieceIndex) -> bool {
        self.running.values().any(|transfer| transfer.piece == piece)
    }

    /// Ends what brings this piece; if it has just been stored, that was in vain.
    pub(crate) fn forget(&mut self, piece: PieceIndex, turn: &mut Turn<'_>) {
        self.cancel(turn, |transfer| transfer.piece == piece);
        for (_, transfer) in self.cancelled.iter_mut().filter(|(_, transfer)| transfer.piece == piece) {
            transfer.void = true;
        }
    }

    /// # Panics
    /// If more transfers run than may.
    pub(crate) fn check_invariants(&self, max: usize) {
        assert!(self.running.len() <= max, "{} transfers run, at most {max} may", self.running.len());
        assert!(self.cancelled.len() <= CANCELLED_MAX);
    }
}
