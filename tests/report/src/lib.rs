//! What the simulator, the load test and the demo report with: the lower bound of a rollout, and a page that shows one.

pub mod bound;
pub mod page;
