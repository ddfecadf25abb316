//! The `lockstep` command.

mod cli;
mod commands;
mod crates;
mod executor;
mod format;
mod invocation;
mod locations;
mod notebooks;
mod pipelines;
mod signature;

pub use cli::main;
