use clap::Args;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_view::artifacts;
use lockstep_view::error::Result;
use lockstep_view::module::{Module, not_a_module};

use crate::invocation::Invocation;

/// Show the steps of a module, with their inputs, parameters and outputs
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep inspect steps.wasm
  lockstep inspect sha256:3fa9c1 --json")]
pub struct InspectArgs {
    /// Module: a file, or a digest in the store
    #[arg(value_name = "MODULE")]
    module: String,
}

pub fn run(args: InspectArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    invocation.bring(&runtime, &args.module)?;
    let artifact = artifacts::artifact(&runtime, &args.module)?;
    let wasm = runtime.store.get(&artifact.digest)?;
    let module = Module::read(artifact.digest, &wasm).map_err(|e| not_a_module(&args.module, &wasm, e))?;
    invocation.answer(module.describe(), || module.to_json())
}
