//! The hosts that preheats are of, each kept once: rows name them by a small number.

use std::collections::BTreeMap;
use tokio::time::Instant;
use types::{HostId, Label};

/// Which host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

/// What is known of one.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) id: HostId,
    pub(super) zone: Label,
    pub(super) platform: Label,
    /// Since when it is not connected.
    pub(super) away: Option<Instant>,
    /// Rows that name it.
    rows: u32,
}

/// Hosts that rows name.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    slots: Vec<Host>,
    /// Slots that nobody names.
    free: Vec<Slot>,
    by_id: BTreeMap<HostId, Slot>,
}

impl Hosts {
    /// A slot for one more row of this host.
    pub(super) fn take(&mut self, id: HostId, zone: Label, platform: Label) -> Slot {
        if let Some(slot) = self.by_id.get(&id).copied() {
            let host = self.get_mut(slot);
            host.rows += 1;
            (host.zone, host.platform) = (zone, platform);
            return slot;
        }
        let host = Host { id, zone, platform, away: None, rows: 1 };
        let slot = match self.free.pop() {
            Some(slot) => {
                *self.get_mut(slot) = host;
                slot
            }
            None => {
                self.slots.push(host);
                Slot(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
            }
        };
        self.by_id.insert(id, slot);
        slot
    }

    /// One row less names it.
    pub(super) fn release(&mut self, slot: Slot) {
        let host = self.get_mut(slot);
        host.rows -= 1;
        if host.rows == 0 {
            let id = host.id;
            self.by_id.remove(&id);
            self.free.push(slot);
        }
    }

    /// The host's slot, if a row names it.
    pub(super) fn find(&self, id: HostId) -> Option<Slot> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn get(&self, slot: Slot) -> &Host {
        &self.slots[slot.0 as usize]
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Host {
        &mut self.slots[slot.0 as usize]
    }

    /// Those that are away, and since when.
    pub(super) fn away(&self) -> impl Iterator<Item = (Slot, HostId, Instant)> {
        self.by_id.iter().filter_map(move |(id, slot)| Some((*slot, *id, self.get(*slot).away?)))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_when_no_row_names_its_host() {
        let mut hosts = Hosts::default();
        let [one, two] = [1, 2].map(|n| HostId::of_peer_id(&[n]));
        let label = || Label::new("x");
        let first = hosts.take(one, label(), label());
        assert_eq!(hosts.take(one, label(), label()), first);
        hosts.release(first);
        assert_eq!(hosts.find(one), Some(first), "another row names it");
        hosts.release(first);
        assert_eq!((hosts.find(one), hosts.len()), (None, 0));
        assert_eq!(hosts.take(two, label(), label()), first);
        assert_eq!(hosts.get(first).id, two);
    }

    #[test]
    fn who_is_away_is_found() {
        let (mut hosts, now) = (Hosts::default(), Instant::now());
        let ids = [1, 2].map(|n| HostId::of_peer_id(&[n]));
        let slots = ids.map(|id| hosts.take(id, Label::default(), Label::default()));
        assert_eq!(hosts.away().count(), 0);
        hosts.get_mut(slots[1]).away = Some(now);
        assert_eq!(hosts.away().collect::<Vec<_>>(), [(slots[1], ids[1], now)]);
    }
}
