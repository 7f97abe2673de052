//! The scheduler's server, asked over real gRPC and HTTP on loopback, and its program.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::cast_possible_truncation, reason = "contents of tests are small")]

mod blobs;
mod cluster;
mod fake_host;
mod joining;
mod preheats;
mod program;
mod questions;
mod shelf;
mod streams;
