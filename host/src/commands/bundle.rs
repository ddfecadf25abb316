//! `lockstep bundle`

mod create;
mod inspect;
mod replay;
mod transfer;

use clap::{Args, Subcommand};
use lockstep_runtime::pipeline::{Executed, Execution, Plan};
use lockstep_runtime::run::Runtime;
use lockstep_runtime::sandbox::Interrupt;
use lockstep_view::error::Result;
use lockstep_view::logs::Logs;

use crate::executor::{Backend, Executor};
use crate::invocation::Invocation;

/// Pack a pipeline with everything it needs into one file, to run it again and compare
#[derive(Args)]
pub struct BundleArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Create(Box<create::CreateArgs>),
    Inspect(inspect::InspectArgs),
    Replay(replay::ReplayArgs),
    Push(transfer::PushArgs),
    Pull(transfer::PullArgs),
}

pub fn run(args: BundleArgs, invocation: &Invocation) -> Result<()> {
    match args.command {
        Command::Create(args) => create::run(*args, invocation),
        Command::Inspect(args) => inspect::run(&args, invocation),
        Command::Replay(args) => replay::run(&args, invocation),
        Command::Push(args) => transfer::push(&args, invocation),
        Command::Pull(args) => transfer::pull(&args, invocation),
    }
}

/// Executes a plan without showing the output of its tasks.
fn execute(runtime: &Runtime, plan: &Plan, execution: Execution, interrupt: &Interrupt) -> Result<Executed> {
    let logs = Logs::of_tasks(&plan.name, plan.tasks().len(), true);
    let executor = Executor {
        backend: Backend::Here,
        runtime,
        execution,
        interrupt,
    };
    executor.plan(plan, logs, false)
}
