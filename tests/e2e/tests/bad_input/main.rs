//! Bad input, from clients, origins, members and operators: each gets a clear answer, and nothing is lost or left wrong.
//!
//! Every test runs whole daemons in its own process; none needs root.

mod blobs;
mod certificates;
mod manifests;
mod members;
mod programs;
mod requests;
mod rows;
