//! Lapsed epochs give no right: what a former source says of the chain is told to nobody.

use std::collections::{BTreeMap, BTreeSet};
use types::{BlobKey, Digest, Epoch, HostBody, HostId, SchedulerBody, State};

#[derive(Debug, Default)]
struct Account {
    /// Up to which epoch each host's rights have ended, as far as both sides know.
    ended: BTreeMap<HostId, Epoch>,
    /// Under which epochs each host was asked for states: it may answer whenever it likes.
    asked: BTreeSet<(HostId, Epoch)>,
    /// What was said to be the state at each boundary: one by most, others by those who lie.
    told: BTreeMap<u32, Vec<Told>>,
}

#[derive(Debug)]
struct Told {
    state: State,
    /// Some host had a right to tell it.
    rightful: bool,
}

/// The states of all blobs, by the rights with which they came. Blobs of several registries are one when their chain is
/// closed, so that the registry does not count.
#[derive(Debug, Default)]
pub(super) struct Lapsed(BTreeMap<(Digest, u64), Account>);

impl Lapsed {
    fn account(&mut self, key: &BlobKey) -> &mut Account {
        self.0.entry((key.digest, key.size)).or_default()
    }

    pub(super) fn heard(&mut self, host: HostId, key: &BlobKey, body: &HostBody) {
        let account = self.account(key);
        match body {
            // What it brings along is a right, unless it is told otherwise.
            HostBody::Want { lease: Some(_), .. } => drop(account.ended.remove(&host)),
            HostBody::LeaseReturned { epoch, .. } | HostBody::ChainFalse { epoch } => {
                account.end(host, *epoch);
            }
            HostBody::Chain { epoch, boundary, states, .. } => {
                let ended = account.ended.get(&host).is_some_and(|ended| epoch <= ended);
                let rightful = !ended || account.asked.contains(&(host, *epoch));
                // The first and the last are known without being told.
                let known = [State::initial(key.digest.algorithm()), State::last_of(&key.digest)];
                for (boundary, state) in (*boundary..).zip(states).filter(|(_, state)| !known.contains(state))
                {
                    let told = account.told.entry(boundary).or_default();
                    match told.iter_mut().find(|told| told.state == *state) {
                        Some(told) => told.rightful |= rightful,
                        None => told.push(Told { state: *state, rightful }),
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn told(&mut self, host: HostId, key: &BlobKey, body: &SchedulerBody) {
        let account = self.account(key);
        match body {
            SchedulerBody::Revoke { epoch } | SchedulerBody::ChainReset { epoch } => {
                account.end(host, *epoch);
            }
            SchedulerBody::WantChain { epoch, .. } => drop(account.asked.insert((host, *epoch))),
            SchedulerBody::Assign { piece, before, after, .. } => {
                account.check(piece.0, before);
                account.check(piece.0 + 1, after);
            }
            SchedulerBody::Lease { prefix, .. } => {
                (0..).zip(prefix).for_each(|(boundary, state)| account.check(boundary, state));
            }
            _ => {}
        }
    }

    /// Its stream has ended, and its rights with it; on the next it may claim them again.
    pub(super) fn gone(&mut self, host: HostId) {
        for account in self.0.values_mut() {
            account.ended.remove(&host);
            account.asked.retain(|(asked, _)| *asked != host);
        }
    }
}

impl Account {
    fn end(&mut self, host: HostId, epoch: Epoch) {
        let ended = self.ended.entry(host).or_insert(epoch);
        *ended = epoch.max(*ended);
    }

    fn check(&self, boundary: u32, state: &State) {
        let told = self.told.get(&boundary).and_then(|told| told.iter().find(|told| told.state == *state));
        assert!(
            told.is_none_or(|told| told.rightful),
            "a lapsed epoch gave a right: its state at boundary {boundary} is passed on"
        );
    }
}
