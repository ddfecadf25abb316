//! The `lockstep` command.

mod cache;
mod cli;
mod commands;
mod credentials;
mod format;
mod invocation;
mod locations;
mod notebooks;
mod pipelines;
mod provenance;
mod serve;
mod signature;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
