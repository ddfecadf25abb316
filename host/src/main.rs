//! The `lockstep` command.

mod artifacts;
mod cache;
mod cli;
mod cluster;
mod columns;
mod commands;
mod content;
mod credentials;
mod difference;
mod error;
mod events;
mod export;
mod graph;
mod invocation;
mod kubeflow;
mod locations;
mod logs;
mod needs;
mod notebooks;
mod pipelines;
mod progress;
mod provenance;
mod quantity;
mod remote;
mod report;
mod serve;
mod signature;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
