//! Plans with all that they need, as one file.

mod create;
mod inspect;
mod replay;
mod transfer;

use clap::{Args, Subcommand};
use lockstep_runtime::bundle::BundleError;
use lockstep_runtime::bundle::registry::RegistryError;
use lockstep_runtime::pipeline::{Executed, Execution, Plan};
use lockstep_runtime::run::Runtime;
use lockstep_runtime::sandbox::Interrupt;

use crate::columns::fit;
use crate::error::{Error, Kind, Result, innermost};
use crate::invocation::Invocation;
use crate::logs::Logs;
use crate::pipelines::{self, Place};

/// A pipeline with all that it needs as one file, which anyone can run again and compare
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

/// Carries out a plan; what its tasks write is kept, but not shown.
fn carry_out(runtime: &Runtime, plan: &Plan, execution: &Execution, interrupt: &Interrupt) -> Result<Executed> {
    let logs = Logs::of_tasks(&plan.name, plan.tasks().len(), true);
    pipelines::carry_out(runtime, &Place::Here, plan, execution, interrupt, logs, false)
}

/// The registry could not be reached, or does not know who asks.
const LOGIN: &str = "`docker login HOST` writes ~/.docker/config.json, which is read; credential helpers are not asked";

impl From<BundleError> for Error {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::File { doing, path, source } => Self::file(doing, &path, &source),
            BundleError::Store(error) => error.into(),
            BundleError::Record(error) => error.into(),
            BundleError::Run(error) => error.into(),
            BundleError::Registry(error) => error.into(),
            BundleError::Exists { .. } => Self::user(error).hint("move it away, or give a path that ends in .tar"),
            BundleError::Compressed { .. } => Self::user(error).hint("name a file that ends in .tar, or gunzip it"),
            BundleError::Failed { .. } => Self::new(Kind::Guest, error),
            BundleError::Encode(_) => Self::host(error),
            // what is wrong is in the bundle, which may hold anything that a terminal should not be told
            _ => Self::config(fit(&error.to_string(), 1000)),
        }
    }
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Away { .. } => Self::host(cause(error))
                .hint("check the name and the network; a registry without TLS that is not on this machine needs --plain-http"),
            RegistryError::Refused { .. } => Self::new(Kind::Denied, error).hint(LOGIN),
            RegistryError::Plain { .. } => Self::new(Kind::Denied, error),
            RegistryError::Absent { .. } | RegistryError::NoBundle { .. } => Self::user(error),
            RegistryError::Trouble { .. } => Self::host(error).hint("try again later: what was sent is there already"),
            RegistryError::Answer { .. } | RegistryError::Threads { .. } => Self::host(error),
        }
    }
}

/// An error with what is at the bottom of it.
fn cause(error: impl std::error::Error) -> String {
    let (told, root) = (error.to_string(), innermost(&error));
    if told.contains(&root) {
        told
    } else {
        format!("{told}: {root}")
    }
}
