//! Scenarios beside those of equal hosts that all come at once for one blob.

use super::{
    GBIT, GIB, NEAR, Row, Scenario, against_bound, against_own_bounds, crowd, makespan, origin_once, secs,
};
use crate::{Settings, Visit, World};
use std::time::Duration;
use types::Priority;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![staggered(), unequal(), racks(), images()]
}

/// Hosts come at moments of their own. The last has most of the blob in other hosts before it comes.
fn staggered() -> Scenario {
    Scenario::new("1 GiB, 200 hosts within 10 s, 1 Gbit/s", 200, |name, seed| {
        let settings =
            Settings { arrival: Duration::from_secs(10), ..crowd(seed, 200, (GIB, 1), GBIT, NEAR) };
        let outcome = World::new(settings.clone()).run();
        vec![against_own_bounds(name, &settings, &outcome, 1.2), origin_once(name, &outcome, 1.0)]
    })
}

/// Half of the hosts have 1 Gbit/s, the others 2.5 and 10, as in a cluster that has grown over the years.
fn unequal() -> Scenario {
    Scenario::new("1 GiB, 200 hosts at 1, 2.5 and 10 Gbit/s, origin at 10 Gbit/s", 200, |name, seed| {
        let mut settings = crowd(seed, 200, (GIB, 1), GBIT, NEAR);
        if let Some(links) = &mut settings.links {
            links.origin = 10 * GBIT;
            let rates = |host: usize| if host % 4 == 1 { GBIT * 5 / 2 } else { 10 * GBIT };
            links.others = (0..200)
                .filter(|host| host % 2 == 1)
                .map(|host| (host, (rates(host), rates(host))))
                .collect();
        }
        let outcome = World::new(settings.clone()).run();
        vec![against_bound(name, &settings, &outcome, 1.05), origin_once(name, &outcome, 1.0)]
    })
}

/// What crosses between racks, of which each holds one host in ten: nine tenths, if nobody looked where hosts stand.
fn racks() -> Scenario {
    Scenario::new("1 GiB, 200 hosts in 10 racks, 1 Gbit/s", 200, |name, seed| {
        let settings = Settings { racks: 10, ..crowd(seed, 200, (GIB, 1), GBIT, NEAR) };
        let outcome = World::new(settings.clone()).run();
        let sent: u64 = outcome.uploaded_bytes.iter().sum();
        let share = outcome.rack_bytes as f64 / sent as f64;
        let row = Row::new(
            format!("{name}: share of bytes between racks"),
            share,
            0.85,
            format!("{:.3} s", secs(makespan(&outcome))),
        );
        vec![row, against_bound(name, &settings, &outcome, 1.05), origin_once(name, &outcome, 1.0)]
    })
}

/// Three images of four layers, each for a third of the hosts; the last one is preheated. All come from one origin, so that nothing
/// is faster than its link.
fn images() -> Scenario {
    Scenario::new("3 images of 4 layers of 64 MiB for 50 hosts each, 1 Gbit/s", 150, |name, seed| {
        const LAYERS: usize = 4;
        let mut settings = crowd(seed, 150, (64 << 20, 3 * LAYERS), GBIT, NEAR);
        for blob in 0..3 * LAYERS {
            let image = blob / LAYERS;
            let priority = if image == 2 { Priority::Preheat } else { Priority::Waiting };
            let hosts = (image..150).step_by(3).collect();
            settings.visits.insert(blob, Visit { hosts, at: Duration::ZERO, priority });
        }
        let outcome = World::new(settings).run();
        let served =
            |image: usize| outcome.served[image * LAYERS..][..LAYERS].iter().copied().max().map_or(0.0, secs);
        // What clients wait for goes first: two thirds of what the origin sends.
        let bound = (2 * LAYERS * (64 << 20)) as f64 / GBIT as f64;
        let clients = served(0).max(served(1));
        let detail = format!("{clients:.3} s of {bound:.3} s; preheated after {:.3} s", served(2));
        let row = Row::new(format!("{name}: the clients' time ÷ bound"), clients / bound, 1.1, detail);
        vec![row, origin_once(name, &outcome, 1.0)]
    })
}
