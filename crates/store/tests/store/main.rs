//! The store from outside: what the daemon relies on.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::cast_possible_truncation, reason = "the samples are small")]
#![allow(clippy::single_range_in_vec_init, reason = "a set of pieces is made of runs, often of one")]

mod background;
mod blob;
mod full_disk;
mod model;
mod opening;
mod room;
mod sample;
