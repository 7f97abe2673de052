//! One read from the origin for everybody: cold crowds, tags, odd sizes, random ranges, readers that leave, nodes that
//! come late.
//!
//! Every test runs whole daemons in its own process; none needs root.

mod coming_and_going;
mod damage;
mod dashboard;
mod metrics_page;
mod once;
mod ranges;
mod rollouts;
mod tags;
