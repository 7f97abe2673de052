//! Who has a lease, as far as the messages say: never two hosts for one blob at the same time.

use std::collections::BTreeMap;
use types::{BlobKey, Epoch, HostBody, HostId, LeaseFailure, PieceSet, SchedulerBody};

/// A lease that has been given and not ended.
#[derive(Debug)]
struct Live {
    /// It may be ended under any epoch from the first to the last.
    epochs: (Epoch, Epoch),
    /// What its source has still to read; unknown of one that it brought along from before.
    todo: Option<PieceSet>,
    /// What its source had said that it holds before it got the lease, though no states told yet whether that is so: done
    /// as soon as they can be told, true or not.
    claimed: PieceSet,
}

/// Why a scheduler takes a lease back, if nothing else is known.
const SILENT: &str = "a source was silent";

#[derive(Debug, Default)]
struct Account {
    live: BTreeMap<HostId, Live>,
    /// What each host has said last that it holds.
    claims: BTreeMap<HostId, PieceSet>,
    /// The last that this scheduler has given.
    epoch: Option<Epoch>,
    /// How the last one ended, if not by its source having done.
    ended: Option<&'static str>,
}

/// The leases of all blobs, and how often one was taken over after what.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    accounts: BTreeMap<BlobKey, Account>,
    pub(super) takeovers: BTreeMap<&'static str, u64>,
}

impl Leases {
    pub(super) fn heard(&mut self, host: HostId, key: &BlobKey, body: &HostBody) {
        let account = self.accounts.entry(key.clone()).or_default();
        if let HostBody::Want { lease: Some(epoch), .. } = body {
            let claimed = Live { epochs: (*epoch, *epoch), todo: None, claimed: PieceSet::empty(0) };
            account.live.entry(host).or_insert(claimed);
        }
        if let HostBody::Hold { pieces, .. } | HostBody::Want { held: pieces, .. } = body {
            account.claims.insert(host, pieces.clone());
        }
        let Some(live) = account.live.get_mut(&host) else { return };
        let is_of = |epoch: &Epoch| (live.epochs.0..=live.epochs.1).contains(epoch);
        let end = match body {
            HostBody::LeaseReturned { epoch, why } if is_of(epoch) => Some(returned(why)),
            HostBody::ChainFalse { epoch } if is_of(epoch) => Some("a source found its chain false"),
            HostBody::Drop | HostBody::Leave => Some("a source's clients left"),
            HostBody::Chain { closed: true, .. } => None,
            HostBody::Chain { boundary, states, .. } => {
                let Some(todo) = &mut live.todo else { return };
                let told = boundary.saturating_add(u32::try_from(states.len()).unwrap_or(u32::MAX));
                // A piece can be told from its states on both sides; after the last comes the digest.
                let count = todo.count();
                let known = if told >= count { count } else { told.saturating_sub(1) };
                for piece in live.claimed.iter().take_while(|piece| piece.0 < known) {
                    todo.remove(piece);
                }
                if !todo.is_empty() {
                    return;
                }
                None
            }
            HostBody::Verified { piece, .. } => {
                let Some(todo) = &mut live.todo else { return };
                todo.remove(*piece);
                if !todo.is_empty() {
                    return;
                }
                None
            }
            // Whether it is true or not.
            HostBody::Hold { pieces, .. } | HostBody::Want { held: pieces, .. } => {
                if let Some(todo) = &mut live.todo {
                    todo.subtract(pieces);
                }
                if live.todo.as_ref().is_none_or(|todo| !todo.is_empty()) && !pieces.is_full() {
                    return;
                }
                None
            }
            _ => return,
        };
        account.live.remove(&host);
        account.ended = end;
    }

    pub(super) fn told(&mut self, host: HostId, key: &BlobKey, body: &SchedulerBody) {
        let account = self.accounts.entry(key.clone()).or_default();
        match body {
            SchedulerBody::Lease { epoch, missing, .. } => {
                let other = account.live.keys().find(|other| **other != host);
                assert!(other.is_none(), "a second lease: {host} gets one and {other:?} has one");
                assert!(account.epoch.is_none_or(|last| last < *epoch), "an epoch is given twice: {epoch:?}");
                account.epoch = Some(*epoch);
                if let Some(why) = account.ended.take() {
                    *self.takeovers.entry(why).or_default() += 1;
                }
                let since = account.live.get(&host).map_or(*epoch, |live| live.epochs.0);
                let claimed = account.claims.get(&host).cloned();
                let claimed = claimed.unwrap_or_else(|| PieceSet::empty(missing.count()));
                let live = Live { epochs: (since, *epoch), todo: Some(missing.clone()), claimed };
                account.live.insert(host, live);
            }
            SchedulerBody::Revoke { epoch }
                if account.live.get(&host).is_some_and(|live| live.epochs.1 <= *epoch) =>
            {
                account.live.remove(&host);
                account.ended = Some(SILENT);
            }
            // Its source is told before that the lease has ended.
            SchedulerBody::ChainReset { .. }
                if account.live.remove(&host).is_some() || account.ended == Some(SILENT) =>
            {
                account.ended = Some("a chain was found false");
            }
            _ => {}
        }
    }

    /// All that is said about an event has been: of several that claim a lease, at most one is left.
    pub(super) fn check(&self, key: &BlobKey) {
        if let Some(account) = self.accounts.get(key) {
            assert!(account.live.len() <= 1, "a second lease: {:?}", account.live);
        }
    }

    pub(super) fn gone(&mut self, host: HostId) {
        for account in self.accounts.values_mut() {
            if account.live.remove(&host).is_some() {
                account.ended = Some("a source was gone");
            }
        }
    }

    /// The scheduler knows of no lease any more.
    pub(super) fn forget(&mut self) {
        for account in self.accounts.values_mut() {
            if !account.live.is_empty() {
                account.ended = Some("a scheduler had restarted");
            }
            account.live.clear();
            account.epoch = None;
        }
    }
}

fn returned(why: &LeaseFailure) -> &'static str {
    match why {
        LeaseFailure::Refused => "an origin refused",
        LeaseFailure::CredentialEnds => "a credential ended",
        LeaseFailure::NoReader => "a source's clients left",
        LeaseFailure::NotFound => "an origin had nothing",
        LeaseFailure::Throttled => "an origin throttled",
        LeaseFailure::Unreachable => "an origin could not be reached",
        LeaseFailure::Wrong => "an origin sent something else",
        LeaseFailure::Local => "a source could not store",
    }
}
