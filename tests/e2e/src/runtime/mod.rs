//! Container runtimes of Debian, each with directories and sockets of its own, told to pull through a daemon.

pub mod containerd;
pub mod containers;
pub mod cri;
pub mod docker;

use std::time::Duration;

/// How long one pull of a runtime may take.
pub const PULL_LIMIT: Duration = Duration::from_secs(120);

/// How long a runtime may take to start, and any other command.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(30);
