//! The lower bound of a run over links, for whoever compares.

use crate::outcome::Outcome;
use crate::settings::Settings;
use support::bound::{Bound, Pieces, Rates, Rollout};

impl Settings {
    /// How fast a flash crowd without trouble could be at all, once its blobs are known; nothing without links. What zones'
    /// boundaries let through is left out.
    #[must_use]
    pub fn bound(&self, outcome: &Outcome) -> Option<Bound> {
        let links = self.links.as_ref()?;
        let hosts = (0..self.hosts).map(|host| {
            let (up, down) = links.of(host);
            Rates { up, down }
        });
        let rollout = Rollout {
            pieces: Pieces::new(outcome.pieces.iter().map(|len| (len * links.scale, 1))),
            origin_rate: links.origin,
            hosts: hosts.collect(),
            sites: Vec::new(),
            latency: *self.delay.start(),
        };
        Some(rollout.bound())
    }
}
