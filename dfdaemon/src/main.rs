//! The node's daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    dfdaemon::program::main()
}
