//! Attacks on a daemon by whoever can reach its ports, and by what it reads from registries, and on the scheduler. Each is
//! refused or bounded, is in the log once and no secret with it, and a pull that runs beside it completes.

mod bombs;
mod connections;
mod names;
mod rebinding;
mod scene;
mod strangers;
