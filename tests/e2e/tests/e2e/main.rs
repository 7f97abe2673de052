//! What Damselfly promises, with real programs on both sides.

mod crowd;
mod dockerd;
mod no_scheduler;
mod record;
mod replay;
mod scene;
mod source_dies;
mod warm_restart;
