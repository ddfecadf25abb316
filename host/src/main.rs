//! The `lockstep` command.

mod artifacts;
mod cli;
mod columns;
mod commands;
mod error;
mod export;
#[cfg_attr(not(test), expect(dead_code, reason = "`lineage` and `plan` draw with it"))]
mod graph;
mod invocation;
mod locations;
mod logs;
mod progress;
mod quantity;
mod report;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
