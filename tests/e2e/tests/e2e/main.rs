//! What Damselfly promises, with real programs on both sides.

mod crowd;
mod dockerd;
mod no_scheduler;
mod open_ports;
mod plain_hosts;
mod preheat;
mod private_registry;
mod record;
mod reload;
mod replay;
mod runtime_setup;
mod scene;
mod source_dies;
mod warm_restart;
