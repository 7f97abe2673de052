//! Pages of docs/ against the programs: the configuration reference, and the commands that readers are told to type.
//!
//! No test starts anything; none needs root.

mod commands;
mod configuration;
mod example;
