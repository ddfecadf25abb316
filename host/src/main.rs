//! The `lockstep` command.

mod cache;
mod cli;
mod cluster;
mod commands;
mod credentials;
mod format;
mod invocation;
mod kubeflow;
mod locations;
mod notebooks;
mod pipelines;
mod provenance;
mod remote;
mod serve;
mod signature;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
