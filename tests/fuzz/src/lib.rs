//! What must hold of whatever bytes come from others: one function for each parser or family of them, which panics where
//! something does not hold.
//!
//! `tests/replay.rs` runs each over its corpus, `corpus/<target>/`, with every `cargo test`. libFuzzer looks for new inputs:
//!
//! ```text
//! tests/fuzz/run --seconds 600 config store        with the stable compiler, and a C++ compiler for libFuzzer
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz/libfuzzer config tests/fuzz/corpus/config
//! ```
//!
//! What `run` finds goes to `target/fuzz/`: inputs that reach new code to `corpus/<target>/`, one that fails to
//! `artifacts/<target>/`. What fails is put into the corpus here with its repair, under a name; `run --merge` takes over what
//! reaches code that nothing here reaches yet. A corpus stays below 200 files and 300 KB.
//!
//! A new target is a function here, a line in [`TARGETS`], a binary in `libfuzzer/`, and a corpus with inputs of real life.

mod audit;
mod config;
mod frames;
mod http_range;
mod http_route;
mod input;
mod membership;
mod names;
mod peer_frames;
mod questions;
mod registry_answers;
mod scheduler_core;
mod store;

pub use audit::audit;
pub use config::config;
pub use frames::{host_frame, scheduler_frame};
pub use http_range::http_range;
pub use http_route::http_route;
pub use membership::membership;
pub use names::names;
pub use peer_frames::peer_frames;
pub use questions::questions;
pub use registry_answers::registry_answers;
pub use scheduler_core::scheduler_core;
pub use store::store;

/// What takes an input, and panics where something does not hold.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 13] = [
    ("audit", audit),
    ("config", config),
    ("host_frame", host_frame),
    ("http_range", http_range),
    ("http_route", http_route),
    ("membership", membership),
    ("names", names),
    ("peer_frames", peer_frames),
    ("questions", questions),
    ("registry_answers", registry_answers),
    ("scheduler_core", scheduler_core),
    ("scheduler_frame", scheduler_frame),
    ("store", store),
];
