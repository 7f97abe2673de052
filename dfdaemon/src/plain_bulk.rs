//! The daemon whose bulk connections are not secured, for the benchmark's row that says what security costs.

use std::process::ExitCode;

fn main() -> ExitCode {
    dfdaemon::program::main()
}
