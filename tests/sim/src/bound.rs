//! The lower bound of a run over links, for whoever compares.

use crate::outcome::Outcome;
use crate::settings::Settings;
use report::bound::{Bound, Pieces, Rates, Rollout, Site};

impl Settings {
    /// How fast a flash crowd without trouble could be at all, once its blobs are known; nothing without links.
    #[must_use]
    pub fn bound(&self, outcome: &Outcome) -> Option<Bound> {
        self.rollout_of(outcome).map(|rollout| rollout.bound())
    }

    /// What of it counts for the bound.
    #[must_use]
    pub fn rollout_of(&self, outcome: &Outcome) -> Option<Rollout> {
        let links = self.links.as_ref()?;
        let hosts = (0..self.hosts).map(|host| {
            let (up, down) = links.of(host);
            Rates { up, down }
        });
        // The source's zone gets everything from the origin; which one that is makes no difference.
        let sites = (1..self.zones).filter_map(|zone| {
            let inflow = links.boundary?;
            Some(Site { hosts: (zone..self.hosts).step_by(self.zones).collect(), inflow })
        });
        Some(Rollout {
            pieces: Pieces::new(outcome.pieces.iter().map(|len| (len * links.scale, 1))),
            origin_rate: links.origin,
            hosts: hosts.collect(),
            sites: sites.collect(),
            latency: *self.delay.start(),
        })
    }
}
