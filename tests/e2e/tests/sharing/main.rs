//! One read from the origin for everybody: cold crowds, tags, odd sizes, random ranges, readers that leave, nodes that
//! come late, images that are preheated.
//!
//! Every test but those of `traces` runs whole daemons in its own process; none needs root.

mod coming_and_going;
mod damage;
mod dashboard;
mod metrics_page;
mod once;
mod preheat;
mod ranges;
mod rollouts;
mod tags;
mod traces;
