//! The lower bound: how fast the rollout could be at all, given the rates.

/// What a rollout is made of.
#[derive(Clone, Copy, Debug)]
pub struct Rollout {
    /// Bytes of the image, F.
    pub image_bytes: u64,
    /// How many nodes want it, N.
    pub nodes: u8,
    /// Bytes per second that the origin sends, o.
    pub origin_rate: u64,
    /// Bytes per second that a node sends, u.
    pub upload_rate: u64,
    /// Bytes per second that a node receives, d.
    pub download_rate: u64,
    /// The length in bytes of the shortest piece that can be the last to leave the origin, P.
    pub last_piece: u64,
}

/// Seconds that no way of distribution can do without.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Bytes as a fluid, whoever sends them: `max(F/o, F/d, N·F/(o + N·u))` (Kumar & Ross 2006).
    pub fluid: f64,
    /// Whole pieces, each leaving the origin once: the last leaves it no earlier than `F/o`, and the number of its
    /// holders at most doubles every `P/u`: `F/o + ⌈log2 N⌉·P/u` (after Mundinger, Weber & Weiss 2008).
    pub discrete: f64,
}

impl Bound {
    /// The bound of a rollout. Latencies on loopback are left out.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a ratio of byte counts below 2^52")]
    pub fn of(rollout: &Rollout) -> Self {
        let f = rollout.image_bytes as f64;
        let n = f64::from(rollout.nodes);
        let (o, u, d) =
            (rollout.origin_rate as f64, rollout.upload_rate as f64, rollout.download_rate as f64);
        let doublings = f64::from(rollout.nodes).log2().ceil();
        Self {
            fluid: (f / o).max(f / d).max(n * f / (o + n * u)),
            discrete: f / o + doublings * rollout.last_piece as f64 / u,
        }
    }

    /// The larger of both, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.fluid.max(self.discrete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLOUT: Rollout = Rollout {
        image_bytes: 1000,
        nodes: 5,
        origin_rate: 100,
        upload_rate: 100,
        download_rate: 100,
        last_piece: 10,
    };

    #[test]
    fn the_origin_binds_when_nodes_are_as_fast() {
        let bound = Bound::of(&ROLLOUT);
        assert_eq!(bound.fluid, 10.0);
        assert_eq!(bound.discrete, 10.0 + 3.0 * 0.1);
        assert_eq!(bound.seconds(), bound.discrete);
    }

    #[test]
    fn slow_uploads_bind_when_the_origin_is_fast() {
        let bound =
            Bound::of(&Rollout { origin_rate: 1000, upload_rate: 10, download_rate: 1000, ..ROLLOUT });
        assert!((bound.fluid - 5000.0 / 1050.0).abs() < 1e-9);
    }

    #[test]
    fn one_node_is_bound_by_its_own_link() {
        let bound = Bound::of(&Rollout { nodes: 1, download_rate: 50, ..ROLLOUT });
        assert_eq!((bound.fluid, bound.discrete), (20.0, 10.0));
    }
}
