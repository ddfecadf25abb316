use clap::Args;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::store::Store;
use lockstep_view::artifacts::{Named, find};
use lockstep_view::error::{Error, Result};
use serde_json::json;

use crate::invocation::Invocation;

/// Protect artifacts and records from `lockstep gc`, with all that they were made from; without arguments, list pins
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep pin 8b01d2            # `lockstep gc` keeps it
  lockstep pin 8b01d2/rows       # an output of a record
  lockstep pin --remove 8b01d2
  lockstep pin")]
pub struct PinArgs {
    /// Path, digest or its prefix, or RECORD/OUTPUT
    #[arg(value_name = "WHAT")]
    what: Vec<String>,

    /// Remove the pins
    #[arg(long, requires = "what")]
    remove: bool,
}

pub fn run(args: PinArgs, invocation: &Invocation) -> Result<()> {
    let runtime = invocation.runtime(EngineOptions::default())?;
    for what in &args.what {
        let digest = match find(&runtime, what)? {
            Named::Artifact(artifact) => artifact.digest,
            Named::Record(found) => found.0,
        };
        match args.remove {
            true => unpin(&runtime.store, what, &digest)?,
            false => runtime.store.pin(&digest)?,
        }
    }
    let pins = runtime.store.pins()?;
    let text: String = match args.what.is_empty() {
        true => pins.iter().map(|pin| format!("{pin}\n")).collect(),
        false => String::new(),
    };
    invocation.answer(text, || json!({ "pins": pins }))
}

fn unpin(store: &Store, what: &str, digest: &Digest) -> Result<()> {
    match store.unpin(digest)? {
        true => Ok(()),
        false => Err(Error::user(format_args!("{what} is not pinned")).hint("`lockstep pin` lists pins")),
    }
}
